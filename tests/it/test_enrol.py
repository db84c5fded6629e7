"""The main job, end to end: enrol, queue, push, poll, answer, read back."""
import calendar
import datetime
import json
import plistlib
import re
import sqlite3
import time
import uuid

import pytest
from helpers import command_plist, offered, queue_commands, state_of
from mdmtest.wait import wait_for

UUID_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_whole_path(server, api, apns, enroll):
    device = enroll()
    command_uuid, body = command_plist(
        Queries=["UDID", "OSVersion", "SerialNumber", "DeviceName"])

    before = int(time.time())
    reply = api.enqueue(device.id, body)
    assert reply.status == 200, reply
    assert reply.json["command_uuid"] == command_uuid
    assert reply.json["request_type"] == "DeviceInformation"
    apns_id = reply.json["status"][device.id]["push_result"]
    assert UUID_FORM.fullmatch(apns_id)

    push = apns.wait_token(device.token_hex)
    assert push["path"] == "/3/device/" + device.token_hex
    headers = push["headers"]
    assert headers[":method"] == "POST"
    assert headers[":scheme"] == "https"
    assert headers[":authority"].split(":")[0] == "localhost"
    assert headers["apns-topic"] == server.push.topic
    assert headers["apns-push-type"] == "mdm"
    assert headers["apns-priority"] == "10"
    assert headers["apns-id"] == apns_id
    expiration = int(headers["apns-expiration"])
    assert abs(expiration - before - 7 * 86400) < 60
    assert int(headers.get("content-length", len(push["body"]))) \
        == len(push["body"])
    assert json.loads(push["body"]) == {"mdm": device.magic}
    assert push["fingerprint"] == server.push.fingerprint
    names = [name for name, _ in push["header_list"]]
    assert len(names) == len(set(names)), names

    reply = device.idle()
    assert reply.status == 200
    assert reply.body == body
    assert reply.headers["content-type"] == "application/xml; charset=UTF-8"

    status, extra = device.answer(reply.plist)
    reply = device.report(command_uuid, status, **extra)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-length"] == "0"

    assert state_of(api, command_uuid, device.id) == "acknowledged"
    result = api.result(command_uuid, device.id)
    assert result.status == 200
    assert result.body == device.last_report
    answers = plistlib.loads(result.body)["QueryResponses"]
    assert answers == {"UDID": device.udid, "OSVersion": "15.1",
                       "SerialNumber": device.serial,
                       "DeviceName": device.name}
    assert len(apns.for_token(device.token_hex)) == 1


def test_inventory(api, enroll):
    device = enroll()
    reply = api.enrollment(device.id)
    assert reply.status == 200, reply
    row = reply.json
    assert row["id"] == device.id
    assert row["type"] == "Device"
    assert row["enabled"] is True
    assert row["serial_number"] == device.serial
    assert row["topic"] == device.topic
    assert row["model"] == "Mac14,7"
    assert row["os_version"] == "15.1"
    # Nothing secret is shown.
    text = reply.body.decode()
    assert device.magic not in text
    assert device.token_hex not in text


def test_last_seen_moves(server, api, enroll):
    device = enroll()
    seen = api.enrollment(device.id).json["last_seen"]
    moment = datetime.datetime.strptime(seen[:19], "%Y-%m-%dT%H:%M:%S")
    assert abs(calendar.timegm(moment.timetuple()) - time.time()) < 60


def test_every_message_is_a_sign_of_life(server, enroll):
    """Not only those that ask for commands, or change the enrolment."""
    devices = [enroll() for _ in range(5)]
    base = sqlite3.connect(server.database, timeout=10)
    with base:
        base.executemany("UPDATE enrollment SET last_seen = 1 WHERE id = ?",
                         [(d.id,) for d in devices])
    assert devices[0].get_bootstrap_token().status == 200
    assert devices[1].set_bootstrap_token(b"token").status == 200
    assert devices[2].check_out().status == 200
    assert devices[3].user().check_in("UserAuthenticate").status == 410
    assert devices[4].check_in("GetToken",
                               TokenServiceType="none").status == 400

    def all_seen():
        return not base.execute(
            "SELECT 1 FROM enrollment WHERE last_seen = 1").fetchall()

    wait_for(all_seen, timeout=30)
    base.close()


def test_user_enrolment_without_udid(api, apns, enroll):
    device = enroll(enrollment_id=uuid.uuid4().hex + "f00dc9a1")
    assert api.enrollment(device.id).json["type"] \
        == "User Enrollment (Device)"
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body).status == 200
    apns.wait_token(device.token_hex)
    assert offered(device.idle()) == command_uuid


