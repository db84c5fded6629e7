"""How a device proves who it is: signatures, certificates in a proxy's
header, both beside TLS certificates, and what happens when they disagree."""
import base64
import contextlib
import http.client
import os
import plistlib
import socket
import ssl
import urllib.parse
import uuid

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from helpers import offered, queue_commands
from mdmtest.device import CHECKIN, COMMAND, Device, Transport, signature
from mdmtest.pki import cert_pem
from mdmtest.servers import free_port

CASES = os.path.abspath(os.path.join(os.path.dirname(__file__), "..",
                                     "cases"))
HEADER = "X-Client-Cert"
REFUSED = ("MDM0204",)


@pytest.fixture
def signer(pki):
    """Makes devices that sign and, unless told, show no certificate."""
    made = []

    def make(server, identity=None, tls=False, **more):
        device = Device(server, identity or pki.device(), server.push.topic,
                        sign=True, tls=tls, **more)
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


def der(identity):
    return identity.cert.public_bytes(serialization.Encoding.DER)


def sequence(identity):
    return ":" + base64.b64encode(der(identity)).decode() + ":"


def escaped(identity):
    return urllib.parse.quote(cert_pem(identity.cert).decode(), safe="")


def blanks(identity):
    return cert_pem(identity.cert).decode().replace("\n", " ").strip()


def put(server, identity, headers, body, path="/mdm"):
    """One PUT with headers as pairs, so that one may come twice; a Host
    among them stands for the server's."""
    transport = Transport(server, identity)
    try:
        transport.connect()
        connection = transport.connection
        connection.putrequest("PUT", path,
                              skip_host="Host" in dict(headers))
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        transport.close()


def idle(device):
    return plistlib.dumps({"Status": "Idle", **device.keys})


def send_idle(device, identity, *headers):
    """Idle of an enrolled device, over TLS as `identity`, with `headers`."""
    return put(device.server, identity, [("Content-Type", COMMAND), *headers],
               idle(device))


# ---- signatures ----------------------------------------------------------


@pytest.mark.parametrize("key_kind", ["ec", "rsa"])
def test_signed_device(key_kind, server, api, pki, signer):
    """Without a TLS certificate: enrols, gets a command, reports on it."""
    device = signer(server, pki.device(key_kind=key_kind)).enroll()
    assert api.enrollment(device.id).json["enabled"] is True
    wanted = queue_commands(api, device, 2)
    assert [uuid for uuid, _ in device.run_once()] == wanted
    assert offered(device.idle()) is None
    assert device.user().token_update().status == 200
    assert device.check_out().status == 200
    assert api.enrollment(device.id).json["enabled"] is False


def test_both_proofs_agree(server, api, signer):
    device = signer(server, tls=True).enroll()
    # Either alone is the same device.
    assert send_idle(device, device.identity) == 200
    assert send_idle(device, None, ("Mdm-Signature", signature(
        device.identity, idle(device)))) == 200


@pytest.mark.parametrize("digest", [hashes.SHA384(), hashes.SHA512()],
                         ids=["sha384", "sha512"])
def test_other_digests(digest, server, signer):
    device = signer(server).enroll()
    value = signature(device.identity, idle(device), digest)
    assert send_idle(device, None, ("Mdm-Signature", value)) == 200


def test_large_signed_body(server, api, signer, log):
    """Larger than what either server keeps in memory."""
    log.expect(*REFUSED)
    device = signer(server).enroll()
    wanted = queue_commands(api, device, 1)
    assert offered(device.idle()) == wanted[0]
    reply = device.report(wanted[0], Text="x" * 3000000)
    assert reply.status == 200
    device.headers["Mdm-Signature"] = signature(device.identity,
                                                device.last_report[:-1])
    assert device.put("/mdm", COMMAND, device.last_report).status == 400


