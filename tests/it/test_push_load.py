"""Pushes in numbers: certificates that change, reloads and outages while
they flow, and twenty thousand of them at once."""
import hashlib
import os
import sqlite3
import time
import uuid

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from helpers import Load, command_plist
from mdmtest.device import Device
from mdmtest.mock_apns import answer
from mdmtest.wait import wait_for

MANY = 20_000


def new_devices(server, pki, number):
    return [Device(server, pki.device(), server.push.topic).enroll()
            for _ in range(number)]


def close(*closers):
    for closer in closers:
        closer.transport.close()


def waits(api, devices):
    """Those whose push is not over with 200."""
    rows = [api.enrollment(d.id).json["push"] for d in devices]
    return [r for r in rows if r["next_attempt"] or r["last_status"] != 200]


def test_certificate_renewed_under_load(own_server, own_apns, pki, log):
    """From the answer of the import on every push that is asked for goes out
    under the new certificate; none is lost, none is repeated; what was on
    its way finishes on the old connection."""
    server = own_server()
    devices = new_devices(server, pki, 6)
    apis = [server.api() for _ in devices]
    chief = server.api()
    own_apns.set_default(answer(delay=0.2))
    calls = []

    def work(number):
        begun = time.time()
        reply = apis[number].push(devices[number].id, "?wait=20s")
        assert reply.status == 200, reply
        result = reply.json["status"][devices[number].id]
        assert set(result) == {"push_result"}, result
        calls.append((begun, result["push_result"]))
        return True

    used = [(0.0, server.push)]
    with Load(work, len(devices)) as load:
        for _ in range(3):
            number = len(calls)
            wait_for(lambda: len(calls) > number + 12 or load.errors, 30,
                     "pushes")
            renewed = pki.push(server.push.topic, key_kind="shared")
            assert chief.put_pushcert(renewed.both_pem).status == 200
            used.append((time.time(), renewed))
        number = len(calls)
        wait_for(lambda: len(calls) > number + 12 or load.errors, 30,
                 "pushes")
    assert not load.errors, load.errors
    sent = {}
    for request in own_apns.requests:
        sent.setdefault(request["headers"]["apns-id"], []).append(request)
    assert len(sent) == len(calls) > 48
    for begun, apns_id in calls:
        (request,) = sent[apns_id]
        # The newest one when the call began, or one that came later.
        fit = [i.fingerprint for at, i in used if at <= begun][-1:] \
            + [i.fingerprint for at, i in used if at > begun]
        assert request["fingerprint"] in fit
    assert len(own_apns.handshakes) == len(used)
    assert {r["fingerprint"] for r in own_apns.requests} \
        == {i.fingerprint for _, i in used}
    close(*devices, *apis, chief)


def test_reload_with_pushes_in_flight(own_server, own_apns, pki, log):
    """Forty on their way when the processes are replaced: each one gets its
    answer, most of them without being repeated."""
    log.expect("MDM0402", "MDM0407")
    server = own_server()
    devices = new_devices(server, pki, 40)
    api = server.api()
    own_apns.set_default(answer(delay=2))
    for _ in range(2):
        number = len(own_apns.requests)
        assert api.push([d.id for d in devices]).status == 200
        wait_for(lambda: len(own_apns.requests) >= number + 20, 20,
                 "pushes on their way")
        close(api)
        server.reload()
        wait_for(lambda: not waits(api, devices), 30, "every answer")
        counts = [sum(r["token"] == d.token_hex
                      for r in own_apns.requests[number:]) for d in devices]
        assert min(counts) >= 1 and max(counts) <= 2, counts
        assert sum(counts) <= 1.5 * len(devices), counts
    close(*devices, api)


def test_outage_under_load(own_server, own_apns, pki, log):
    """The service is away while commands are queued: they are taken as
    quickly as ever, devices are served, the log stays short, and then one
    push a device goes out, however many commands there are."""
    log.expect("MDM0402")
    server = own_server()
    devices = new_devices(server, pki, 24)
    api = server.api()
    assert api.push([d.id for d in devices], "?wait=20s").status == 200
    own_apns.stop()
    queued = {d.id: [] for d in devices}

    def work(number):
        mine = devices[number::3]
        caller = server.api()
        for device in mine:
            command_uuid, body = command_plist("ProfileList")
            begun = time.monotonic()
            assert caller.enqueue(device.id, body).status == 200
            assert time.monotonic() - begun < 5
            queued[device.id].append(command_uuid)
        close(caller)
        return True

    begun = time.monotonic()
    with Load(work, 3) as load:
        # Until the third attempt to connect has failed: 1, 2 and 4 seconds.
        wait_for(lambda: load.errors or (
            min(map(len, queued.values())) >= 3
            and time.monotonic() - begun > 6), 60, "an outage")
    assert not load.errors, load.errors
    number = len(own_apns.requests)
    own_apns.start()
    wait_for(lambda: not waits(api, devices[:1])
             or api.enrollment(devices[0].id).json["push"]["last_status"]
             == 200 and len(own_apns.requests) >= number + len(devices), 30,
             "the pushes")
    for device in devices:
        assert len([r for r in own_apns.requests[number:]
                    if r["token"] == device.token_hex]) == 1
        assert [u for u, _ in device.run_once(limit=5000)] \
            == queued[device.id]
    lines = [x for x in server.log_text().splitlines() if "MDM0402" in x]
    assert 1 <= len(lines) <= 3, lines
    close(*devices, api)


