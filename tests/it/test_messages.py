"""Every key of every message: missing, of each other type, twice, too long.
What a message needs is refused with 400 and leaves no trace; what it does not
need never costs the message."""
import datetime
import plistlib

import pytest
from helpers import command_plist, offered, state_of
from mdmtest.device import CHECKIN, COMMAND, SHARED_IPAD

VALUES = {
    "string": "text", "empty string": "", "integer": 1, "true": True,
    "false": False, "data": b"bytes", "empty data": b"", "real": 1.5,
    "date": datetime.datetime(2026, 11, 25), "array": ["text"],
    "empty array": [], "dict": {"a": "b"}, "empty dict": {}}
STRINGS = {"string", "empty string"}
DATA = {"data", "empty data"}
EVERYTHING = set(VALUES)
MISSING = object()

# For each message its keys and with which kinds of value it is taken;
# None among them: the key may be missing.  (The UDID is tried apart: another
# one is another device.)
TEXT = {"string"}
ANY = EVERYTHING | {None}
NAME = STRINGS | {None}     # who speaks is read strictly, if it is there
MESSAGES = {
    "Authenticate": {
        "SerialNumber": ANY, "DeviceName": ANY, "Model": ANY,
        "ModelName": ANY, "ProductName": ANY, "OSVersion": ANY,
        "BuildVersion": ANY, "IMEI": ANY, "MEID": ANY, "Challenge": ANY,
        "UserLongName": ANY, "UserShortName": NAME, "EnrollmentID": NAME,
        "EnrollmentUserID": NAME, "Topic": set(), "Unheard-Of": ANY},
    "TokenUpdate": {
        "Token": {"data"}, "PushMagic": TEXT, "UnlockToken": ANY,
        "AwaitingConfiguration": ANY, "NotOnConsole": ANY, "Topic": set(),
        "MessageType": set(), "UserShortName": NAME, "EnrollmentID": NAME},
    "SetBootstrapToken": {
        "BootstrapToken": DATA | {None}, "AwaitingConfiguration": ANY,
        "Topic": {None}},
    "GetBootstrapToken": {"AwaitingConfiguration": ANY,
                          "BootstrapToken": ANY},
}
# A Topic that is there is one, also where it may be missing.
MESSAGES["SetBootstrapToken"]["Topic"] = EVERYTHING - STRINGS | {None}


def message_of(device, message_type):
    message = {"MessageType": message_type, "UDID": device.udid,
               "Topic": device.topic}
    if message_type == "TokenUpdate":
        message.update(Token=device.token, PushMagic=device.magic)
    return message


def with_value(message, key, value):
    changed = dict(message)
    if value is MISSING:
        changed.pop(key, None)
    else:
        changed[key] = value
    return plistlib.dumps(changed)


def row_of(api, device):
    row = api.enrollment(device.id).json
    row.pop("last_seen")
    return row


def kinds(key):
    return [(None, MISSING), *VALUES.items()]


@pytest.mark.parametrize("message_type,key", [
    (m, k) for m, keys in MESSAGES.items() for k in keys])
def test_checkin_keys(message_type, key, api, enroll, log):
    device = enroll()
    taken = MESSAGES[message_type][key]
    message = message_of(device, message_type)
    for kind, value in kinds(key):
        before = row_of(api, device)
        reply = device.put("/mdm", CHECKIN, with_value(message, key, value))
        wanted = 200 if kind in taken else 400
        assert reply.status == wanted, (key, kind, reply)
        if wanted == 400:
            assert row_of(api, device) == before
    # None of it did harm: the device goes on.
    assert device.token_update().status == 200
    assert device.idle().status == 200


IDENTIFIERS = ("UDID", "UserID", "UserShortName", "EnrollmentID",
               "EnrollmentUserID")


