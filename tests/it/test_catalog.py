"""Commands made from JSON: what is delivered is what was asked for, what
cannot work is refused where it is asked, and secrets stay sealed."""
import base64
import json
import os
import plistlib
import re
import secrets
import uuid

import pytest
from helpers import offered, state_of
from test_secrets import find_secrets

PHONE = {"ProductName": "iPhone14,5", "Model": "MLPG3", "ModelName": "iPhone",
         "OSVersion": "17.4"}


@pytest.fixture
def phone(pki, server, enroll):
    device = enroll()
    assert device.authenticate(**PHONE).status == 200
    assert device.token_update().status == 200
    return device


def delivered(channel):
    """The command of a channel, without its envelope."""
    reply = channel.idle()
    assert reply.status == 200 and reply.body, reply
    command = reply.plist
    assert channel.report(command["CommandUUID"]).status == 200
    return command


def refused(reply, device, text):
    assert reply.status == 400, reply
    assert re.search(text, reply.json["status"][device.id]["command_error"])


# -- what is delivered ---------------------------------------------------------

def test_delivered_as_asked(api, enroll):
    device = enroll()
    data = os.urandom(100)
    encoded = base64.b64encode(data).decode()
    for request_type, args, want in (
            ("ProfileList", None, {}),
            ("DeviceInformation", {"Queries": ["UDID", "OSVersion"]}, None),
            ("InstallProfile", {"Payload": encoded}, {"Payload": data}),
            ("RemoveProfile", {"Identifier": "ä <&> \U0001F4F1 ]]>\t."}, None),
            ("Settings", {"Settings": [
                {"Item": "HostName", "HostName": "h"},
                {"Item": "MDMOptions",
                 "MDMOptions": {"BootstrapTokenAllowed": True}}]}, None),
            ("ScheduleOSUpdate", {"Updates": [
                {"InstallAction": "InstallLater", "MaxUserDeferrals": 3,
                 "Priority": "High"}]}, None),
            ("InstallApplication", {
                "ManifestURL": "https://x/",
                "Configuration": {"n": -5, "r": 0.25, "on": True,
                                  "list": [1, {"a": []}],
                                  "d": {"$data": encoded}}},
             {"ManifestURL": "https://x/",
              "Configuration": {"n": -5, "r": 0.25, "on": True,
                                "list": [1, {"a": []}], "d": data}})):
        reply = api.order(device.id, request_type, args, "?nopush=1")
        assert reply.status == 200, reply
        assert reply.json["request_type"] == request_type
        assert reply.json["no_push"] is True
        command = delivered(device)
        assert command["CommandUUID"] == reply.json["command_uuid"]
        assert uuid.UUID(command["CommandUUID"]).version == 4
        want = args or {} if want is None else want
        assert command["Command"] == {"RequestType": request_type, **want}


def test_options(api, enroll):
    device = enroll()
    mine = str(uuid.uuid4())
    reply = api.order(device.id, "ProfileList", None, "?nopush=1",
                        priority=2, expires="4h", not_before=None,
                        command_uuid=mine)
    assert reply.status == 200 and reply.json["command_uuid"] == mine, reply
    later = api.order(device.id, "CertificateList", None, "?nopush=1",
                        not_before="2h")
    assert later.status == 200, later
    urgent = api.order(device.id, "SecurityInfo", {}, "?nopush=1",
                         priority=9)
    rows = {r["command_uuid"]: r
            for r in api.queue(device.id).json["commands"]}
    assert rows[mine]["priority"] == 2 and rows[mine]["expires"]
    assert rows[later.json["command_uuid"]]["not_before"]
    assert offered(device.idle()) == urgent.json["command_uuid"]
    again = api.order(device.id, "ProfileList", command_uuid=mine)
    assert again.status == 409 and "exists" in again.json["error"]


def test_push_and_wait(api, enroll, apns):
    device = enroll()
    reply = api.order(device.id, "ProfileList", None, "?wait=10s")
    assert reply.status == 200, reply
    assert set(reply.json["status"][device.id]) >= {"push_result"}


def test_many(api, enroll, phone):
    mac = enroll()
    nobody = str(uuid.uuid4())
    reply = api.order([mac.id, phone.id, nobody, mac.id],
                        "SetRecoveryLock", {"NewPassword": "x"}, "?nopush=1",
                        confirm=True)
    assert reply.status == 207, reply
    status = reply.json["status"]
    assert set(status) == {mac.id, phone.id, nobody}
    assert "command_error" not in status[mac.id]
    assert "iOS does not know SetRecoveryLock" \
        in status[phone.id]["command_error"]
    assert "no such" in status[nobody]["command_error"]
    assert offered(mac.idle()) == reply.json["command_uuid"]
    assert offered(phone.idle()) is None
    assert api.order(nobody, "ProfileList").status == 404


