"""Encrypted keys of push certificates from files, and where their pass phrase
comes from (MDMPushCertificatePassPhrase)."""
import os
import time

import pytest
from mdmtest.device import Device
from mdmtest.pki import key_pem
from mdmtest.wait import wait_for

PHRASE = "pass phrase 1"
OTHER = "another one 2"


def write(path, text, mode=0o600):
    if isinstance(text, str):
        text = text.encode()
    with open(path, "wb") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


class Sealed:
    """A push certificate with an encrypted key and its pass phrase, as files
    below a server's directory that only root can read."""

    def __init__(self, server, pki, source):
        self.pki = pki
        self.key_file = server.path("push.key")
        self.cert_file = server.path("push.pem")
        self.seen = server.path("seen")
        self.push = None
        self.phrase_file = server.path("phrase")
        self.program = server.path("say-phrase")
        # Says who runs it and when, in a file and to standard error.
        write(self.program, "#!/bin/sh\n"
              f"id -u >> {self.seen}\n"
              f"exec cat {self.phrase_file}\n", 0o700)
        self.argument = {"file": f"file:{self.phrase_file}",
                         "exec": f"exec:{self.program}"}[source]
        self.renew(PHRASE)

    def renew(self, phrase):
        """Another certificate of the same topic, its key encrypted anew."""
        topic = self.push.topic if self.push else None
        days = (-1, 380) if self.push else (-1, 365)
        self.push = self.pki.push(topic, days=days)
        write(self.cert_file, open(self.push.cert_file, "rb").read())
        write(self.key_file, key_pem(self.push.key, phrase.encode()))
        write(self.phrase_file, phrase + "\nsecond line\n")

    def settings(self, phrase_first=False):
        lines = [("http", "PUSH_CERTIFICATE", self.cert_file, self.key_file),
                 ("http", "PUSH_CERTIFICATE_PASS_PHRASE", self.argument)]
        return lines[::-1] if phrase_first else lines


@pytest.mark.parametrize("source,phrase_first",
                         [("file", False), ("exec", True)])
def test_pushes_and_reload(source, phrase_first, own_server, own_apns, pki):
    server = own_server(start=False, push=False)
    sealed = Sealed(server, pki, source)
    server.settings += sealed.settings(phrase_first)
    server.start()
    device = Device(server, pki.device(), sealed.push.topic).enroll()
    api = server.api()
    assert api.push(device.id).status == 200
    got = own_apns.wait_token(device.token_hex, timeout=20)
    assert got["fingerprint"] == sealed.push.fingerprint
    # A reload with another certificate, key and pass phrase.
    sealed.renew(OTHER)
    server.reload()
    server.wait_store()

    def renewed_is_used():
        assert api.push(device.id).status == 200
        time.sleep(0.1)
        return any(r["fingerprint"] == sealed.push.fingerprint
                   for r in own_apns.for_token(device.token_hex))
    wait_for(renewed_is_used, 20, "a push with the renewed certificate")
    device.close()
    api.transport.close()
    text = server.log_since(0)
    assert PHRASE not in text and OTHER not in text
    if source == "exec":
        with open(sealed.seen, encoding="ascii") as f:
            users = f.read().split()
        # As the user that started the server, and at the reload again.
        assert set(users) == {str(os.geteuid())} and len(users) >= 2


def test_configtest_runs_the_program(own_server, pki):
    server = own_server(start=False, push=False)
    sealed = Sealed(server, pki, "exec")
    server.settings += sealed.settings()
    status, text = server.configtest()
    assert status == 0, text
    assert os.path.exists(sealed.seen)
    assert PHRASE not in text


DIRECTIVES = {
    "apache": ("MDMPushCertificateFile", "MDMPushCertificatePassPhrase"),
    "nginx": ("mdm_push_certificate", "mdm_push_certificate_pass_phrase")}


def refuse(server, directive, said):
    """The configuration test fails at the line of the directive (None: at no
    line) and says what is wrong."""
    status, text = server.configtest()
    assert status != 0
    assert said in text, text
    assert PHRASE not in text and OTHER not in text
    if directive is not None:
        name = DIRECTIVES[server.kind][directive]
        with open(server.conf_file, encoding="utf-8") as f:
            numbers = [i for i, line in enumerate(f, 1)
                       if line.strip().startswith(name + " ")]
        place = {"apache": "line {} of " + server.conf_file,
                 "nginx": server.conf_file + ":{}"}[server.kind]
        assert any(place.format(n) in text for n in numbers), text
        assert name in text


@pytest.fixture
def sealed_server(own_server, pki):
    def make(source="file", phrase_first=False):
        server = own_server(start=False, push=False)
        sealed = Sealed(server, pki, source)
        server.settings += sealed.settings(phrase_first)
        return server, sealed
    return make


@pytest.mark.parametrize("phrase_first", [False, True])
def test_wrong_phrase(phrase_first, sealed_server):
    server, sealed = sealed_server(phrase_first=phrase_first)
    write(sealed.phrase_file, OTHER + "\n")
    refuse(server, 0 if phrase_first else 1,
           f"{sealed.key_file}: the private key does not open with the pass "
           f"phrase of the file {sealed.phrase_file}")


def test_missing_phrase(sealed_server):
    server, sealed = sealed_server()
    server.settings.pop()
    refuse(server, None,
           f"MDMPushCertificateFile (mdm_push_certificate) "
           f"{sealed.cert_file}: the private key in {sealed.key_file} is "
           "encrypted, and no MDMPushCertificatePassPhrase "
           "(mdm_push_certificate_pass_phrase) is given")


def test_program_that_prints_another(sealed_server):
    server, sealed = sealed_server("exec")
    write(sealed.phrase_file, OTHER + "\n")
    refuse(server, 1,
           f"{sealed.key_file}: the private key does not open with the pass "
           f"phrase that the program {sealed.program} prints")


@pytest.mark.parametrize("script,said", [
    ("echo {}; exit 4", "it ended with status 4"),
    ("exec sleep 60", "it did not end within 10 seconds"),
    ("while :; do echo {}; done", "it prints more than 4096 bytes"),
    ("exit 0", "it printed nothing, so there is no pass phrase"),
    ("echo; echo {}", "its first line is empty")])
def test_failing_program(script, said, sealed_server):
    server, sealed = sealed_server("exec")
    write(sealed.program, "#!/bin/sh\n" + script.format(f"'{PHRASE}'") + "\n",
          0o700)
    refuse(server, 1, f"{sealed.program}: {said}")


@pytest.mark.parametrize("name", [
    "C54-des3-dek-info.key", "C54-pkcs8-encrypted.key",
    "C54-pkcs8-pbes1-3des.key", "C54-des-dek-info.key",
    "C54-pkcs8-pbe-md5-des.key"])
def test_old_forms(name, sealed_server):
    cases = os.path.join(os.path.dirname(__file__), "..", "cases", "pki")
    server, sealed = sealed_server()
    write(sealed.phrase_file, "secret")
    for source, target in ((name, sealed.key_file),
                           ("push-ok.pem", sealed.cert_file)):
        with open(os.path.join(cases, source), "rb") as f:
            write(target, f.read())
    status, text = server.configtest()
    assert status == 0, text