def test_signature_of_another_body(server, api, pki, signer, log):
    log.expect(*REFUSED)
    device = signer(server)
    device.headers["Mdm-Signature"] = signature(device.identity, b"<plist/>")
    assert device.authenticate().status == 400
    assert api.enrollment(device.id).status == 404
    del device.headers["Mdm-Signature"]
    device.enroll()
    wanted = queue_commands(api, device, 1)
    other = idle(device)[:-1]
    for body in (other, idle(device).replace(b"\n", b"\r\n"), b""):
        status = put(server, None,
                     [("Content-Type", COMMAND),
                      ("Mdm-Signature", signature(device.identity, body))],
                     idle(device))
        assert status == 400
    assert offered(device.idle()) == wanted[0]


def test_foreign_signer(server, api, pki, signer, log):
    log.expect(*REFUSED)
    for identity in (pki.device(ca=pki.other_ca), pki.other_ca,
                     pki.device(days=(-10, -5)), pki.device(days=(5, 10))):
        device = signer(server, identity)
        for reply in (device.authenticate(), device.token_update(),
                      device.idle()):
            assert reply.status == 403, reply
        assert api.enrollment(device.id).status == 404


def test_another_devices_signature(server, api, signer, log):
    """Good, but of a device that is not the one in the message."""
    log.expect(*REFUSED)
    victim, thief = signer(server).enroll(), signer(server).enroll()
    assert send_idle(victim, None, ("Mdm-Signature", signature(
        thief.identity, idle(victim)))) == 403


def test_broken_signature_beside_a_certificate(server, signer, log):
    log.expect(*REFUSED)
    device = signer(server, tls=True).enroll()
    good = signature(device.identity, idle(device))
    for value in ("garbage", "AAAA", "", good[:-8], good + "AAAA",
                  good.replace("A", " A", 1), good.translate(
                      str.maketrans("+/", "-_")) + "-"):
        assert send_idle(device, device.identity,
                         ("Mdm-Signature", value)) == 400, value
    assert send_idle(device, device.identity, ("Mdm-Signature", good),
                     ("Mdm-Signature", good)) == 400
    assert send_idle(device, device.identity,
                     ("Mdm-Signature", good)) == 200


def test_proofs_conflict(server, pki, signer, log):
    log.expect(*REFUSED)
    one, other = signer(server).enroll(), signer(server).enroll()
    value = ("Mdm-Signature", signature(one.identity, idle(one)))
    assert send_idle(one, other.identity, value) == 400
    assert send_idle(one, pki.device(ca=pki.other_ca), value) == 400
    assert send_idle(other, one.identity, ("Mdm-Signature", signature(
        other.identity, idle(other)))) == 400
    assert send_idle(one, one.identity, value) == 200


def test_no_proof(server, log):
    log.expect(*REFUSED)
    transport = Transport(server, None)
    try:
        reply = transport.request("PUT", "/mdm", b"<plist/>",
                                  {"Content-Type": CHECKIN})
    finally:
        transport.close()
    assert reply.status == 400
    assert b"no client certificate and no Mdm-Signature" in reply.body


# ---- what a location takes ----------------------------------------------


def test_signature_only(own_server, pki, signer, log):
    log.expect(*REFUSED)
    server = own_server([("/mdm", "DEVICE_IDENTITY", "signature")])
    device = signer(server).enroll()
    value = ("Mdm-Signature", signature(device.identity, idle(device)))
    # TLS certificates are not looked at: not as a proof ...
    assert send_idle(device, device.identity) == 400
    # ... and not as a contradiction.
    assert send_idle(device, pki.device(), value) == 200
    assert send_idle(device, pki.device(ca=pki.other_ca), value) == 200


def test_certificate_only(own_server, pki, signer, log):
    log.expect(*REFUSED)
    server = own_server([("server", "DEVICE_IDENTITY", "certificate")])
    device = signer(server, tls=True)
    device.headers["Mdm-Signature"] = "is not looked at"
    device.enroll()
    assert send_idle(device, None, ("Mdm-Signature", signature(
        device.identity, idle(device)))) == 400