@pytest.mark.parametrize("half", ["checkin", "report"])
@pytest.mark.parametrize("key", IDENTIFIERS)
def test_identifiers_are_strings(key, half, api, enroll, log):
    """On both halves, and on a user's channel as on the device's."""
    log.expect("MDM0204")
    device = enroll()
    message = (message_of(device, "TokenUpdate") if half == "checkin"
               else {"Status": "Idle", "UDID": device.udid})
    before = row_of(api, device)
    for kind, value in kinds(key):
        if kind in STRINGS | {None}:
            continue
        for more in ({}, {"UserID": SHARED_IPAD, "UserShortName": "pat"}):
            body = with_value({**message, **more}, key, value)
            reply = device.put("/mdm", CHECKIN if half == "checkin"
                               else COMMAND, body)
            assert reply.status == 400, (key, kind, reply)
    assert row_of(api, device) == before


@pytest.mark.parametrize("udid", [
    "", " ", "x" * 256, "a:b", "a\tb", "nobody", "\u00e9" * 128])
def test_udids_of_nobody(udid, api, enroll, log):
    log.expect("MDM0204")
    device = enroll()
    bad = udid in ("", "x" * 256, "a:b", "a\tb", "\u00e9" * 128)
    for content, body in (
            (CHECKIN, {**message_of(device, "TokenUpdate"), "UDID": udid}),
            (COMMAND, {"Status": "Idle", "UDID": udid})):
        reply = device.put("/mdm", content, plistlib.dumps(body))
        assert reply.status == (400 if bad else 403), reply
    assert device.idle().status == 200


@pytest.mark.parametrize("topic", [
    "com.apple.mgmt", "com.apple.mgmx.External.x", "", "x" * 300,
    "com.apple.mgmt." + "x" * 241, "com.apple.mgmt.\u0085",
    " com.apple.mgmt.External.x"])
def test_topics_that_are_none(topic, api, enroll):
    device = enroll()
    before = row_of(api, device)
    for message_type in ("TokenUpdate", "Authenticate"):
        body = {**message_of(device, message_type), "Topic": topic}
        reply = device.put("/mdm", CHECKIN, plistlib.dumps(body))
        assert reply.status == 400, (topic, reply)
    assert row_of(api, device) == before


@pytest.mark.parametrize("key,most,make", [
    ("Token", 512, lambda n: b"x" * n),
    ("PushMagic", 512, lambda n: "x" * n),
    ("UnlockToken", 64 * 1024, lambda n: b"x" * n),
    ("Topic", 255, lambda n: ("com.apple.mgmt." + "x" * n)[:n])])
def test_longest_values(key, most, make, api, enroll, log):
    log.expect("MDM0205")       # a topic of nobody's
    device = enroll()
    message = message_of(device, "TokenUpdate")
    reply = device.put("/mdm", CHECKIN, with_value(message, key, make(most)))
    assert reply.status == 200, reply
    before = row_of(api, device)
    reply = device.put("/mdm", CHECKIN,
                       with_value(message, key, make(most + 1)))
    assert reply.status == 400, reply
    assert row_of(api, device) == before


def test_longest_bootstrap_token(enroll):
    device = enroll()
    token = bytes(range(256)) * 256
    assert device.set_bootstrap_token(token).status == 200
    assert device.set_bootstrap_token(token + b"x").status == 400
    assert device.get_bootstrap_token().plist == {"BootstrapToken": token}


# ---- reports -------------------------------------------------------------

def hand_out(api, device):
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    assert offered(device.idle()) == command_uuid
    return command_uuid


@pytest.mark.parametrize("key", ["Status", "CommandUUID"])
def test_report_keys_that_are_needed(key, api, enroll):
    """400, and the command stays at the head of the queue."""
    device = enroll()
    command_uuid = hand_out(api, device)
    report = {"Status": "Acknowledged", "UDID": device.udid,
              "CommandUUID": command_uuid}
    for kind, value in kinds(key):
        if kind == "string":
            continue
        reply = device.put("/mdm", COMMAND, with_value(report, key, value))
        assert reply.status == 400, (kind, reply)
        assert offered(device.idle()) == command_uuid
    assert offered(device.report(command_uuid)) is None


@pytest.mark.parametrize("status", ["Acknowledged", "Error",
                                    "CommandFormatError"])
