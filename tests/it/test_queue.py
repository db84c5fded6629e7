"""Queue rules: order, repetition, NotNow, unknown reports."""
import plistlib
import uuid

import pytest
from helpers import command_plist, offered, queue_commands, state_of


def test_fifo_and_repetition(api, enroll):
    device = enroll()
    assert offered(device.idle()) is None
    one, two = queue_commands(api, device, 2)
    assert offered(device.idle()) == one
    assert offered(device.idle()) == one        # until it is reported
    assert offered(device.report(one)) == two
    assert offered(device.report(two)) is None
    assert offered(device.idle()) is None


def test_not_now_basic(api, enroll):
    device = enroll()
    (one,) = queue_commands(api, device, 1)
    assert offered(device.idle()) == one
    assert offered(device.not_now(one)) is None
    assert state_of(api, one, device.id) == "not_now"
    assert offered(device.idle()) == one
    assert offered(device.report(one)) is None
    assert offered(device.idle()) is None


def test_not_now_serves_the_others(api, enroll):
    device = enroll()
    one, two = queue_commands(api, device, 2)
    assert offered(device.idle()) == one
    assert offered(device.not_now(one)) == two
    assert offered(device.report(two)) == one   # any other report: again
    assert offered(device.not_now(one)) is None
    # An acknowledged command never comes back.
    assert offered(device.idle()) == one
    assert offered(device.report(one)) is None


def test_not_now_alternating_ends(api, enroll):
    """Three commands answered NotNow and Acknowledged by turns: every round
    finishes one command or ends."""
    device = enroll()
    one, two, three = queue_commands(api, device, 3)
    assert offered(device.idle()) == one
    assert offered(device.not_now(one)) == two
    assert offered(device.not_now(two)) == three
    assert offered(device.report(three)) == one
    assert offered(device.not_now(one)) is None
    assert offered(device.idle()) == one
    assert offered(device.report(one)) == two
    assert offered(device.not_now(two)) is None
    assert offered(device.idle()) == two
    assert offered(device.report(two)) is None


def test_all_not_now_ends(api, enroll):
    device = enroll()
    made = queue_commands(api, device, 4)
    reports = device.run_once(not_now=True)
    assert [u for u, _ in reports] == made
    assert [u for u, _ in device.run_once()] == made


@pytest.mark.parametrize("status", ["Error", "CommandFormatError"])
def test_failures_leave_the_queue(status, api, enroll):
    device = enroll()
    one, two = queue_commands(api, device, 2)
    assert offered(device.idle()) == one
    chain = [{"ErrorCode": -1, "ErrorDomain": "MCMDMErrorDomain",
              "LocalizedDescription": "прочь 不行 é"}]
    assert offered(device.report(one, status, ErrorChain=chain)) == two
    wanted = {"Error": "error",
              "CommandFormatError": "command_format_error"}[status]
    assert state_of(api, one, device.id) == wanted
    result = plistlib.loads(api.result(one, device.id).body)
    assert result["ErrorChain"] == chain


def test_unknown_and_repeated_reports(api, enroll, log):
    log.expect("MDM0301")
    device = enroll()
    one, two = queue_commands(api, device, 2)
    assert offered(device.report(str(uuid.uuid4()))) == one
    assert offered(device.report("not a uuid at all")) == one
    assert offered(device.report(one)) == two
    first = device.last_report
    assert offered(device.report(one)) == two           # repeated
    assert offered(device.report(one, "Error")) == two  # first one wins
    assert state_of(api, one, device.id) == "acknowledged"
    assert api.result(one, device.id).body == first
    if one.upper() != one:
        assert offered(device.report(two.upper())) == two   # exact bytes
    assert offered(device.report(two)) is None


def test_report_of_another_device_changes_nothing(api, enroll, log):
    log.expect("MDM0301")
    mine, other = enroll(), enroll()
    (one,) = queue_commands(api, mine, 1)
    assert offered(other.report(one)) is None
    assert offered(mine.idle()) == one


def test_unknown_status_keeps_the_command(api, enroll, log):
    log.expect("MDM0303", "MDM0302", "MDM0301")
    device = enroll()
    (one,) = queue_commands(api, device, 1)
    assert offered(device.idle()) == one
    reply = device.report(one, "Pondering")
    assert reply.status == 200
    assert offered(device.idle()) == one


def test_not_now_for_a_finished_command(api, enroll, log):
    log.expect("MDM0301")
    device = enroll()
    one, two = queue_commands(api, device, 2)
    assert offered(device.idle()) == one
    assert offered(device.report(one)) == two
    assert offered(device.not_now(one)) == two
    assert state_of(api, one, device.id) == "acknowledged"
    assert offered(device.report(two)) is None