def add_second_site(server, pki, port):
    """Another virtual host behind the first: its own authority, and the
    proofs of the host outside for all but one URL.  Reached at a port of its
    own, and by its name at that of the first."""
    first = server.configuration
    web = pki.web_server("second.localhost", "localhost")
    own, proof = (server.line("DEVICE_CA_CERTIFICATE",
                              [pki.other_ca.cert_file]),
                  server.line("DEVICE_IDENTITY", ["certificate"]))
    endpoint = server.line("ENDPOINT", ["mdm"])

    def nginx():
        end = first().rindex("}")
        return first()[:end] + f"""  server {{
    listen 127.0.0.1:{port} ssl;
    listen 127.0.0.1:{server.port} ssl;
    server_name second.localhost;
    ssl_certificate {web.cert_file};
    ssl_certificate_key {web.key_file};
    ssl_verify_client optional_no_ca;
    {own}
    location = /mdm {{ {endpoint} }}
    location = /tls {{ {endpoint} {proof} }}
  }}
}}
"""

    def apache():
        return first() + f"""Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port} 127.0.0.1:{server.port}>
  ServerName second.localhost
  SSLEngine on
  SSLProtocol -all +TLSv1.2 +TLSv1.3
  SSLCertificateFile {web.cert_file}
  SSLCertificateKeyFile {web.key_file}
  SSLVerifyClient optional_no_ca
  {own}
  <Location "/mdm">
    {endpoint}
  </Location>
  <Location "/tls">
    {endpoint}
    {proof}
  </Location>
</VirtualHost>
"""
    server.configuration = nginx if server.kind == "nginx" else apache


class Site:
    """What a device needs to know of a virtual host of a server."""

    def __init__(self, server, port):
        self.host, self.port, self.ca_file = (server.host, port,
                                              server.ca_file)


def test_two_sites(own_server, pki, log):
    """Each judges by its own authorities, also what the other found good,
    and also when a connection was made for the other one."""
    log.expect(*REFUSED, "MDM0205", "AH02032")
    port = free_port()
    server = own_server([("http", "DEVICE_IDENTITY", "signature")],
                        start=False)
    add_second_site(server, pki, port)
    server.start()
    sites = [server, Site(server, port)]
    known = pki.device(), pki.device(ca=pki.other_ca)
    udids = str(uuid.uuid4()).upper(), str(uuid.uuid4()).upper()
    for turn in range(2):
        for i, site in enumerate(sites):
            for j, identity in enumerate(known):
                device = Device(site, identity, server.push.topic,
                                udid=udids[j], sign=True, tls=False)
                try:
                    if i == j and turn == 0:
                        assert device.enroll() is device
                    assert device.idle().status == (
                        200 if i == j else 403), (i, j)
                finally:
                    device.close()
    # The proofs are those of the host outside, but for one URL.
    body = plistlib.dumps({"Status": "Idle", "UDID": udids[1]})
    head = [("Content-Type", COMMAND)]
    assert put(sites[1], known[1], head, body) == 400
    assert put(sites[1], known[1], head, body, "/tls") == 200
    # By its name, on a connection of the first host.
    head.append(("Host", "second.localhost"))
    for identity, want in zip(known, (403, 200)):
        assert put(server, identity, head, body, "/tls") in (want, 421)


# ---- a proxy's header ------------------------------------------------------


def proxied(own_server, methods=("header=" + HEADER,), proxies=("127.0.0.1",),
            **more):
    return own_server([("/mdm", "DEVICE_IDENTITY", *methods),
                       ("/mdm", "TRUSTED_PROXY", *proxies)], **more)


