"""Certificate authorities and certificates for tests, all thrown away.

One PKI object lives in one directory: a CA for web servers (and the mock
APNs), one for devices, a foreign one that nobody trusts, and one for push
certificates.  Keys are P-256 unless asked for: they are made in no time.
"""
import datetime
import ipaddress
import os
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

UTC = datetime.timezone.utc
DAY = datetime.timedelta(days=1)


def new_key(kind="ec"):
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def cert_pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


def key_pem(key, passphrase=None):
    protect = serialization.NoEncryption()
    if passphrase:
        protect = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM,
                             serialization.PrivateFormat.PKCS8, protect)


def fingerprint(cert):
    return cert.fingerprint(hashes.SHA256()).hex()


def name_of(common_name, user_id=None):
    attributes = []
    if user_id:
        attributes.append(x509.NameAttribute(NameOID.USER_ID, user_id))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


class Identity:
    """A certificate with its key, as objects and as PEM files."""

    def __init__(self, directory, stem, cert, key):
        self.cert = cert
        self.key = key
        self.cert_file = os.path.join(directory, stem + ".pem")
        self.key_file = os.path.join(directory, stem + ".key")
        self.both_file = os.path.join(directory, stem + ".both.pem")
        write(self.cert_file, cert_pem(cert), 0o644)
        write(self.key_file, key_pem(key), 0o600)
        write(self.both_file, self.both_pem, 0o600)

    @property
    def both_pem(self):
        return cert_pem(self.cert) + key_pem(self.key)

    @property
    def fingerprint(self):
        return fingerprint(self.cert)

    @property
    def not_after(self):
        return self.cert.not_valid_after.replace(tzinfo=UTC)


class PushIdentity(Identity):
    topic = ""


def write(path, data, mode):
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as f:
        f.write(data)


class Authority(Identity):
    """A CA that can issue."""

    def __init__(self, directory, stem, common_name, days=(-1, 3650),
                 key_kind="ec"):
        self.directory = directory
        self.serial = 0
        key = new_key(key_kind)
        subject = name_of(common_name)
        now = datetime.datetime.now(UTC)
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        cert = (
            x509.CertificateBuilder().subject_name(subject)
            .issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(
                digital_signature=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False), True)
            .add_extension(key_id, False)
            .sign(key, hashes.SHA256()))
        super().__init__(directory, stem, cert, key)

    def issue(self, stem, subject, usage, hosts=(), days=(-1, 365),
              key=None, key_kind="ec", kind=Identity):
        key = key or new_key(key_kind)
        now = datetime.datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject)
            .issuer_name(self.cert.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.key.public_key()), False)
            .add_extension(x509.KeyUsage(
                digital_signature=True, content_commitment=False,
                key_encipherment=key_kind == "rsa", data_encipherment=False,
                key_agreement=False, key_cert_sign=False, crl_sign=False,
                encipher_only=False, decipher_only=False), True))
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]),
                                            False)
        if hosts:
            names = [host_name(h) for h in hosts]
            builder = builder.add_extension(
                x509.SubjectAlternativeName(names), False)
        cert = builder.sign(self.key, hashes.SHA256())
        return kind(self.directory, stem, cert, key)


def host_name(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def new_topic():
    return "com.apple.mgmt.External." + str(uuid.uuid4())


def der_item(tag, content):
    """One ASN.1 value in DER."""
    n = len(content)
    length = bytes([n]) if n < 128 else (
        b"\x81" + bytes([n]) if n < 256 else b"\x82" + n.to_bytes(2, "big"))
    return bytes([tag]) + length + content


def altered_copy(cert):
    """The same certificate in other bytes: of an ECDSA signature (r, s) by
    a P-256 key anybody makes (r, n - s), which is as good."""
    order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
    r, s = utils.decode_dss_signature(cert.signature)
    der = cert.public_bytes(serialization.Encoding.DER)
    tail = der_item(0x03, b"\0" + cert.signature)
    assert der.endswith(tail)
    body = der[4:-len(tail)]
    assert der[:2] == b"\x30\x82" and body.startswith(
        cert.tbs_certificate_bytes)
    return x509.load_der_x509_certificate(der_item(
        0x30, body + der_item(0x03, b"\0" + utils.encode_dss_signature(
            r, order - s))))


class PKI:
    """Everything a test session needs, in `directory`."""

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.count = 0
        self.server_ca = Authority(directory, "server-ca", "Test server CA")
        self.device_ca = Authority(directory, "device-ca", "Test device CA")
        self.other_ca = Authority(directory, "other-ca", "Foreign CA")
        self.push_key = None
        self.push_ca = Authority(directory, "push-ca", "Test push CA")
        self.server = self.server_ca.issue(
            "server", name_of("localhost"), ExtendedKeyUsageOID.SERVER_AUTH,
            hosts=("localhost", "127.0.0.1"))

    def _stem(self, what):
        self.count += 1
        return f"{what}-{self.count}"

    def device(self, common_name="device", ca=None, days=(-1, 365),
               key_kind="ec", usage=ExtendedKeyUsageOID.CLIENT_AUTH):
        """A device identity; ca defaults to the one the server trusts."""
        ca = ca or self.device_ca
        return ca.issue(self._stem("device"), name_of(common_name), usage,
                        days=days, key_kind=key_kind)

    def ca(self, common_name, days=(-1, 3650), key_kind="ec"):
        """Another authority."""
        return Authority(self.directory, self._stem("ca"), common_name, days,
                         key_kind)

    def altered(self, identity):
        """A device identity whose certificate was rewritten by its owner."""
        return Identity(self.directory, self._stem("altered"),
                        altered_copy(identity.cert), identity.key)

    def push(self, topic=None, days=(-1, 365), key_kind="rsa", key=None):
        """A push certificate; expired or future ones by `days`.  Key kind
        "shared" is one RSA key for all, which saves making it."""
        topic = topic or new_topic()
        if key_kind == "shared":
            self.push_key = self.push_key or new_key("rsa")
            key, key_kind = key or self.push_key, "rsa"
        subject = name_of("APSP:" + topic.rsplit(".", 1)[-1], user_id=topic)
        push = self.push_ca.issue(
            self._stem("push"), subject, ExtendedKeyUsageOID.CLIENT_AUTH,
            days=days, key_kind=key_kind, key=key, kind=PushIdentity)
        push.topic = topic
        return push

    def web_server(self, *hosts):
        """Another server certificate, e.g. of a wrong host name."""
        return self.server_ca.issue(
            self._stem("server"), name_of(hosts[0]),
            ExtendedKeyUsageOID.SERVER_AUTH, hosts=hosts)