def test_many_ids(api, apns, enroll):
    devices = [enroll() for _ in range(3)]
    unknown = str(uuid.uuid4()).upper()
    command_uuid, body = command_plist("ProfileList")
    ids = [d.id for d in devices]
    reply = api.enqueue(ids[:2] + [unknown] + ids[2:] + ids[:1], body)
    assert reply.status == 207, reply
    assert reply.json["status"][unknown]["command_error"]
    for device in devices:
        assert "push_result" in reply.json["status"][device.id]
        apns.wait_token(device.token_hex)
        assert device.idle().body == body
        assert offered(device.report(command_uuid)) is None
        assert state_of(api, command_uuid, device.id) == "acknowledged"
    # The id that was named twice counted once.
    assert offered(devices[0].idle()) is None
    assert len(apns.for_token(devices[0].token_hex)) == 1


def test_nopush(api, apns, enroll):
    quiet, loud = enroll(), enroll()
    _, body = command_plist("ProfileList")
    reply = api.enqueue(quiet.id, body, "?nopush=1")
    assert reply.status == 200
    assert "push_result" not in json_text(reply)
    _, body = command_plist("ProfileList")
    assert api.enqueue(loud.id, body).status == 200
    apns.wait_token(loud.token_hex)
    assert not apns.for_token(quiet.token_hex)
    assert offered(quiet.idle()) is not None


def json_text(reply):
    return reply.body.decode()


def test_post_works_as_put(api, enroll):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, "?nopush=1", "POST").status == 200
    assert offered(device.idle()) == command_uuid


def test_duplicate_command_uuid(api, enroll):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    reply = api.enqueue(device.id, body, "?nopush=1")
    assert reply.status in (409, 500), reply
    assert "error" in json_text(reply)
    assert offered(device.idle()) == command_uuid
    assert offered(device.report(command_uuid)) is None


@pytest.mark.parametrize("body", [
    b"", b"hello", b"<plist version='1.0'><dict/></plist>",
    plistlib.dumps({"CommandUUID": "x1"}),
    plistlib.dumps({"CommandUUID": "x2", "Command": {}}),
    plistlib.dumps({"Command": {"RequestType": "ProfileList"}}),
    plistlib.dumps({"CommandUUID": "", "Command": {"RequestType": "A"}}),
    plistlib.dumps({"CommandUUID": "x3", "Command": {"RequestType": ""}}),
    plistlib.dumps({"CommandUUID": "x4", "Command": "ProfileList"}),
    plistlib.dumps({"CommandUUID": 5, "Command": {"RequestType": "A"}}),
    plistlib.dumps(["CommandUUID"]),
    plistlib.dumps({"CommandUUID": "x5", "Command": {"RequestType": "A"}},
                   fmt=plistlib.FMT_BINARY),
])
def test_malformed_commands(body, api, enroll):
    device = enroll()
    reply = api.enqueue(device.id, body, "?nopush=1")
    assert reply.status == 400, reply
    assert reply.json["error"] if "error" in reply.json \
        else reply.json["command_error"]
    assert offered(device.idle()) is None


def test_command_bytes_are_kept(api, enroll):
    """Odd white space, comments and unknown types travel as they came."""
    device = enroll()
    command_uuid = "odd " + str(uuid.uuid4())
    body = (b'<?xml version="1.0" encoding="UTF-8"?>\r\n<!-- hand made -->\n'
            b'<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
            b'"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
            b'<plist version="1.0">\t<dict>\n\n<key>Command</key>\n<dict>'
            b'<key>RequestType</key><string>FromTheFuture</string>'
            b'<key>Text</key><string>R&amp;D &#x1F600; \xc3\xa9</string>'
            b'</dict><key>CommandUUID</key><string>'
            + command_uuid.encode() + b'</string></dict></plist>\n\n')
    reply = api.enqueue(device.id, body, "?nopush=1")
    assert reply.status == 200, reply
    assert reply.json["request_type"] == "FromTheFuture"
    assert device.idle().body == body
    status, extra = device.answer(plistlib.loads(body))
    assert offered(device.report(command_uuid, status, **extra)) is None
    assert state_of(api, command_uuid, device.id) == "command_format_error"


def test_priority_orders(api, enroll):
    device = enroll()
    uuids = {}
    for priority in ("0", "5", "9"):
        uuids[priority], body = command_plist("ProfileList")
        reply = api.enqueue(device.id, body,
                            f"?nopush=1&priority={priority}")
        assert reply.status == 200, reply
    assert offered(device.idle()) == uuids["9"]
    assert offered(device.report(uuids["9"])) == uuids["5"]
    assert offered(device.report(uuids["5"])) == uuids["0"]


def test_two_connections_of_one_device(server, api, pki, enroll):
    """The same channel twice at once: nothing is lost or doubled."""
    from mdmtest.device import Device
    first = enroll()
    second = Device(server, first.identity, first.topic, udid=first.udid)
    try:
        one, two = queue_commands(api, first, 2)
        assert offered(first.idle()) == one
        assert offered(second.idle()) == one
        assert offered(first.report(one)) == two
        assert offered(second.idle()) == two
        assert offered(second.report(two)) is None
        assert offered(first.idle()) is None
    finally:
        second.close()
