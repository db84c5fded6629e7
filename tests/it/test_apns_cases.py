"""Every file of tests/cases/apns, played to both servers.

All of them at the same time: a topic, a push certificate, a connection and
some devices each.  A test then looks at its own topic.  What is to come of a
file stands in the tables below; a file without an entry is a failure.
"""
import glob
import json
import os
import time

import pytest
from conftest import KINDS, push_settings
from helpers import seconds_until
from mdmtest import logs
from mdmtest.device import Device
from mdmtest.mock_scenes import Play, SceneAPNs
from mdmtest.pki import new_topic
from mdmtest.wait import wait_for

CASES = os.path.join(os.path.dirname(__file__), "..", "cases", "apns")
PATHS = {os.path.splitext(os.path.basename(p))[0]: p for p in
         glob.glob(os.path.join(CASES, "*.json"))
         + glob.glob(os.path.join(CASES, "*.h2bin"))}

# Status, reason, and what is thought of the token afterwards.
GIVEN_UP = {
    "C66-302-redirect": (302, "", "good"),
    "C66-400-BadDeviceToken": (400, "BadDeviceToken", "dead"),
    "C66-400-InvalidPushType": (400, "InvalidPushType", "good"),
    "C66-404-BadPath": (404, "BadPath", "good"),
    "C66-405-MethodNotAllowed": (405, "MethodNotAllowed", "good"),
    "C66-410-ExpiredToken": (410, "ExpiredToken", "dead"),
    "C66-413-PayloadTooLarge": (413, "PayloadTooLarge", "good"),
    "C66-418-Whatever": (418, "Whatever", "good"),
    "C66-trailers": (400, "BadDeviceToken", "dead"),
}
STOPPED = {
    # The first answer under a certificate that was never accepted.
    "C66-400-DeviceTokenNotForTopic": "DeviceTokenNotForTopic",
    "C66-400-BadTopic": "BadTopic",
    "C66-400-MissingTopic": "MissingTopic",
    "C66-400-TopicDisallowed": "TopicDisallowed",
    "C66-403-BadCertificate": "BadCertificate",
    "C66-403-BadCertificateEnvironment": "BadCertificateEnvironment",
    "C66-403-Forbidden": "Forbidden",
}
RETRIED = {
    "C66-400-IdleTimeout": (400, "IdleTimeout"),
    "C66-429-TooManyRequests": (429, "TooManyRequests"),
    "C66-500-InternalServerError": (500, "InternalServerError"),
    "C66-503-ServiceUnavailable": (503, "ServiceUnavailable"),
    "C66-503-Shutdown": (503, "Shutdown"),
}
# Delivered in the end; how many devices push at once, the most connections
# that may be needed, and what the log has to say.
DELIVERED = {
    "C61-goaway-debug-16k": (1, 2, "MDM0407"),
    "C61-goaway-enhance-calm": (1, 2, "MDM0407"),
    "C61-goaway-first": (3, 2, "MDM0407"),
    "C61-goaway-two-phase": (6, 2, "MDM0407"),
    "C63-settings-late": (5, 1, None),
    "C63-streams-zero": (5, 1, None),
    "C64-blackhole-after-first": (4, 2, None),
    "C64-headers-without-end": (1, 2, None),
    "C64-pings-unanswered": (2, 1, None),
    "C66-1xx-then-200": (2, 1, None),
    "C61-goaway-in-pieces": (1, 2, "MDM0407"),
    "C66-data-on-idle-stream": (1, 2, None),
    "C66-frame-too-big": (1, 2, None),
    "C66-header-list-64k": (1, 2, None),
    "C66-hpack-bad-index": (1, 2, None),
    "C66-http1-answer": (1, 2, "MDM0402.*HTTP/1"),
    "C66-no-status": (1, 2, None),
    "C66-ping-flood": (1, 2, None),
    "C66-push-promise": (1, 2, None),
    "C66-rst-flood": (1, 2, None),
    "C66-settings-bad-length": (1, 2, None),
    "C66-settings-flood": (1, 2, None),
    "C66-trunc-mid-frame": (1, 2, None),
    "C66-two-status": (1, 2, None),
    "C66-unknown-frame": (1, 1, None),
    "C66-window-overflow": (1, 2, None),
}
OTHERS = {
    "C61-goaway-badcert-loop": 2,
    "C63-streams-1-then-500": 20,
    "C66-retry-after": 20,
    "C67-expected-request": 1,
    "C67-magic-escaping": 1,
}
# Lines of the error log that one of them may cause.
LINES_MAX, LINE_MAX = 10, 700


def devices_of(name):
    if name in DELIVERED:
        return DELIVERED[name][0]
    return OTHERS.get(name, 2)


def facts(name):
    with open(PATHS[name], encoding="utf-8") as f:
        return json.load(f)