class Crowd:
    """Enrolments by the thousand, written into the database."""

    def __init__(self, server, pattern):
        self.database = server.database
        self.pattern = pattern.id
        with open(os.path.join(server.state_dir, "secret.key"),
                  encoding="ascii") as f:
            key = bytes.fromhex(f.readline())
        digest = hashlib.sha256(b"mdm secret key\0" + key).digest()
        self.mark = b"\2" + digest[:4]
        self.cipher = AESGCM(key)

    def seal(self, where, plain):
        nonce = os.urandom(12)
        return self.mark + nonce + self.cipher.encrypt(
            nonce, plain, self.mark + where.encode())

    def add(self, number):
        """Copies of the pattern; their tokens as hex."""
        base = sqlite3.connect(self.database, timeout=30)
        base.row_factory = sqlite3.Row
        row = dict(base.execute("SELECT * FROM enrollment WHERE id = ?",
                                (self.pattern,)).fetchone())
        for name in row:
            if name.endswith("_s"):
                row[name] = None
        tokens, rows = [], []
        for eid in range(1_000_000, 1_000_000 + number):
            token = eid.to_bytes(4, "big") * 8
            tokens.append(token.hex())
            rows.append({**row, "eid": eid, "device_eid": eid,
                         "id": str(uuid.uuid4()).upper(),
                         "token_s": self.seal(f"enrollment.token:{eid}",
                                              token),
                         "magic_s": self.seal(f"enrollment.magic:{eid}",
                                              b"magic")})
        names = ", ".join(row)
        marks = ", ".join(":" + n for n in row)
        with base:
            base.executemany(f"INSERT INTO enrollment ({names}) "
                             f"VALUES ({marks})", rows)
        base.close()
        return tokens

    def push_all(self):
        """One transaction, and all of them are due."""
        base = sqlite3.connect(self.database, timeout=30)
        now = int(time.time() * 1e6)
        with base:
            base.execute(
                "INSERT INTO push (eid, topic, due_at, generation,"
                " sent_generation, attempts, apns_id, last_at, last_status)"
                " SELECT eid, topic, ?, 1, 0, 0, lower(printf("
                "'%08X-0000-4000-8000-%012X', eid, eid)), 0, 0"
                " FROM enrollment WHERE eid >= 1000000", (now,))
        base.close()

    def count(self, condition):
        base = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True,
                               timeout=30)
        try:
            return base.execute("SELECT count(*) FROM push WHERE eid >="
                                f" 1000000 AND {condition}").fetchone()[0]
        finally:
            base.close()


def test_twenty_thousand_due_pushes(own_server, own_apns, pki, log):
    """All of them arrive, next to none twice, on few connections, and the
    server serves devices and the API all the while."""
    # On a busy machine the mock may be too late to greet a further connection.
    log.expect("MDM0402: .*sent no HTTP/2 SETTINGS")
    server = own_server()
    device, api = new_devices(server, pki, 1)[0], server.api()
    assert api.push(device.id, "?wait=20s").status == 200
    crowd = Crowd(server, device)
    tokens = crowd.add(MANY)
    before = len(own_apns.requests)
    begun = time.monotonic()
    crowd.push_all()
    slowest = 0.0
    while len(own_apns.requests) - before < MANY:
        assert time.monotonic() - begun < 240, \
            f"{len(own_apns.requests) - before} pushes"
        at = time.monotonic()
        assert device.idle().status == 200
        assert api.enrollment(device.id).status == 200
        slowest = max(slowest, time.monotonic() - at)
        time.sleep(0.1)     # not a third load beside the other two
    took = time.monotonic() - begun
    wait_for(lambda: crowd.count("last_status = 200 AND due_at IS NULL")
             == MANY, 60, "every answer in the store")
    sent = {}
    for request in own_apns.requests[before:]:
        sent[request["token"]] = sent.get(request["token"], 0) + 1
    assert set(sent) == set(tokens)
    assert max(sent.values()) <= 2 and sum(sent.values()) <= MANY * 1.01
    assert len(own_apns.handshakes) <= 4
    assert slowest < 5, slowest
    print(f"\n{server.kind}: {MANY} pushes in {took:.1f} s, slowest device"
          f" and API call {slowest:.3f} s, connections"
          f" {len(own_apns.handshakes)}")
    close(device, api)
