"""The device protocol beyond enrolment and queue: users of network accounts,
escrowed tokens, every kind of channel, services that are off."""
import base64
import hashlib
import json
import plistlib
import uuid

import pytest
from helpers import command_plist, offered, queue_commands, state_of
from mdmtest.api import Api
from mdmtest.device import CHECKIN, COMMAND, Device

EMPTY = (200, b"")


def empty(reply):
    """200 without a body, and so without a Content-Type."""
    assert (reply.status, reply.body) == EMPTY, reply
    assert reply.headers["content-length"] == "0"
    assert "content-type" not in reply.headers
    return True


# ---- users of network accounts -------------------------------------------

DIGEST = ('Digest username="robin",realm="r",nonce="bg==",uri="/",'
          'response="0123456789abcdef0123456789abcdef"')


def test_user_authenticate_is_declined(api, enroll):
    """The preset: 410, to the second request as well."""
    device = enroll()
    user = device.user()
    for more in ({}, {"DigestResponse": DIGEST}):
        reply = user.check_in("UserAuthenticate", **more)
        assert reply.status == 410, reply
        assert "www-authenticate" not in reply.headers
    assert api.enrollment(user.id).status == 404
    # It is the answer about this log-in, not about the device.
    assert device.idle().status == 200


def test_user_authenticate_with_empty_challenge(own_server, own_apns, pki,
                                                log):
    log.expect("MDM0204")
    server = own_server([("/mdm", "USER_AUTHENTICATE", "empty-challenge")])
    device = Device(server, pki.device(), server.push.topic).enroll()
    api = server.api()
    user = device.user()
    reply = user.check_in("UserAuthenticate")
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/xml; charset=UTF-8"
    assert reply.plist == {"DigestChallenge": ""}
    empty(user.check_in("UserAuthenticate", DigestResponse=DIGEST))
    assert api.enrollment(user.id).status == 404    # not before TokenUpdate
    empty(user.token_update(NotOnConsole=False))
    assert api.enrollment(user.id).json["enabled"] is True
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(user.id, body).status == 200
    own_apns.wait_token(user.token_hex)
    assert offered(user.idle()) == command_uuid
    # At the other locations of the server it is off still.
    device.checkin_path = "/checkin"
    assert user.check_in("UserAuthenticate").status == 410
    # Only devices of ours have users: no challenge for a stranger.
    stranger = Device(server, pki.device(), server.push.topic)
    assert stranger.user().check_in("UserAuthenticate").status == 403
    for closer in (device, stranger, api.transport):
        closer.close()


def test_user_authenticate_on_the_device_channel(enroll):
    device = enroll()
    for more in ({}, {"DigestResponse": DIGEST}, {"UserID": ""}):
        assert device.check_in("UserAuthenticate", **more).status == 400


@pytest.mark.parametrize("message_type", [
    "Authenticate", "CheckOut", "SetBootstrapToken", "GetBootstrapToken",
    "ReturnToService"])
def test_device_messages_on_a_user_channel(message_type, api, enroll):
    device = enroll()
    device.set_bootstrap_token(b"of the device")
    for user in (device.user(), device.ipad_user("pat@school.example")):
        assert user.token_update().status == 200
        reply = user.check_in(message_type, Topic=device.topic,
                              BootstrapToken=b"of the user")
        assert reply.status == 400, reply
        assert api.enrollment(user.id).json["enabled"] is True
    assert device.get_bootstrap_token().plist == {
        "BootstrapToken": b"of the device"}
    assert api.enrollment(device.id).json["enabled"] is True


@pytest.mark.parametrize("message_type,more", [
    ("GetToken", {"TokenServiceType": "com.apple.maid"}),
    ("GetToken", {"TokenServiceType": "com.apple.watch.pairing"}),
    ("GetToken", {"TokenServiceType": "com.example.unknown"}),
    ("GetToken", {"TokenServiceType": ""}),
    ("GetToken", {}),
    ("ReturnToService", {}),
    ("DeclarativeManagement", {"Endpoint": "tokens"}),
    ("DeclarativeManagement", {"Endpoint": "status", "Data": b"{}"}),
    ("DeclarativeManagement", {}),
    ("NoSuchMessage", {}), ("authenticate", {}), ("", {}),
    ("TokenUpdate ", {})])
