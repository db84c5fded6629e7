"""Secrets at rest: no file holds one in the clear, and the key they are
sealed under can be replaced while the server is at work."""
import base64
import hashlib
import os
import secrets
import sqlite3

import pytest
from helpers import Load, command_plist, offered, queue_commands
from mdmtest.api import Api
from mdmtest.device import Device
from mdmtest.wait import wait_for

SEALED = {"pushcert": ["key_s"],
          "enrollment": ["token_s", "magic_s", "unlock_token_s",
                         "former_unlock_token_s", "bootstrap_token_s",
                         "authenticate_s", "token_update_s"],
          "command": ["body_s"], "queue": ["result_s"]}


@pytest.fixture(autouse=True)
def reads_are_logged(log):
    """Who reads an escrowed secret by the API is in the log."""
    log.expect("MDM0604")


def new_key(server, name):
    """A key file as README says: 64 hex digits, mode 0600, root's."""
    path = server.path(name)
    with open(path, "w", encoding="ascii") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(secrets.token_hex(32) + "\n")
    return path


def use_keys(server, *paths):
    server.settings = [s for s in server.settings
                       if s[1] != "SECRET_KEY_FILE"]
    server.settings.append(("http", "SECRET_KEY_FILE", *paths))
    server.write_configuration()


def forms(secret):
    """The bytes by which a secret would be found: as it is, in hex, and in
    base64 wherever in the encoded text it begins."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for lead in range(3):
        text = base64.b64encode(b"\0" * lead + secret)
        # Characters at both ends depend on the neighbours.
        found.append(text[-(-lead * 8 // 6):len(text) // 4 * 4 - 4])
    return found


def files_below(path, leave_out):
    for where, _, names in os.walk(path):
        for name in names:
            full = os.path.join(where, name)
            if full not in leave_out and os.path.isfile(full):
                with open(full, "rb") as f:
                    yield full, f.read()


def find_secrets(server, marked, leave_out):
    """(name of the secret, file) of every one that stands in a file."""
    found = []
    for path, data in files_below(server.directory, leave_out):
        found += [(name, path) for name, secret in marked.items()
                  if any(form in data for form in forms(secret))]
    return found


class Filled:
    """An enrolment with something in every sealed column, and the marked
    secrets in it."""

    def __init__(self, server, pki, number=0):
        mark = secrets.token_hex(8)
        self.marked = {name: f"SECRET-{name}-{mark}".encode() for name in (
            "unlock", "bootstrap", "command", "result", "magic")}
        self.device = Device(server, pki.device(), server.push.topic)
        self.device.magic = self.marked["magic"].decode()
        self.marked["token"] = self.device.token
        device, api = self.device, server.api()
        device.enroll()
        for _ in range(2):          # the second time there is a former one
            assert device.authenticate().status == 200
            assert device.token_update(
                UnlockToken=self.marked["unlock"]).status == 200
        assert device.check_in(
            "SetBootstrapToken",
            BootstrapToken=self.marked["bootstrap"]).status == 200
        self.answered = self.command(api)
        assert offered(device.idle()) == self.answered
        reply = device.report(self.answered,
                              RecoveryKey=self.marked["result"].decode())
        assert reply.status == 200
        self.result = device.last_report
        self.waiting = self.command(api)
        self.more = queue_commands(api, device, number)
        api.transport.close()

    def command(self, api):
        uuid, self.body = command_plist(
            "SettingsX", Password=self.marked["command"].decode(),
            Blob=self.marked["command"])
        assert api.enqueue(self.device.id, self.body,
                           "?nopush=1").status == 200
        return uuid

    def check(self, server):
        """All of it can be read by the API and is handed to the device."""
        api, device = server.api(), self.device
        device.transport.port = server.port
        device.close()
        reply = api.result(self.answered, device.id)
        assert (reply.status, reply.body) == (200, self.result)
        for which in ("unlock", "bootstrap"):
            reply = api.call("GET", f"/v1/enrollments/{device.id}/secrets/"
                             f"{which}-token")
            assert reply.status == 200, reply
            assert base64.b64encode(self.marked[which]) in reply.body, reply
        assert api.get_pushcert(server.push.topic).status == 200
        reply = device.idle()
        assert reply.status == 200
        assert reply.body == self.body, reply
        api.transport.close()
        device.close()


def status_of(server):
    api = server.api()
    try:
        reply = api.call("GET", "/v1/status")
        assert reply.status in (200, 503), reply
        return reply.json if reply.status == 200 else None
    finally:
        api.transport.close()


def wait_resealed(server, former):
    """Until the status says that the old key may go."""
    def done():
        status = status_of(server)
        return status and not status["secret_key"]["old_key_needed"] \
            and status["secret_key"]["id"] != former and status
    status = wait_for(done, 40, "every secret under the new key")
    assert status["secret_key"]["rotation"] is None
    return status["secret_key"]["id"]


def marks(server):
    """{first five bytes: number} over all sealed values."""
    base = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True,
                           timeout=10)
    found = {}
    try:
        for table, columns in SEALED.items():
            for column in columns:
                for (mark,) in base.execute(
                        f"SELECT substr({column}, 1, 5) FROM {table} "
                        f"WHERE {column} IS NOT NULL"):
                    found[mark.hex()] = found.get(mark.hex(), 0) + 1
    finally:
        base.close()
    return found


def test_no_file_holds_a_secret(own_server, own_apns, pki):
    """Database, its log and its index, lock files, error and access logs:
    before and after a checkpoint, and after the end."""
    server = own_server()
    filled = Filled(server, pki)
    marked = dict(filled.marked)
    with open(server.push.key_file, "rb") as f:
        pem = f.read()
    lines = [x for x in pem.splitlines() if not x.startswith(b"-")]
    marked["push key"] = lines[1] if len(lines) > 1 else lines[0][8:-8]
    key_file = os.path.join(server.state_dir, "secret.key")
    with open(key_file, "rb") as f:
        marked["secret key"] = bytes.fromhex(f.read().decode().strip())
    api = server.api()
    assert api.push(filled.device.id).status == 200
    own_apns.wait_token(filled.device.token_hex)
    filled.check(server)
    given = {server.conf_file, server.path("tokens"), key_file}
    # The look is a look: what is no secret is found, in every form.
    plain = {"udid": filled.device.udid.encode()}
    assert find_secrets(server, plain, given)
    probe = server.path("probe")
    for name, secret in marked.items():
        for text in (b"xx" + secret, secret.hex().encode(),
                     base64.b64encode(b"a" + secret + b"b"),
                     base64.b64encode(b"ab" + secret)):
            with open(probe, "wb") as f:
                f.write(text)
            assert find_secrets(server, {name: secret}, given), name
    os.unlink(probe)
    names = set(os.listdir(server.state_dir))
    assert {"mdm.db", "mdm.db-wal", "mdm.db-shm", "mdm.db.lock"} <= names
    assert os.path.getsize(server.database + "-wal") > 0
    assert not find_secrets(server, marked, given)
    base = sqlite3.connect(server.database, timeout=10)
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    base.close()
    assert not find_secrets(server, marked, given)
    api.transport.close()
    server.quit()
    assert find_secrets(server, plain, given)
    assert not find_secrets(server, marked, given)
    # The key itself stands in its own file, and nowhere else.
    assert [p for _, p in find_secrets(server, marked, given - {key_file})] \
        == [key_file]


def test_secret_key_is_replaced(own_server, own_apns, pki, log):
    """A reload with `new old`, the walk, a restart with `new`; then the old
    one is good for nothing."""
    log.expect("MDM0111", "MDM0106", "MDM0102", "MDM0402")
    server = own_server(start=False)
    old, new = new_key(server, "old.key"), new_key(server, "new.key")
    use_keys(server, old)
    server.start()
    assert server.api().put_pushcert(server.push.both_pem).status == 200
    filled = Filled(server, pki, 300)
    before = status_of(server)
    former = before["secret_key"]["id"]
    assert before["version"] and before["schema"] >= 2
    assert len(former) == 8
    assert before["secret_key"]["rotation"] is None
    assert before["secret_key"]["old_key_needed"] is False
    assert set(marks(server)) == {"02" + former}
    use_keys(server, new, old)
    server.reload()
    log.require("MDM0111")
    seen = []

    def watch():
        status = status_of(server)
        if status and status["secret_key"]["rotation"]:
            seen.append(status["secret_key"])
        return status and status["secret_key"]["id"] != former
    wait_for(watch, 20, "the new key in use")
    now = wait_resealed(server, former)
    for key in seen:
        assert key["id"] == now and key["old_key_needed"] is True
        assert key["rotation"]["from"] == former
        assert key["rotation"]["table"] in SEALED
        assert key["rotation"]["done"] >= 0 and key["rotation"]["left"] >= 0
    assert set(marks(server)) == {"02" + now}
    assert sum(marks(server).values()) > 300
    assert "may be removed" in log.require("MDM0112")
    filled.check(server)

    use_keys(server, new)
    server.quit()
    server.start()
    filled.check(server)
    assert server.api().push(filled.device.id).status == 200
    own_apns.wait_token(filled.device.token_hex)
    assert status_of(server)["secret_key"] == {
        "id": now, "rotation": None, "old_key_needed": False}

    server.quit()
    use_keys(server, old)
    server.start(wait_store=False)
    line = log.require("MDM0106")
    assert former in line and now in line
    filled.device.transport.port = server.port
    for reply in (filled.device.idle(), filled.device.token_update(),
                  server.api().call("GET", "/v1/status"),
                  server.api().result(filled.answered, filled.device.id)):
        assert reply.status == 503, reply
        assert int(reply.headers["retry-after"]) > 0
    assert server.get_static().status == 200
    filled.device.close()

    server.quit()
    use_keys(server, new)
    server.start()
    filled.check(server)


def test_new_key_alone_is_too_early(own_server, pki, log):
    """Secrets are left under the old key: refused, nothing is touched."""
    log.expect("MDM0106", "MDM0111", "MDM0112", "MDM0102")
    server = own_server(start=False)
    old, new = new_key(server, "old.key"), new_key(server, "new.key")
    use_keys(server, old)
    server.start()
    assert server.api().put_pushcert(server.push.both_pem).status == 200
    filled = Filled(server, pki, 20)
    former = status_of(server)["secret_key"]["id"]
    server.quit()
    stored = marks(server)
    use_keys(server, new)
    server.start(wait_store=False)
    log.require("MDM0106")
    filled.device.transport.port = server.port
    assert filled.device.idle().status == 503
    filled.device.close()
    server.quit()
    assert marks(server) == stored
    use_keys(server, new, old)
    server.start()
    wait_resealed(server, former)
    filled.check(server)


def test_no_request_fails_meanwhile(own_server, own_apns, pki, log):
    """In two reloads, `old new` and then `new old`, no process is left that
    does not know the new key when it comes into use: every request of the
    devices and of the API is answered 200."""
    log.expect("MDM0111", "MDM0112", "MDM0113", "MDM0402")
    server = own_server(start=False)
    old, new = new_key(server, "old.key"), new_key(server, "new.key")
    use_keys(server, old)
    server.start()
    assert server.api().put_pushcert(server.push.both_pem).status == 200
    filled = Filled(server, pki, 2000)
    former = status_of(server)["secret_key"]["id"]
    devices = [Device(server, pki.device(), server.push.topic).enroll()
               for _ in range(3)]
    apis = [server.api() for _ in devices]

    def work(number):
        device, api = devices[number], apis[number]
        device.close()
        uuid, body = command_plist("DeviceInformation")
        reply = api.enqueue(device.id, body)
        assert reply.status == 200, reply
        assert [u for u, _ in device.run_once()] == [uuid]
        assert api.result(uuid, device.id).status == 200
        return True

    with Load(work, len(devices)) as load:
        for keys in ((old, new), (new, old)):
            done = len(load.results)
            gone = set(server.worker_pids())
            use_keys(server, *keys)
            server.reload()
            wait_for(lambda g=gone: not g & set(server.worker_pids()), 30,
                     "the end of the workers of before")
            wait_for(lambda d=done: len(load.results) > d + 8 or load.errors,
                     30, "rounds after a reload")
        now = wait_resealed(server, former)
        done = len(load.results)
        wait_for(lambda: len(load.results) > done + 8 or load.errors, 30,
                 "rounds after the rotation")
    assert not load.errors, load.errors
    assert set(marks(server)) == {"02" + now}
    filled.check(server)
    for closer in devices + [a.transport for a in apis]:
        closer.close()


def test_without_pushes(own_server, pki, log):
    """A server that sends no pushes does it, too."""
    log.expect("MDM0111", "MDM0112", "MDM0106", "MDM0102")
    server = own_server([("http", "PUSH", "off")], start=False)
    old, new = new_key(server, "old.key"), new_key(server, "new.key")
    use_keys(server, old)
    server.start()
    assert server.api().put_pushcert(server.push.both_pem).status == 200
    filled = Filled(server, pki, 20)
    former = status_of(server)["secret_key"]["id"]
    use_keys(server, new, old)
    server.reload()
    now = wait_resealed(server, former)
    assert set(marks(server)) == {"02" + now}
    filled.check(server)


def test_status_needs_a_token(own_server, log):
    log.expect("MDM0602")
    tokens = {"read": "reader-0123456789abcdef",
              "command": "commander-0123456789"}
    server = own_server(start=False, tokens="it:tttttttttttttttttttt\n"
                        + "".join(
                            f"{scope}:{scope}:sha256:"
                            f"{hashlib.sha256(t.encode()).hexdigest()}\n"
                            for scope, t in tokens.items()))
    server.api_token = "tttttttttttttttttttt"
    server.start()

    def ask(token, method="GET"):
        api = Api(server, token)
        try:
            return api.call(method, "/v1/status")
        finally:
            api.transport.close()
    reply = ask(tokens["read"])
    assert reply.status == 200
    assert set(reply.json) >= {"version", "schema", "secret_key"}
    assert ask("wrong-token-0123456789").status == 401
    assert ask(None).status == 401
    assert ask(tokens["command"]).status == 403
    assert ask(tokens["read"], "PUT").status == 405