class Case:
    """One file on the stage: its topic, play and devices."""

    def __init__(self, stage, name):
        self.stage = stage
        self.name = name
        self.play = Play(PATHS[name]) if not name.startswith("C67") else None
        topic = facts(name)["topic"] if name == "C67-expected-request" \
            else new_topic()
        self.identity = stage.pki.push(topic, key_kind="shared")
        self.devices = []

    @property
    def topic(self):
        return self.identity.topic

    def prepare(self):
        server = self.stage.server
        if self.play:
            self.stage.mock.plays[self.topic] = self.play
        reply = self.stage.api.put_pushcert(self.identity.both_pem,
                                            "?force=1")
        assert reply.status == 200, reply
        for number in range(devices_of(self.name)):
            device = Device(server, self.stage.pki.device(), self.topic)
            self.dress(device, number)
            self.devices.append(device.enroll())
            device.close()

    def dress(self, device, number):
        """Tokens and magic that the file asks for."""
        if self.name == "C63-streams-1-then-500" and number == 0:
            device.token = bytes.fromhex("bad0") + device.token[2:]
        elif device.token_hex.startswith("bad"):
            device.token = b"\0" + device.token[1:]
        if self.name == "C67-expected-request":
            device.token = bytes.fromhex(facts(self.name)["for_token_hex"])
        if self.name.startswith("C67"):
            device.magic = facts(self.name)["push_magic"]

    def push(self):
        reply = self.stage.api.push([d.id for d in self.devices])
        assert reply.status == 200, reply

    def requests(self, device=None):
        """Of its first device, or another one."""
        return self.stage.mock.for_token((device
                                          or self.devices[0]).token_hex)

    def row(self, device=None):
        api = self.stage.api
        return api.enrollment((device or self.devices[0]).id).json["push"]

    def is_over(self, device):
        row = self.row(device)
        return row["next_attempt"] is None and row["last_sent"]

    def wait_over(self, timeout=30):
        for device in self.devices:
            wait_for(lambda: self.is_over(device), timeout,
                     f"the end of the pushes of {self.name}")

    def lines(self):
        return [text for text in
                self.stage.server.log_since(0).splitlines()
                if self.topic in text and "MDM05" not in text
                and "MDM06" not in text]


class Stage:
    """A server, the mock, and every case begun."""

    def __init__(self, kind, pki, build_dir, mock):
        self.pki = pki
        self.mock = mock
        settings = {(s[1]): s for s in push_settings(pki, mock)}
        settings["PUSH_RETRY"] = ("http", "PUSH_RETRY", "1s", "300s")
        settings["PUSH_TIMEOUT"] = ("http", "PUSH_TIMEOUT", "3s")
        self.server = KINDS[kind](pki, build_dir, list(settings.values()))
        self.cases = {}

    def begin(self):
        self.server.start()
        self.api = self.server.api()
        for name in sorted(PATHS):
            case = self.cases[name] = Case(self, name)
            case.prepare()
        self.begun = time.time(), worker_ticks(self.server)
        for case in self.cases.values():
            case.push()

    def reference(self):
        """Waits until what is repeated has come a third time: after about
        three seconds."""
        for name in RETRIED:
            case = self.cases[name]
            wait_for(lambda: len(case.requests()) >= 3, 30,
                     f"three attempts of {name}")

    def end(self):
        for case in self.cases.values():
            for device in case.devices:
                device.close()
        self.api.transport.close()
        self.server.quit()
        bad = logs.judge(self.server.log_text(), ["MDM0402", "MDM0404",
                                                  "MDM0405", "MDM0406",
                                                  "MDM0409"])
        assert not bad, "\n".join(bad[:40])


@pytest.fixture(scope="module")
def stage(kind, pki, build_dir):
    with SceneAPNs(pki.server.cert_file, pki.server.key_file,
                   pki.push_ca.cert_file) as mock:
        one = Stage(kind, pki, build_dir, mock)
        try:
            one.begin()
            yield one
            one.end()
        finally:
            one.server.stop()
            if not os.environ.get("MDM_TEST_KEEP"):
                one.server.remove()


def test_every_file_is_decided():
    tables = [GIVEN_UP, STOPPED, RETRIED, DELIVERED, OTHERS]
    assert sorted(PATHS) == sorted(n for t in tables for n in t)
    with open(os.path.join(CASES, "..", "manifest.apns.json"),
              encoding="utf-8") as f:
        manifest = {os.path.splitext(os.path.basename(r["file"]))[0]
                    for r in json.load(f)}
    assert manifest == set(PATHS)