def test_services_that_are_off(message_type, more, api, enroll):
    device = enroll()
    before = api.enrollment(device.id).json
    reply = device.check_in(message_type, **more)
    assert reply.status == 400, reply
    assert reply.headers["content-type"].startswith("text/plain")
    after = api.enrollment(device.id).json
    before.pop("last_seen")
    after.pop("last_seen")
    assert after == before


# ---- bootstrap token -----------------------------------------------------

def test_bootstrap_token(api, enroll):
    device = enroll()
    empty(device.get_bootstrap_token())
    for token in (b"BOOT-TEST", bytes(range(256)) * 8, b"\0", b"&<>]]>\xff",
                  b"x" * 60_000):
        empty(device.set_bootstrap_token(token))
        reply = device.get_bootstrap_token()
        assert reply.status == 200, reply
        assert reply.headers["content-type"] \
            == "application/xml; charset=UTF-8"
        assert reply.plist == {"BootstrapToken": token}
        # Reading takes nothing away.
        assert device.get_bootstrap_token().body == reply.body
    row = api.enrollment(device.id).json
    assert row["bootstrap_token_escrowed"] is True
    assert "BootstrapToken" not in json.dumps(row)


@pytest.mark.parametrize("token", [None, b""], ids=["absent", "empty"])
def test_bootstrap_token_is_taken_back(token, api, enroll):
    device = enroll()
    empty(device.set_bootstrap_token(b"BOOT-TEST"))
    empty(device.set_bootstrap_token(token))
    empty(device.get_bootstrap_token())
    assert api.enrollment(device.id).json["bootstrap_token_escrowed"] is False
    empty(device.set_bootstrap_token(token))    # none to take back
    empty(device.set_bootstrap_token(b"again"))
    assert device.get_bootstrap_token().plist == {"BootstrapToken": b"again"}


def test_bootstrap_token_of_the_wrong_type(enroll):
    device = enroll()
    empty(device.set_bootstrap_token(b"kept"))
    for wrong in ("text", True, 1, [b"x"], {"a": b"x"}):
        assert device.set_bootstrap_token(wrong).status == 400
    assert device.get_bootstrap_token().plist == {"BootstrapToken": b"kept"}


def test_bootstrap_token_is_the_devices_alone(server, pki, enroll, log):
    log.expect("MDM0204")
    device, other = enroll(), enroll()
    empty(device.set_bootstrap_token(b"mine"))
    empty(other.get_bootstrap_token())
    for identity in (other.identity, pki.device()):
        thief = Device(server, identity, server.push.topic, udid=device.udid)
        for reply in (thief.get_bootstrap_token(),
                      thief.set_bootstrap_token(b"theirs"),
                      thief.set_bootstrap_token()):
            assert reply.status == 403, reply
            assert b"mine" not in reply.body
            assert base64.b64encode(b"mine") not in reply.body
        thief.close()
    assert device.get_bootstrap_token().plist == {"BootstrapToken": b"mine"}


def test_bootstrap_token_goes_with_its_life(api, enroll, log):
    log.expect("MDM0204")
    device = enroll()
    empty(device.set_bootstrap_token(b"first life"))
    empty(device.token_update())        # an update does not end a life
    assert device.get_bootstrap_token().plist["BootstrapToken"] \
        == b"first life"
    empty(device.authenticate())
    empty(device.get_bootstrap_token())
    empty(device.token_update())
    empty(device.get_bootstrap_token())
    assert api.secret(device.id, "bootstrap-token").status == 404
    # It may set one before its first TokenUpdate, too.
    empty(device.authenticate())
    empty(device.set_bootstrap_token(b"second life"))
    empty(device.token_update())
    assert device.get_bootstrap_token().plist["BootstrapToken"] \
        == b"second life"
    empty(device.check_out())
    for reply in (device.get_bootstrap_token(),
                  device.set_bootstrap_token(b"late")):
        assert reply.status == 403, reply


