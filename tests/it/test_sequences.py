"""The stateful cases of tests/cases/sequences.json, step by step, with the
exact files and identities that it names.

Every step that puts a file is sent as it stands and answered 200 without a
body, unless the step has a function here that judges the answer.  Every other
step needs such a function: at(case, number).  A case that is neither here nor
in another test file fails.
"""
import base64
import json
import os
import plistlib
import re
import threading
import time
import uuid

import pytest
from helpers import command_plist, enrolled_ids, offered, state_of
from mdmtest.api import Api
from mdmtest.deftable import TOP
from mdmtest.device import CHECKIN, COMMAND, Device, Transport
from mdmtest.wait import wait_for

CASES = os.path.join(TOP, "tests", "cases")
UDID = "11111111-2222-5333-8444-555566667777"
USER = UDID + ":0A0A0A0A-1B1B-4C2C-8D3D-4E4E4E4E4E4E"
TOPIC = "com.apple.mgmt.External.aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
# Cases of this file that need more than a list of steps.
APART = {"C34": "test_twenty_devices_under_reloads"}
# Cases of the other parts, and where they are tested.
ELSEWHERE = {"C73": "test_scep.py",
             "C31": "test_sequences_queue.py",
             "C32": "test_sequences_queue.py",
             "C33": "test_sequences_queue.py",
             "C35": "test_sequences_queue.py"}


def read(*name):
    with open(os.path.join(CASES, *name), "rb") as f:
        return f.read()


SEQUENCES = {s["case"]: s["steps"]
             for s in json.loads(read("sequences.json"))["sequences"]}
STEPS = {}      # (case, step number from 0) -> function


def at(case, number):
    def keep(function):
        assert case in SEQUENCES and number < len(SEQUENCES[case])
        STEPS[case, number] = function
        return function
    return keep


class Identity:
    """One of cases/pki."""

    def __init__(self, name):
        self.cert_file = os.path.join(CASES, "pki", name + ".pem")
        self.key_file = os.path.join(CASES, "pki", name + ".key")


class Play:
    """One server, and the sequence that is played to it."""

    def __init__(self, server, apns, pki):
        self.server = server
        self.apns = apns
        self.api = server.api()
        self.transports = {}
        self.uuids = {}
        reply = self.api.put_pushcert(pki.push(TOPIC).both_pem, "?force=1")
        assert reply.status == 200, reply

    def close(self):
        for transport in [self.api.transport, *self.transports.values()]:
            transport.close()

    def send(self, who, data, path="/mdm"):
        if who not in self.transports:
            self.transports[who] = Transport(self.server, Identity(who))
        keys = plistlib.loads(data)
        return self.transports[who].request(
            "PUT", path, data,
            {"Content-Type": CHECKIN if "MessageType" in keys else COMMAND})

    def put(self, who, name, path="/mdm"):
        """Sends a file of the cases."""
        # An Idle report of the device; it is kept as a whole request.
        if name == "mdm/C30-idle.plist":
            data = read("http", "C59-ok-command.http").split(b"\r\n\r\n")[1]
        else:
            data = read(name)
        return self.send(who, data, path)

    def report(self, who, what, status="Acknowledged"):
        return self.send(who, plistlib.dumps({
            "UDID": UDID, "Status": status, "CommandUUID": self.uuids[what]}))

    def queue(self, what, enrolment_id=UDID, **keys):
        self.uuids[what], body = command_plist(what, **keys)
        reply = self.api.enqueue(enrolment_id, body, "?nopush=1")
        assert reply.status == 200, reply
        return self.uuids[what]

    def row(self, enrolment_id=UDID):
        reply = self.api.enrollment(enrolment_id)
        assert reply.status == 200, reply
        return reply.json

    def pushed(self, enrolment_id=UDID):
        """(token, magic) that a push to this enrolment goes to now."""
        number = len(self.apns.requests)
        reply = self.api.push(enrolment_id)
        wanted = reply.json["status"][enrolment_id]["push_result"]
        self.apns.wait_for(
            lambda r: r["headers"]["apns-id"] == wanted)
        push = self.apns.requests[number:][-1]
        return bytes.fromhex(push["token"]), json.loads(push["body"])["mdm"]

    def run(self, case):
        for number, step in enumerate(SEQUENCES[case]):
            judge = STEPS.get((case, number))
            if "run" in step:
                assert judge is None
                self.run(step["run"])
            elif step.get("put", "").endswith(".plist"):
                reply = self.put(step["as"], step["put"])
                if judge is not None:
                    judge(self, reply)
                else:
                    assert (reply.status, reply.body) == (200, b""), \
                        (case, number, step, reply)
            else:
                assert judge is not None, (case, number, step)
                judge(self)


