"""Enrolments that come from another server, and the first certificate that
they show here."""
import plistlib
import threading
import uuid

import pytest
from helpers import command_plist, enrolled_ids, offered, queue_commands
from mdmtest.device import Device

ENDPOINTS = {"/mdm": "mdm", "/first-use": "mdm", "/mdmapi/": "api",
             "/closed/": "api"}


@pytest.fixture(scope="module")
def module_site(kind, pki, build_dir, session_apns):
    """Migration and first use are each on at one location and off at
    another."""
    from conftest import KINDS, push_settings
    server = KINDS[kind](pki, build_dir, push_settings(pki, session_apns) + [
        ("/first-use", "RETROACTIVE_BINDING", "on"),
        ("/mdmapi/", "MIGRATION", "on")], endpoints=ENDPOINTS)
    server.settings.append(
        ("/closed/", "API_TOKEN_FILE", server.path("tokens")))
    try:
        server.start()
        server.push = pki.push(key_kind="shared")
        server.calls = server.api()
        assert server.calls.put_pushcert(server.push.both_pem).status == 200
        yield server
        server.calls.transport.close()
        server.quit()
    finally:
        server.stop()
        server.remove()


@pytest.fixture
def site(module_site, log):
    log.watch(module_site)
    yield module_site
    module_site.get_static()


class Moved:
    """A device whose messages another server once kept."""

    def __init__(self, server, pki, **more):
        self.server = server
        self.device = Device(server, pki.device(), server.push.topic, **more)
        self.kept = []
        self.put = self.device.put
        self.device.put = self.keep

    def keep(self, path, content_type, body, method="PUT"):
        """Instead of sending it."""
        self.kept.append(body)

    def authenticate(self):
        self.device.authenticate()
        return self

    def token_update(self, **more):
        self.device.token_update(**more)
        return self

    def bring(self):
        """Hands the kept messages to the new server, which takes them."""
        for body in self.kept:
            reply = self.server.calls.migrate(body)
            assert reply.status == 200, (body, reply)
        self.kept = []
        return self

    def arrive(self, path):
        """From now on the device speaks for itself, to this URL."""
        self.device.put = self.put
        self.device.checkin_path = self.device.server_path = path
        return self.device


def certificate_of(server, device):
    row = server.calls.enrollment(device.id).json
    return row.get("identity_certificate", {}).get("sha256")


def test_whole_move(site, apns, pki):
    """Authenticate, TokenUpdate, SetBootstrapToken and a user's TokenUpdate;
    pushed and queued for before the device ever came."""
    moved = Moved(site, pki).authenticate()
    moved.token_update(UnlockToken=b"UNLOCK")
    device = moved.device
    device.set_bootstrap_token(b"BOOT")
    user = device.user()
    user.token_update(NotOnConsole=False)
    assert len(moved.kept) == 4
    moved.bring()
    row = site.calls.enrollment(device.id).json
    assert (row["enabled"], row["serial_number"], row["topic"],
            row["token_update_tally"]) == (True, device.serial,
                                           device.topic, 1)
    assert row["unlock_token_escrowed"] and row["bootstrap_token_escrowed"]
    assert site.calls.enrollment(user.id).json["parent_id"] == device.id
    assert certificate_of(site, device) is None
    queued = {}
    for channel in (device, user):
        command_uuid, body = command_plist("ProfileList")
        assert site.calls.enqueue(channel.id, body).status == 200
        queued[channel.id] = command_uuid
        push = apns.wait_token(channel.token_hex)
        assert push["headers"]["apns-topic"] == device.topic
    moved.arrive("/first-use")
    assert offered(device.idle()) == queued[device.id]
    assert offered(user.idle()) == queued[user.id]
    assert device.get_bootstrap_token().plist == {"BootstrapToken": b"BOOT"}
    assert certificate_of(site, device) == device.identity.fingerprint
    # Bound is bound: the location that does not bind takes it, too.
    device.server_path = device.checkin_path = "/mdm"
    assert device.idle().status == 200
    assert device.token_update().status == 200
    device.close()


FIRST = {
    "idle": lambda d: d.idle(), "report": lambda d: d.report("x"),
    "token update": lambda d: d.token_update(),
    "get token": lambda d: d.get_bootstrap_token(),
    "set token": lambda d: d.set_bootstrap_token(b"x"),
    "user token update": lambda d: d.user().token_update()}