# ---- secrets by the API --------------------------------------------------

def unlock_token(api, device):
    reply = api.secret(device.id, "unlock-token")
    assert reply.status == 200, reply
    return base64.b64decode(reply.json["unlock_token"], validate=True)


def test_unlock_token_is_kept(api, enroll, log):
    log.expect("MDM0604")
    device = enroll()
    assert api.secret(device.id, "unlock-token").status == 404
    assert api.enrollment(device.id).json["unlock_token_escrowed"] is False
    for token in (b"UNLOCK-1", bytes(range(256)) * 15, b"UNLOCK-3"):
        empty(device.token_update(UnlockToken=token))
        assert unlock_token(api, device) == token
        empty(device.token_update())
        empty(device.token_update(UnlockToken=b""))
        assert unlock_token(api, device) == token
    # An unlock token of another type is no reason to lose the push token.
    device.new_token()
    empty(device.token_update(UnlockToken="text"))
    assert unlock_token(api, device) == b"UNLOCK-3"
    assert api.enrollment(device.id).json["unlock_token_escrowed"] is True
    empty(device.authenticate())
    empty(device.token_update())
    assert api.secret(device.id, "unlock-token").status == 404


def test_secrets_are_audited_and_not_cached(server, api, enroll, log):
    device = enroll()
    secret = b"Secret-" + uuid.uuid4().hex.encode()
    empty(device.token_update(UnlockToken=secret))
    empty(device.set_bootstrap_token(secret[::-1]))
    wanted = {"unlock-token": secret, "bootstrap-token": secret[::-1]}
    for name, value in wanted.items():
        log.expect("MDM0604")
        reply = api.secret(device.id, name)
        assert reply.status == 200, reply
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-type"] == "application/json"
        assert list(reply.json.values()) == [base64.b64encode(value).decode()]
        line = log.require(rf"MDM0604: {name} of {device.id} read by token "
                           '"it"')
        assert line
        for form in (value.decode(), base64.b64encode(value).decode(),
                     value.hex()):
            assert form not in server.log_text()
    # Nowhere in the inventory, and not in clear in the database either.
    text = json.dumps(api.enrollment(device.id).json)
    assert secret.decode() not in text
    for suffix in ("", "-wal"):
        with open(server.database + suffix, "rb") as f:
            data = f.read()
        for value in wanted.values():
            assert value not in data


def test_secrets_that_are_not_there(api, enroll):
    device = enroll()
    for name in ("unlock-token", "bootstrap-token", "push-magic", "", "x",
                 "unlock-token%2f"):
        reply = api.secret(device.id, name)
        assert reply.status == 404, (name, reply)
        assert "error" in reply.json
    assert api.secret("nobody", "unlock-token").status == 404
    path = f"/v1/enrollments/{device.id}/secrets/unlock-token"
    for method in ("PUT", "POST", "DELETE"):
        reply = api.call(method, path)
        assert reply.status == 405
        assert reply.headers["allow"] == "GET"


def test_scopes_of_devices_calls(own_server, pki, log):
    """Secrets need `secrets`, blocking and migration `admin`."""
    log.expect("MDM0604", "MDM0206", "MDM0204")
    names = ("read", "command", "secrets", "admin")
    secret = {n: f"token-of-{n}-0123456789" for n in names}
    server = own_server([("/mdmapi/", "MIGRATION", "on")], start=False)
    with open(server.path("tokens"), "a", encoding="ascii") as f:
        for name, token in secret.items():
            digest = hashlib.sha256(token.encode()).hexdigest()
            f.write(f"{name}:{name}:sha256:{digest}\n")
    server.start()
    chief = server.api()
    assert chief.put_pushcert(server.push.both_pem).status == 200
    device = Device(server, pki.device(), server.push.topic).enroll()
    empty(device.token_update(UnlockToken=b"UNLOCK"))
    message = plistlib.dumps({
        "MessageType": "Authenticate", "UDID": str(uuid.uuid4()).upper(),
        "Topic": server.push.topic})
    wanted = {"read": (403, 403, 403, 403), "command": (403, 403, 403, 403),
              "secrets": (200, 403, 403, 403),
              "admin": (200, 200, 200, 200)}
    for name, statuses in wanted.items():
        api = Api(server, secret[name])
        got = (api.secret(device.id, "unlock-token").status,
               api.block(device.id).status,
               api.block(device.id, False).status,
               api.migrate(message).status)
        assert got == statuses, (name, got)
        api.transport.close()
    empty(device.idle())
    device.close()
    chief.transport.close()


