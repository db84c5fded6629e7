"""The store is away, locked or slow: 503 with Retry-After on MDM URLs, the
rest of the site as ever, and back by itself."""
import os
import shutil
import threading
import time

from helpers import command_plist, hold_database, hold_locks, offered
from mdmtest.device import Device
from mdmtest.wait import wait_for


def new_device(server, pki):
    return Device(server, pki.device(), server.push.topic)


def is_our_503(reply):
    return reply.status == 503 and int(reply.headers["retry-after"]) > 0


def test_store_that_cannot_be_opened(own_server, pki, log):
    """From the start: the site works, MDM URLs say 503 and recover."""
    log.expect("MDM0101", "MDM0102", "MDM0002", "MDM0205")
    server = own_server(start=False)
    os.mkdir(server.database)       # a directory where the file belongs
    server.start(wait_store=False)
    device = new_device(server, pki)
    log.require("MDM0101")
    assert is_our_503(device.authenticate())
    assert is_our_503(device.idle())
    api = server.api()
    assert is_our_503(api.enrollments())
    for _ in range(20):
        assert server.get_static().status == 200
    os.rmdir(server.database)
    wait_for(lambda: device.authenticate().status == 200, 20,
             "the store to be opened")
    server.wait_store()
    assert device.token_update().status == 200
    log.require("MDM0102")
    api.transport.close()
    device.close()


def test_state_directory_of_another_user(own_server, pki, log):
    log.expect("MDM0101", "MDM0102", "MDM0002", "MDM0205")
    server = own_server(start=False)
    if os.geteuid() == 0:
        os.chown(server.state_dir, 0, 0)
    else:
        os.chmod(server.state_dir, 0)
    server.start(wait_store=False)
    device = new_device(server, pki)
    line = log.require("MDM0101")
    assert server.state_dir in line or "mdm.db" in line
    assert is_our_503(device.authenticate())
    assert server.get_static().status == 200
    os.chmod(server.state_dir, 0o700)
    server.own(server.state_dir)
    wait_for(lambda: device.authenticate().status == 200, 20, "recovery")
    device.close()


def test_damaged_database(own_server, pki, log):
    log.expect("MDM0101", "MDM0108", "MDM0002", "MDM0102")
    server = own_server(start=False)
    with open(server.database, "wb") as f:
        f.write(b"this is no database " * 500)
    server.own(server.database)
    server.start(wait_store=False)
    device = new_device(server, pki)
    assert "not a database" in log.require("MDM0101")
    assert is_our_503(device.authenticate())
    assert server.get_static().status == 200
    device.close()


