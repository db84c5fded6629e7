"""Fixtures: every test function that takes `server` runs in Apache and in
nginx; after every test the error logs may hold only what it declared."""
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))

from mdmtest import logs                            # noqa: E402
from mdmtest.apache import ApacheServer             # noqa: E402
from mdmtest.device import Device                   # noqa: E402
from mdmtest.mock_apns import MockAPNs              # noqa: E402
from mdmtest.nginx import NginxServer               # noqa: E402
from mdmtest.pki import PKI                         # noqa: E402
from mdmtest.wait import wait_for                   # noqa: E402

KINDS = {"apache": ApacheServer, "nginx": NginxServer}


def pytest_configure(config):
    if not os.environ.get("MDM_BUILD_DIR"):
        top = os.path.join(os.path.dirname(__file__), "..", "..")
        os.environ["MDM_BUILD_DIR"] = os.path.abspath(
            os.path.join(top, "build"))


@pytest.fixture(scope="session")
def build_dir():
    return os.environ["MDM_BUILD_DIR"]


@pytest.fixture(scope="session")
def workdir():
    """A directory for the session that the workers' user can enter."""
    path = tempfile.mkdtemp(prefix="mdm-it-")
    os.chmod(path, 0o755)
    yield path
    if not os.environ.get("MDM_TEST_KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def pki(workdir):
    return PKI(os.path.join(workdir, "pki"))


def new_mock(pki, **more):
    return MockAPNs(pki.server.cert_file, pki.server.key_file,
                    pki.push_ca.cert_file, **more)


def push_settings(pki, mock):
    """Settings that make a server push to the mock and retry soon."""
    return [("http", "PUSH_SERVER", f"localhost:{mock.port}"),
            ("http", "PUSH_TRUSTED_CERTIFICATE", pki.server_ca.cert_file),
            ("http", "PUSH_RETRY", "1s", "2s"),
            ("http", "PUSH_TIMEOUT", "5s"),
            ("http", "STORE_TIMEOUT", "5s"),
            ("http", "LEASE_TIME", "5s")]


@pytest.fixture(scope="session")
def session_apns(pki):
    with new_mock(pki) as mock:
        yield mock


@pytest.fixture(scope="session", params=sorted(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def session_server(kind, pki, build_dir, session_apns):
    server = KINDS[kind](pki, build_dir, push_settings(pki, session_apns))
    try:
        server.start()
        server.push = pki.push()
        reply = server.api().put_pushcert(server.push.both_pem)
        assert reply.status == 200, reply
        yield server
        server.quit()
        bad = logs.judge(server.log_text())
        assert not bad, "at the end of the session:\n" + "\n".join(bad)
    finally:
        server.stop()
        if not os.environ.get("MDM_TEST_KEEP"):
            server.remove()


class LogKeeper:
    """Declares what may be logged during a test; checks afterwards."""

    def __init__(self):
        self.servers = []
        self.declared = []

    def watch(self, server):
        server.mark_log()
        self.servers.append(server)

    def expect(self, *items):
        """Message ids ("MDM0101") or regular expressions that may occur."""
        self.declared.extend(items)

    def require(self, item, timeout=10):
        """Declares an item and waits until a watched log has it."""
        self.declared.append(item)

        def seen():
            for server in self.servers:
                for text in server.log_text().splitlines():
                    if logs.is_declared(logs.Line(text), [item]):
                        return text
            return None
        return wait_for(seen, timeout, f"{item} in the error log")

    def check(self):
        bad = []
        for server in self.servers:
            bad += [f"{server.kind}: {text}" for text in
                    logs.judge(server.log_text(), self.declared)]
            server.mark_log()
        assert not bad, ("lines in the error log that the test did not "
                         "declare:\n" + "\n".join(bad[:40]))


@pytest.fixture(autouse=True)
def log():
    keeper = LogKeeper()
    yield keeper
    keeper.check()


@pytest.fixture
def server(session_server, session_apns, log):
    """The server of the session, with its push certificate in .push."""
    session_apns.reset_scripts()
    log.watch(session_server)
    yield session_server
    # What a test leaves undone may be logged a moment later: let the
    # lines of its own requests come out before the log is judged.
    session_server.get_static()


@pytest.fixture
def apns(session_apns):
    yield session_apns
    session_apns.reset_scripts()
    faults, session_apns.faults = session_apns.faults, []
    assert not faults, faults


@pytest.fixture
def api(server):
    client = server.api()
    yield client
    client.transport.close()


@pytest.fixture
def enroll(pki, server):
    """Makes enrolled devices with identities of their own."""
    made = []

    def make(where=None, topic=None, identity=None, **more):
        device = Device(where or server, identity or pki.device(),
                        topic or (where or server).push.topic, **more)
        made.append(device)
        return device.enroll()

    yield make
    for device in made:
        device.close()


@pytest.fixture
def own_apns(pki):
    with new_mock(pki) as mock:
        yield mock
        assert not mock.faults, mock.faults


@pytest.fixture
def own_server(kind, pki, build_dir, own_apns, log):
    """Makes servers that the test may kill; pushes go to own_apns.
    start=False leaves it unstarted."""
    made = []

    def make(settings=(), start=True, push=True, wait_store=True, **more):
        base = [s for s in push_settings(pki, own_apns)
                if (s[0], s[1]) not in {(g[0], g[1]) for g in settings}]
        server = KINDS[kind](pki, build_dir, base + list(settings), **more)
        made.append(server)
        log.watch(server)
        server.push = pki.push(key_kind="shared")
        if start:
            server.start(wait_store=wait_store)
            if push and wait_store:
                reply = server.api().put_pushcert(server.push.both_pem)
                assert reply.status == 200, reply
        return server

    yield make
    try:
        # Gracefully: on TERM httpd's event MPM closes its workers' sockets
        # while they are at work, and now and then crashes over it, which a
        # test of ours must neither cause nor excuse.
        for server in made:
            server.quit()
        log.check()
    finally:
        log.servers = [s for s in log.servers if s not in made]
        for server in made:
            server.stop()
            if not os.environ.get("MDM_TEST_KEEP"):
                server.remove()