# ---- channels ------------------------------------------------------------

def test_user_token_update_leaves_the_device_alone(api, apns, enroll):
    device = enroll()
    before = api.enrollment(device.id).json
    for user in (device.user(), device.ipad_user("pat@school.example")):
        empty(user.token_update())
        user.new_token()
        empty(user.token_update(AwaitingConfiguration=True,
                                UnlockToken=b"no such thing here"))
        assert api.push(user.id).status == 200
        apns.wait_token(user.token_hex)
    after = api.enrollment(device.id).json
    before.pop("last_seen")
    after.pop("last_seen")
    assert after == before
    assert api.secret(device.id, "unlock-token").status == 404
    assert api.push(device.id).status == 200
    push = apns.wait_token(device.token_hex)
    assert json.loads(push["body"]) == {"mdm": device.magic}
    assert len(apns.for_token(device.token_hex)) == 1


def test_token_update_without_authenticate(api, apns, enroll):
    """A restore from a backup, or a profile that came again over MDM."""
    device = enroll()
    queued = queue_commands(api, device, 1)
    for number in range(2, 6):
        device.new_token()
        empty(device.token_update())
        assert api.enrollment(device.id).json["token_update_tally"] == number
    push = apns.wait_token(device.token_hex)    # for the command that waits
    assert json.loads(push["body"]) == {"mdm": device.magic}
    assert [offered(device.idle())] == queued


HOSTILE = {
    "colon": "a:b", "colons": "::", "slash": "a/b", "encoded slash": "a%2Fb",
    "twice encoded": "a%252Fb", "dots": "..", "path": "../../v1/pushcert",
    "quote": "o'neil", "double quote": 'say "hi"', "backslash": "a\\b\\",
    "sql": "x'); DROP TABLE enrollment;--", "percent": "100%", "plus": "a+b",
    "space": " a b ", "question": "a?nopush=1", "hash": "a#b",
    "comma": "a,b", "semicolon": "a;b", "markup": "<b>&amp;</b>",
    "json": '{"$ref":"#"}', "latin": "Jörg Müßig", "emoji": "\U0001f600",
    "rtl": "\u202eabc", "combining": "e\u0301", "longest": "x" * 255,
    "longest non-ASCII": "\u00e9" * 127 + "x", "device": None}


@pytest.mark.parametrize("channel,name", [
    (channel, name) for channel, names in (
        ("shared-ipad", HOSTILE), ("mac", ("colon", "slash", "longest")),
        ("enrollment", ("path", "quote", "longest non-ASCII")))
    for name in names])
