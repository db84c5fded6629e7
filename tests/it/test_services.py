"""Check-ins that ask for something made elsewhere: DeclarativeManagement by an
outside server, GetToken, ReturnToService."""
import base64
import hashlib
import json
import os
import plistlib
import statistics
import threading
import time
import uuid

import pytest
from conftest import KINDS, push_settings
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from mdmtest import logs
from mdmtest.device import CHECKIN, Device
from mdmtest.mock_dm import MockDM, answer, signature
from mdmtest.wait import wait_for

CASES = os.path.join(os.path.dirname(__file__), "..", "cases", "mdm")
CASE_UDID = "11111111-2222-5333-8444-555566667777"
SERVER_UUID = "677cab70-fe18-11e2-b778-0800200c9a66"
KEY = b"0123456789abcdef-of-the-test"
MB = 1024 * 1024
WIFI = plistlib.dumps({"PayloadType": "Configuration", "Name": "Wi-Fi"})
ENROL = plistlib.dumps({"PayloadType": "Configuration", "Name": "MDM"})
# The workers of a process make eight calls at once.
CALLS = 8


def case(name):
    with open(os.path.join(CASES, name), "rb") as f:
        return f.read()


class Services:
    """A server with everything on, for the tests of this file."""

    def __init__(self, kind, pki, build_dir, apns):
        self.mock = MockDM().start()
        self.key = rsa.generate_private_key(65537, 2048)
        self.server = KINDS[kind](
            pki, build_dir, push_settings(pki, apns),
            endpoints={"/mdm": "mdm", "/bare": "mdm", "/full": "mdm",
                       "/mdmapi/": "api"})
        self.server.push = pki.push()
        where = self.server.path
        for name, data in (
                ("wifi", WIFI), ("enrol", ENROL),
                ("rsa", self.key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption()))):
            with open(where(name), "wb") as f:
                f.write(data)
        self.server.settings += [
            ("http", "DECLARATIVE_MANAGEMENT", self.mock.url),
            ("server", "TOKEN_SIGNER", where("rsa"), SERVER_UUID),
            ("/bare", "RETURN_TO_SERVICE", "on"),
            ("/full", "RETURN_TO_SERVICE", "on",
             f"wifi-profile={where('wifi')}",
             f"mdm-profile={where('enrol')}", "preserve-data-plan",
             "retry-enrollment")]

    def stop(self):
        self.server.stop()
        self.mock.stop()
        self.server.remove()


def import_push(server):
    """So that the server can wake the devices, and says nothing of it."""
    api = server.api()
    assert api.put_pushcert(server.push.both_pem).status == 200
    api.transport.close()


@pytest.fixture(scope="module")
def module_services(kind, pki, build_dir, session_apns):
    made = Services(kind, pki, build_dir, session_apns)
    try:
        import_push(made.server.start())
        yield made
        made.server.quit()
        bad = logs.judge(made.server.log_text())
        assert not bad, "at the end of the module:\n" + "\n".join(bad)
    finally:
        made.stop()


@pytest.fixture
def services(module_services, log):
    module_services.mock.reset()
    log.watch(module_services.server)
    yield module_services
    module_services.mock.release()
    module_services.server.get_static()


@pytest.fixture
def dm(services):
    return services.mock


@pytest.fixture
def device(services, enroll_there):
    return enroll_there(services.server)


@pytest.fixture
def enroll_there(pki):
    """Makes enrolled devices of any server."""
    made = []

    def make(server, **more):
        device = Device(server, pki.device(), server.push.topic, **more)
        made.append(device)
        return device.enroll()

    yield make
    for device in made:
        device.close()


@pytest.fixture
def own_dm():
    """Mocks of the test's own."""
    made = []

    def make(**more):
        made.append(MockDM(**more).start())
        return made[-1]

    yield make
    for mock in made:
        mock.stop()


def ask(channel, endpoint, data=None):
    more = {} if data is None else {"Data": data}
    return channel.check_in("DeclarativeManagement", Endpoint=endpoint, **more)


def check_trouble(reply):
    assert reply.status == 503, reply
    assert int(reply.headers["retry-after"]) > 0
    assert b"127.0.0.1" not in reply.body


# ---- everything off ---------------------------------------------------------

def test_off_is_400(enroll):
    device = enroll(udid=CASE_UDID)
    for name in ("C28-declarativemanagement.plist", "C28-gettoken.plist"):
        assert device.put("/mdm", CHECKIN, case(name)).status == 400
    assert ask(device, "tokens").status == 400
    assert device.check_in("ReturnToService").status == 400


