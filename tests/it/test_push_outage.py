"""When the push service is away or does not answer, for a minute and over a
restart; and how soon a push goes out that another process asked for."""
import os
import socket
import statistics
import threading
import time

import pytest
from conftest import KINDS, new_mock, push_settings
from helpers import command_plist
from mdmtest.device import Device
from mdmtest.mock_apns import answer
from mdmtest.mock_scenes import Play, SceneAPNs
from mdmtest.wait import wait_for

PINGS = os.path.join(os.path.dirname(__file__), "..", "cases", "apns",
                     "C64-pings-unanswered.json")


class HangsUp:
    """Takes the place of a service that is away: accepts every connection,
    ends it at once, and notes when."""

    def __init__(self, port):
        self.times = []
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(50)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.times.append(time.monotonic())
            connection.close()

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


class Pair:
    """Apache and nginx at the same time, for tests that are long because
    they wait: each with a service, a topic and devices of its own."""

    def __init__(self, pki, build_dir, log, make_mock):
        self.pki = pki
        self.build_dir = build_dir
        self.log = log
        self.make_mock = make_mock
        self.servers = []
        self.closers = []

    def add(self, kind, settings):
        """A server and its mock, API and devices as attributes."""
        mock = self.make_mock()
        mock.start()
        self.closers.append(mock.stop)
        server = KINDS[kind](self.pki, self.build_dir,
                             push_settings(self.pki, mock) + settings)
        server.mock = mock
        server.push = self.pki.push(key_kind="shared")
        self.servers.append(server)
        self.log.watch(server)
        return server

    def begin(self, server, number):
        server.start()
        server.client = server.api()
        reply = server.client.put_pushcert(server.push.both_pem)
        assert reply.status == 200, reply
        server.devices = [Device(server, self.pki.device(),
                                 server.push.topic).enroll()
                          for _ in range(number)]
        self.closers += [server.client.transport.close,
                         *[d.close for d in server.devices]]

    def end(self):
        for close in reversed(self.closers):
            close()
        for server in self.servers:
            server.quit()
        self.log.check()

    def remove(self):
        self.log.servers = []
        for server in self.servers:
            server.stop()
            if not os.environ.get("MDM_TEST_KEEP"):
                server.remove()


@pytest.fixture
def pair(pki, build_dir, log):
    made = []

    def make(make_mock, settings=(), devices=1, prepare=None):
        one = Pair(pki, build_dir, log, make_mock)
        made.append(one)
        for kind in sorted(KINDS):
            server = one.add(kind, list(settings))
            if prepare:
                prepare(server)
            one.begin(server, devices)
        return one.servers

    yield make
    try:
        for one in made:
            one.end()
    finally:
        for one in made:
            one.remove()


def test_a_minute_without_the_service(pair, pki, log):
    """Commands are taken and devices served all the while; the attempts to
    connect become rare, and the log does not grow with them; afterwards every
    device gets one push, and all its commands."""
    log.expect("MDM0402")
    servers = pair(lambda: new_mock(pki), devices=4)
    queued = {}
    for server in servers:
        reply = server.client.push([d.id for d in server.devices],
                                   "?wait=20s")
        assert reply.status == 200, reply
        for device in server.devices:
            assert not device.run_once()
            queued[device.id] = []
        server.mock.stop()
        server.gone = HangsUp(server.mock.port)
        server.number = len(server.mock.requests)
    begun = time.monotonic()
    while time.monotonic() - begun < 60:
        for server in servers:
            for device in server.devices[1:]:
                command_uuid, body = command_plist("ProfileList")
                at = time.monotonic()
                assert server.client.enqueue(device.id, body).status == 200
                assert time.monotonic() - at < 5
                queued[device.id].append(command_uuid)
            # One that comes by itself is served at once.
            command_uuid, body = command_plist("ProfileList")
            assert server.client.enqueue(server.devices[0].id,
                                         body).status == 200
            assert [u for u, _ in server.devices[0].run_once()] \
                == [command_uuid]
        time.sleep(3)       # the time has to pass
    for server in servers:
        server.gone.stop()
        # After 1, 2, 4, 8 and 16 seconds, and up to a quarter more.
        times = server.gone.times
        assert 4 <= len(times) <= 6, [t - begun for t in times]
        pauses = [b - a for a, b in zip(times, times[1:])]
        assert all(p > 0.9 * 2 ** (i + 1) for i, p in enumerate(pauses)), \
            pauses
        lines = [x for x in server.log_text().splitlines() if "MDM0402" in x]
        assert 1 <= len(lines) <= 2, lines
        server.mock.start()
    for server in servers:
        for device in server.devices[1:]:
            server.mock.wait_for(
                lambda r, d=device: r["token"] == d.token_hex, 60, count=2)
        for device in server.devices[1:]:
            assert [u for u, _ in device.run_once(limit=100)] \
                == queued[device.id]
        later = server.mock.requests[server.number:]
        for device in server.devices[1:]:
            assert sum(r["token"] == device.token_hex for r in later) == 1
        assert server.devices[0].token_hex not in {r["token"] for r in later}