def test_hostile_user_names(channel, name, api, apns, enroll):
    """Enqueue, push, delivery and result, each with the encoded id."""
    if channel == "enrollment":
        device = enroll(enrollment_id=uuid.uuid4().hex)
        make, kind = device.enrollment_user, "User Enrollment"
    else:
        device = enroll()
        make = device.ipad_user if channel == "shared-ipad" else device.user
        kind = "Shared iPad" if channel == "shared-ipad" else "User"
    user = make(HOSTILE[name] or device.id)
    empty(user.token_update())
    row = api.enrollment(user.id)
    assert row.status == 200, row
    assert (row.json["id"], row.json["type"], row.json["parent_id"]) \
        == (user.id, kind, device.id)
    command_uuid, body = command_plist("ProfileList")
    reply = api.enqueue(user.id, body)
    assert reply.status == 200, reply
    assert list(reply.json["status"]) == [user.id]
    push = apns.wait_token(user.token_hex)
    assert json.loads(push["body"]) == {"mdm": user.magic}
    assert offered(device.idle()) is None
    assert user.idle().body == body
    empty(user.report(command_uuid, ProfileList=[]))
    assert state_of(api, command_uuid, user.id) == "acknowledged"
    assert api.result(command_uuid, user.id).body == user.last_report
    assert api.result(command_uuid, device.id).status == 404


@pytest.mark.parametrize("name", ["", "x" * 256, "\u00e9" * 128, "a\nb",
                                  "a\tb", "a\x7fb", "a\u0085b"])
def test_names_that_are_no_names(name, api, enroll):
    device = enroll()
    for user in (device.ipad_user(name),):
        for reply in (user.token_update(), user.idle(),
                      user.report("x", "Acknowledged")):
            assert reply.status == 400, reply
    found = api.enrollments(f"?q={device.id}").json["enrollments"]
    assert [row["id"] for row in found] == [device.id]


def test_shared_ipad_users_are_apart(api, enroll):
    """One UserID for all: the short name is the key, byte for byte."""
    device = enroll()
    names = ("pat@school.example", "Pat@school.example", "pat@school.example ",
             "p\u00e4t", "pa\u0308t")
    users = [device.ipad_user(n) for n in names]
    queued = {}
    for user in users:
        empty(user.token_update())
    for user in users:
        queued[user.id] = queue_commands(api, user, 1)
    assert len(queued) == len(names)
    for user in users:
        assert [offered(user.idle())] == queued[user.id]
    # The constant is compared without regard to case.
    again = device.ipad_user(names[0])
    again.keys["UserID"] = again.keys["UserID"].lower()
    assert [offered(again.idle())] == queued[users[0].id]


def test_user_enrolment_channels(server, api, apns, pki, enroll, log):
    """No UDID anywhere; users and certificate work as elsewhere."""
    log.expect("MDM0204")
    device = enroll(enrollment_id=uuid.uuid4().hex)
    user = device.enrollment_user(str(uuid.uuid4()).upper())
    empty(user.token_update())
    for channel in (device, user):
        command_uuid, body = command_plist("ProfileList")
        assert api.enqueue(channel.id, body).status == 200
        apns.wait_token(channel.token_hex)
        assert channel.idle().body == body
        empty(channel.report(command_uuid))
        assert state_of(api, command_uuid, channel.id) == "acknowledged"
    thief = Device(server, pki.device(), server.push.topic,
                   enrollment_id=device.keys["EnrollmentID"])
    for reply in (thief.idle(), thief.token_update(),
                  thief.enrollment_user("x").token_update()):
        assert reply.status == 403, reply
    thief.close()
    empty(device.check_out())
    assert api.enrollment(user.id).json["enabled"] is False


def test_users_end_with_their_device(api, enroll, log):
    """A user's channel lives as long as the device's enrolment."""
    log.expect("MDM0204")
    device = enroll()
    users = [device.user(), device.ipad_user("pat@school.example")]
    for user in users:
        empty(user.token_update())
        queue_commands(api, user, 1)
    empty(device.authenticate())
    for user in users:
        assert api.enrollment(user.id).json["enabled"] is False
        reply = user.idle()
        assert b"CommandUUID" not in reply.body
        assert reply.status in (200, 403), reply
    empty(device.token_update())
    for user in users:
        empty(user.token_update())
        assert offered(user.idle()) is None
    empty(device.check_out())
    for user in users:
        for reply in (user.token_update(), user.idle()):
            assert reply.status == 403, reply


# ---- NanoMDM's sequences -------------------------------------------------

