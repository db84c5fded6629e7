"""Who a device is: certificates, their binding, and never a 401."""
import ssl
import uuid

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from helpers import enrolled_ids, offered, queue_commands
from mdmtest.device import CHECKIN, COMMAND, Device, Transport


def test_no_certificate(server, api, pki, log):
    log.expect("MDM0204", "MDM0201")
    device = Device(server, None, server.push.topic)
    for reply in (device.authenticate(), device.token_update(),
                  device.idle(), device.check_out()):
        assert reply.status == 400, reply
    assert api.enrollment(device.id).status == 404


@pytest.mark.parametrize("make", [
    lambda pki: pki.device(ca=pki.other_ca),
    lambda pki: pki.push_ca.issue(pki._stem("x"), pki.server.cert.subject,
                                  ExtendedKeyUsageOID.CLIENT_AUTH),
    lambda pki: pki.other_ca,
], ids=["foreign-ca", "push-ca", "self-signed"])
def test_foreign_certificate(make, server, api, pki, log):
    log.expect("MDM0204", "MDM0201")
    device = Device(server, make(pki), server.push.topic)
    for reply in (device.authenticate(), device.token_update(),
                  device.idle()):
        assert reply.status == 403, reply
    assert api.enrollment(device.id).status == 404


def test_server_certificate_is_no_identity(server, api, pki, log):
    """Issued by the device CA, but for another purpose.  Apache stops it in
    TLS, nginx leaves it to us."""
    log.expect("MDM0204", "MDM0201", "AH02039")
    wrong = pki.device(usage=ExtendedKeyUsageOID.SERVER_AUTH)
    device = Device(server, wrong, server.push.topic)
    try:
        assert device.authenticate().status == 403
    except ssl.SSLError:
        assert server.kind == "apache"
    assert api.enrollment(device.id).status == 404


def test_expired_certificate_is_not_enrolled(server, api, pki, log):
    """Both hosts stop it before the module (nginx 400, Apache in TLS)."""
    log.expect("MDM0204", "MDM0201", "AH02039", "AH02008", "AH02276",
               "client SSL certificate verify error")
    device = Device(server, pki.device(days=(-10, -5)), server.push.topic)
    try:
        reply = device.authenticate()
        assert reply.status in (400, 403), reply
    except (ssl.SSLError, ConnectionError):
        pass
    assert api.enrollment(device.id).status == 404


def test_another_devices_certificate(server, api, pki, enroll, log):
    log.expect("MDM0204", "MDM0201")
    victim, thief = enroll(), enroll()
    queue_commands(api, victim, 1)
    pretender = Device(server, thief.identity, server.push.topic,
                       udid=victim.udid)
    try:
        for reply in (pretender.idle(), pretender.token_update(),
                      pretender.check_out()):
            assert reply.status == 403, reply
            assert b"CommandUUID" not in reply.body
        # Even at Authenticate: this certificate belongs to another device.
        assert pretender.authenticate().status == 403
    finally:
        pretender.close()
    assert api.enrollment(victim.id).json["enabled"] is True
    assert offered(victim.idle()) is not None


def test_fresh_certificate_of_the_ca(server, api, pki, enroll, log):
    """A valid but unassociated certificate speaks for nobody but by a new
    Authenticate."""
    log.expect("MDM0204", "MDM0201")
    device = enroll()
    other = Device(server, pki.device(), server.push.topic, udid=device.udid)
    try:
        assert other.idle().status == 403
        assert other.token_update().status == 403
        assert other.check_out().status == 403
    finally:
        other.close()
    assert api.enrollment(device.id).json["enabled"] is True


def test_altered_copy_of_a_certificate(server, api, pki, enroll, log):
    """The owner of a certificate signed by ECDSA can write it in a second
    way: still the same certificate, which belongs to one enrolment."""
    log.expect("MDM0204", "MDM0201")
    victim, thief = enroll(), enroll()
    copy = pki.altered(thief.identity)
    assert copy.fingerprint != thief.identity.fingerprint
    for udid in (victim.udid, thief.udid, str(uuid.uuid4())):
        pretender = Device(server, copy, server.push.topic, udid=udid)
        try:
            assert pretender.authenticate().status == 403
        finally:
            pretender.close()
    assert api.enrollment(victim.id).json["enabled"] is True
    # A former one does not come back that way, either.
    old = thief.identity
    thief.close()
    thief.use_identity(pki.device())
    thief.enroll()
    late = Device(server, pki.altered(old), server.push.topic,
                  udid=thief.udid)
    try:
        assert late.authenticate().status == 403
    finally:
        late.close()
    assert thief.idle().status == 200


