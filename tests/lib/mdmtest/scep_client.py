"""A SCEP client of the tests' own: messages in DER made by hand, keys and
ciphers from python3-cryptography.  Nothing of the module's code is in it."""
import base64
import datetime
import os
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

DER = serialization.Encoding.DER
SCEP = "2.16.840.1.113733.1.9."
OIDS = {"data": "1.2.840.113549.1.7.1", "signed": "1.2.840.113549.1.7.2",
        "enveloped": "1.2.840.113549.1.7.3", "rsa": "1.2.840.113549.1.1.1",
        "content type": "1.2.840.113549.1.9.3",
        "digest": "1.2.840.113549.1.9.4",
        "sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1",
        "sha512": "2.16.840.1.101.3.4.2.3",
        "md5": "1.2.840.113549.2.5", "ecdsa": "1.2.840.10045.4.3.2",
        "aes128": "2.16.840.1.101.3.4.1.2",
        "aes256": "2.16.840.1.101.3.4.1.42",
        "3des": "1.2.840.113549.3.7", "des": "1.3.14.3.2.7"}
NAMES = {v: k for k, v in OIDS.items()}
FAIL = {"0": "badAlg", "1": "badMessageCheck", "2": "badRequest",
        "3": "badTime", "4": "badCertId"}
PKCS_REQ, RENEWAL_REQ, CERT_POLL = 19, 17, 20


# -- DER ---------------------------------------------------------------------

def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    if n < 128:
        return bytes([tag, n]) + body
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def oid(dotted):
    first, second, *rest = (int(p) for p in dotted.split("."))
    out = bytearray()
    for number in [first * 40 + second, *rest]:
        part = [number & 0x7f]
        while number > 0x7f:
            number >>= 7
            part.append(0x80 | number & 0x7f)
        out += bytes(reversed(part))
    return tlv(6, bytes(out))


def seq(*parts):
    return tlv(0x30, *parts)


