"""Small things that several test files use."""
import contextlib
import datetime
import fcntl
import os
import sqlite3
import subprocess
import threading
import time

from mdmtest.api import command_plist

__all__ = ["command_plist", "curl", "hold_database", "table_rows", "Load",
           "enrolled_ids", "seconds_until", "next_push", "push_now"]


def enrolled_ids(server):
    """Ids of all enrolments, as the API lists them page by page."""
    ids, cursor = [], ""
    api = server.api()
    try:
        while True:
            query = "?limit=100" + (f"&cursor={cursor}" if cursor else "")
            reply = api.enrollments(query)
            assert reply.status == 200, reply
            ids += [e["id"] for e in reply.json["enrollments"]]
            cursor = reply.json.get("next_cursor") or ""
            if not cursor:
                return ids
    finally:
        api.transport.close()


def curl(server, path, *more, identity=None, timeout=30):
    """(status, HTTP version, body) by curl, for HTTP/2."""
    command = ["/usr/bin/curl", "-sS", "--cacert", server.ca_file,
               "-w", "\n%{http_code} %{http_version}", *more]
    if identity:
        command += ["--cert", identity.cert_file, "--key", identity.key_file]
    done = subprocess.run(command + [server.url + path],
                          capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    body, _, tail = done.stdout.rpartition(b"\n")
    status, version = tail.decode().split()
    return int(status), version, body


def table_rows(server):
    """Row counts of every table, read from the database file itself."""
    base = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True,
                           timeout=10)
    try:
        names = [r[0] for r in base.execute(
            "SELECT name FROM sqlite_master WHERE type='table' "
            "AND name NOT LIKE 'sqlite_%'")]
        return {n: base.execute(f'SELECT count(*) FROM "{n}"').fetchone()[0]
                for n in names}
    finally:
        base.close()


@contextlib.contextmanager
def hold_database(server):
    """Takes SQLite's write lock, as a foreign writer would."""
    base = sqlite3.connect(server.database, timeout=10, isolation_level=None)
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        base.execute("ROLLBACK")
        base.close()


@contextlib.contextmanager
def hold_locks(server):
    """flock() on every lock file of the state directory."""
    names = [n for n in os.listdir(server.state_dir) if "lock" in n]
    assert names, os.listdir(server.state_dir)
    handles = []
    try:
        for name in names:
            handle = os.open(os.path.join(server.state_dir, name), os.O_RDWR)
            handles.append(handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield names
    finally:
        for handle in handles:
            os.close(handle)


def seconds_until(text):
    """From now to a time as the API writes it."""
    when = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return (when.replace(tzinfo=datetime.timezone.utc).timestamp()
            - time.time())


def next_push(api, device):
    """In how many seconds the next push goes out; None: in none."""
    when = api.enrollment(device.id).json["push"]["next_attempt"]
    return None if when is None else seconds_until(when)


def push_now(server, device):
    """Lets the push that is planned for later be due now."""
    base = sqlite3.connect(server.database, timeout=10)
    with base:
        done = base.execute(
            "UPDATE push SET due_at = ? WHERE due_at > ? AND eid ="
            " (SELECT eid FROM enrollment WHERE id = ?)",
            (int(time.time() * 1e6), int(time.time() * 1e6), device.id))
        assert done.rowcount == 1, "no push is planned"
    base.close()


class Load:
    """Calls work(i) again and again in threads until stopped; collects what
    it returns and every exception."""

    def __init__(self, work, threads=4):
        self.work = work
        self.results = []
        self.errors = []
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,))
                        for i in range(threads)]

    def run(self, number):
        while not self.done.is_set():
            try:
                self.results.append((time.monotonic(), self.work(number)))
            except Exception as error:      # noqa: BLE001: all are reported
                self.errors.append(f"{type(error).__name__}: {error}")
                if len(self.errors) > 20:
                    return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        for thread in self.threads:
            thread.join(60)


def state_of(api, command_uuid, enrolment_id):
    """State of a command for one enrolment, by GET /v1/commands/UUID."""
    reply = api.command(command_uuid)
    assert reply.status == 200, reply
    assert reply.json["command_uuid"] == command_uuid
    return reply.json["status"][enrolment_id]["state"]


def queue_commands(api, device, number, request_type="ProfileList"):
    """Queues commands without push; returns their UUIDs in order."""
    made = []
    for _ in range(number):
        command_uuid, body = command_plist(request_type)
        reply = api.enqueue(device.id, body, "?nopush=1")
        assert reply.status == 200, reply
        made.append(command_uuid)
    return made


def offered(reply):
    """UUID of the command in an answer to a poll, None when empty."""
    assert reply.status == 200, reply
    if not reply.body:
        return None
    return reply.plist["CommandUUID"]