def test_header_of_a_trusted_proxy(own_server, pki, log):
    log.expect(*REFUSED)
    server = proxied(own_server, proxies=("192.0.2.0/24", "127.0.0.0/8"))
    device = Device(server, pki.device(), server.push.topic, tls=False)
    other = pki.device(ca=pki.other_ca)
    try:
        device.headers[HEADER] = sequence(device.identity)
        device.enroll()
        for form in (escaped, blanks, sequence):
            assert send_idle(device, None,
                             (HEADER, form(device.identity))) == 200
            assert send_idle(device, None, (HEADER, form(other))) == 403
        chain = escaped(device.identity) + escaped(pki.device_ca)
        assert send_idle(device, None, (HEADER, chain)) == 200
        for bad in ("", "(null)", ":AAAA:", sequence(device.identity)[:-1],
                    sequence(device.identity)[1:-1], "%",
                    escaped(device.identity).replace("%2B", " "),
                    chain[::-1]):
            if bad != escaped(device.identity):    # it had a "+"
                assert send_idle(device, None, (HEADER, bad)) == 400, bad
        # Twice, the same or not.
        value = (HEADER, sequence(device.identity))
        assert send_idle(device, None, value, value) == 400
        assert send_idle(device, None, value, (HEADER, "")) == 400
        # Beside a TLS certificate, even the device's own.
        assert send_idle(device, device.identity, value) == 400
        assert send_idle(device, other, value) == 400
        # No TLS certificate counts here.
        assert send_idle(device, device.identity) == 400
    finally:
        device.close()


def test_header_of_anybody_else(own_server, pki, log):
    log.expect(*REFUSED)
    server = proxied(own_server, ("certificate", "header=" + HEADER),
                     ("192.0.2.1", "::1"))
    victim = Device(server, pki.device(), server.push.topic)
    thief = Device(server, pki.device(), server.push.topic)
    try:
        victim.enroll()
        thief.enroll()
        stolen = (HEADER, sequence(victim.identity))
        # It proves nothing ...
        assert send_idle(victim, None, stolen) == 400
        log.require("MDM0210")
        assert send_idle(victim, thief.identity, stolen) == 403
        # ... and takes nothing away.
        assert send_idle(thief, thief.identity, stolen) == 200
        assert send_idle(thief, thief.identity, (HEADER, "x"),
                         (HEADER, "y")) == 200
        # Nor does it help to say that one comes from the proxy.
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            assert send_idle(victim, None, stolen, (name, "192.0.2.1")) == 400
    finally:
        victim.close()
        thief.close()


def test_header_and_signature(own_server, pki, signer, log):
    log.expect(*REFUSED)
    server = proxied(own_server, ("signature", "header=" + HEADER))
    device = signer(server)
    device.headers[HEADER] = sequence(device.identity)
    device.enroll()
    sign = ("Mdm-Signature", signature(device.identity, idle(device)))
    other = pki.device()
    assert send_idle(device, None, sign) == 200
    assert send_idle(device, None, (HEADER, sequence(other)), sign) == 400
    assert send_idle(device, None, (HEADER, "garbage"), sign) == 400
    assert send_idle(device, None, (HEADER, escaped(device.identity)),
                     sign) == 200


def front_lines(server):
    """A location /front that is a real proxy to /mdm."""
    if server.kind == "nginx":
        return [("server", f"""location = /front {{
      proxy_pass https://127.0.0.1:{server.port}/mdm;
      proxy_set_header {HEADER} $ssl_client_escaped_cert;
    }}""")]
    loads = [("http", f"LoadModule {n}_module {server.module_dir}/mod_{n}.so")
             for n in ("proxy", "proxy_http", "headers")]
    return loads + [("server", f"""SSLProxyEngine on
  SSLProxyCheckPeerName off
  ProxyPass /front https://127.0.0.1:{server.port}/mdm
  <Location /front>
    RequestHeader set {HEADER} "%{{SSL_CLIENT_CERT}}s"
  </Location>""")]