def keys_of(name):
    return plistlib.loads(read(name))


def played():
    """Cases whose steps are all dealt with here."""
    return sorted({case for case, _ in STEPS} & set(SEQUENCES))


# ---- C19: an unlock token is kept -----------------------------------------

@at("C19", 4)
def c19_check(play):
    first = keys_of("mdm/C19-2-tokenupdate-with-unlock.plist")
    last = keys_of("mdm/C19-4-tokenupdate-empty-unlock.plist")
    reply = play.api.secret(UDID, "unlock-token")
    assert base64.b64decode(reply.json["unlock_token"]) \
        == first["UnlockToken"]
    assert play.pushed() == (last["Token"], last["PushMagic"])
    assert play.row()["token_update_tally"] == 3


# ---- C20: a new life has none of the old one's secrets ---------------------

@at("C20", 1)
def c20_bootstrap(play):
    reply = play.send("device-a", plistlib.dumps({
        "MessageType": "SetBootstrapToken", "UDID": UDID,
        "BootstrapToken": b"first life"}))
    assert (reply.status, reply.body) == (200, b"")
    assert play.api.secret(UDID, "bootstrap-token").status == 200


@at("C20", 3)
def c20_check(play):
    for name in ("unlock-token", "bootstrap-token"):
        assert play.api.secret(UDID, name).status == 404
    ask = plistlib.dumps({"MessageType": "GetBootstrapToken", "UDID": UDID})
    reply = play.send("device-a", ask)
    assert (reply.status, reply.body) == (200, b"")
    assert play.row()["enabled"] is False
    assert "push_error" in play.api.push(UDID).json["status"][UDID]
    reply = play.put("device-a", "mdm/C19-3-tokenupdate-no-unlock.plist")
    assert reply.status == 200
    assert play.row()["enabled"] is True
    for name in ("unlock-token", "bootstrap-token"):
        assert play.api.secret(UDID, name).status == 404


# ---- C21: a user's channel ------------------------------------------------

@at("C21", 0)
def c21_device(play, reply):
    """Its Authenticate is not among the steps."""
    assert reply.status == 403
    for name in ("mdm/C19-1-authenticate.plist",
                 "mdm/C21-1-device-tokenupdate.plist"):
        assert play.put("device-a", name).status == 200


@at("C21", 2)
def c21_check(play):
    device = keys_of("mdm/C21-1-device-tokenupdate.plist")
    user = keys_of("mdm/C21-2-user-tokenupdate.plist")
    assert play.pushed() == (device["Token"], device["PushMagic"])
    assert play.pushed(USER) == (user["Token"], user["PushMagic"])
    listed = play.api.enrollments("?type=Device").json["enrollments"]
    assert [row["id"] for row in listed] == [UDID]
    assert sorted(enrolled_ids(play.server)) == [UDID, USER]
    assert play.row(USER)["parent_id"] == UDID
    play.queue("DeviceInformation")
    play.queue("ProfileList", USER)


@at("C21", 3)
def c21_user(play, reply):
    assert offered(reply) == play.uuids["ProfileList"]
    reply = play.put("device-a", "mdm/C30-idle.plist")
    assert offered(reply) == play.uuids["DeviceInformation"]


# ---- C24: re-enrolment retires the queue ----------------------------------

@at("C24", 1)
def c24_queue(play):
    assert play.put("device-a", "mdm/C21-2-user-tokenupdate.plist"
                    ).status == 200
    play.queue("RemoveProfile", Identifier="com.example.mdm")
    play.queue("DeviceInformation")
    play.queue("ProfileList", USER)
    # One of them was on its way when the device left.
    reply = play.put("device-a", "mdm/C30-idle.plist")
    assert offered(reply) == play.uuids["RemoveProfile"]