# ---- declarative management -------------------------------------------------

@pytest.mark.parametrize("endpoint", [
    "tokens", "declaration-items",
    "declaration/configuration/org.example.passcode"])
def test_get(endpoint, dm, device):
    body = b'{"answer": "to ' + endpoint.encode() + b'"}'
    dm.script(answer(200, body))
    reply = ask(device, endpoint)
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["content-type"] == "application/json"
    request, = dm.requests
    assert (request.method, request.path) == ("GET", "/dm/" + endpoint)
    assert request.body == b""
    assert request.headers["x-enrollment-id"] == device.id
    assert request.headers["x-enrollment-type"] == "Device"
    assert "x-enrollment-parentid" not in request.headers
    assert "x-hmac-signature" not in request.headers
    assert "content-type" not in request.headers
    names = [name for name, _ in request.header_list]
    assert len(names) == len(set(names)), names


def test_status_report(dm, services, enroll_there):
    """The case file: a report goes on as it is, the answer has no body."""
    device = enroll_there(services.server, udid=CASE_UDID)
    dm.script(answer(200, b""))
    message = case("C28-declarativemanagement.plist")
    reply = device.put("/mdm", CHECKIN, message)
    assert (reply.status, reply.body) == (200, b"")
    request, = dm.requests
    assert (request.method, request.path) == ("PUT", "/dm/status")
    assert request.body == plistlib.loads(message)["Data"]
    assert json.loads(request.body) == {"StatusItems": {}, "Errors": []}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-enrollment-id"] == CASE_UDID
    assert "expect" not in request.headers


def test_large_status_report(dm, device):
    report = json.dumps({"StatusItems": {"a": "b" * 3 * MB}}).encode()
    assert ask(device, "status", report).status == 200
    assert dm.requests[0].body == report


def test_user_channels(dm, device):
    user = device.user()
    assert user.token_update().status == 200
    assert ask(user, "tokens").status == 200
    assert dm.requests[0].headers["x-enrollment-id"] == user.id
    assert dm.requests[0].headers["x-enrollment-type"] == "User"
    assert dm.requests[0].headers["x-enrollment-parentid"] == device.id
    assert ask(user, "status", b"{}").status == 200
    assert dm.requests[1].body == b"{}"
    assert dm.requests[1].headers["x-enrollment-parentid"] == device.id


def test_ids_that_do_not_fit_a_header(dm, device):
    """Whatever a user is called, it stays one value of one header."""
    user = device.ipad_user("jörg 100%@example.com")
    assert ask(user, "tokens").status == 200
    headers = dm.requests[0].headers
    assert headers["x-enrollment-id"] \
        == device.id + ":j%C3%B6rg 100%25@example.com"
    assert headers["x-enrollment-type"] == "Shared iPad"
    assert headers["x-enrollment-parentid"] == device.id
    assert ask(device.ipad_user("a\r\nX-Evil: 1"), "tokens").status == 400
    assert len(dm.requests) == 1


def test_user_enrolment(dm, services, enroll_there):
    device = enroll_there(services.server,
                          enrollment_id=uuid.uuid4().hex + "aa")
    assert ask(device, "tokens").status == 200
    assert dm.requests[0].headers["x-enrollment-id"] == device.id
    assert dm.requests[0].headers["x-enrollment-type"] \
        == "User Enrollment (Device)"


def test_endpoints_are_encoded(dm, device):
    for identifier, path in (
            ("org.example.A-1_~", "org.example.A-1_~"),
            ("a/b", "a%2Fb"), ("a b", "a%20b"), ("a?b=c#d", "a%3Fb%3Dc%23d"),
            ("a%2e%2e%2fb", "a%252e%252e%252fb"), ("...", "..."),
            ("ünïcode", "%C3%BCn%C3%AFcode"), ("a\\b;c", "a%5Cb%3Bc")):
        assert ask(device, "declaration/asset/" + identifier).status == 200
        assert dm.requests[-1].path == "/dm/declaration/asset/" + path


def test_unknown_endpoints_are_400(dm, device):
    for endpoint in (
            "token", "Tokens", "tokens/", "/tokens", "tokens?x", "status/x",
            "../tokens", "declaration", "declaration/", "declaration/asset",
            "declaration/asset/", "declaration//x", "declaration/other/x",
            "declaration/asset/..", "declaration/asset/.",
            "declaration/asset/../../x", "declaration/asset/a/../b",
            "declaration/asset/a\\..\\b", "declaration/asset/a\r\nb",
            "http://127.0.0.1/", "x" * 1025):
        assert ask(device, endpoint).status == 400, endpoint
    assert ask(device, "status").status == 400        # a report without one
    assert ask(device, "status", b"").status == 400
    assert dm.requests == []


