"""Devices as they leave the factory: certificates of a maker, and the signed
property list by which a device introduces itself (MachineInfo).

The chain is as Apple's are seen: SHA-1 signatures, and an intermediate that
has ended.  Messages are signed by the openssl program.
"""
import base64
import datetime
import os
import plistlib
import subprocess
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from .pki import UTC, Identity, name_of, new_key

DAY = datetime.timedelta(days=1)
SIGNED = "application/pkcs7-signature"


def make_cert(subject, key, issuer, issuer_key, days, ca=False,
              digest=None):
    now = datetime.datetime.now(UTC)
    return (
        x509.CertificateBuilder().subject_name(name_of(subject))
        .issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca, None), True)
        .sign(issuer_key, digest or hashes.SHA1()))


class Factory:
    """A maker of devices, with files below `directory`."""

    def __init__(self, directory, name="Test Apple Root CA"):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.count = 0
        key = new_key("rsa")
        subject = name_of(name)
        self.root = self.keep("maker-root", make_cert(
            name, key, subject, key, (-9000, 4000), ca=True), key)
        key = new_key("rsa")
        self.middle = self.keep("maker-device-ca", make_cert(
            "Test iPhone Device CA", key, subject, self.root.key,
            (-8000, -400), ca=True), key)

    def keep(self, stem, cert, key):
        return Identity(self.directory, stem, cert, key)

    @property
    def ca_file(self):
        return self.root.cert_file

    def device(self, days=(-100, 3000), key_kind="rsa", digest=None):
        """The certificate that one device got."""
        self.count += 1
        key = new_key(key_kind)
        cert = make_cert(f"device {self.count}", key,
                         self.middle.cert.subject, self.middle.key, days,
                         digest=digest)
        return self.keep(f"made-{self.count}", cert, key)

    def self_made(self):
        """What a virtual machine signs with."""
        self.count += 1
        key = new_key("rsa")
        cert = make_cert("self", key, name_of("self"), key, (-1, 300),
                         digest=hashes.SHA256())
        return self.keep(f"self-{self.count}", cert, key)

    def sign(self, signers, content, *options, digest="sha1",
             intermediate=True):
        """CMS in DER with the content inside; no signer for []."""
        with tempfile.TemporaryDirectory(dir=self.directory) as base:
            path = os.path.join(base, "content")
            with open(path, "wb") as f:
                f.write(content)
            command = ["openssl", "cms", "-sign", "-nodetach", "-binary",
                       "-outform", "DER", "-md", digest, "-in", path]
            for one in signers:
                command += ["-signer", one.cert_file, "-inkey", one.key_file]
            if intermediate:
                command += ["-certfile", self.middle.cert_file]
            done = subprocess.run(command + list(options), check=True,
                                  capture_output=True)
            return done.stdout


def machine_info(**more):
    """The property list of an iPhone that is being set up; None leaves a key
    out."""
    keys = {"UDID": "00008130-000A1B2C3D4E801E", "SERIAL": "ZX0TESTQ7L",
            "PRODUCT": "iPhone17,2", "VERSION": "23B85",
            "OS_VERSION": "26.1", "LANGUAGE": "en-GB",
            "MDM_CAN_REQUEST_SOFTWARE_UPDATE": True}
    keys.update(more)
    return plistlib.dumps({k: v for k, v in keys.items() if v is not None})


def header_of(message):
    return {"x-apple-aspen-deviceinfo": base64.b64encode(message).decode()}