@at("C24", 2)
def c24_offline(play):
    assert play.row()["enabled"] is True    # nobody told us


@at("C24", 5)
def c24_idle(play, reply):
    assert (reply.status, reply.body) == (200, b"")
    assert play.put("device-a", "mdm/C21-2-user-tokenupdate.plist"
                    ).status == 200
    reply = play.put("device-a", "mdm/C21-3-user-result.plist")
    assert (reply.status, reply.body) == (200, b"")
    for what, who in (("RemoveProfile", UDID), ("DeviceInformation", UDID),
                      ("ProfileList", USER)):
        assert state_of(play.api, play.uuids[what], who) == "cancelled"


# ---- C25: TokenUpdate without Authenticate --------------------------------

@at("C25", 0)
def c25_unknown_then_known(play, reply):
    name = "mdm/C25-tokenupdate-without-authenticate.plist"
    assert reply.status == 403, reply
    assert enrolled_ids(play.server) == []
    for before in ("mdm/C19-1-authenticate.plist",
                   "mdm/C19-2-tokenupdate-with-unlock.plist"):
        assert play.put("device-a", before).status == 200
    for tally in (2, 3):
        reply = play.put("device-a", name)
        assert (reply.status, reply.body) == (200, b"")
        assert play.row()["token_update_tally"] == tally
    known = keys_of(name)
    assert play.pushed() == (known["Token"], known["PushMagic"])
    assert play.api.secret(UDID, "unlock-token").status == 200


# ---- C26: a late CheckOut -------------------------------------------------

@at("C26", 3)
def c26_late(play, reply):
    assert reply.status == 403, reply
    assert play.row()["enabled"] is True
    new = "C40-device-a-renewed-new-key"
    assert play.put(new, "mdm/C30-idle.plist").status == 200
    # Under the certificate in use it counts.
    assert play.put(new, "mdm/C26-checkout.plist").status == 200
    assert play.row()["enabled"] is False


# ---- C39: renewal and queue clearing --------------------------------------

@at("C39", 0)
def c39_queue(play):
    play.run("C19")
    play.queue("InstallProfile", Payload=b"profile")
    play.queue("DeviceInformation")


@at("C39", 1)
def c39_idle(play):
    reply = play.put("device-a", "mdm/C30-idle.plist")
    assert offered(reply) == play.uuids["InstallProfile"]


@at("C39", 3)
def c39_acknowledged(play):
    # By whichever certificate: the old one is good until the TokenUpdate.
    assert state_of(play.api, play.uuids["InstallProfile"], UDID) \
        == "cancelled"
    who = "C40-device-a-renewed-new-key"
    reply = play.report(who, "InstallProfile")
    assert (reply.status, reply.body) == (200, b"")


@at("C39", 4)
def c39_check(play):
    """The result is there; the other command is cancelled, as nobody had
    issued this certificate as a renewal (docs/protocol.md)."""
    assert state_of(play.api, play.uuids["InstallProfile"], UDID) \
        == "acknowledged"
    result = play.api.result(play.uuids["InstallProfile"], UDID)
    assert plistlib.loads(result.body)["Status"] == "Acknowledged"
    assert state_of(play.api, play.uuids["DeviceInformation"], UDID) \
        == "cancelled"
    # A late report by the certificate before is kept, too.
    reply = play.report("device-a", "DeviceInformation", "Error")
    assert (reply.status, reply.body) == (200, b"")
    assert state_of(play.api, play.uuids["DeviceInformation"], UDID) \
        == "error"
    reply = play.put("C40-device-a-renewed-new-key",
                     "mdm/C19-3-tokenupdate-no-unlock.plist")
    assert reply.status == 200
    assert play.put("device-a", "mdm/C30-idle.plist").status == 403


# ---- C40: renewed certificates, and another device's ----------------------