# -- what is refused -----------------------------------------------------------

def test_calls_that_are_wrong(api, enroll):
    device = enroll()
    for more, text in (
            ({"request_type": "MakeTea"}, "PUT /v1/enqueue"),
            ({"request_type": 5}, "request_type is not a string"),
            ({"request_type": None}, "request_type is missing"),
            ({"enrollment_ids": []}, "enrollment_ids"),
            ({"enrollment_ids": [5]}, r"enrollment_ids\[0\]"),
            ({"enrollment_ids": ["" ]}, "empty"),
            ({"priority": 10}, "priority"),
            ({"priority": "5"}, "priority"),
            ({"expires": "never"}, "expires"),
            ({"not_before": 5}, "not_before is not a string"),
            ({"confirm": "yes"}, "confirm"),
            ({"arguments": {}}, "no member arguments"),
            ({"args": []}, "ProfileList: args is not an object"),
            ({"args": {"ManagedOnly": 1}}, "ProfileList: ManagedOnly is not"),
            ({"args": {"managedOnly": True}}, "managedOnly is no key"),
            ({"command_uuid": ""}, "CommandUUID")):
        body = {"enrollment_ids": [device.id], "request_type": "ProfileList",
                **more}
        reply = api.call("POST", "/v1/commands?nopush=1",
                         json.dumps(body).encode())
        assert reply.status == 400, (more, reply)
        assert re.search(text, reply.json["error"]), (more, reply)
    assert api.queue(device.id).json["commands"] == []


def test_bodies_that_are_wrong(api):
    for body, status in ((b"", 400), (b"[]", 400), (b"{", 400),
                         (b"\xff", 400), (b'{"a":1,"a":2}', 400),
                         (b'{"a":"SECRET', 400),
                         (b"[" * 100, 400), (b'{"a":' * 100, 400),
                         (b"[" + b"1," * 2500000 + b"1]", 413)):
        reply = api.call("POST", "/v1/commands", body)
        assert reply.status == status, (body[:20], reply)
        assert "SECRET" not in reply.json["error"]
    reply = api.call("GET", "/v1/commands")
    assert reply.status == 405 and reply.headers["allow"] == "POST"


def test_confirmation(api, enroll):
    device = enroll()
    for request_type, args in (("EraseDevice", {}), ("DeviceLock", {}),
                               ("RestartDevice", None),
                               ("ShutDownDevice", None)):
        for more in ({}, {"confirm": False}):
            reply = api.order(device.id, request_type, args, "?nopush=1",
                                **more)
            assert reply.status == 400 and '"confirm": true' \
                in reply.json["error"], reply
        reply = api.order(device.id, request_type, args, "?nopush=1",
                            confirm=True)
        assert reply.status == 200, reply
        delivered(device)


def test_systems_and_channels(api, enroll, phone, pki, server):
    mac = enroll()
    user = mac.user()
    assert user.token_update().status == 200
    assert api.order(user.id, "ProfileList", None,
                       "?nopush=1").status == 200
    refused(api.order(user.id, "RestartDevice", confirm=True), user,
            "not for the user channel of macOS")
    refused(api.order(mac.id, "ActiveNSExtensions"), mac,
            "not for the device channel of macOS")
    refused(api.order(phone.id, "EraseDevice", {"PIN": "123456"},
                        confirm=True), phone, "iOS does not know the key PIN")
    byod = enroll(enrollment_id=str(uuid.uuid4()).upper())
    assert byod.authenticate(**PHONE).status == 200
    assert byod.token_update().status == 200
    refused(api.order(byod.id, "EraseDevice", confirm=True), byod,
            "not for User Enrollments")
    # These only warn.
    reply = api.order(phone.id, "DeviceLocation", None, "?nopush=1")
    assert reply.status == 200, reply
    assert reply.json["status"][phone.id]["warnings"] == [
        "DeviceLocation needs a supervised device"]
    assert delivered(phone)["Command"] == {"RequestType": "DeviceLocation"}
    reply = api.order(phone.id, "Settings", {"Settings": [
        {"Item": "DefaultApplications", "WebBrowser": "x"}]}, "?nopush=1")
    assert reply.status == 200, reply
    assert any("iOS 18.2" in w
               for w in reply.json["status"][phone.id]["warnings"])


