"""Who is at the other end of the connection: modules that put the client's
address in the proxy's place make nobody a proxy, and take nobody's trust."""
import base64
import http.client
import plistlib
import socket

import pytest
from cryptography.hazmat.primitives import serialization
from mdmtest.device import COMMAND, Device

HEADER = "X-Client-Cert"
FORWARDED = "X-Forwarded-For"


def certificate(identity):
    data = identity.cert.public_bytes(serialization.Encoding.DER)
    return ":" + base64.b64encode(data).decode() + ":"


def rewriting(server):
    """Lets whoever connects from here say which client it stands for."""
    if server.kind == "nginx":
        return [("server", "set_real_ip_from 127.0.0.0/8;"),
                ("server", "set_real_ip_from unix:;"),
                ("server", f"real_ip_header {FORWARDED};")]
    return [("http", "LoadModule remoteip_module "
                     f"{server.module_dir}/mod_remoteip.so"),
            ("server", f"RemoteIPHeader {FORWARDED}"),
            ("server", "RemoteIPInternalProxy 127.0.0.0/8")]


@pytest.fixture
def behind(own_server, pki):
    """Makes a server that believes `proxy` and a device that comes through
    one, with a client's address that is not the connection's."""
    made = []

    def make(proxy, client, raw=()):
        server = own_server([("/mdm", "DEVICE_IDENTITY", f"header={HEADER}"),
                             ("/mdm", "TRUSTED_PROXY", proxy)], start=False)
        server.raw = rewriting(server) + list(raw)
        server.start()
        device = Device(server, pki.device(), server.push.topic, tls=False)
        device.headers[HEADER] = certificate(device.identity)
        device.headers[FORWARDED] = client
        made.append(device)
        return server, device

    yield make
    for device in made:
        device.close()


def test_proxy_stays_one(behind, log):
    log.expect("MDM0204", "MDM0205")
    server, device = behind("127.0.0.1", "198.51.100.7")
    device.enroll()
    assert device.idle().status == 200
    # The address was put in place indeed.
    device.headers[HEADER] = "garbage"
    assert device.idle().status == 400
    assert "198.51.100.7" in log.require("MDM0204")
    assert server.is_running()


def test_nobody_becomes_one(behind, log):
    """A stranger who says to come from the proxy's address."""
    log.expect("MDM0204", "MDM0210")
    _, device = behind("192.0.2.1", "192.0.2.1")
    assert device.authenticate().status == 400
    assert "192.0.2.1" in log.require("MDM0210")


@pytest.mark.parametrize("kind", ["nginx"], indirect=True)
@pytest.mark.parametrize("named", [False, True])
def test_unix_socket_is_no_address(behind, log, kind, named, tmp_path):
    """Neither the socket nor what the client says."""
    log.expect("MDM0204", "MDM0205", "MDM0210")
    path = f"{tmp_path}/nginx"
    _, device = behind("127.0.0.1", "127.0.0.1",
                       raw=[("server", f"listen unix:{path};")])
    device.enroll()
    body = plistlib.dumps({"Status": "Idle", **device.keys})
    assert device.idle().status == 200
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(30)
        if named:
            client.bind(f"{tmp_path}/client")
        client.connect(path)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = client
        connection.request("PUT", "/mdm", body, {
            "Content-Type": COMMAND, **device.headers})
        assert connection.getresponse().status == 400
    assert "unix:" in log.require("MDM0210")
