"""Activation Lock taken off by its bypass code: NanoMDM's form goes to a
stand-in of Apple's service, which asks for the push certificate."""
import ssl
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from mdmtest.mock_dm import MockDM, answer

CODE = "SECRE-T0000-AAAA-BBBB-CCCC-DDDD"
FORM = {"serial": "C7 TEST&1", "productType": "iPad4,1", "imei": "35 1",
        "imei2": "", "orgName": "Ä & Söhne", "guid": "a+b@example.com",
        "escrowKey": CODE}


def unlock(api, form, content_type="application/x-www-form-urlencoded"):
    body = form if isinstance(form, bytes) \
        else urllib.parse.urlencode(form).encode()
    return api.call("POST", "/v1/escrowkeyunlock", body,
                    {"Content-Type": content_type} if content_type else {})


@pytest.fixture
def apple(pki):
    """TLS, and nobody without a push certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server.cert_file, pki.server.key_file)
    tls.load_verify_locations(pki.push_ca.cert_file)
    tls.verify_mode = ssl.CERT_REQUIRED
    with MockDM(tls=tls) as mock:
        yield mock


@pytest.fixture
def made(own_server, apple, pki):
    server = own_server([("http", "ESCROW_KEY_UNLOCK_URL", apple.url,
                          "ca=" + pki.server_ca.cert_file)])
    api = server.api()
    yield server, api, {"topic": server.push.topic, **FORM}
    api.transport.close()


def test_handed_over(made, apple):
    server, api, form = made
    apple.script(answer(200, b'{"code":"200","message":"OK"}'),
                 answer(400, b'{"code":"33104"}'),
                 answer(401, b"{}"), answer(500, b"[]"))
    reply = unlock(api, form)
    assert reply.status == 200, reply
    assert reply.body == b'{"code":"200","message":"OK"}'
    assert reply.headers["content-type"] == "application/json"
    request = apple.wait(1)[0]
    assert request.method == "POST"
    path, query = request.path.split("?")
    assert path == "/dm"
    # What goes into the URL, and what into the body.
    assert urllib.parse.parse_qs(query, strict_parsing=True) == {
        "serial": ["C7 TEST&1"], "productType": ["iPad4,1"],
        "imei": ["35 1"]}
    assert urllib.parse.parse_qs(request.body.decode(),
                                 strict_parsing=True) == {
        "orgName": ["Ä & Söhne"], "guid": ["a+b@example.com"],
        "escrowKey": [CODE]}
    assert request.headers["content-type"] \
        == "application/x-www-form-urlencoded"
    shown = x509.load_der_x509_certificate(request.peer)
    assert shown.public_bytes(Encoding.PEM) in server.push.both_pem
    for status in (400, 401, 500):
        assert unlock(api, form).status == status
    log = server.log_text()
    assert "Activation Lock" in log and CODE not in log
    assert "SECRE" not in log


def test_forms_that_are_wrong(made, apple):
    _, api, form = made
    for name in ("topic", "serial", "productType", "orgName", "guid",
                 "escrowKey"):
        for less in ({k: v for k, v in form.items() if k != name},
                     {**form, name: ""}):
            reply = unlock(api, less)
            assert reply.status == 400, reply
            assert reply.json["error"] == f"{name} is missing"
    assert unlock(api, form, "application/json").status == 415
    assert unlock(api, {**form, "guid": "x" * 513}).status == 400
    assert unlock(api, {**form, "more": "x" * 20000}).status == 413
    assert unlock(api, b"serial=%zz").status == 400
    assert unlock(api, {**form, "topic": "com.apple.mgmt.other"}).status \
        == 404
    assert api.call("GET", "/v1/escrowkeyunlock").status == 405
    assert apple.requests == []


def test_nobody_there(made, apple, log):
    log.expect("MDM0605")
    server, api, form = made
    apple.stop()
    reply = unlock(api, form)
    assert reply.status == 503 and "retry-after" in reply.headers
    assert CODE not in server.log_text()


def test_not_believed(own_server, apple, pki, log):
    """A server that the authorities do not vouch for is told nothing."""
    log.expect("MDM0605")
    server = own_server([("http", "ESCROW_KEY_UNLOCK_URL", apple.url,
                          "ca=" + pki.other_ca.cert_file)])
    api = server.api()
    assert unlock(api, {"topic": server.push.topic, **FORM}).status == 503
    api.transport.close()
    assert apple.requests == []