def integer(n):
    return tlv(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def algorithm(name, parameters=b"\x05\x00"):
    return seq(oid(OIDS[name]), parameters)


def read(data):
    """[(tag, whole value, content)] of the values in DER."""
    out = []
    at = 0
    while at < len(data):
        n = data[at + 1]
        head = 2
        if n & 0x80:
            head += n & 0x7f
            n = int.from_bytes(data[at + 2:at + head], "big")
        assert len(data) >= at + head + n, "cut short"
        out.append((data[at], data[at:at + head + n],
                    data[at + head:at + head + n]))
        at += head + n
    return out


def parts(data):
    """The same of what is inside one value."""
    (tag, _, content), = read(data)
    assert tag & 0x20
    return read(content)


def oid_text(content):
    numbers = [content[0] // 40 if content[0] < 80 else 2]
    numbers.append(content[0] - 40 * numbers[0])
    value = 0
    for byte in content[1:]:
        value = value << 7 | byte & 0x7f
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(str(n) for n in numbers)


# -- keys, requests ----------------------------------------------------------

def new_key(bits=2048):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def name(common_name):
    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def self_signed(key, common_name="device"):
    now = datetime.datetime.utcnow()
    day = datetime.timedelta(days=1)
    subject = name(common_name or "device")
    return (x509.CertificateBuilder().subject_name(subject)
            .issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day).not_valid_after(now + day)
            .sign(key, hashes.SHA256()))


def request(key, common_name="device", challenge=None, extensions=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        name(common_name))
    if challenge is not None:
        builder = builder.add_attribute(
            x509.oid.AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    return builder.sign(key, hashes.SHA256()).public_bytes(DER)


# -- messages ----------------------------------------------------------------

def issuer_and_serial(cert):
    return seq(cert.issuer.public_bytes(), integer(cert.serial_number))


CIPHERS = {"aes128": (algorithms.AES, 16, 16), "aes256":
           (algorithms.AES, 32, 16), "3des": (algorithms.TripleDES, 24, 8),
           "des": (algorithms.TripleDES, 8, 8)}


def envelope(cert, plain, cipher="aes128", break_padding=False):
    kind, key_len, block = CIPHERS[cipher]
    key, iv = os.urandom(key_len), os.urandom(block)
    pad = padding.PKCS7(block * 8).padder()
    data = pad.update(plain) + pad.finalize()
    if break_padding:
        data = data[:-1] + b"\0"
    encryptor = Cipher(kind(key * 3 if cipher == "des" else key),
                       modes.CBC(iv)).encryptor()
    sealed = encryptor.update(data) + encryptor.finalize()
    wrapped = cert.public_key().encrypt(key, rsa_padding.PKCS1v15())
    return seq(oid(OIDS["enveloped"]), tlv(0xa0, seq(
        integer(0),
        tlv(0x31, seq(integer(0), issuer_and_serial(cert), algorithm("rsa"),
                      tlv(4, wrapped))),
        seq(oid(OIDS["data"]), algorithm(cipher, tlv(4, iv)),
            tlv(0x80, sealed)))))


HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256,
          "sha512": hashes.SHA512, "md5": hashes.MD5}


def attribute(number, value):
    return seq(oid(number), tlv(0x31, value))


def signed(content, cert, key, attributes, digest="sha256"):
    kind = HASHES[digest]
    h = hashes.Hash(kind())
    h.update(content)
    attrs = sorted([attribute(OIDS["content type"], oid(OIDS["data"])),
                    attribute(OIDS["digest"], tlv(4, h.finalize()))]
                   + attributes)
    body = b"".join(attrs)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(tlv(0x31, body), ec.ECDSA(kind()))
        how = seq(oid(OIDS["ecdsa"]))
    else:
        signature = key.sign(tlv(0x31, body), rsa_padding.PKCS1v15(), kind())
        how = algorithm("rsa")
    return seq(oid(OIDS["signed"]), tlv(0xa0, seq(
        integer(1), tlv(0x31, algorithm(digest)),
        seq(oid(OIDS["data"]), tlv(0xa0, tlv(4, content))),
        tlv(0xa0, cert.public_bytes(DER)),
        tlv(0x31, seq(integer(1), issuer_and_serial(cert), algorithm(digest),
                      tlv(0xa0, body), how, tlv(4, signature))))))


def message(kind, content, cert, key, transaction=None, nonce=None,
            digest="sha256"):
    """One pkiMessage around bytes that are encrypted already."""
    transaction = transaction or os.urandom(16).hex()
    return signed(content, cert, key, [
        attribute(SCEP + "2", tlv(0x13, str(kind).encode())),
        attribute(SCEP + "5", tlv(4, nonce or os.urandom(16))),
        attribute(SCEP + "7", tlv(0x13, transaction.encode()))], digest)


class Answer:
    """A CertRep that was checked: its signature, and what it says."""

    def __init__(self, data, ca):
        (_, kind, _), (_, outer, _) = parts(data)
        assert oid_text(read(kind)[0][2]) == OIDS["signed"]
        fields = parts(parts(outer)[0][1])
        inner = parts(fields[2][1])
        infos = [f for f in fields if f[0] == 0x31][-1]
        self.certificates = [
            x509.load_der_x509_certificate(whole)
            for tag, _, content in fields if tag == 0xa0
            for _, whole, _ in read(content)]
        self.content = None
        if len(inner) > 1:
            (_, _, self.content), = read(inner[1][2])
        info = parts(read(infos[2])[0][1])
        digest = HASHES[NAMES[oid_text(parts(info[2][1])[0][2])]]
        self.digest = digest.name
        attrs = info[3]
        assert attrs[0] == 0xa0
        ca.public_key().verify(info[5][2], tlv(0x31, attrs[2]),
                               rsa_padding.PKCS1v15(), digest())
        self.values = {}
        for _, whole, _ in read(attrs[2]):
            number, values = parts(whole)
            (_, value, text), = read(values[2])
            self.values[oid_text(number[2])] = (value, text)
        h = hashes.Hash(digest())
        h.update(self.content or b"")
        assert self.values[OIDS["digest"]][1] == h.finalize()
        assert self.text("2") == "3"
        self.status = self.text("3")
        self.fail = FAIL.get(self.text("4"))
        self.nonce = self.values[SCEP + "6"][1]
        self.transaction = self.values[SCEP + "7"][0]
        assert len(self.values[SCEP + "5"][1]) == 16

    def text(self, number):
        value = self.values.get(SCEP + number)
        return value[1].decode() if value else None

    def opened(self, key):
        """Certificates inside, decrypted by the client's key."""
        (_, kind, _), (_, outer, _) = parts(self.content)
        assert oid_text(read(kind)[0][2]) == OIDS["enveloped"]
        fields = parts(parts(outer)[0][1])
        recipient = parts(read(fields[1][2])[0][1])
        secret = key.decrypt(recipient[3][2], rsa_padding.PKCS1v15())
        inside = parts(fields[2][1])
        how = parts(inside[1][1])
        self.cipher = NAMES[oid_text(how[0][2])]
        kind, _, block = CIPHERS[self.cipher]
        decryptor = Cipher(kind(secret), modes.CBC(how[1][2])).decryptor()
        plain = decryptor.update(inside[2][2]) + decryptor.finalize()
        unpad = padding.PKCS7(block * 8).unpadder()
        plain = unpad.update(plain) + unpad.finalize()
        (_, _, _), (_, outer, _) = parts(plain)
        return [x509.load_der_x509_certificate(whole)
                for tag, _, content in parts(parts(outer)[0][1])
                if tag == 0xa0 for _, whole, _ in read(content)]


class ScepClient:
    """Speaks to one URL over a Transport of device.py."""

    def __init__(self, transport, path="/scep"):
        self.transport = transport
        self.path = path

    def get(self, operation, query=""):
        return self.transport.request(
            "GET", f"{self.path}?operation={operation}{query}")

    def caps(self):
        reply = self.get("GetCACaps", "&message=any")
        assert reply.status == 200, reply
        return reply.body.decode().split("\n")[:-1]

    def ca(self):
        reply = self.get("GetCACert", "&message=any")
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/x-x509-ca-cert"
        return x509.load_der_x509_certificate(reply.body)

    def post(self, data):
        return self.transport.request(
            "POST", self.path + "?operation=PKIOperation", data,
            {"Content-Type": "application/x-pki-message"})

    def send_get(self, data):
        text = urllib.parse.quote(base64.b64encode(data).decode(), safe="")
        return self.get("PKIOperation", "&message=" + text)

    def answer(self, reply, ca=None):
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/x-pki-message"
        return Answer(reply.body, ca or self.ca())

    def enrol(self, challenge, common_name="device", key=None, ca=None,
              cipher="aes256", digest="sha256", transaction=None,
              method="post", **more):
        """(answer, key, certificate or None)."""
        ca = ca or self.ca()
        key = key or new_key()
        nonce = os.urandom(16)
        transaction = transaction or os.urandom(16).hex()
        data = message(
            PKCS_REQ, envelope(ca, request(key, common_name, challenge,
                                           **more), cipher),
            self_signed(key, common_name), key, transaction, nonce, digest)
        reply = self.post(data) if method == "post" else self.send_get(data)
        answer = self.answer(reply, ca)
        assert answer.nonce == nonce
        assert answer.transaction == tlv(0x13, transaction.encode())
        return answer, key, self.opened(answer, key)

    def renew(self, cert, key, common_name="device", new=None, ca=None,
              transaction=None, challenge=None):
        """By the identity in use; (answer, new key, certificate or None)."""
        ca = ca or self.ca()
        new = new or new_key()
        data = message(RENEWAL_REQ, envelope(ca, request(
            new, common_name, challenge)), cert, key, transaction)
        answer = self.answer(self.post(data), ca)
        return answer, new, self.opened(answer, key)

    @staticmethod
    def opened(answer, key):
        if answer.status != "0":
            assert answer.content is None and answer.fail
            return None
        certs = answer.opened(key)
        assert len(certs) == 1
        return certs[0]
