"""Stand-ins for Apple's authorities of vendor certificates, and an HTTPS
server for what mdmcerts loads from Apple and sends to mdmcert.download."""
import base64
import binascii
import datetime
import http.server
import json
import os
import plistlib
import ssl
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

UTC = datetime.timezone.utc
DAY = datetime.timedelta(days=1)
DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM


def new_rsa(bits=2048):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def name_of(common_name, unit=None, user_id=None):
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if unit:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME,
                                        unit))
    if user_id:
        parts.append(x509.NameAttribute(NameOID.USER_ID, user_id))
    return x509.Name(parts)


class Signer:
    """A certificate with its key; `above` None: self-signed."""

    def __init__(self, name, above=None, ca=True, days=(-10, 3000), key=None,
                 public_key=None):
        self.key = key or (None if public_key else new_rsa())
        self.above = above
        public_key = public_key or self.key.public_key()
        now = datetime.datetime.now(UTC)
        self.cert = (
            x509.CertificateBuilder().subject_name(name)
            .issuer_name(above.cert.subject if above else name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca, None), True)
            .sign(above.key if above else self.key, hashes.SHA256()))

    @property
    def der(self):
        return self.cert.public_bytes(DER)

    @property
    def pem(self):
        return self.cert.public_bytes(PEM)


class VendorWorld:
    """Root, intermediate G3, and vendors under it."""

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.root = Signer(name_of("Apple Root CA"))
        self.g3 = Signer(name_of("Apple Worldwide Developer Relations "
                                 "Certification Authority", "G3"), self.root)
        self.root_file = self.write("root.pem", self.root.pem)

    def write(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def issue(self, csr_file, under=None, days=(-1, 365), ca=False,
              **name):
        """The vendor certificate for a CSR, as Apple would."""
        with open(csr_file, "rb") as f:
            csr = x509.load_pem_x509_csr(f.read())
        assert csr.is_signature_valid
        return Signer(name_of("MDM Vendor: Test", **name), under or self.g3,
                      ca, days, public_key=csr.public_key())

    def equip(self, directory, **more):
        """vendor.crt (DER) and the intermediate into a -d directory."""
        vendor = self.issue(os.path.join(directory, "vendor.csr"), **more)
        for name, data in (("vendor.crt", vendor.der),
                           ("AppleWWDRCAG3.cer", self.g3.der)):
            with open(os.path.join(directory, name), "wb") as f:
                f.write(data)
        return vendor


def read_request(text):
    """Dictionary of a request file, whose base64 has no line breaks."""
    assert b"\n" not in text and b"\r" not in text
    request = plistlib.loads(base64.b64decode(text, validate=True))
    assert set(request) == {"PushCertRequestCSR", "PushCertCertificateChain",
                            "PushCertSignature"}
    return request


def make_request(csr, vendor):
    """A request file by somebody else than the product."""
    der = csr.public_bytes(DER)
    chain, at = b"", vendor
    while at:
        chain, at = chain + at.pem, at.above
    return base64.b64encode(plistlib.dumps({
        "PushCertRequestCSR": base64.b64encode(der).decode(),
        "PushCertCertificateChain": chain.decode(),
        "PushCertSignature": base64.b64encode(vendor.key.sign(
            der, padding.PKCS1v15(), hashes.SHA256())).decode()}))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_any(self):
        n = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(n)
        self.server.owner.requests.append(
            (self.command, self.path, dict(self.headers), body))
        status, answer = self.server.owner.answer(self.command, self.path,
                                                  body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_any


class WebSite:
    """with WebSite(pki) as site: site.files["/path"] = bytes;
    site.url.  POSTs are answered with site.verdict."""

    def __init__(self, pki):
        self.files = {}
        self.requests = []
        self.verdict = (200, b'{"result": "success"}')
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      Handler)
        self.server.owner = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.server.cert_file, pki.server.key_file)
        self.server.socket = context.wrap_socket(self.server.socket,
                                                 server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.ca_file = pki.server_ca.cert_file
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()

    def answer(self, method, path, _body):
        if method == "POST":
            return self.verdict
        if path in self.files:
            return 200, self.files[path]
        return 404, b"no such thing"


def mail_for(post, vendor, directory, content=None):
    """(request, text of the mailed file) for a POST to the vendor."""
    asked = json.loads(post)
    csr = x509.load_pem_x509_csr(base64.b64decode(asked["csr"]))
    request = content or make_request(csr, vendor)
    cert = os.path.join(directory, "mail.crt")
    with open(cert, "wb") as f:
        f.write(base64.b64decode(asked["encrypt"]))
    sealed = subprocess.run(
        ["/usr/bin/openssl", "cms", "-encrypt", "-binary", "-aes256",
         "-outform", "DER", cert], input=request, capture_output=True,
        check=True).stdout
    return request, binascii.hexlify(sealed)
