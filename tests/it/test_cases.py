"""Every input file of tests/cases against the verdict of its manifest.

reject, reject-message, 400   answered 400, nothing stored
accept...                     answered 200
the others                    what the table of decided answers in
                              docs/protocol.md says
All answers are the same in both servers.
A plist that is no message by itself is also sent as a value inside an
Authenticate, so that the reader's verdict is seen on its own.
"""
import collections
import json
import os
import plistlib
import re
import uuid

import pytest
from helpers import command_plist, enrolled_ids, offered, table_rows
from mdmtest.deftable import TOP
from mdmtest.device import CHECKIN, COMMAND, Channel, Device

CASES = os.path.abspath(os.path.join(os.path.dirname(__file__), "..",
                                     "cases"))
UDID = "11111111-2222-5333-8444-555566667777"
ALLOWED = {
    "reject": {400}, "reject-message": {400}, "400": {400},
    "accept": {200}, "accept-no-network": {200}, "accept-and-warn": {200},
    "either": {200, 400}, "accept-or-415": {200, 400, 415},
    "reject-or-replace": {200, 400}, "410-or-challenge": {410},
    "410-or-authtoken": {410},
    "clean-error-if-unsupported": {400, 404, 410, 501, 503},
}
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">'


def manifest():
    name = os.path.join(CASES, "manifest.plists.json")
    if not os.path.exists(name):
        return []
    with open(name, encoding="utf-8") as f:
        return json.load(f)


def decided():
    """{file: status} of the table in docs/protocol.md."""
    name = os.path.join(TOP, "docs", "protocol.md")
    with open(name, encoding="utf-8") as f:
        found = re.findall(r"^\| `((?:plist|mdm)/\S+)` \| (\d{3}) \|",
                           f.read(), re.M)
    return {name: int(status) for name, status in found}


FILES = manifest()
DECIDED = decided()


def allowed(row):
    """The answers that a file may get."""
    if row["file"] in DECIDED:
        return {DECIDED[row["file"]]}
    return ALLOWED[row["expect"]]


def test_choices_are_decided():
    """Once, for both servers, and within what the manifest allows."""
    rows = {row["file"]: row["expect"] for row in FILES}
    assert set(DECIDED) == {
        name for name, expect in rows.items()
        if len(ALLOWED[expect]) > 1 or "-or-" in expect}
    for name, status in DECIDED.items():
        assert status in ALLOWED[rows[name]], name


def test_the_cases_are_there():
    assert len(FILES) > 150
    for row in FILES:
        assert os.path.exists(os.path.join(CASES, row["file"])), row
        assert row["expect"] in ALLOWED, row
    listed = {row["file"] for row in FILES}
    for folder in ("plist", "bplist", "mdm"):
        for name in os.listdir(os.path.join(CASES, folder)):
            assert f"{folder}/{name}" in listed


def read(row):
    with open(os.path.join(CASES, row["file"]), "rb") as f:
        return f.read()


class Stage:
    """Per server: devices by id with identities that stay theirs."""

    def __init__(self, server, pki):
        self.server = server
        self.pki = pki
        self.devices = {}
        self.api = server.api()

    def device(self, keys=None):
        """The enrolled device that a message's keys name."""
        keys = keys or {"UDID": UDID}
        name = keys.get("UDID") or keys.get("EnrollmentID") or UDID
        if not isinstance(name, str):
            name = UDID
        if name not in self.devices:
            identity = self.pki.device()
            eid = None if "UDID" in keys else keys.get("EnrollmentID")
            self.devices[name] = Device(
                self.server, identity, self.server.push.topic, udid=name,
                enrollment_id=eid)
        return self.devices[name].enroll()

    def snapshot(self):
        """All that the store shows to the outside, but for last seen."""
        seen = {}
        for enrolment_id in enrolled_ids(self.server):
            row = self.api.enrollment(enrolment_id).json
            row.pop("last_seen", None)
            seen[enrolment_id] = row
        rows = table_rows(self.server)
        rows.pop("lease")       # comes and goes by itself
        rows.pop("notice")      # one of the start comes soon after it
        return seen, rows


