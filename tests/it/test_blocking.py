"""Devices that an operator shuts out: the one place where 401 is sent."""
import json
import uuid

import pytest
from helpers import offered, queue_commands, state_of
from mdmtest.device import Device

DOCUMENT = "com.apple.unrecognized.device"
SYSTEMS = [
    # ProductName, OSVersion, told by document (else by 401)
    ("iPhone14,2", "16.7.8", False), ("iPhone14,2", "17.0", True),
    ("iPhone17,2", "26.1", True), ("iPad8,9", "9.3.5", False),
    ("iPad16,3", "18.1", True), ("Mac14,7", "13.6", False),
    ("Mac14,7", "14.0", True), ("MacBookPro18,3", "14.1.1", True),
    ("iMac21,1", "12.7", False), ("AppleTV14,1", "16.6", False),
    ("AppleTV14,1", "17.1", True), ("Watch7,1", "10.0", True),
    ("Watch6,1", "9.6", False), ("RealityDevice14,1", "1.0", False),
    ("RealityDevice14,1", "1.1", True), ("Toaster1,1", "99.0", False),
    ("Mac14,7", "", False), ("Mac14,7", "fourteen", False)]


def told_to_leave(reply, document):
    """The answer that makes a device drop its management, and no other."""
    assert "www-authenticate" not in reply.headers
    if document:
        assert reply.status == 403, reply
        assert reply.headers["content-type"] == "application/json"
        told = json.loads(reply.body)
        assert told["code"] == DOCUMENT
        assert all(isinstance(v, str) and v for v in told.values())
    else:
        assert reply.status == 401, reply
        assert DOCUMENT.encode() not in reply.body
    return True


def refused(reply):
    """Turned away without being told to leave."""
    assert reply.status == 403, reply
    assert DOCUMENT.encode() not in reply.body
    return True


def of_system(enroll, product, version, **more):
    """An enrolled device that says what it runs."""
    device = enroll(**more)
    assert device.authenticate(ProductName=product, OSVersion=version
                               ).status == 200
    assert device.token_update().status == 200
    return device


@pytest.mark.parametrize("product,version,document", SYSTEMS)
def test_by_401_or_by_document(product, version, document, api, enroll, log):
    log.expect("MDM0206")
    device = of_system(enroll, product, version)
    assert api.block(device.id).status == 200
    told_to_leave(device.idle(), document)


def messages(device, user, pat):
    """Every message that a device and its users may send, with a name."""
    return {
        "idle": device.idle, "token update": device.token_update,
        "authenticate": device.authenticate,
        "report": lambda: device.report("some-command"),
        "not now": lambda: device.not_now("some-command"),
        "set token": lambda: device.set_bootstrap_token(b"x"),
        "get token": device.get_bootstrap_token,
        "declarations": lambda: device.check_in(
            "DeclarativeManagement", Endpoint="tokens"),
        "maid token": lambda: device.check_in(
            "GetToken", TokenServiceType="com.apple.maid"),
        "return to service": lambda: device.check_in("ReturnToService"),
        "user token update": user.token_update, "user idle": user.idle,
        "user authenticate": lambda: user.check_in("UserAuthenticate"),
        "user report": lambda: user.report("some-command"),
        "user declarations": lambda: user.check_in(
            "DeclarativeManagement", Endpoint="tokens"),
        "ipad token update": pat.token_update, "ipad idle": pat.idle}


@pytest.mark.parametrize("document", [False, True], ids=["old", "new"])
def test_every_message_is_told(document, api, enroll, log):
    """As the first contact after the block, and as a later one."""
    log.expect("MDM0206")
    version = "17.4" if document else "16.4"
    made = of_system(enroll, "iPhone14,2", version)
    for name in messages(made, made, made):
        device = of_system(enroll, "iPhone14,2", version)
        users = device.user(), device.ipad_user("pat@school.example")
        for user in users:
            assert user.token_update().status == 200
        assert api.block(device.id).status == 200
        send = messages(device, *users)[name]
        for _ in range(2):
            assert told_to_leave(send(), document), name
        row = api.enrollment(device.id).json
        assert (row["blocked"], row["enabled"]) == (True, False), name
        assert row["turned_away_at"] is not None
        assert row["bootstrap_token_escrowed"] is False
        device.close()
    assert made.idle().status == 200


def test_a_blocked_device_that_leaves(api, enroll, log):
    """CheckOut is 200; it may not come back, nor go on."""
    log.expect("MDM0206")
    device = enroll()
    assert api.block(device.id).status == 200
    reply = device.check_out()
    assert (reply.status, reply.body) == (200, b"")
    assert api.enrollment(device.id).json["enabled"] is False
    assert device.check_out().status == 200
    for reply in (device.idle(), device.token_update(),
                  device.authenticate()):
        told_to_leave(reply, True)