def test_report_keys_that_are_not(status, api, enroll):
    """Re-typed or missing: the report is kept, the queue goes on."""
    device = enroll()
    for key in ("ErrorChain", "QueryResponses", "RequestType", "UserLongName",
                "NotOnConsole", "Unheard-Of"):
        for kind, value in kinds(key):
            command_uuid = hand_out(api, device)
            report = {"Status": status, "UDID": device.udid,
                      "CommandUUID": command_uuid}
            body = with_value(report, key, value)
            reply = device.put("/mdm", COMMAND, body)
            assert offered(reply) is None, (key, kind)
            assert api.result(command_uuid, device.id).body == body
    assert state_of(api, command_uuid, device.id) \
        == {"Acknowledged": "acknowledged", "Error": "error",
            "CommandFormatError": "command_format_error"}[status]


DAMAGED = {
    "control character": b"<string>a\x12b</string>",
    "control reference": b"<string>a&#18;b</string>",
    "Latin-1": b"<string>a\xe9b</string>",
    "overlong UTF-8": b"<string>a\xc0\xafb</string>",
    "surrogate": b"<string>&#xD800;</string>",
    "unknown entity": b"<string>a&nbsp;b</string>",
    "bad date": b"<date>2026-13-40T00:00:00Z</date>",
    "bad integer": b"<integer>12x</integer>",
    "huge integer": b"<integer>99999999999999999999</integer>",
    "bad base64": b"<data>!!!!</data>"}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_values(what, api, enroll, log):
    """In a report: kept as it came, the command is done.  In a check-in: 400,
    and nothing is changed by it."""
    log.expect("MDM0302")
    device = enroll()
    command_uuid = hand_out(api, device)
    head = (b'<?xml version="1.0" encoding="UTF-8"?>\n'
            b'<plist version="1.0"><dict><key>List</key><array>'
            + DAMAGED[what] + b"</array><key>UDID</key><string>"
            + device.udid.encode() + b"</string>")
    report = (head + b"<key>Status</key><string>Acknowledged</string>"
              b"<key>CommandUUID</key><string>" + command_uuid.encode()
              + b"</string></dict></plist>")
    before = row_of(api, device)
    checkin = (head + b"<key>MessageType</key><string>CheckOut</string>"
               b"<key>Topic</key><string>" + device.topic.encode()
               + b"</string></dict></plist>")
    assert device.put("/mdm", CHECKIN, checkin).status == 400
    assert row_of(api, device) == before
    assert offered(device.put("/mdm", COMMAND, report)) is None
    status = api.command(command_uuid).json["status"][device.id]
    assert (status["state"], status["damaged"]) == ("acknowledged", True)
    assert api.result(command_uuid, device.id).body == report


@pytest.mark.parametrize("body", [
    b"<dict><key>Status</key><string>Acknowledged</string>",
    b"<dict><key>Status</key></dict>",
    b"<dict><string>Acknowledged</string></dict>",
    b"<array/>", b"<string>Acknowledged</string>", b"<dict/>",
    b"<dict><key>Status</key><string>Idle</string></dict><dict/>"])
def test_structure_is_no_matter_of_kindness(body, enroll):
    """Not even in a report: nothing is guessed."""
    device = enroll()
    whole = b'<plist version="1.0">' + body + b"</plist>"
    for data in (whole, whole[:-9], body):
        assert device.put("/mdm", COMMAND, data).status == 400
        assert device.put("/mdm", CHECKIN, data).status == 400
    assert device.idle().status == 200


@pytest.mark.parametrize("key", ["UDID", "MessageType", "Token", "Topic"])
def test_keys_that_stand_twice(key, api, enroll):
    """Whichever a reader would take: refused, also with the same value."""
    device, other = enroll(), enroll()
    before = [row_of(api, d) for d in (device, other)]
    body = plistlib.dumps(message_of(device, "TokenUpdate"))
    again = {"UDID": other.udid, "MessageType": "CheckOut",
             "Token": other.token, "Topic": device.topic}[key]
    inner = plistlib.dumps({key: again}).split(b"<dict>")[1].split(
        b"</dict>")[0]
    for data in (body.replace(b"<dict>", b"<dict>" + inner, 1),
                 body.replace(b"</dict>", inner + b"</dict>", 1)):
        assert device.put("/mdm", CHECKIN, data).status == 400
    assert [row_of(api, d) for d in (device, other)] == before