class StaticWatch:
    """Fetches a static file all the time on new connections and remembers
    the longest wait."""

    def __init__(self, server):
        self.server = server
        self.slowest = 0.0
        self.number = 0
        self.failed = []
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.end.is_set():
            begin = time.monotonic()
            try:
                reply = self.server.get_static(timeout=40)
                if reply.status != 200:
                    self.failed.append(reply)
            except OSError as error:
                self.failed.append(error)
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.number += 1
            self.end.wait(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.end.set()
        self.thread.join(60)


def test_writer_that_holds_the_lock(own_server, pki, log):
    """Somebody keeps SQLite's write lock for 30 s: no static file waits,
    device requests end with 503 after the time limit (2 s here), and all is
    well afterwards."""
    log.expect("MDM0101", "MDM0102", "MDM0103", "MDM0108", "MDM0402")
    server = own_server([("http", "STORE_TIMEOUT", "2s")])
    devices = [new_device(server, pki).enroll() for _ in range(6)]
    answers = []

    def update(device):
        end = time.monotonic() + 26
        while time.monotonic() < end:
            begin = time.monotonic()
            reply = device.token_update()
            answers.append((reply, time.monotonic() - begin))
            if reply.status == 503:
                time.sleep(0.5)

    with hold_database(server):
        begin = time.monotonic()
        with StaticWatch(server) as watch:
            threads = [threading.Thread(target=update, args=(d,))
                       for d in devices]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            # The lock is held for thirty seconds in all.
            watch.end.wait(max(0, 30 - (time.monotonic() - begin)))
    assert not watch.failed, watch.failed[:3]
    assert watch.number > 100
    assert watch.slowest < 1.0, f"a static file took {watch.slowest:.2f} s"
    assert answers
    for reply, took in answers:
        assert is_our_503(reply), reply
        assert took < 8, took
    for device in devices:
        wait_for(lambda d=device: d.token_update().status == 200, 10,
                 "writes after the lock is gone")
        device.close()


def test_reads_go_on_under_a_write_lock(own_server, pki, log):
    """A poll of an empty queue writes nothing, so it needs no write lock."""
    log.expect("MDM0101", "MDM0102", "MDM0103", "MDM0108", "MDM0402")
    server = own_server([("http", "STORE_TIMEOUT", "2s")])
    device = new_device(server, pki).enroll()
    assert offered(device.idle()) is None
    with hold_database(server):
        for _ in range(5):
            begin = time.monotonic()
            assert device.idle().status == 200
            assert time.monotonic() - begin < 1.0
    assert device.token_update().status == 200
    device.close()


def test_ticket_that_is_held(own_server, pki, log):
    """The same with the lock files that our own processes queue at."""
    log.expect("MDM0101", "MDM0102", "MDM0103", "MDM0108", "MDM0402")
    server = own_server([("http", "STORE_TIMEOUT", "2s")])
    device = new_device(server, pki).enroll()
    with StaticWatch(server) as watch, hold_locks(server):
        for _ in range(2):
            begin = time.monotonic()
            reply = device.token_update()
            assert is_our_503(reply), reply
            assert time.monotonic() - begin < 8
    assert watch.slowest < 1.0 and not watch.failed
    wait_for(lambda: device.token_update().status == 200, 10, "recovery")
    device.close()


def test_failed_write_is_not_there_later(own_server, pki, log):
    """A command refused with 503 is not queued behind the caller's back."""
    log.expect("MDM0101", "MDM0102", "MDM0103", "MDM0108", "MDM0402")
    server = own_server([("http", "STORE_TIMEOUT", "1s")])
    device = new_device(server, pki).enroll()
    api = server.api()
    command_uuid, body = command_plist("ProfileList")
    with hold_database(server):
        reply = api.enqueue(device.id, body, "?nopush=1")
        assert reply.status == 503, reply
    wait_for(lambda: device.token_update().status == 200, 10, "recovery")
    assert offered(device.idle()) is None
    assert api.command(command_uuid).status == 404
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    assert offered(device.idle()) == command_uuid
    api.transport.close()
    device.close()


def test_database_removed_while_running(own_server, pki, log):
    """An operator's mistake: no crash, loud, the site goes on."""
    log.expect("MDM0101", "MDM0102", "MDM0108", "MDM0106", "MDM0107")
    server = own_server()
    device = new_device(server, pki).enroll()
    kept = server.path("kept")
    os.mkdir(kept)
    for name in os.listdir(server.state_dir):
        shutil.move(os.path.join(server.state_dir, name), kept)
    for _ in range(3):
        reply = device.token_update()
        assert reply.status in (200, 403, 503), reply
    assert server.get_static().status == 200
    device.close()


def test_write_load_from_all_workers(own_server, pki):
    """Writers in several processes wait fairly: nobody gets a 503."""
    server = own_server(workers=3)
    devices = [new_device(server, pki).enroll() for _ in range(12)]
    bad, waits = [], []

    def work(device):
        for _ in range(40):
            begin = time.monotonic()
            reply = device.token_update()
            waits.append(time.monotonic() - begin)
            if reply.status != 200:
                bad.append(reply)

    threads = [threading.Thread(target=work, args=(d,)) for d in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not bad, bad[:3]
    assert len(waits) == 480
    assert max(waits) < 5
    for device in devices:
        device.close()
