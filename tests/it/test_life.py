"""Reloads, crashes and stops: nothing that was answered is lost."""
import os
import signal
import sqlite3
import stat
import threading
import time

import pytest
from helpers import Load, command_plist, offered, state_of
from mdmtest.device import Device
from mdmtest.wait import wait_for


def new_device(server, pki, **more):
    return Device(server, pki.device(), server.push.topic, **more).enroll()


def test_ten_reloads_under_load(own_server, own_apns, pki, log):
    """Four devices poll and get commands over and over while the server is
    reloaded ten times: every request is answered 200."""
    log.expect("MDM0407", "MDM0402")
    server = own_server()
    devices = [new_device(server, pki) for _ in range(4)]
    apis = [server.api() for _ in devices]
    acknowledged = []

    def work(number):
        device, api = devices[number], apis[number]
        device.close()      # a new connection a round: all workers get some
        command_uuid, body = command_plist("DeviceInformation")
        reply = api.enqueue(device.id, body)
        assert reply.status == 200, reply
        reports = device.run_once()
        assert [u for u, _ in reports] == [command_uuid], reports
        acknowledged.append((command_uuid, number))
        return True

    with Load(work, len(devices)) as load:
        for _ in range(10):
            done = len(load.results)
            server.reload()
            wait_for(lambda: len(load.results) > done + 8 or load.errors,
                     30, "rounds after a reload")
    assert not load.errors, load.errors
    assert len(acknowledged) > 80
    for command_uuid, number in acknowledged[-20:]:
        assert state_of(apis[0], command_uuid, devices[number].id) \
            == "acknowledged"
    # Pushes go on, by one connection at a time.
    number = len(own_apns.handshakes)
    assert apis[0].push(devices[0].id).status == 200
    wait_for(lambda: own_apns.for_token(devices[0].token_hex), 15, "a push")
    time.sleep(1)
    assert len(own_apns.handshakes) - number <= 1
    for closer in devices + [a.transport for a in apis]:
        closer.close()


def test_requests_in_flight_survive_a_reload(own_server, pki, log):
    """A body that is still on its way when the worker is told to go."""
    server = own_server()
    device = new_device(server, pki)
    import plistlib
    body = plistlib.dumps({"Status": "Idle", "UDID": device.udid})
    device.transport.close()
    device.transport.connect()
    connection = device.transport.connection
    connection.putrequest("PUT", "/mdm")
    connection.putheader("Content-Type", "application/x-apple-aspen-mdm")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.sock.sendall(body[:50])
    server.reload()
    connection.sock.sendall(body[50:])
    assert connection.getresponse().status == 200
    device.close()


def test_kill_nine(own_server, own_apns, pki, log):
    """Workers are killed while commands are queued: what was answered 200
    is there, and its push arrives within the lease time."""
    log.expect(r"exited on signal 9", r"exit signal Killed \(9\)",
               "MDM0402", "MDM0407", "AH00051", "AH00052",
               "recovered|MDM0103")
    server = own_server()
    device = new_device(server, pki)
    committed = []

    def work(number):
        api = server.api()
        try:
            command_uuid, body = command_plist("ProfileList")
            reply = api.enqueue(device.id, body)
            if reply.status == 200:
                committed.append(command_uuid)
        except OSError:
            pass            # the killed worker's own requests may die
        finally:
            api.transport.close()

    with Load(work, 3) as load:
        for _ in range(4):
            number = len(committed)
            wait_for(lambda: len(committed) > number + 5, 20, "commits")
            before = set(server.worker_pids())
            os.kill(sorted(before)[0], signal.SIGKILL)
            wait_for(lambda: set(server.worker_pids()) - before, 20,
                     "a worker in place of the killed one")
    assert not load.errors, load.errors
    killed = time.time()
    # The lease of these tests is 5 s: a push must come after the last kill.
    api = server.api()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body).status == 200
    own_apns.wait_for(lambda r: r["token"] == device.token_hex
                      and r["time"] > killed, timeout=5 + 6)
    wanted = committed + [command_uuid]
    seen = {u for u, _ in device.run_once(limit=5000)}
    assert not set(wanted) - seen, f"{len(set(wanted) - seen)} lost"
    api.transport.close()
    device.close()