def test_never_enrolled(server, api, pki, log):
    log.expect("MDM0204", "MDM0201")
    before = sorted(enrolled_ids(server))
    device = Device(server, pki.device(), server.push.topic)
    try:
        for _ in range(2):
            for reply in (device.token_update(), device.idle(),
                          device.check_out(),
                          device.user().token_update()):
                assert reply.status == 403, reply
        # The refusals associated nothing: the same device may still enrol.
        assert sorted(enrolled_ids(server)) == before
        device.enroll()
    finally:
        device.close()


def test_renewed_certificate_replaces_the_old(server, api, pki, enroll, log):
    log.expect("MDM0204", "MDM0201")
    device = enroll()
    old = device.identity
    device.close()
    device.use_identity(pki.device())
    device.enroll()
    late = Device(server, old, server.push.topic, udid=device.udid)
    try:
        # A late CheckOut signed by the old certificate does not end the
        # new life.
        assert late.check_out().status == 403
        assert late.idle().status == 403
    finally:
        late.close()
    assert api.enrollment(device.id).json["enabled"] is True
    assert offered(device.idle()) is None


def test_old_certificate_until_the_new_token_update(server, api, pki, enroll):
    """A profile replacement may be rolled back: the old identity goes on
    until the TokenUpdate of the new one."""
    device = enroll()
    fresh = Device(server, pki.device(), server.push.topic, udid=device.udid)
    try:
        assert fresh.authenticate().status == 200
        assert device.idle().status == 200
        fresh.token, fresh.magic = device.token, device.magic
        assert fresh.token_update().status == 200
        assert fresh.idle().status == 200
    finally:
        fresh.close()


@pytest.mark.parametrize("max_version", [ssl.TLSVersion.TLSv1_2,
                                         ssl.TLSVersion.TLSv1_3],
                         ids=["tls1.2", "tls1.3"])
def test_resumed_sessions_are_no_identity(max_version, server, api, pki,
                                          enroll, log):
    """The core trusts the certificate it sees, not the server's verdict."""
    log.expect("MDM0204", "MDM0201")
    device = Device(server, pki.device(ca=pki.other_ca), server.push.topic)
    device.transport = Transport(server, device.identity,
                                 max_version=max_version)
    for _ in range(3):
        assert device.authenticate().status == 403
        tls = device.transport.connection.sock
        session = tls.session if tls is not None else None
        device.close()
        if session is not None and max_version == ssl.TLSVersion.TLSv1_2:
            resume(device, session)
    device.close()


def resume(device, session):
    """Opens the transport's next connection with a kept TLS session."""
    import http.client
    import socket
    transport = device.transport
    raw = socket.create_connection((transport.host, transport.port), 10)
    tls = transport.context.wrap_socket(
        raw, server_hostname=transport.host, session=session)
    connection = http.client.HTTPSConnection(
        transport.host, transport.port, context=transport.context)
    connection.sock = tls
    transport.connection = connection


def test_rsa_identity(pki, enroll):
    device = enroll(identity=pki.device(key_kind="rsa"))
    assert device.idle().status == 200


def test_garbage_with_every_kind_of_identity(server, pki, enroll, log):
    """Whoever sends what: 400 or 403, never 401."""
    log.expect("MDM0204", "MDM0201", "MDM0302")
    device = enroll()
    for identity in (None, device.identity, pki.device(),
                     pki.device(ca=pki.other_ca)):
        transport = Transport(server, identity)
        for kind in (CHECKIN, COMMAND):
            for body in (b"", b"\0" * 100, b"<plist><dict>", b"bplist00xx"):
                reply = transport.request("PUT", "/mdm", body,
                                          {"Content-Type": kind})
                assert reply.status in (400, 403), reply
                assert "www-authenticate" not in reply.headers
        transport.close()


def test_unknown_user_channel_of_known_device(api, enroll):
    device = enroll()
    user = device.user(str(uuid.uuid4()).upper())
    reply = user.idle()
    assert reply.status in (200, 403), reply
    assert b"CommandUUID" not in reply.body
    assert api.enrollment(user.id).status == 404