@at("C40", 1)
def c40_renewed(play, reply):
    """The subject alone says nothing: nobody issued it as a renewal."""
    assert reply.status == 403, reply
    assert "www-authenticate" not in reply.headers
    for name in ("mdm/C19-3-tokenupdate-no-unlock.plist",
                 "mdm/C26-checkout.plist"):
        assert play.put("C40-device-a-renewed", name).status == 403
    assert play.put("device-a", "mdm/C30-idle.plist").status == 200


@at("C40", 2)
def c40_another(play, reply):
    assert reply.status == 403, reply
    assert play.put("device-b", "mdm/C19-3-tokenupdate-no-unlock.plist"
                    ).status == 403
    assert play.row()["enabled"] is True
    # At Authenticate the renewed one is as good as any new one.
    renewed = "C40-device-a-renewed"
    for name in ("mdm/C19-1-authenticate.plist",
                 "mdm/C19-2-tokenupdate-with-unlock.plist",
                 "mdm/C30-idle.plist"):
        assert play.put(renewed, name).status == 200
    assert play.put("device-a", "mdm/C30-idle.plist").status == 403
    # And device-b's, once it is another enrolment's, never.
    other = plistlib.dumps({
        **keys_of("mdm/C19-1-authenticate.plist"),
        "UDID": "99999999-8888-5777-8666-555544443333"})
    assert play.send("device-b", other).status == 200
    assert play.put("device-b", "mdm/C19-1-authenticate.plist"
                    ).status == 403
    assert play.put(renewed, "mdm/C30-idle.plist").status == 200


# ---- C41: no certificate yet ----------------------------------------------

@at("C41", 0)
def c41_import(play):
    for name in ("mdm/C19-1-authenticate.plist",
                 "mdm/C19-2-tokenupdate-with-unlock.plist"):
        reply = play.api.migrate(read(name))
        assert reply.status == 200, reply
    assert "identity_certificate" not in play.row()


@at("C41", 1)
def c41_first(play, reply):
    assert reply.status == 403, reply       # it is off at this URL
    assert "identity_certificate" not in play.row()
    reply = play.put("device-a", "mdm/C30-idle.plist", "/first-use")
    assert (reply.status, reply.body) == (200, b"")
    assert play.put("device-a", "mdm/C30-idle.plist").status == 200


@at("C41", 2)
def c41_never_again(play, reply):
    assert reply.status == 403, reply
    bound = play.row()["identity_certificate"]
    for who in ("device-b", "C40-device-a-renewed"):
        for path in ("/mdm", "/first-use"):
            for name in ("mdm/C30-idle.plist",
                         "mdm/C19-3-tokenupdate-no-unlock.plist"):
                assert play.put(who, name, path).status == 403
    assert play.row()["identity_certificate"] == bound


# ---- all of them ----------------------------------------------------------

@pytest.fixture
def play(own_server, own_apns, pki, log):
    log.expect("MDM0204", "MDM0604")
    server = own_server([
        ("server", "DEVICE_CA_CERTIFICATE",
         os.path.join(CASES, "pki", "device-ca.pem")),
        ("/first-use", "RETROACTIVE_BINDING", "on"),
        ("/mdmapi/", "MIGRATION", "on")],
        endpoints={"/mdm": "mdm", "/first-use": "mdm", "/mdmapi/": "api"},
        push=False)
    made = Play(server, own_apns, pki)
    yield made
    made.close()


@pytest.mark.parametrize("case", played())
def test_sequence(case, play):
    play.run(case)


def test_every_sequence_is_covered():
    left = set(SEQUENCES) - set(played()) - set(APART)
    for name in APART.values():
        assert callable(globals()[name])
    here = os.path.dirname(__file__)
    for case in sorted(left & set(ELSEWHERE)):
        with open(os.path.join(here, ELSEWHERE[case]), "rb") as f:
            assert re.search(rb"\b" + case.encode() + rb"\b", f.read()), case
        left.remove(case)
    assert not left, left


# ---- C34: many devices, many commands, reloads ----------------------------

DEVICES = 20
COMMANDS = 500