@pytest.mark.parametrize("first", FIRST)
def test_first_use_binds(first, site, pki, log):
    """Off: 403 and nothing is bound.  On: bound by whatever comes first, and
    never bound again."""
    log.expect("MDM0204")
    moved = Moved(site, pki).authenticate().token_update().bring()
    device = moved.arrive("/mdm")
    for _ in range(2):
        assert FIRST[first](device).status == 403
        assert certificate_of(site, device) is None
    device = moved.arrive("/first-use")
    assert FIRST[first](device).status == 200
    assert certificate_of(site, device) == device.identity.fingerprint
    other = Device(site, pki.device(), device.topic, udid=device.udid,
                   checkin="/first-use", command="/first-use")
    for work in FIRST.values():
        assert work(other).status == 403
    assert other.check_out().status == 403
    assert certificate_of(site, device) == device.identity.fingerprint
    assert device.idle().status == 200
    for closer in (device, other):
        closer.close()


def test_first_use_takes_no_certificate_of_others(site, pki, log):
    """One that is another device's is not bound, nor a foreign one, and the
    refusal leaves the enrolment free for its own."""
    log.expect("MDM0204")
    other = Device(site, pki.device(), site.push.topic).enroll()
    moved = Moved(site, pki).authenticate().token_update().bring()
    device = moved.arrive("/first-use")
    own = device.identity
    for identity in (other.identity, pki.device(ca=pki.other_ca)):
        device.close()
        device.use_identity(identity)
        for work in FIRST.values():
            assert work(device).status == 403
        assert certificate_of(site, device) is None
    device.close()
    device.use_identity(own)
    assert device.idle().status == 200
    assert other.idle().status == 200
    for closer in (device, other):
        closer.close()


def test_first_use_needs_an_enrolment(site, pki, log):
    """Nobody becomes known by it."""
    log.expect("MDM0204")
    before = sorted(enrolled_ids(site))
    device = Device(site, pki.device(), site.push.topic,
                    checkin="/first-use", command="/first-use")
    for work in FIRST.values():
        assert work(device).status == 403
    assert sorted(enrolled_ids(site)) == before
    # After a re-enrolment or a check-out there is a history: no first use.
    device.enroll()
    stranger = Device(site, pki.device(), site.push.topic, udid=device.udid,
                      checkin="/first-use", command="/first-use")
    assert stranger.idle().status == 403
    assert device.check_out().status == 200
    for work in FIRST.values():
        assert work(stranger).status == 403
    assert certificate_of(site, device) == device.identity.fingerprint
    for closer in (device, stranger):
        closer.close()