@pytest.mark.parametrize("name", sorted(GIVEN_UP))
def test_given_up(name, stage):
    """Not repeated; the enrolment stays, and says what it was."""
    case = stage.cases[name]
    status, reason, token = GIVEN_UP[name]
    case.wait_over()
    stage.reference()
    for device in case.devices:
        assert len(case.requests(device)) == 1
        row = case.row(device)
        assert (row["last_status"], row["last_reason"], row["token"]) \
            == (status, reason, token)
        assert stage.api.enrollment(device.id).json["enabled"] is True
    if name == "C66-302-redirect":
        assert len(case.play.connected) == 1    # it was not followed


@pytest.mark.parametrize("name", sorted(STOPPED))
def test_topic_stopped(name, stage):
    """Nothing goes out until the certificate changes: then all of it does,
    under the new one.  One alarm."""
    case = stage.cases[name]
    wait_for(lambda: stage.api.get_pushcert(case.topic).json.get("suspended")
             == STOPPED[name], 20, "the topic to be stopped")
    stage.reference()
    before = {d.id: len(case.requests(d)) for d in case.devices}
    assert sum(before.values()) >= 1 and max(before.values()) == 1
    assert all(case.row(d)["next_attempt"] for d in case.devices)
    alarms = [x for x in case.lines() if "MDM0405" in x]
    assert len(alarms) == 1 and STOPPED[name] in alarms[0], alarms
    del stage.mock.plays[case.topic]
    renewed = stage.pki.push(case.topic, key_kind="shared")
    assert stage.api.put_pushcert(renewed.both_pem).status == 200
    case.wait_over()
    for device in case.devices:
        last = case.requests(device)[-1]
        assert last["fingerprint"] == renewed.fingerprint
        assert len(case.requests(device)) == before[device.id] + 1


@pytest.mark.parametrize("name", sorted(RETRIED))
def test_retried(name, stage):
    """Again and again, with pauses that grow, and it can be seen."""
    case = stage.cases[name]
    wait_for(lambda: len(case.requests()) >= 3, 30, "three attempts")
    first, second, third = (r["time"] for r in case.requests()[:3])
    assert second - first > 0.9 and third - second > 1.9
    row = wait_for(lambda: (lambda r: r if r["next_attempt"] else None)(
        case.row()), 10, "a next attempt")
    assert (row["last_status"], row["last_reason"]) == RETRIED[name]
    assert row["token"] == "good" and row["attempts"] >= 2
    assert len({r["headers"]["apns-id"] for r in case.requests()}) == 1


@pytest.mark.parametrize("name", sorted(DELIVERED))
def test_delivered(name, stage):
    case = stage.cases[name]
    _, connections, line = DELIVERED[name]
    case.wait_over()
    for device in case.devices:
        row = case.row(device)
        assert row["last_status"] == 200, row
        # A connection of raw bytes does not record what it is sent.
        assert len(case.requests(device)) <= 2
    assert 1 <= len(case.play.connected) <= connections
    if line:
        found = [x for x in case.lines()
                 if logs.is_declared(logs.Line(x), [line])]
        assert len(found) == 1, case.lines()
    if case.play.raw and connections > 1:
        assert len(case.play.connected) == 2
        assert case.requests()
    check = CHECKS.get(name)
    if check:
        check(case, stage)


def check_two_phase(case, stage):
    """What was in flight finishes; what comes later is on the second."""
    assert len({r["connection"] for d in case.devices
                for r in case.requests(d)}) <= 2
    wait_for(lambda: [x for x in case.lines() if "MDM0407" in x], 10,
             "the end of the first connection")
    device = case.devices[0]
    number = len(case.requests(device))
    case.push()
    wait_for(lambda: len(case.requests(device)) > number, 20, "a push")
    assert len(case.play.connected) == 2
    old = case.requests(device)[0]["connection"]
    assert case.requests(device)[-1]["connection"] != old
    case.wait_over()


def check_calm(case, stage):
    """Fewer connections, not more: one for each push that comes."""
    for _ in range(3):
        number = len(case.requests())
        case.push()
        wait_for(lambda: len(case.requests()) > number, 20, "a push")
    case.wait_over()
    assert len(case.play.connected) <= 4


def check_late_settings(case, stage):
    """What went out before the peer had said how much, and was refused, is
    repeated; nothing else is."""
    assert case.play.refused == max(case.play.before_settings - 1, 0)
    assert sum(len(case.requests(d)) for d in case.devices) \
        == len(case.devices) + case.play.refused
    # One at a time, 1.5 seconds each.
    times = sorted(case.requests(d)[-1]["time"] for d in case.devices)
    assert all(b - a > 1.4 for a, b in zip(times, times[1:])), times


def check_zero(case, stage):
    """It waits for the three seconds until there is room, and no longer.
    What was sent before it could know was refused."""
    opened = next(h["time"] for h in stage.mock.handshakes
                  if h["fingerprint"] == case.identity.fingerprint)
    for device in case.devices:
        *early, last = case.requests(device)
        assert 2.9 < last["time"] - opened < 8
        assert all(r["time"] - opened < 2 for r in early)