class Poller(threading.Thread):
    """A device that polls in a loop, on a new connection a round,
    acknowledges one command and then goes away with the next in hand."""

    def __init__(self, device, stop):
        super().__init__()
        self.device = device
        self.stop = stop
        self.given = []         # UUIDs in order, repetitions included
        self.reports = {}       # UUID -> the report that was answered 200
        self.faults = []

    def run(self):
        try:
            while not self.stop.is_set():
                self.round()
                self.device.close()
                self.stop.wait(0.05)
        except Exception as error:      # noqa: BLE001: reported by the test
            self.faults.append(f"{type(error).__name__}: {error}")

    def take(self, reply):
        """UUID of the command in an answer, None when there is none."""
        if reply.status != 200:
            self.faults.append(repr(reply))
        if reply.status != 200 or not reply.body:
            return None
        command_uuid = reply.plist["CommandUUID"]
        if command_uuid in self.reports:
            self.faults.append(f"{command_uuid} after its report")
        self.given.append(command_uuid)
        return command_uuid

    def round(self):
        command_uuid = self.take(self.device.idle())
        if command_uuid is not None:
            reply = self.device.report(command_uuid, Note=command_uuid)
            if reply.status == 200:
                self.reports[command_uuid] = self.device.last_report
            self.take(reply)


def queue_all(server, devices):
    """All commands at once, by five operators with four devices each; so
    the order for each device is known.  {device id: UUIDs in order}."""
    wanted = {d.id: [] for d in devices}
    faults = []

    def work(mine):
        api = Api(server, server.api_token)
        try:
            for _ in range(COMMANDS // len(devices)):
                for device in mine:
                    command_uuid, body = command_plist("ProfileList")
                    reply = api.enqueue(device.id, body, "?nopush=1")
                    assert reply.status == 200, reply
                    wanted[device.id].append(command_uuid)
        except Exception as error:      # noqa: BLE001: reported below
            faults.append(f"{type(error).__name__}: {error}")
        finally:
            api.transport.close()

    threads = [threading.Thread(target=work, args=(devices[i::5],))
               for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults, faults
    return wanted


def test_twenty_devices_under_reloads(own_server, pki, log):
    """C34: nothing lost, nothing crossed, nothing out of order."""
    server = own_server([("http", "PUSH", "off")])
    devices = [Device(server, pki.device(), server.push.topic).enroll()
               for _ in range(DEVICES)]
    stop = threading.Event()
    done = threading.Event()
    pollers = [Poller(device, stop) for device in devices]
    reloads = []

    def reload_now_and_then():
        while not stop.wait(2 if reloads else 0.5):
            server.reload()
            reloads.append(done.is_set())

    others = [threading.Thread(target=reload_now_and_then)]
    try:
        for thread in pollers + others:
            thread.start()
        started = time.monotonic()
        wanted = queue_all(server, devices)
        print(f"{COMMANDS} queued in {time.monotonic() - started:.2f} s")
        wait_for(lambda: all(len(p.reports) == COMMANDS // DEVICES
                             or p.faults for p in pollers), 90,
                 "every command's report")
        done.set()
        print(f"all done in {time.monotonic() - started:.2f} s, "
              f"{len(reloads)} reloads")
    finally:
        stop.set()
        for thread in pollers + others:
            if thread.ident is not None:
                thread.join(30)
    assert False in reloads, "no reload fell into the work"
    check_deliveries(server, pollers, wanted)


def check_deliveries(server, pollers, wanted):
    api = server.api()
    for poller in pollers:
        assert not poller.faults, poller.faults
        mine = wanted[poller.device.id]
        first = list(dict.fromkeys(poller.given))
        assert first == mine, "not in the order of the queue"
        for command_uuid in mine:
            status = api.command(command_uuid).json["status"]
            assert list(status) == [poller.device.id]
            assert status[poller.device.id]["state"] == "acknowledged"
            kept = api.result(command_uuid, poller.device.id).body
            assert kept == poller.reports[command_uuid]
            assert plistlib.loads(kept)["Note"] == command_uuid
        row = api.enrollment(poller.device.id).json
        assert row["commands"] == {"queued": 0, "sent": 0, "not_now": 0}
        assert row["enabled"] is True
        poller.device.close()
    # Under somebody else's id there is nothing.
    other = str(uuid.uuid4())
    one = next(iter(wanted.values()))[0]
    assert api.result(one, other).status == 404
    api.transport.close()