@pytest.fixture(scope="module")
def stage(kind, pki, build_dir, session_apns):
    """A server of its own: the counts of its tables are ours alone."""
    from conftest import KINDS, push_settings
    server = KINDS[kind](pki, build_dir, push_settings(pki, session_apns)
                         + [("http", "PUSH", "off"),
                            ("http", "PUSH_TOPIC_CHANGE", "on")])
    try:
        server.start()
        server.push = pki.push()
        assert server.api().put_pushcert(server.push.both_pem).status == 200
        for topic in sorted(topics()):
            pem = pki.push(topic, key_kind="shared").both_pem
            reply = server.api().put_pushcert(pem, "?force=1")
            assert reply.status == 200, reply
        yield Stage(server, pki)
        server.quit()
    finally:
        server.stop()
        server.remove()


def topics():
    """Push topics that most files name; a topic that stands in one file
    alone is meant to be unknown."""
    found = collections.Counter()
    for row in FILES:
        for topic in re.findall(rb">(com\.apple\.mgmt\.[\w.-]+)<", read(row)):
            found[topic.decode()] += 1
    return {topic for topic, number in found.items() if number > 1}


@pytest.fixture
def watched(stage, log):
    log.watch(stage.server)
    # Refusals and damaged or unknown reports are what this file is about.
    log.expect("MDM0201", "MDM0204", "MDM0205", "MDM0301", "MDM0302",
               "MDM0303")
    return stage


ANSWERS = {}    # (what) -> {server kind: status}


def same_in_both(kind, what, status):
    """Whatever the answer is, it is the other server's answer, too."""
    seen = ANSWERS.setdefault(what, {})
    seen[kind] = status
    assert len(set(seen.values())) == 1, (what, seen)


def keys_of(data):
    try:
        root = plistlib.loads(data)
    except Exception:       # noqa: BLE001: hostile input by design
        return {}
    return root if isinstance(root, dict) else {}


def kind_of(data):
    """check-in, report, command or None, from the raw bytes."""
    if data.startswith(b"bplist"):
        return None
    # Fragments that lack what every check-in has are no check-ins.
    whole = b"<key>Topic</key>" in data and (
        b"<key>UDID</key>" in data or b"<key>EnrollmentID</key>" in data)
    if b"<key>Command</key>" in data or b"RequestType</key>" in data:
        return "command"
    if re.search(rb"<key>Status</key>", data) and \
            b"MessageType" not in data:
        return "report"
    if b"MessageType" in data and whole:
        return "checkin"
    return None


def send(stage, what, device, data):
    content = COMMAND if what == "report" else CHECKIN
    return device.put("/mdm", content, data)


def check(stage, kind, row, device, what, data, label):
    before = stage.snapshot() if 200 not in allowed(row) else None
    reply = send(stage, what, device, data)
    assert reply.status in allowed(row), (reply, row)
    assert "www-authenticate" not in reply.headers
    same_in_both(kind, (row["file"], label), reply.status)
    if reply.status == 400 and before is not None:
        assert stage.snapshot() == before
    return reply