def test_first_use_by_many_at_once(site, pki, log):
    """Exactly one of them gets it."""
    log.expect("MDM0204")
    for _ in range(3):
        moved = Moved(site, pki).authenticate().token_update().bring()
        rivals = [Device(site, pki.device(), site.push.topic,
                         udid=moved.device.udid, checkin="/first-use",
                         command="/first-use") for _ in range(6)]
        for rival in rivals:
            rival.transport.connect()
        gate = threading.Barrier(len(rivals))
        statuses = {}

        def race(rival):
            gate.wait()
            statuses[rival.identity.fingerprint] = rival.idle().status

        threads = [threading.Thread(target=race, args=(r,)) for r in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(statuses.values()) == [200] + 5 * [403], statuses
        winner = [f for f, s in statuses.items() if s == 200]
        assert [certificate_of(site, moved.device)] == winner
        for rival in rivals:
            rival.close()


def test_re_enrolment_of_a_moved_device(site, pki, log):
    """Authenticate needs no first use: it binds."""
    log.expect("MDM0204")
    moved = Moved(site, pki).authenticate().token_update().bring()
    queue_commands(site.calls, moved.device, 1)
    device = moved.arrive("/mdm")
    assert device.idle().status == 403
    device.enroll()
    assert offered(device.idle()) is None
    assert certificate_of(site, device) == device.identity.fingerprint
    device.close()


def test_lists_may_be_sent_again(site, apns, pki):
    """Until the device has come; then what it says here counts."""
    moved = Moved(site, pki).authenticate().token_update()
    everything = list(moved.kept)
    for _ in range(3):
        moved.kept = list(everything)
        moved.bring()
    assert site.calls.enrollment(moved.device.id).json[
        "token_update_tally"] == 1
    device = moved.arrive("/first-use")
    device.new_token()
    assert device.token_update().status == 200
    before = site.calls.enrollment(device.id).json
    user = device.user()
    for body in everything + [
            plistlib.dumps({"MessageType": "CheckOut", "UDID": device.udid,
                            "Topic": device.topic}),
            plistlib.dumps({"MessageType": "SetBootstrapToken",
                            "UDID": device.udid, "BootstrapToken": b"old"}),
            plistlib.dumps({"MessageType": "TokenUpdate", **user.keys,
                            "Topic": device.topic, "Token": b"t",
                            "PushMagic": "m"})]:
        reply = site.calls.migrate(body)
        assert reply.status == 409, reply
    after = site.calls.enrollment(device.id).json
    assert {**before, "last_seen": 0} == {**after, "last_seen": 0}
    assert site.calls.enrollment(user.id).status == 404
    assert site.calls.push(device.id).status == 200
    apns.wait_token(device.token_hex)
    device.close()


def test_not_where_it_is_off(site, pki, log):
    before = enrolled_ids(site)
    body = Moved(site, pki).authenticate().kept[0]
    closed = site.api()
    closed.base = "/closed"
    assert closed.enrollments("?limit=1").status == 200
    reply = closed.migrate(body)
    assert reply.status == 403, reply
    assert "MDMMigration" in reply.json["error"]
    assert "mdm_migration" in reply.json["error"]
    closed.transport.close()
    log.expect("MDM0602")
    stranger = site.api("wrong-token-wrong-token")
    assert stranger.migrate(body).status == 401
    stranger.transport.close()
    assert site.calls.call("GET", "/migration").status == 405
    assert site.calls.call("POST", "/migration", body).status == 405
    assert enrolled_ids(site) == before


def test_what_is_not_taken(site, pki):
    moved = Moved(site, pki).authenticate().token_update()
    authenticate, token_update = moved.kept
    device = moved.device
    user = device.user()
    before = enrolled_ids(site)
    reply = site.calls.migrate(token_update)    # before its Authenticate
    assert reply.status == 404, reply
    assert site.calls.migrate(authenticate).status == 200
    for body in (b"", b"no plist", token_update[:-20],
                 plistlib.dumps({"Status": "Idle", "UDID": device.udid}),
                 plistlib.dumps(plistlib.loads(authenticate),
                                fmt=plistlib.FMT_BINARY),
                 plistlib.dumps({"MessageType": "UserAuthenticate",
                                 **user.keys}),
                 plistlib.dumps({"MessageType": "GetBootstrapToken",
                                 "UDID": device.udid}),
                 plistlib.dumps({"MessageType": "DeclarativeManagement",
                                 "UDID": device.udid, "Endpoint": "tokens"}),
                 plistlib.dumps({**plistlib.loads(authenticate),
                                 "UserID": str(uuid.uuid4())}),
                 plistlib.dumps({**plistlib.loads(token_update),
                                 "Token": b""})):
        reply = site.calls.migrate(body)
        assert reply.status == 400, (body, reply)
    row = site.calls.enrollment(device.id).json
    assert (row["state"], row["token_update_tally"]) == ("authenticating", 0)
    assert enrolled_ids(site) == before + [device.id]


def test_checked_out_over_there(site, pki, log):
    """The last that the old server heard was a CheckOut."""
    log.expect("MDM0204")
    moved = Moved(site, pki).authenticate().token_update()
    moved.device.check_out()
    moved.bring()
    device = moved.arrive("/first-use")
    assert site.calls.enrollment(device.id).json["enabled"] is False
    assert device.idle().status == 403
    device.enroll()
    device.close()


def test_user_enrolment_moves(site, pki):
    moved = Moved(site, pki, enrollment_id=uuid.uuid4().hex)
    moved.authenticate().token_update()
    user = moved.device.enrollment_user("a/b:c")
    user.token_update()
    moved.bring()
    device = moved.arrive("/first-use")
    assert user.idle().status == 200
    assert certificate_of(site, device) == device.identity.fingerprint
    device.close()


def test_blocked_before_it_came(site, pki, log):
    """First use does not let a blocked device in."""
    log.expect("MDM0206", "MDM0204")
    moved = Moved(site, pki).authenticate().token_update().bring()
    assert site.calls.block(moved.device.id).status == 200
    device = moved.arrive("/mdm")
    assert device.idle().status == 403
    device = moved.arrive("/first-use")
    reply = device.idle()
    assert reply.status == 403
    assert b"com.apple.unrecognized.device" in reply.body
    device.close()