def test_strangers_reach_nobody(dm, services, pki, log):
    log.expect("MDM0204")
    device = Device(services.server, pki.device(), services.server.push.topic)
    assert ask(device, "tokens").status == 403
    device.close()
    assert dm.requests == []


def test_answers(dm, device, log):
    """Only 200 and 404 are passed on; nothing is followed."""
    log.expect("MDM0207")
    dm.script(answer(404, b"gone"))
    reply = ask(device, "declaration/asset/x")
    assert reply.status == 404
    assert b"gone" not in reply.body
    bad = [answer(code) for code in (201, 204, 206, 400, 401, 403, 410, 418,
                                     500, 502, 503)]
    bad += [answer(code, headers=[("Location", dm.url + "/tokens")])
            for code in (301, 302, 303, 307, 308)]
    bad.append(answer(200, headers=[("Content-Encoding", "gzip")]))
    for number, told in enumerate(bad, 2):
        dm.script(told)
        check_trouble(ask(device, "tokens"))
        assert len(dm.requests) == number, told
    dm.script(answer(200, b'{"good": true}'))
    assert ask(device, "tokens").body == b'{"good": true}'


def test_sizes(dm, device, log):
    log.expect("MDM0207")
    largest = b"x" * (10 * MB)
    dm.script(answer(200, largest), answer(200, largest, length=False))
    for _ in range(2):
        reply = ask(device, "declaration-items")
        assert reply.status == 200
        assert hashlib.sha256(reply.body).digest() \
            == hashlib.sha256(largest).digest()
    more = largest + b"x"
    dm.script(answer(200, more), answer(200, more, length=False))
    for _ in range(2):
        check_trouble(ask(device, "declaration-items"))


def test_nobody_there(own_server, own_dm, enroll_there, log):
    """Refused connections are one line of the log a minute and process; the
    outside server comes back, and nobody has to be told."""
    mock = own_dm()
    server = own_server([("http", "DECLARATIVE_MANAGEMENT", mock.url)],
                        workers=1)
    device = enroll_there(server)
    mock.stop()
    for _ in range(10):
        check_trouble(ask(device, "tokens"))
    line = log.require("MDM0207")
    assert "GET tokens" in line and "MDMDeclarativeManagement" in line
    assert device.idle().status == 200
    lines = [x for x in server.log_text().splitlines() if "MDM0207" in x]
    assert len(lines) <= len(server.worker_pids()), lines
    assert "MDM0108" not in server.log_text()
    mock.start()
    assert ask(device, "tokens").status == 200


def test_certificates_are_verified(own_server, enroll_there, pki, log,
                                   own_apns):
    """A TLS server (the mock of the push service) that the system does not
    trust is not spoken to."""
    server = own_server([("http", "DECLARATIVE_MANAGEMENT",
                          f"https://localhost:{own_apns.port}/")])
    device = enroll_there(server)
    before = len(own_apns.requests)
    check_trouble(ask(device, "tokens"))
    line = log.require("MDM0207")
    assert "certificate" in line
    assert len(own_apns.requests) == before