# -- secrets -------------------------------------------------------------------

def test_secrets_stay_sealed(api, enroll, server, log):
    log.expect("MDM0604")
    device = enroll()
    marked = {name: f"SECRET-{name}-{secrets.token_hex(8)}".encode()
              for name in ("password", "profile", "unlock")}
    assert device.token_update(UnlockToken=marked["unlock"]).status == 200
    made = [api.order(device.id, "SetFirmwarePassword",
                        {"NewPassword": marked["password"].decode()},
                        "?nopush=1", confirm=True),
            api.order(device.id, "InstallProfile",
                        {"Payload": base64.b64encode(
                            marked["profile"]).decode()}, "?nopush=1"),
            api.order(device.id, "SetFirmwarePassword",
                        {"Password": marked["password"].decode()},
                        "?nopush=1", confirm=True)]
    assert [r.status for r in made] == [200, 200, 400], made
    asked = [api.queue(device.id)]
    asked += [api.call("GET", "/v1/commands/" + r.json["command_uuid"])
              for r in made[:2]]
    for reply in made + asked:
        assert b"SECRET" not in reply.body, reply
    assert delivered(device)["Command"]["NewPassword"].encode() \
        == marked["password"]
    assert delivered(device)["Command"]["Payload"] == marked["profile"]
    assert not find_secrets(server, marked, [])


def test_unlock_token_by_reference(api, enroll, server, log):
    """Each device gets its own, the newest; nothing else ever shows it."""
    log.expect("MDM0604")
    devices = [enroll() for _ in range(3)]
    for device in devices:
        assert device.authenticate(**PHONE).status == 200
        assert device.token_update().status == 200
    tokens = [f"SECRET-token-{i}-{secrets.token_hex(20)}".encode()
              for i in range(2)]
    for device, token in zip(devices, tokens):
        assert device.token_update(UnlockToken=token).status == 200
    args = {"UnlockToken": {"$ref": "unlock-token"}}
    assert api.order(devices[0].id, "ClearPasscode", args).status == 400
    reply = api.order([d.id for d in devices], "ClearPasscode", args,
                        "?nopush=1", confirm=True)
    assert reply.status == 207, reply
    assert "no unlock token" \
        in reply.json["status"][devices[2].id]["command_error"]
    line = log.require("MDM0604")
    assert devices[0].id in line and reply.json["command_uuid"] in line
    assert "SECRET" not in server.log_text()
    # What is escrowed meanwhile is what counts.
    tokens[1] = f"SECRET-newer-{secrets.token_hex(1000)}".encode()
    assert devices[1].token_update(UnlockToken=tokens[1]).status == 200
    assert not find_secrets(server, dict(enumerate(tokens)), [])
    for device, token in zip(devices, tokens):
        assert offered(device.idle()) == reply.json["command_uuid"]
        command = plistlib.loads(device.seen[-1])
        assert command["Command"] == {"RequestType": "ClearPasscode",
                                      "UnlockToken": token}
        # Offered again until it is answered.
        assert device.idle().body == device.seen[-2]
        assert device.report(reply.json["command_uuid"]).status == 200
        assert state_of(api, reply.json["command_uuid"],
                        device.id) == "acknowledged"
    assert offered(devices[2].idle()) is None
    given = {"UnlockToken": base64.b64encode(b"given").decode()}
    assert api.order(devices[2].id, "ClearPasscode", given, "?nopush=1",
                       confirm=True).status == 200
    assert delivered(devices[2])["Command"]["UnlockToken"] == b"given"
    assert not find_secrets(server, dict(enumerate(tokens)), [])


def test_reference_survives_a_restart(own_server, pki, enroll, log):
    """What a later token needs is kept through a restart."""
    log.expect("MDM0604")
    server = own_server()
    device = enroll(server)
    assert device.authenticate(**PHONE).status == 200
    assert device.token_update(UnlockToken=b"T" * 500).status == 200
    api = server.api()
    reply = api.order(device.id, "ClearPasscode",
                        {"UnlockToken": {"$ref": "unlock-token"}},
                        "?nopush=1", confirm=True)
    assert reply.status == 200, reply
    api.transport.close()
    device.close()
    server.restart()
    assert delivered(device)["Command"]["UnlockToken"] == b"T" * 500