def check_blackhole(case, stage):
    """Found by the deadline of its pushes; repeated on a connection of its
    own."""
    again = [case.requests(d)[-1]["connection"] for d in case.devices
             if len(case.requests(d)) == 2]
    assert len(again) == 3 and len(set(again)) == 1


CHECKS = {"C61-goaway-two-phase": check_two_phase,
          "C61-goaway-enhance-calm": check_calm,
          "C63-settings-late": check_late_settings,
          "C63-streams-zero": check_zero,
          "C64-blackhole-after-first": check_blackhole}


def test_goaway_that_says_bad_certificate(stage):
    """C61-goaway-badcert-loop: each connection lives for a moment.  The
    pauses grow, the reason is told, the pushes wait."""
    case = stage.cases["C61-goaway-badcert-loop"]
    times = wait_for(lambda: case.play.connected
                     if len(case.play.connected) >= 5 else None, 60,
                     "five connections")[:5]
    # 0.25, 0.5, 1, 2 seconds and more: eight in the first minute.
    assert times[4] - times[0] > 3.5
    assert times[4] - times[3] > 1.9
    found = [x for x in case.lines() if "MDM0407" in x]
    assert found and all("BadCertificateEnvironment" in x for x in found)
    assert len(found) <= len(case.play.connected)
    for device in case.devices:
        # It may have been sent before the GOAWAY came, never answered.
        assert len(case.requests(device)) <= len(case.play.connected)
        row = case.row(device)
        assert row["next_attempt"] and row["token"] == "good"
        assert row["last_status"] in (None, 0)


def test_streams_one_and_back(stage):
    """C63-streams-1-then-500.  The mock takes a stream above the limit that
    was acknowledged for a fault, and the fixture knows none."""
    case = stage.cases["C63-streams-1-then-500"]
    case.wait_over()
    bad, *good = case.devices
    assert case.row(bad)["token"] == "dead"
    assert {case.row(d)["last_status"] for d in good} == {200}
    assert {len(case.requests(d)) for d in case.devices} == {1}
    assert len(case.play.connected) == 1


def test_retry_after(stage):
    """C66-retry-after: twenty devices, and twenty attempts."""
    case = stage.cases["C66-retry-after"]
    for device in case.devices:
        wait_for(lambda: case.row(device)["attempts"] == 1, 20, "the answer")
    stage.reference()
    for device in case.devices:
        assert len(case.requests(device)) == 1
        row = case.row(device)
        assert 119 <= (seconds_until(row["next_attempt"])
                       - seconds_until(row["last_sent"])) <= 122


def test_expected_request(stage):
    case = stage.cases["C67-expected-request"]
    case.wait_over()
    wanted = facts(case.name)
    (request,) = case.requests()
    names = [k for k, _ in request["header_list"]]
    for key, value in wanted["must"].items():
        assert request["headers"][key] == value
    assert request["body"] == wanted["body_exact"]
    assert request["headers"][":authority"] \
        == f"localhost:{stage.mock.port}"
    ahead = int(request["headers"]["apns-expiration"]) - request["time"]
    assert 3600 < ahead < 31 * 86400
    assert names == [n.lower() for n in names] and len(set(names)) \
        == len(names)
    assert not {"connection", "transfer-encoding"} & set(names)


def test_magic_escaping(stage):
    case = stage.cases["C67-magic-escaping"]
    case.wait_over()
    (request,) = case.requests()
    assert request["body"] == facts(case.name)["body_exact"]
    assert json.loads(request["body"]) == {"mdm": case.devices[0].magic}


def worker_ticks(server):
    """Processor time of the workers so far."""
    ticks = 0
    for pid in server.worker_pids():
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks


def test_nothing_spins(stage):
    """Peers that say nothing, that allow nothing, and pushes that wait: all
    of them together do not keep a processor busy."""
    case = stage.cases["C66-500-InternalServerError"]
    wait_for(lambda: len(case.requests()) >= 4, 60, "the fourth attempt")
    seconds = time.time() - stage.begun[0]
    used = (worker_ticks(stage.server) - stage.begun[1]) \
        / os.sysconf("SC_CLK_TCK")
    assert used < 0.4 * seconds, (used, seconds)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_log_is_bounded(name, stage):
    """Whatever the peer does: a few lines, none of them long."""
    case = stage.cases[name]
    lines = case.lines()
    # Three of a connection, where the peer always takes it away again.
    most = 3 * len(case.play.connected) + 1 \
        if name == "C61-goaway-badcert-loop" else LINES_MAX
    assert len(lines) <= most, lines
    assert all(len(x) <= LINE_MAX for x in lines), lines


def test_the_client_made_no_fault(stage):
    assert not stage.mock.faults, stage.mock.faults