def test_behind_a_real_proxy(own_server, pki, log):
    """nginx and httpd as proxies, each in front of itself."""
    # The second is of httpd as a proxy, which has no certificate to show.
    log.expect(*REFUSED, "AH02268")
    server = proxied(own_server, start=False)
    server.port = free_port()
    server.raw = front_lines(server)
    server.start()
    assert server.api().put_pushcert(server.push.both_pem).status == 200
    device = Device(server, pki.device(), server.push.topic,
                    checkin="/front", command="/front")
    bare = Device(server, None, server.push.topic, udid=device.udid,
                  checkin="/front", command="/front")
    try:
        # What a client sends under that name does not get through.
        device.headers[HEADER] = bare.headers[HEADER] = \
            sequence(pki.device())
        device.enroll()
        queue_commands(server.api(), device, 1)
        assert len(device.run_once()) == 1
        assert bare.idle().status == 400
        bare.use_identity(pki.device(ca=pki.other_ca))
        assert bare.idle().status == 403
    finally:
        device.close()
        bare.close()


# ---- the cases -------------------------------------------------------------


def read(name):
    with open(os.path.join(CASES, name), "rb") as f:
        return f.read()


def send_raw(server, data):
    """Status of the answer to a raw request."""
    context = ssl.create_default_context(cafile=server.ca_file)
    with socket.create_connection((server.host, server.port), 30) as raw, \
            context.wrap_socket(raw, server_hostname=server.host) as tls:
        tls.sendall(data)
        response = http.client.HTTPResponse(tls)
        with contextlib.closing(response):
            response.begin()
            response.read()
            return response.status


class CaseIdentity:
    """device-a of the cases."""

    def __init__(self):
        from cryptography import x509
        self.cert = x509.load_pem_x509_certificate(read("pki/device-a.pem"))
        self.key = serialization.load_pem_private_key(
            read("pki/device-a.key"), None)


@pytest.fixture
def case_device(own_server):
    """The enrolled device of the cases, at a server that knows its CA."""
    def make(settings=()):
        server = own_server([("server", "DEVICE_CA_CERTIFICATE",
                              os.path.join(CASES, "pki", "device-ca.pem")),
                             *settings])
        message = plistlib.loads(read("mdm/C19-3-tokenupdate-no-unlock.plist"))
        device = Device(server, CaseIdentity(), message["Topic"],
                        udid=message["UDID"], sign=True, tls=False)
        made.append(device)
        return device

    made = []
    yield make
    for device in made:
        device.close()


def test_signed_cases(case_device, log):
    log.expect("MDM0204", "MDM0205", "client sent invalid header line")
    device = case_device()
    assert device.authenticate().status == 200
    statuses = {name: send_raw(device.server, read(f"http/C42-{name}.http"))
                for name in ("signed", "two-signatures", "signed-folded")}
    assert statuses == {"signed": 200, "two-signatures": 400,
                        "signed-folded": 400}


def test_header_cases(case_device, log):
    """Every header of the cases by way of a real server."""
    log.expect("MDM0204", "MDM0205", "client sent invalid header line")
    device = case_device([("/mdm", "DEVICE_IDENTITY", "signature",
                           "header=" + HEADER),
                          ("/mdm", "TRUSTED_PROXY", "127.0.0.1")])
    device.enroll()
    good = {"nginx-escaped", "alb-chain", "rfc9440", "rfc9440-spaces",
            "spaces-for-newlines"}
    names = sorted(n[4:-4] for n in os.listdir(os.path.join(CASES, "http"))
                   if n.startswith("C44-"))
    assert len(names) == 11 and good < set(names)
    body = idle(device)
    for name in names:
        line = read(f"http/C44-{name}.hdr").partition(b":")[2]
        status = send_raw(device.server, (
            f"PUT /mdm HTTP/1.1\r\nHost: localhost\r\nContent-Type: {COMMAND}"
            f"\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            f"{HEADER}:").encode() + line + b"\r\n" + body)
        if name == "tabs-folded" and device.server.kind == "apache":
            # httpd puts a blank for every fold, which is a good form.
            assert status == 200
        else:
            assert status == (200 if name in good else 400), name