def test_a_connection_that_answers_no_ping(pair, pki, log):
    """It is replaced before a push runs into it; one that answers stays."""
    def prepare(server):
        server.play = Play(PINGS)
        server.mock.plays[server.push.topic] = server.play

    servers = pair(lambda: SceneAPNs(pki.server.cert_file,
                                     pki.server.key_file,
                                     pki.push_ca.cert_file),
                   [("http", "PUSH_PING", "5s")], prepare=prepare)
    for server in servers:
        device = server.devices[0]
        server.opened = time.monotonic()
        assert server.client.push(device.id, "?wait=20s").status == 200
        assert len(server.mock.connections) == 1
    for server in servers:
        # Pinged after 5 seconds, given up 15 later.
        wait_for(lambda s=server: not s.mock.connections, 40,
                 "the end of the deaf connection")
        assert time.monotonic() - server.opened > 18
        assert server.mock.pings == 0
        reply = server.client.push(server.devices[0].id, "?wait=20s")
        assert "push_result" in reply.json["status"][server.devices[0].id]
        assert [r["connection"] for r in server.mock.requests] == [1, 2]
    for server in servers:
        wait_for(lambda s=server: s.mock.pings >= 2, 30, "answered pings")
        assert server.client.push(server.devices[0].id,
                                  "?wait=20s").status == 200
        assert [r["connection"] for r in server.mock.requests] == [1, 2, 2]
        assert len(server.play.connected) == 2


def test_pauses_survive_a_restart(own_server, own_apns, pki):
    """The next attempt stands in the store: neither forgotten nor made at
    once by the new process."""
    server = own_server([("http", "PUSH_RETRY", "6s", "60s")])
    device = Device(server, pki.device(), server.push.topic).enroll()
    api = server.api()
    own_apns.script(device.token_hex, answer(503, "ServiceUnavailable"))
    assert api.push(device.id).status == 200
    first = own_apns.wait_token(device.token_hex)
    wait_for(lambda: api.enrollment(device.id).json["push"]["state"]
             == "retrying", 5, "the answer in the store")
    api.transport.close()
    device.close()
    server.quit()
    server.start()
    api.transport.port = server.port
    assert api.enrollment(device.id).json["push"]["attempts"] == 1
    again = own_apns.wait_token(device.token_hex, count=2, timeout=20)
    assert 5.8 < again["time"] - first["time"] < 6 * 1.25 + 5
    assert again["headers"]["apns-id"] == first["headers"]["apns-id"]
    api.transport.close()


def test_push_asked_for_in_another_process(kind, own_server, own_apns, pki,
                                           build_dir, log):
    """Two servers on one store, of which the first one sends: it learns of
    what the other one's API was told from the store itself, soon, and not
    from a look that it takes every five seconds anyway."""
    leader = own_server()
    other_kind = next(k for k in KINDS if k != kind)
    other = KINDS[other_kind](pki, build_dir, push_settings(pki, own_apns))
    other.settings.append(("http", "STATE_DIR", leader.state_dir))
    log.watch(other)
    device = Device(leader, pki.device(), leader.push.topic).enroll()
    api = None
    try:
        other.start()
        api = other.api()
        assert api.push(device.id, "?wait=20s").status == 200
        took = []
        for number in range(2, 14):
            at = time.time()
            assert api.push(device.id).status == 200
            push = own_apns.wait_token(device.token_hex, count=number)
            took.append(push["time"] - at)
            wait_for(lambda: api.enrollment(device.id).json["push"]["state"]
                     == "idle", 10, "its answer")
        print(f"\n{other_kind} to {kind}: median "
              f"{statistics.median(took):.3f} s, longest {max(took):.3f} s")
        assert statistics.median(took) < 0.5, took
        assert max(took) < 3, took
        assert len(own_apns.handshakes) == 1
    finally:
        if api:
            api.transport.close()
        device.close()
        other.quit()
        log.check()
        log.servers = [s for s in log.servers if s is not other]
        other.stop()
        if not os.environ.get("MDM_TEST_KEEP"):
            other.remove()