@pytest.mark.parametrize("row", FILES, ids=[r["file"] for r in FILES])
def test_file(row, kind, watched):
    stage = watched
    data = read(row)
    what = kind_of(data)
    if row["file"].startswith("mdm/") and what is None:
        what = "checkin"
    if what == "command":
        check_command(stage, kind, row, data)
        return
    device = stage.device(keys_of(data) if row["file"].startswith("mdm/")
                          else None)
    if what == "report" and "UserID" in keys_of(data):
        user = {k: v for k, v in keys_of(data).items()
                if k in ("UDID", "UserID", "UserShortName")}
        assert Channel(device, user).token_update().status == 200
    if what is not None:
        check(stage, kind, row, device, what, data, what)
        return
    # No message by itself: refused as such on both halves ...
    for half in ("checkin", "report"):
        reply = send(stage, half, device, data)
        assert reply.status in (400, 415), (reply, row)
        same_in_both(kind, (row["file"], half), reply.status)
    # ... and as a value inside a message the reader's verdict counts.
    inner = re.search(rb"<plist[^>]*>(.*)</plist>", data, re.S)
    if inner and row["expect"] != "reject-message":
        head = data[:data.index(b"<plist")]
        keep_head = head if b"[" in head else b""
        message = ((keep_head or HEAD[:HEAD.index(b"<plist")])
                   + b'<plist version="1.0"><dict><key>Extra</key>'
                   + inner.group(1)
                   + b"<key>MessageType</key><string>Authenticate</string>"
                   + b"<key>Topic</key><string>"
                   + device.topic.encode() + b"</string><key>UDID</key>"
                   + b"<string>" + device.udid.encode()
                   + b"</string></dict></plist>")
        check(stage, kind, row, device, "checkin", message, "inside")


def check_command(stage, kind, row, data):
    device = stage.device()
    # The files share one CommandUUID; here every command has its own.
    data = re.sub(rb"(<key>CommandUUID</key>\s*<string>)[^<]+",
                  lambda m: m.group(1) + str(uuid.uuid4()).encode(), data)
    reply = stage.api.enqueue(device.id, data, "?nopush=1")
    same_in_both(kind, (row["file"], "command"), reply.status)
    assert reply.status in allowed(row), (reply, row)
    if reply.status == 200:
        assert device.idle().body == data
        device.report(reply.json["command_uuid"])
    else:
        assert offered(device.idle()) is None


# ---- inputs that are too big to keep -------------------------------------

def acknowledged(device, command_uuid, inner):
    return (HEAD + b"<dict><key>CommandUUID</key><string>"
            + command_uuid.encode() + b"</string>" + inner
            + b"<key>Status</key><string>Acknowledged</string>"
            b"<key>UDID</key><string>" + device.udid.encode()
            + b"</string></dict></plist>\n")


def test_deep_nesting(watched, kind):
    device = watched.device()
    for levels in (65, 512, 10_000, 500_000):
        body = (HEAD + b"<array>" * levels + b"</array>" * levels
                + b"</plist>")
        assert device.put("/mdm", CHECKIN, body).status == 400
        assert device.put("/mdm", CHECKIN, body[:len(body) // 2]).status \
            == 400
        assert device.put("/mdm", COMMAND, body).status == 400


def test_dense_entities_are_quick(watched):
    """Quadratic in some parsers; here the time limit is the test."""
    device = watched.device()
    device.transport.timeout = 20
    command_uuid, body = command_plist("ProfileList")
    assert watched.api.enqueue(device.id, body, "?nopush=1").status == 200
    assert offered(device.idle()) == command_uuid
    inner = (b"<key>Text</key><string>" + b"&amp;" * 1_000_000
             + b"</string>")
    reply = device.put("/mdm", COMMAND,
                       acknowledged(device, command_uuid, inner))
    assert reply.status == 200, reply
    message = (HEAD + b"<dict>" + inner
               + b"<key>MessageType</key><string>Authenticate</string>"
               b"</dict></plist>")
    assert device.put("/mdm", CHECKIN, message).status == 400


def test_many_equal_looking_keys_are_quick(watched):
    device = watched.device()
    device.transport.timeout = 20
    keys = b"".join(b"<key>%s</key><true/>" % k for k in collisions(4096))
    message = (HEAD + b"<dict>" + keys + b"</dict></plist>")
    assert device.put("/mdm", CHECKIN, message).status == 400
    assert device.put("/mdm", COMMAND, message).status == 400


def collisions(number):
    """Keys of one hash value for h*33+c: blocks "az" and "bY"."""
    width = number.bit_length()
    for n in range(number):
        yield b"".join(b"az" if n >> i & 1 else b"bY" for i in range(width))