def test_proxies_of_the_environment_are_not_used(own_server, own_dm,
                                                 enroll_there, monkeypatch):
    mock = own_dm()
    server = own_server([("http", "DECLARATIVE_MANAGEMENT", mock.url)],
                        start=False)
    usual = server.environment()
    proxies = {n: "http://127.0.0.1:1" for n in
               ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")}
    monkeypatch.setattr(server, "environment", lambda: {**usual, **proxies})
    if server.kind == "nginx":      # it keeps only what it is told to keep
        server.raw += [("main", f"env {name};") for name in proxies]
    import_push(server.start())
    device = enroll_there(server)
    assert ask(device, "tokens").status == 200
    assert len(mock.requests) == 1


def test_signatures(own_server, own_dm, enroll_there, log):
    log.expect("MDM0207")
    mock = own_dm(key=KEY)
    server = own_server(start=False)
    with open(server.path("hmac"), "wb") as f:
        f.write(KEY + b"\n")
    server.settings.append(("http", "DECLARATIVE_MANAGEMENT", mock.url + "/",
                            f"hmac={server.path('hmac')}"))
    import_push(server.start())
    device = enroll_there(server)

    assert ask(device, "tokens").body == b"{}"
    assert mock.requests[-1].path == "/dm/tokens"
    assert mock.requests[-1].headers["x-hmac-signature"] \
        == signature(KEY, b"")
    assert ask(device, "status", b'{"a": 1}').status == 200
    assert mock.requests[-1].headers["x-hmac-signature"] \
        == signature(KEY, b'{"a": 1}')
    mock.script(answer(404, b"none"))
    assert ask(device, "declaration/asset/x").status == 404
    mock.script(answer(404, b"none", sign=False))
    assert ask(device, "declaration/asset/x").status == 404

    for told in (answer(sign=False), answer(sign=b"another key"),
                 answer(404, sign=b"another key"),
                 answer(headers=[("X-Hmac-Signature",
                                  signature(KEY, b"{}"))]),
                 answer(sign=False,
                        headers=[("X-Hmac-Signature",
                                  signature(KEY, b"{}")[:-4])]),
                 answer(sign=False, headers=[("X-Hmac-Signature", "")])):
        mock.script(told)
        check_trouble(ask(device, "tokens"))
    log.require("MDM0207")
    assert ask(device, "tokens").status == 200
    assert KEY.decode() not in server.log_since(0)


# ---- an outside server that does not answer ---------------------------------

class Crowd:
    """Requests of one device at the same time, each on its own connection."""

    def __init__(self, device, number, endpoint="tokens"):
        self.device = device
        self.endpoint = endpoint
        self.statuses = []
        self.threads = [threading.Thread(target=self.run, daemon=True)
                        for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def run(self):
        device = self.device
        one = Device(device.server, device.identity, device.topic,
                     udid=device.udid)
        try:
            self.statuses.append(ask(one, self.endpoint).status)
        except OSError as error:
            self.statuses.append(type(error).__name__)
        finally:
            one.close()

    def join(self, timeout=40):
        for thread in self.threads:
            thread.join(timeout)
        assert not any(t.is_alive() for t in self.threads)
        return self.statuses


def test_slow_server_leaves_the_others_alone(dm, services, device,
                                             enroll_there, log):
    """32 calls at once to a server that does not answer: at most eight hang
    in a process, the others hear soon that it is busy, and other devices
    notice nothing of it."""
    log.expect("MDM0207")
    other = enroll_there(services.server)
    dm.always(answer(hang=True))
    crowd = Crowd(device, 32)
    wait_for(lambda: dm.hanging >= CALLS, 10, "calls that hang")

    def poll():
        begin = time.monotonic()
        assert other.idle().status == 200
        return time.monotonic() - begin

    first = poll()
    wait_for(lambda: len(crowd.statuses) + dm.hanging == 32, 10,
             "answers to those that cannot be served")
    processes = len(services.server.worker_pids())
    assert CALLS <= dm.hanging <= CALLS * processes
    took = [poll() for _ in range(50)]
    hanging = dm.hanging
    print(f"first poll {first:.3f} s, then median "
          f"{statistics.median(took):.4f} s, at most {max(took):.3f} s, "
          f"{hanging} calls hang in {processes} processes")
    assert first < 3
    assert max(took) < 1
    assert set(crowd.statuses) <= {503}
    dm.release()
    statuses = crowd.join()
    assert statuses.count(200) == hanging
    assert statuses.count(503) == 32 - hanging


def test_crowd_of_a_quick_server(dm, device):
    """A crowd is no reason to refuse when the outside server is quick."""
    assert Crowd(device, 32).join() == [200] * 32


@pytest.mark.parametrize("kind", ["nginx"], indirect=True)
def test_time_limit(dm, device, log):
    """An answer that does not come: 503, well before nginx's own timer and
    the device's."""
    log.expect("MDM0207")
    dm.always(answer(hang=True))
    begin = time.monotonic()
    check_trouble(ask(device, "tokens"))
    assert 18 < time.monotonic() - begin < 25


def test_reload_while_a_call_hangs(own_server, own_dm, enroll_there, log):
    log.expect("MDM0207")
    mock = own_dm()
    server = own_server([("http", "DECLARATIVE_MANAGEMENT", mock.url)])
    device = enroll_there(server)
    mock.always(answer(hang=True))
    old = set(server.worker_pids())
    crowd = Crowd(device, 4)
    wait_for(lambda: mock.hanging == 4, 10, "calls that hang")
    begin = time.monotonic()
    server.reload()
    assert crowd.join() == [503] * 4
    wait_for(lambda: not old & set(server.worker_pids()), 15,
             "the end of the old workers")
    assert time.monotonic() - begin < 10
    mock.release()
    device.close()
    assert ask(device, "tokens").status == 200


def test_quit_while_a_call_hangs(own_server, own_dm, enroll_there, log):
    """The server ends in time, and every device has its answer."""
    log.expect("MDM0207")
    mock = own_dm()
    server = own_server([("http", "DECLARATIVE_MANAGEMENT", mock.url)])
    device = enroll_there(server)
    device.close()
    mock.always(answer(hang=True))
    crowd = Crowd(device, 4)
    wait_for(lambda: mock.hanging == 4, 10, "calls that hang")
    begin = time.monotonic()
    server.quit()
    assert time.monotonic() - begin < 8
    assert crowd.join() == [503] * 4


# Not httpd: on TERM it closes the sockets of requests at work, and now and
# then falls over it.
@pytest.mark.parametrize("kind", ["nginx"], indirect=True)
def test_stop_while_a_call_hangs(own_server, own_dm, enroll_there, log):
    """TERM does not wait for the outside server."""
    log.expect("MDM0207")
    mock = own_dm()
    server = own_server([("http", "DECLARATIVE_MANAGEMENT", mock.url)])
    device = enroll_there(server)
    device.close()
    mock.always(answer(hang=True))
    crowd = Crowd(device, 4)
    wait_for(lambda: mock.hanging == 4, 10, "calls that hang")
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 5
    crowd.join()


# ---- tokens -----------------------------------------------------------------

def part(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_token(reply, key):
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/xml; charset=UTF-8"
    assert set(reply.plist) == {"TokenData"}
    token = reply.plist["TokenData"].decode("ascii")
    head, body, mark = token.split(".")
    assert "=" not in token
    key.public_key().verify(part(mark), f"{head}.{body}".encode(),
                            padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(part(head)) == {"alg": "RS256", "typ": "JWT"}
    return json.loads(part(body))


def test_token(services, enroll_there, log):
    device = enroll_there(services.server, udid=CASE_UDID)
    seen = set()
    for _ in range(3):
        reply = device.put("/mdm", CHECKIN, case("C28-gettoken.plist"))
        claims = read_token(reply, services.key)
        assert set(claims) == {"iss", "iat", "jti", "service_type"}
        assert claims["iss"] == SERVER_UUID
        assert claims["service_type"] == "com.apple.maid"
        assert isinstance(claims["iat"], int)
        assert abs(claims["iat"] - time.time()) < 60
        assert str(uuid.UUID(claims["jti"])) == claims["jti"]
        seen.add(claims["jti"])
    assert len(seen) == 3
    assert not any(jti in services.server.log_text() for jti in seen)


def test_token_on_a_user_channel(services, device):
    user = device.user()
    assert user.token_update().status == 200
    reply = user.check_in("GetToken", TokenServiceType="com.apple.maid")
    assert read_token(reply, services.key)["iss"] == SERVER_UUID


def test_other_tokens_are_400(device):
    for service in ("com.apple.watch.pairing", "com.apple.MAID",
                    "com.apple.maid ", "com.example"):
        reply = device.check_in("GetToken", TokenServiceType=service)
        assert reply.status == 400, service
    assert device.check_in("GetToken").status == 400


# ---- return to service ------------------------------------------------------

def test_return_to_service(services, device):
    assert device.check_in("ReturnToService").status == 400   # off at /mdm
    device.checkin_path = "/bare"
    reply = device.check_in("ReturnToService")
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/xml; charset=UTF-8"
    assert reply.plist == {"ReturnToService": {"Enabled": True}}
    device.checkin_path = "/full"
    full = {"ReturnToService": {
        "Enabled": True, "WiFiProfileData": WIFI, "MDMProfileData": ENROL,
        "ShouldRetryEnrollment": True}, "PreserveDataPlan": True}
    assert device.check_in("ReturnToService").plist == full

    # With the token that it has escrowed, as long as it has one.
    token = os.urandom(300)
    assert device.check_in("SetBootstrapToken",
                           BootstrapToken=token).status == 200
    full["ReturnToService"]["BootstrapToken"] = token
    assert device.check_in("ReturnToService").plist == full
    device.checkin_path = "/bare"
    assert device.check_in("ReturnToService").plist == {
        "ReturnToService": {"Enabled": True, "BootstrapToken": token}}
    assert device.check_in("SetBootstrapToken").status == 200
    assert device.check_in("ReturnToService").plist == {
        "ReturnToService": {"Enabled": True}}
    assert base64.b64encode(token).decode() not in services.server.log_text()


def test_return_to_service_is_for_devices(services, device):
    device.checkin_path = "/bare"
    assert device.user().check_in("ReturnToService").status == 400