def test_nanomdm_sequences(own_server, own_apns, pki, log):
    """What tools written for NanoMDM expect, in one go: push certificates,
    binding, enrolment, tally, bootstrap token, re-enrolment, queue."""
    log.expect("MDM0204")
    server = own_server(push=False)
    api = server.api()
    api.transport.close()
    # 1: a push certificate, then a second pair that the next push presents
    first, second = server.push, pki.push(server.push.topic)
    for pair in (first, second):
        reply = api.put_pushcert(pair.both_pem)
        assert (reply.status, reply.json["topic"]) == (200, first.topic)
    device = Device(server, pki.device(), first.topic)
    device.token = bytes(range(64))
    # 2: the first refusals bind nothing
    for _ in range(2):
        assert device.token_update().status == 403
    empty(device.authenticate())
    empty(device.token_update())
    other = Device(server, pki.device(), first.topic, udid=device.udid)
    assert other.token_update().status == 403
    # 4, 5: pushes
    reply = api.push("nobody")
    assert "push data missing for id" \
        in reply.json["status"]["nobody"]["push_error"]
    assert "push_error" not in reply.json
    assert api.push(device.id).status == 200
    push = own_apns.wait_token(device.token.hex())
    assert json.loads(push["body"]) == {"mdm": device.magic}
    assert push["headers"]["apns-topic"] == first.topic
    assert push["fingerprint"] == second.fingerprint
    reply = api.put_pushcert(pki.push(first.topic, days=(0, 380)).both_pem)
    assert reply.status == 200, reply
    # 6, 8, 9: tally
    def tally():
        return api.enrollment(device.id).json["token_update_tally"]
    assert tally() == 1
    empty(device.token_update())
    assert tally() == 2
    # 7: bootstrap token
    empty(device.get_bootstrap_token())
    empty(device.set_bootstrap_token(b"\0\1\2boot"))
    assert device.get_bootstrap_token().plist["BootstrapToken"] \
        == b"\0\1\2boot"
    # 8, 9, 10, 11: a new life
    waiting = queue_commands(api, device, 2)
    device.enroll()
    assert tally() == 1
    empty(device.token_update())
    assert tally() == 2
    empty(device.get_bootstrap_token())
    empty(device.idle())
    assert state_of(api, waiting[0], device.id) == "cancelled"
    nanomdm_queue(api, device)
    for closer in (device, other, api.transport):
        closer.close()


def nanomdm_queue(api, device):
    """12: basic, notnow, clear; a request type may be any string."""
    def enqueue(number):
        command_uuid, body = command_plist(f"CMD{number}", f"CMD{number}")
        reply = api.enqueue(device.id, body, "?nopush=1", method="POST")
        assert reply.status == 200, reply
        assert (reply.json["command_uuid"], reply.json["request_type"],
                reply.json["no_push"]) == (command_uuid, f"CMD{number}", True)

    def gives(reply, number):
        command = reply.plist
        assert command["CommandUUID"] == f"CMD{number}"
        assert command["Command"]["RequestType"] == f"CMD{number}"

    empty(device.idle())
    enqueue(1)
    enqueue(2)
    gives(device.idle(), 1)
    gives(device.report("CMD1"), 2)
    empty(device.report("CMD2"))
    empty(device.idle())
    enqueue(3)
    gives(device.idle(), 3)
    empty(device.not_now("CMD3"))
    gives(device.idle(), 3)
    empty(device.report("CMD3"))
    empty(device.idle())
    enqueue(4)
    device.enroll()
    empty(device.idle())


def test_queries_belong_to_the_url(server, enroll):
    """A ServerURL may carry a query; it is not ours."""
    device = enroll()
    for query in ("?ref=a%26b%2Bc&x=1&x=2", "?", "?force=1&nopush=1"):
        device.checkin_path = device.server_path = "/mdm" + query
        empty(device.token_update())
        empty(device.idle())
    body = plistlib.dumps({"Status": "Idle", "UDID": device.udid})
    assert device.put("/mdm?x", COMMAND, body).status == 200
    assert device.put("/mdm?x", CHECKIN, body).status == 400
