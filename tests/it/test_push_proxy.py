"""Pushes through an HTTP proxy (MDMPushProxy): through it alone, with its
credentials, verified as without it, and what the log says when it fails.

The push service is named push.test, which no resolver knows: only the proxy
finds it."""
import base64

import pytest
from mdmtest.connect_proxy import ConnectProxy
from mdmtest.device import Device
from mdmtest.mock_apns import MockAPNs

HOST = "push.test"
CREDENTIALS = "mdm:p@ss word%:!"
USERINFO = "mdm:p%40ss%20word%25:!"
SECRETS = [CREDENTIALS.split(":", 1)[1], USERINFO.split(":", 1)[1],
           base64.b64encode(CREDENTIALS.encode()).decode()]


@pytest.fixture
def hidden_apns(pki):
    """A push service with a certificate of HOST."""
    identity = pki.web_server(HOST)
    with MockAPNs(identity.cert_file, identity.key_file,
                  pki.push_ca.cert_file) as mock:
        yield mock
        assert not mock.faults, mock.faults


@pytest.fixture
def proxy(hidden_apns):
    with ConnectProxy(hidden_apns.port) as made:
        yield made


@pytest.fixture
def proxied(own_server, proxy, pki, log):
    """A server behind the proxy, with a device; log lines of the server that
    name a secret are a fault."""
    made = []

    def make(userinfo=None, port=443, host=HOST, proxy_url=None, **more):
        server = own_server([
            ("http", "PUSH_SERVER", f"{host}:{port}"),
            ("http", "PUSH_PROXY", proxy_url or proxy.url(userinfo))], **more)
        device = Device(server, pki.device(), server.push.topic).enroll()
        made.append((server, device))
        return server, device

    yield make
    for server, device in made:
        device.close()
        text = server.log_since(0)
        assert not [s for s in SECRETS if s in text]


def push(server, device):
    api = server.api()
    reply = api.push(device.id)
    assert reply.status == 200, reply
    api.transport.close()


@pytest.mark.parametrize("port", [443, 2197])
def test_through_it_alone(port, proxied, proxy, hidden_apns, log):
    proxy.credentials = CREDENTIALS
    server, device = proxied(USERINFO, port=port)
    push(server, device)
    hidden_apns.wait_token(device.token_hex, timeout=20)
    request = proxy.wait(1)[0]
    assert request["line"] == f"CONNECT {HOST}:{port} HTTP/1.1"
    assert request["headers"] == {
        "host": f"{HOST}:{port}", "proxy-authorization": "Basic "
        + base64.b64encode(CREDENTIALS.encode()).decode()}
    assert request["behind"] == b""     # TLS waits for the answer
    line = log.require("MDM0403")
    assert f"{HOST}:{port} through the proxy 127.0.0.1:{proxy.port}" in line
    # One connection, so one tunnel, and the same service behind it.
    push(server, device)
    got = hidden_apns.wait_token(device.token_hex, count=2, timeout=20)
    assert got["fingerprint"] == server.push.fingerprint
    assert got["headers"][":authority"] == (
        HOST if port == 443 else f"{HOST}:{port}")
    assert len(proxy.requests) == 1


def test_answer_byte_by_byte(proxied, proxy, hidden_apns):
    """Without credentials; other unusual answers are in t_conn_proxy.c."""
    proxy.mode = "bytewise"
    server, device = proxied()
    push(server, device)
    hidden_apns.wait_token(device.token_hex, timeout=20)
    assert "proxy-authorization" not in proxy.requests[0]["headers"]


@pytest.mark.parametrize("mode,text", [
    ("407", r"wants a user name and password \(407 Proxy Authentication "
            r"Required\)"),
    ("502", rf"does not connect to {HOST}:443 \(status 502 Bad Gateway\)"),
    ("close", "closed the connection instead of an answer"),
    ("garbage", r"does not answer in HTTP/1\.1"),
    ("slow", "does not finish its answer to CONNECT")])
def test_it_does_not_connect(mode, text, proxied, proxy, hidden_apns, log):
    """One line that says why; the push waits and goes out later."""
    proxy.mode = mode
    server, device = proxied()
    push(server, device)
    line = log.require("MDM0402", timeout=20)
    log.require(f"the proxy 127.0.0.1 {text}")
    assert f"{HOST}:443 through the proxy 127.0.0.1:{proxy.port}" in line
    assert not hidden_apns.handshakes
    proxy.mode = "ok"
    hidden_apns.wait_token(device.token_hex, timeout=30)
    assert server.log_text().count("MDM0402") == 1


def test_wrong_credentials(proxied, proxy, hidden_apns, log):
    proxy.credentials = "mdm:something else"
    server, device = proxied(USERINFO)
    push(server, device)
    log.require("MDM0402")
    log.require(r"refuses the user name and password \(407")
    assert not hidden_apns.handshakes
    proxy.credentials = CREDENTIALS
    hidden_apns.wait_token(device.token_hex, timeout=30)


def test_away_then_back(proxied, proxy, hidden_apns, log):
    """Never past the proxy, also where the service could be reached."""
    proxy.stop()
    server, device = proxied()
    push(server, device)
    log.require("MDM0402")
    log.require("cannot connect to the proxy 127.0.0.1: Connection refused")
    assert not hidden_apns.handshakes
    proxy.start()
    hidden_apns.wait_token(device.token_hex, timeout=30)
    # Once more, while the connection stands.
    proxy.stop()
    proxy.start()
    push(server, device)
    hidden_apns.wait_token(device.token_hex, count=2, timeout=30)
    assert len(proxy.requests) >= 2


def test_peer_behind_it_is_verified(proxied, proxy, hidden_apns, log):
    """The certificate must name the host, whatever the proxy connects to."""
    server, device = proxied(host="other.test")
    push(server, device)
    log.require("MDM0402")
    log.require(r"not one of other\.test \(host name mismatch\)")
    assert proxy.requests[0]["target"] == "other.test:443"
    assert not hidden_apns.requests


def test_environment_is_not_used(own_server, own_apns, proxy, pki):
    """Neither instead of a proxy nor without one."""
    server = own_server(start=False)
    plain = server.environment
    names = ["http_proxy", "https_proxy", "all_proxy"]
    names += [n.upper() for n in names]
    server.environment = lambda: {**plain(),
                                  **{n: proxy.url() for n in names}}
    # nginx passes the variables on to its workers only when told to.
    if server.kind == "nginx":
        server.raw += [("main", f"env {n};") for n in names]
    server.start()
    api = server.api()
    assert api.put_pushcert(server.push.both_pem).status == 200
    device = Device(server, pki.device(), server.push.topic).enroll()
    push(server, device)
    own_apns.wait_token(device.token_hex, timeout=20)
    assert not proxy.requests
    device.close()
    api.transport.close()