def test_leader_killed_with_the_push_due(own_server, own_apns, pki, log):
    """All workers die right after the answer: the push still goes out."""
    log.expect(r"exited on signal 9", r"exit signal Killed \(9\)",
               "AH00051", "AH00052", "MDM0402", "MDM0407")
    server = own_server()
    device = new_device(server, pki)
    api = server.api()
    own_apns.stop()     # so that it cannot be gone already
    log.expect("MDM0402")
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body).status == 200
    before = set(server.worker_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    own_apns.start()
    wait_for(lambda: len(set(server.worker_pids()) - before) >= 2, 20,
             "new workers")
    own_apns.wait_token(device.token_hex, timeout=5 + 8)
    assert offered(device.idle()) == command_uuid
    api.transport.close()
    device.close()


def test_restart_keeps_everything(own_server, own_apns, pki):
    server = own_server()
    device = new_device(server, pki)
    api = server.api()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    row = api.enrollment(device.id).json
    server.quit()
    device.close()
    api.transport.close()
    server.start()
    device.transport.port = api.transport.port = server.port
    again = api.enrollment(device.id).json
    assert again["serial_number"] == row["serial_number"]
    assert again["enabled"] is True
    assert device.idle().body == body
    assert offered(device.report(command_uuid)) is None
    assert api.push(device.id).status == 200
    push = own_apns.wait_token(device.token_hex)
    assert push["fingerprint"] == server.push.fingerprint
    api.transport.close()
    device.close()


@pytest.mark.parametrize("how", ["quit", "stop"])
def test_stop_is_clean_and_quick(how, own_server, own_apns, pki, log):
    server = own_server()
    device = new_device(server, pki)
    api = server.api()
    assert api.push(device.id).status == 200
    own_apns.wait_token(device.token_hex)
    api.transport.close()
    device.close()
    # httpd's event MPM closes the sockets of its workers on TERM, and may
    # fall over one that a worker is just giving up: let them be done.
    server.wait_idle()
    begin = time.monotonic()
    getattr(server, how)()
    assert time.monotonic() - begin < 8
    base = sqlite3.connect(server.database)
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()


def test_graceful_quit_finishes_requests(own_server, pki):
    server = own_server()
    device = new_device(server, pki)
    answers = []
    stop = threading.Event()

    def poll():
        while not stop.is_set():
            answers.append(device.idle().status)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        wait_for(lambda: len(answers) > 10, 10, "polls")
    finally:
        stop.set()
        thread.join(20)
    server.quit()
    assert set(answers) == {200}
    device.close()


def test_state_directory_is_made(own_server, pki):
    """Made by the parent when it is missing: mode 0700, of the workers."""
    server = own_server(start=False)
    os.rmdir(server.state_dir)
    server.start()
    info = os.stat(server.state_dir)
    assert stat.S_IMODE(info.st_mode) == 0o700
    if os.geteuid() == 0:
        assert info.st_uid != 0
    names = os.listdir(server.state_dir)
    assert "mdm.db" in names and "secret.key" in names, names
    for name in names:
        mode = stat.S_IMODE(os.stat(os.path.join(server.state_dir,
                                                 name)).st_mode)
        assert mode & 0o077 == 0, (name, oct(mode))


def test_nothing_secret_in_the_database_file(own_server, own_apns, pki):
    """Tokens, magic, keys and results are sealed."""
    server = own_server()
    device = new_device(server, pki)
    api = server.api()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body).status == 200
    own_apns.wait_token(device.token_hex)
    device.token_update(UnlockToken=b"UNLOCK-TOKEN-OF-THE-TEST")
    assert offered(device.idle()) == command_uuid
    device.report(command_uuid, RecoveryKey="RECOVERY-KEY-OF-THE-TEST")
    api.transport.close()
    device.close()
    server.quit()
    stored = b""
    for name in os.listdir(server.state_dir):
        if name.startswith("mdm.db"):
            with open(os.path.join(server.state_dir, name), "rb") as f:
                stored += f.read()
    assert device.udid.encode() in stored       # we look at the right file
    for secret in (device.token, device.token_hex.encode(),
                   device.magic.encode(), b"PRIVATE KEY",
                   b"UNLOCK-TOKEN-OF-THE-TEST", b"RECOVERY-KEY-OF-THE-TEST"):
        assert secret not in stored
    text = server.log_since(0)
    assert device.magic not in text
    assert device.token_hex not in text


def test_secret_key_of_another_store(own_server, pki, log):
    """Loud and 503, never unreadable rows; mended by the right key."""
    log.expect("MDM0106", "MDM0101", "MDM0002")
    server = own_server()
    device = new_device(server, pki)
    server.quit()
    key_file = os.path.join(server.state_dir, "secret.key")
    with open(key_file, encoding="ascii") as f:
        key = f.read()
    with open(key_file, "w", encoding="ascii") as f:
        f.write("00" * 32 + "\n")
    server.start(wait_store=False)
    device.close()
    device.transport.port = server.port
    log.require("MDM0106")
    reply = device.idle()
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) > 0
    assert server.get_static().status == 200
    server.quit()
    device.close()
    with open(key_file, "w", encoding="ascii") as f:
        f.write(key)
    server.start()
    device.transport.port = server.port
    assert device.idle().status == 200
    device.close()


def test_newer_schema_is_refused(own_server, pki, log):
    log.expect("MDM0105", "MDM0101", "MDM0002")
    server = own_server()
    server.quit()
    base = sqlite3.connect(server.database)
    changed = base.execute("UPDATE meta SET value = '1000' "
                           "WHERE name = 'schema_version'")
    assert changed.rowcount == 1
    base.commit()
    base.close()
    server.start(wait_store=False)
    log.require("MDM0105")
    device = Device(server, pki.device(), server.push.topic)
    assert device.authenticate().status == 503
    device.close()
