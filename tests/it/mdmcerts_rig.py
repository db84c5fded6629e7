"""What the test files of the program mdmcerts share.  Fixtures are taken
over by importing them."""
import os
import subprocess

import pytest
from mdmtest.terminal import Terminal
from mdmtest.vendor import VendorWorld

VENDOR = "Vendor private key password"
PUSH = "Push private key password"
OPENSSL = "/usr/bin/openssl"
ENV = {"PATH": "/usr/bin:/bin", "VP": "vendor secret", "PP": "push secret"}
GIVEN = ["--vendor-password", "env:VP", "--push-password", "env:PP"]
# Words of OpenSSL's own error texts.
RAW = ("error:0", "routines", "asn1", "SSL_", "libcrypto", "PEM_", "x509_")

__all__ = ["VENDOR", "PUSH", "OPENSSL", "ENV", "GIVEN", "program", "run",
           "terminal", "world", "openssl", "snapshot"]


@pytest.fixture(scope="session")
def program(build_dir):
    return os.path.join(build_dir, "tools", "mdmcerts", "mdmcerts")


@pytest.fixture(scope="session")
def world(workdir):
    return VendorWorld(os.path.join(workdir, "vendor-world"))


@pytest.fixture
def run(program, tmp_path):
    """Runs it without a terminal: (status, stdout, stderr)."""
    def call(*args, env=None, **more):
        done = subprocess.run(
            [program, *args], env={**ENV, **(env or {})}, cwd=tmp_path,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=90,
            start_new_session=True, check=False, **more)
        out, err = done.stdout.decode(), done.stderr.decode()
        for word in RAW:
            assert word not in out + err, err
        return done.returncode, out, err
    return call


@pytest.fixture
def terminal(program, tmp_path):
    def start(*args, **more):
        return Terminal([program, *args], env=ENV, cwd=tmp_path, **more)
    return start


def openssl(*args, data=None, env=None):
    done = subprocess.run([OPENSSL, *args], input=data, capture_output=True,
                          env={**ENV, **(env or {})}, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def snapshot(where):
    """{name: bytes} of a directory, with hidden files."""
    return {p.name: p.read_bytes() for p in where.iterdir()} \
        if where.exists() else {}