def test_what_a_block_does(api, apns, enroll, log):
    log.expect("MDM0206")
    device, bystander = enroll(), enroll()
    user = device.user()
    assert user.token_update().status == 200
    queued = {d.id: queue_commands(api, d, 2)
              for d in (device, user, bystander)}
    reply = api.block(device.id)
    assert (reply.status, reply.json) \
        == (200, {"id": device.id, "blocked": True})
    # It is woken so that it learns of it, and is what it was until then.
    push = apns.wait_token(device.token_hex)
    assert json.loads(push["body"]) == {"mdm": device.magic}
    row = api.enrollment(device.id).json
    assert (row["blocked"], row["enabled"]) == (True, True)
    assert row["blocked_at"] is not None and row["turned_away_at"] is None
    told_to_leave(device.idle(), True)
    log.require(f"MDM0206: {device.id} is blocked")
    for channel in (device, user):
        assert api.enrollment(channel.id).json["enabled"] is False
        for command_uuid in queued[channel.id]:
            assert state_of(api, command_uuid, channel.id) == "cancelled"
        reply = api.push(channel.id)
        assert "push_error" in reply.json["status"][channel.id], reply
    # A second block is not a second event, nor a second push.
    pushes = len(apns.for_token(device.token_hex))
    assert api.block(device.id).json["blocked"] is True
    told_to_leave(device.idle(), True)
    assert offered(bystander.idle()) == queued[bystander.id][0]
    assert api.push(bystander.id).status == 200
    apns.wait_token(bystander.token_hex)
    assert len(apns.for_token(device.token_hex)) == pushes


def test_strangers_are_not_told(server, api, pki, enroll, log):
    """Who only claims to be the blocked device gets no 401 and learns
    nothing, but at Authenticate, where any certificate may be its next."""
    log.expect("MDM0204", "MDM0206")
    device = of_system(enroll, "iPhone14,2", "16.4")
    other = enroll()
    assert api.block(device.id).status == 200
    for identity in (other.identity, pki.device(), None,
                     pki.device(ca=pki.other_ca)):
        stranger = Device(server, identity, server.push.topic,
                          udid=device.udid)
        for reply in (stranger.idle(), stranger.token_update(),
                      stranger.get_bootstrap_token(), stranger.check_out(),
                      stranger.user().token_update()):
            if identity is None:
                assert reply.status == 400, reply
            else:
                refused(reply)
        stranger.close()
    row = api.enrollment(device.id).json
    assert (row["enabled"], row["turned_away_at"]) == (True, None)
    assert other.idle().status == 200
    # Another device's certificate never enrols as this one.
    thief = Device(server, other.identity, server.push.topic,
                   udid=device.udid)
    refused(thief.authenticate())
    thief.close()
    # The device itself with a new certificate is still the blocked one.
    again = Device(server, pki.device(), server.push.topic, udid=device.udid)
    told_to_leave(again.authenticate(), False)
    again.close()
    told_to_leave(device.idle(), False)


def test_unblock_and_enrol_again(server, api, apns, pki, enroll, log):
    log.expect("MDM0206", "MDM0204")
    device = of_system(enroll, "iPhone14,2", "16.4")
    assert api.block(device.id).status == 200
    told_to_leave(device.idle(), False)
    reply = api.block(device.id, False)
    assert (reply.status, reply.json) \
        == (200, {"id": device.id, "blocked": False})
    # It has left: it is no more than any device that is not enrolled.
    refused(device.idle())
    refused(device.token_update())
    row = api.enrollment(device.id).json
    assert (row["blocked"], row["enabled"]) == (False, False)
    device.new_token()
    device.enroll()
    assert api.enrollment(device.id).json["enabled"] is True
    queued = queue_commands(api, device, 1)
    assert api.push(device.id).status == 200
    apns.wait_token(device.token_hex)
    assert [offered(device.idle())] == queued
    # With a new certificate as well.
    assert api.block(device.id).status == 200
    told_to_leave(device.token_update(), True)  # a Mac this time
    assert api.block(device.id, False).status == 200
    device.close()
    device.use_identity(pki.device())
    device.enroll()
    assert device.idle().status == 200


def test_unblocked_before_it_came(api, enroll):
    """It never learns of it, and nothing of it is lost."""
    device = enroll()
    user = device.user()
    assert user.token_update().status == 200
    assert device.set_bootstrap_token(b"kept").status == 200
    queued = queue_commands(api, device, 1)
    assert api.block(device.id).status == 200
    assert api.block(device.id, False).status == 200
    assert [offered(device.idle())] == queued
    assert user.idle().status == 200
    assert device.get_bootstrap_token().plist == {"BootstrapToken": b"kept"}
    assert api.enrollment(device.id).json["enabled"] is True


def test_block_under_user_enrolment(api, enroll, log):
    log.expect("MDM0206")
    device = enroll(enrollment_id=uuid.uuid4().hex)
    assert api.block(device.id).status == 200
    told_to_leave(device.enrollment_user("U").token_update(), True)
    told_to_leave(device.idle(), True)


def test_calls_that_block_nothing(api, enroll):
    device = enroll()
    user = device.user("a/b:c")
    assert user.token_update().status == 200
    for on in (True, False):
        reply = api.block(user.id, on)
        assert reply.status == 400, reply
        assert device.id in reply.json["error"]
        assert api.block("nobody", on).status == 404
        assert api.block(device.id + ",x", on).status == 404
    for method in ("GET", "PUT", "DELETE"):
        reply = api.call(method, f"/v1/enrollments/{device.id}/block")
        assert reply.status == 405
        assert reply.headers["allow"] == "POST"
    assert device.idle().status == 200
    assert user.idle().status == 200
    # Unblocking what was not blocked is no fault.
    assert api.block(device.id, False).json["blocked"] is False


def test_blocks_outlive_the_server(own_server, pki, log):
    log.expect("MDM0206")
    server = own_server()
    device = Device(server, pki.device(), server.push.topic).enroll()
    api = server.api()
    assert api.block(device.id).status == 200
    for closer in (device, api.transport):
        closer.close()
    server.restart()
    device.use_identity(device.identity)
    told_to_leave(device.idle(), True)
    device.close()