def test_user_channels_are_apart(api, apns, enroll):
    device = enroll()
    user = device.user()
    assert user.token_update(NotOnConsole=False).status == 200
    device_uuid, device_body = command_plist("DeviceInformation")
    user_uuid, user_body = command_plist("ProfileList")
    assert api.enqueue(device.id, device_body).status == 200
    assert api.enqueue(user.id, user_body).status == 200
    push = apns.wait_token(user.token_hex)
    assert json.loads(push["body"]) == {"mdm": user.magic}
    apns.wait_token(device.token_hex)
    assert user.idle().body == user_body
    assert device.idle().body == device_body
    assert offered(user.report(user_uuid)) is None
    assert offered(device.report(device_uuid)) is None
    assert api.enrollment(user.id).json["type"] == "User"


def test_shared_ipad_users_with_odd_names(api, enroll):
    device = enroll()
    for name in ("pat@school.example", "../../etc/passwd", "a:b,c d%2F/é",
                 "x'; DROP TABLE enrollments;--"):
        user = device.ipad_user(name)
        assert user.token_update().status == 200
        command_uuid, body = command_plist("ProfileList")
        reply = api.enqueue(user.id, body, "?nopush=1")
        assert reply.status == 200, reply
        assert list(reply.json["status"]) in ([user.id], [])
        assert offered(user.idle()) == command_uuid
        row = api.enrollment(user.id)
        assert row.status == 200, row
        assert row.json["id"] == user.id


def test_token_update_changes_the_push(api, apns, enroll):
    device = enroll()
    old = device.token_hex
    device.new_token()
    assert device.token_update().status == 200
    assert api.push(device.id).status == 200
    push = apns.wait_token(device.token_hex)
    assert json.loads(push["body"]) == {"mdm": device.magic}
    assert not apns.for_token(old)


@pytest.mark.parametrize("length", [1, 16, 32, 64, 100])
def test_token_length_is_free(length, api, apns, enroll):
    device = enroll()
    device.token = device.token_hex.encode()[:length].ljust(length, b"\xfe")
    assert device.token_update().status == 200
    assert api.push(device.id).status == 200
    apns.wait_token(device.token_hex)


def test_magic_is_escaped_as_json(api, apns, enroll):
    device = enroll()
    device.magic = 'quote" back\\slash </script> é \U0001f600'
    assert device.token_update().status == 200
    assert api.push(device.id).status == 200
    push = apns.wait_token(device.token_hex)
    assert json.loads(push["body"]) == {"mdm": device.magic}


def test_check_out_ends_it(api, apns, enroll, log):
    log.expect("MDM0204")       # the poll after it
    device = enroll()
    user = device.user()
    assert user.token_update().status == 200
    queue_commands(api, device, 1)
    reply = device.check_out()
    assert reply.status == 200
    assert api.enrollment(device.id).json["enabled"] is False
    assert api.enrollment(user.id).json["enabled"] is False
    # Nothing is delivered, and nothing is pushed.
    reply = device.idle()
    assert reply.status in (200, 403)
    assert b"CommandUUID" not in reply.body
    reply = api.push(device.id)
    assert "push_error" in reply.json["status"][device.id], reply
    assert not apns.for_token(device.token_hex)


def test_re_enrolment_clears_the_queue(api, enroll):
    device = enroll()
    user = device.user()
    assert user.token_update().status == 200
    queue_commands(api, device, 2)
    queue_commands(api, user, 1)
    assert offered(device.idle()) is not None
    assert device.authenticate().status == 200
    assert api.enrollment(device.id).json["enabled"] is False
    assert api.enrollment(user.id).json["enabled"] is False
    assert device.token_update().status == 200
    assert offered(device.idle()) is None
    assert api.enrollment(device.id).json["enabled"] is True
    assert user.token_update().status == 200
    assert offered(user.idle()) is None


def test_no_push_between_authenticate_and_token_update(api, apns, enroll):
    device = enroll()
    old = device.token_hex
    assert device.authenticate().status == 200
    command_uuid, body = command_plist("ProfileList")
    api.enqueue(device.id, body)
    device.new_token()
    assert device.token_update().status == 200
    # The command waited for the enrolment's completion.
    apns.wait_token(device.token_hex)
    assert offered(device.idle()) == command_uuid
    assert not apns.for_token(old)


def test_checkin_and_server_as_two_urls(api, enroll):
    device = enroll(checkin="/checkin", command="/server")
    command_uuid, body = command_plist("DeviceInformation")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    assert [u for u, _ in device.run_once()] == [command_uuid]
    assert state_of(api, command_uuid, device.id) == "acknowledged"


def test_unknown_topic_is_stored_but_not_pushed(api, apns, enroll, log):
    log.expect("MDM0205")
    device = enroll(topic="com.apple.mgmt.External." + str(uuid.uuid4()))
    command_uuid, body = command_plist("ProfileList")
    reply = api.enqueue(device.id, body)
    assert reply.status in (200, 207, 500), reply
    assert offered(device.idle()) == command_uuid
    assert not apns.for_token(device.token_hex)
