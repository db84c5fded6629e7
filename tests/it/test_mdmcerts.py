"""The program mdmcerts: init, req and sign_req.

The prompts are answered on a pseudo-terminal; every product is judged by the
openssl command and Python's plistlib, none of it by the product itself.
"""
import base64
import os
import re
import resource
import signal
import stat
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mdmcerts_rig import (ENV, GIVEN, OPENSSL, PUSH, VENDOR, openssl,
                          program, run, snapshot, terminal, world)
from mdmtest.vendor import (DER, PEM, Signer, WebSite, name_of, new_rsa,
                            read_request)
from mdmtest.wait import wait_for

_ = (program, run, terminal, world)      # fixtures


@pytest.fixture(scope="session")
def made(program, world, workdir):
    """A -d directory after init and with vendor.crt: to be copied."""
    where = os.path.join(workdir, "made-vendor")
    subprocess.run([program, "-d", where, "init", "--vendor-password",
                    "env:VP"], env=ENV, check=True, capture_output=True,
                   timeout=60)
    world.equip(where)
    return where


@pytest.fixture
def vendor_dir(made, tmp_path):
    where = tmp_path / "V"
    subprocess.run(["/bin/cp", "-a", made, where], check=True)
    return where


def modes(where):
    return {p.name: stat.S_IMODE(p.stat().st_mode) for p in where.iterdir()}


def check_key(path, variable):
    """Encrypted PKCS #8 with AES-256; opens with its password alone."""
    text = path.read_text()
    assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    tree = openssl("asn1parse", "-in", str(path)).decode()
    assert "PBES2" in tree and "aes-256-cbc" in tree
    assert "hmacWithSHA256" in tree
    shown = openssl("pkey", "-in", str(path), "-passin", f"env:{variable}",
                    "-noout", "-text").decode()
    assert "2048 bit" in shown
    assert subprocess.run([OPENSSL, "pkey", "-in", path, "-passin",
                           "pass:wrong", "-noout"], capture_output=True,
                          check=False).returncode != 0


def check_csr(path, form, subject):
    shown = openssl("req", "-inform", form, "-in", str(path), "-noout",
                    "-verify", "-text", "-nameopt", "RFC2253").decode()
    assert f"Subject: {subject}\n" in shown, shown
    assert "sha256WithRSAEncryption" in shown and "(2048 bit)" in shown


def check_request(where, name, world, csr):
    """The upload, as Apple would look at it."""
    request = read_request((where / name).read_bytes())
    der = base64.b64decode(request["PushCertRequestCSR"], validate=True)
    assert der == csr
    chain = request["PushCertCertificateChain"]
    certs = re.findall("-----BEGIN CERTIFICATE-----\n.*?\n"
                       "-----END CERTIFICATE-----\n", chain, re.S)
    assert "".join(certs) == chain and len(certs) == 3
    assert all(len(line) <= 64 for line in chain.splitlines())
    leaf, between, root = [x509.load_pem_x509_certificate(c.encode())
                           for c in certs]
    assert leaf.public_bytes(DER) == (where / "vendor.crt").read_bytes()
    assert between == world.g3.cert and root == world.root.cert
    files = {n: where / ("x-" + n) for n in ("csr", "sig", "pub", "ca",
                                             "leaf", "mid")}
    try:
        files["csr"].write_bytes(der)
        files["sig"].write_bytes(base64.b64decode(
            request["PushCertSignature"], validate=True))
        files["pub"].write_bytes(leaf.public_key().public_bytes(
            PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        said = openssl("dgst", "-sha256", "-verify", str(files["pub"]),
                       "-signature", str(files["sig"]), str(files["csr"]))
        assert b"Verified OK" in said
        for n, text in zip(("leaf", "mid", "ca"), certs):
            files[n].write_text(text)
        openssl("verify", "-CAfile", str(files["ca"]), "-untrusted",
                str(files["mid"]), str(files["leaf"]))
    finally:
        for path in files.values():
            path.unlink(missing_ok=True)


def key_of(path, variable):
    return openssl("pkey", "-in", str(path), "-passin", f"env:{variable}",
                   "-pubout")


# ---- init -------------------------------------------------------------------

def test_init_on_a_terminal(terminal, tmp_path):
    """Asked twice, nothing shown; files are private under any umask."""
    with terminal("-d", "V", "init", umask=0) as t:
        t.answer(VENDOR + ": ", "vendor secret")
        t.answer(VENDOR + " (again): ", "vendor secret")
        assert t.wait() == 0
        assert "vendor secret" not in t.text
        assert t.is_echoing()
        for word in ("vendor.csr", "developer.apple.com", "MDM CSR",
                     "vendor.crt", "req COUNTRYCODE"):
            assert word in t.text
    where = tmp_path / "V"
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert modes(where) == {"vendor.key": 0o600, "vendor.csr": 0o600}
    check_key(where / "vendor.key", "VP")
    check_csr(where / "vendor.csr", "PEM", "CN=MDM Vendor")


def test_init_two_differ(terminal, tmp_path):
    with terminal("-d", "V", "init") as t:
        t.answer(VENDOR + ": ", "one secret")
        t.answer(VENDOR + " (again): ", "another")
        assert t.wait() == 1
        assert "the two differ" in t.text
    assert snapshot(tmp_path / "V") == {}


@pytest.mark.parametrize("typed", ["", "abc"])
def test_init_too_short(typed, terminal, tmp_path):
    with terminal("-d", "V", "init") as t:
        t.answer(VENDOR + ": ", typed)
        assert t.wait() == 1
        assert "at least 4 characters" in t.text
    assert snapshot(tmp_path / "V") == {}


def test_init_end_of_file(terminal, tmp_path):
    with terminal("-d", "V", "init") as t:
        t.expect(VENDOR + ": ")
        t.type("", end="\x04")
        assert t.wait() == 1
        assert "nothing was typed" in t.text and t.is_echoing()
    assert snapshot(tmp_path / "V") == {}


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP", "QUIT"])
def test_signal_at_the_prompt(number, terminal, tmp_path):
    number = getattr(signal, "SIG" + number)
    with terminal("-d", "V", "init") as t:
        t.expect(VENDOR + ": ")
        assert not t.is_echoing()
        os.kill(t.pid, number)
        assert t.wait() == -number
        assert t.is_echoing()
    assert snapshot(tmp_path / "V") == {}


def test_stopped_at_the_prompt(terminal):
    """Ctrl-Z shows typing again; going on asks again and hides it."""
    with terminal("-d", "V", "init") as t:
        t.expect(VENDOR + ": ")
        os.kill(t.pid, signal.SIGTSTP)
        wait_for(t.is_echoing, 10, "the terminal as it was")
        os.kill(t.pid, signal.SIGCONT)
        t.answer(VENDOR + ": ", "vendor secret")
        t.answer(VENDOR + " (again): ", "vendor secret")
        assert t.wait() == 0


@pytest.mark.parametrize("there", ["vendor.key", "vendor.csr"])
def test_init_overwrites_nothing(there, run, tmp_path):
    where = tmp_path / "V"
    where.mkdir()
    (where / there).write_text("mine")
    status, _, err = run("-d", "V", "init", *GIVEN[:2])
    assert status == 1 and there in err and "exists already" in err
    assert snapshot(where) == {there: b"mine"}


def test_init_force_puts_the_key_aside(run, vendor_dir):
    old = (vendor_dir / "vendor.key").read_bytes()
    status, out, _ = run("-d", "V", "init", "--force", *GIVEN[:2])
    assert status == 0
    aside, = vendor_dir.glob("vendor.key.old-*")
    assert aside.read_bytes() == old and aside.name in out
    assert (vendor_dir / "vendor.key").read_bytes() != old


def test_password_sources(run, tmp_path):
    """First line of a file, without its end."""
    (tmp_path / "pw").write_bytes(b"vendor secret\r\nsecond line\n")
    os.chmod(tmp_path / "pw", 0o644)
    status, _, err = run("-d", "V", "init", "--vendor-password", "file:pw")
    assert status == 0 and "chmod 600" in err
    check_key(tmp_path / "V" / "vendor.key", "VP")
    for source, words in (("env:NONE", "no environment variable NONE"),
                          ("file:none", "none"),
                          ("vendor secret", "never the password itself")):
        status, _, err = run("-d", "W", "init", "--vendor-password", source)
        assert status == 1 and words in err
    assert snapshot(tmp_path / "W") == {}


def test_no_terminal(run, tmp_path):
    status, _, err = run("-d", "V", "init")
    assert status == 1 and "no terminal" in err
    assert "--vendor-password" in err
    assert snapshot(tmp_path / "V") == {}


# ---- req --------------------------------------------------------------------

def test_req_on_a_terminal(terminal, vendor_dir, world):
    with terminal("-d", "V", "req", "de", "--root", world.root_file,
                  umask=0) as t:
        t.answer(VENDOR + ": ", "vendor secret")
        t.answer(PUSH + ": ", "push secret")
        t.answer(PUSH + " (again): ", "push secret")
        assert t.wait() == 0, t.text
        assert VENDOR + " (again)" not in t.text
        assert "WARNING: --root" in t.text and "Apple will refuse" in t.text
        for word in ("push.b64", "identity.apple.com/pushcert", "check",
                     "import"):
            assert word in t.text
    assert all(modes(vendor_dir)[n] == 0o600
               for n in ("push.key", "push.csr", "push.b64"))
    check_key(vendor_dir / "push.key", "PP")
    check_csr(vendor_dir / "push.csr", "DER", "C=DE,CN=MDM Push")
    check_request(vendor_dir, "push.b64", world,
                  (vendor_dir / "push.csr").read_bytes())
    der = openssl("req", "-inform", "DER", "-in",
                  str(vendor_dir / "push.csr"), "-noout", "-pubkey")
    assert der == key_of(vendor_dir / "push.key", "PP")


def req(run, world, *more, env=None):
    return run("-d", "V", "req", "--root", world.root_file, *GIVEN, *more,
               env=env)


def test_req_prefix(run, vendor_dir, world):
    assert req(run, world, "-p", "site-", "FR")[0] == 0
    check_csr(vendor_dir / "site-push.csr", "DER", "C=FR,CN=MDM Push")
    check_request(vendor_dir, "site-push.b64", world,
                  (vendor_dir / "site-push.csr").read_bytes())


def test_vendor_certificate_in_pem(run, vendor_dir, world):
    der = (vendor_dir / "vendor.crt").read_bytes()
    pem = x509.load_der_x509_certificate(der).public_bytes(PEM)
    (vendor_dir / "vendor.crt").write_bytes(
        b"\xef\xbb\xbfBag Attributes\r\n" + pem.replace(b"\n", b"\r\n"))
    assert req(run, world, "DE")[0] == 0
    (vendor_dir / "vendor.crt").write_bytes(der)
    check_request(vendor_dir, "push.b64", world,
                  (vendor_dir / "push.csr").read_bytes())


@pytest.mark.parametrize("code", ["D", "DEU", "1A", "D ", "", "ÄÖ"])
def test_country_code(code, run, vendor_dir, world):
    before = snapshot(vendor_dir)
    status, _, err = req(run, world, code)
    assert status == 2 and "two letters" in err
    assert snapshot(vendor_dir) == before


def test_wrong_vendor_password(run, vendor_dir, world):
    before = snapshot(vendor_dir)
    status, _, err = req(run, world, "DE", env={"VP": "guess"})
    assert status == 1 and "vendor.key" in err and "pass phrase" in err
    assert snapshot(vendor_dir) == before


def test_req_overwrites_nothing(run, vendor_dir, world):
    assert req(run, world, "DE")[0] == 0
    before = snapshot(vendor_dir)
    status, _, err = req(run, world, "DE")
    assert status == 1 and "--renew" in err and "--new-key" in err
    assert snapshot(vendor_dir) == before
    (vendor_dir / "push.key").unlink()
    status, _, err = req(run, world, "DE")
    assert status == 1 and "push.csr exists already" in err


def test_renew_keeps_the_key(run, terminal, vendor_dir, world):
    assert req(run, world, "DE")[0] == 0
    before = snapshot(vendor_dir)
    with terminal("-d", "V", "req", "--renew", "AT", "--root",
                  world.root_file) as t:
        t.answer(VENDOR + ": ", "vendor secret")
        t.answer(PUSH + ": ", "push secret")
        assert t.wait() == 0, t.text
        assert "(again)" not in t.text
        assert "SAME" in t.text and "Renew" in t.text
    after = snapshot(vendor_dir)
    assert after["push.key"] == before["push.key"]
    assert set(after) == set(before)
    check_csr(vendor_dir / "push.csr", "DER", "C=AT,CN=MDM Push")
    check_request(vendor_dir, "push.b64", world, after["push.csr"])
    status, _, err = req(run, world, "DE", "--renew", env={"PP": "guess"})
    assert status == 1 and "push.key" in err and "pass phrase" in err
    assert snapshot(vendor_dir) == after


def test_renew_without_a_key(run, vendor_dir, world):
    before = snapshot(vendor_dir)
    status, _, err = req(run, world, "DE", "--renew")
    assert status == 1 and "no V/push.key" in err
    assert snapshot(vendor_dir) == before


def test_new_key_stands_beside(run, vendor_dir, world):
    assert req(run, world, "DE")[0] == 0
    before = snapshot(vendor_dir)
    status, out, _ = req(run, world, "DE", "--renew", "--new-key",
                         env={"PP": "another"})
    assert status == 0 and "push-new.key" in out
    after = snapshot(vendor_dir)
    assert {n: after[n] for n in before} == before
    assert set(after) - set(before) == {"push-new.key", "push-new.csr",
                                        "push-new.b64"}
    check_request(vendor_dir, "push-new.b64", world, after["push-new.csr"])
    assert key_of(vendor_dir / "push.key", "PP") != openssl(
        "pkey", "-in", str(vendor_dir / "push-new.key"), "-passin",
        "pass:another", "-pubout")
    status, _, err = req(run, world, "DE", "--new-key")
    assert status == 1 and "push-new.key" in err
    assert snapshot(vendor_dir) == after
    assert req(run, world, "DE", "--new-key", "--force")[0] == 0
    aside, = vendor_dir.glob("push-new.key.old-*")
    assert aside.read_bytes() == after["push-new.key"]


def test_force_puts_the_push_key_aside(run, vendor_dir, world):
    assert req(run, world, "DE")[0] == 0
    old = (vendor_dir / "push.key").read_bytes()
    assert req(run, world, "DE", "--force")[0] == 0
    aside, = vendor_dir.glob("push.key.old-*")
    assert aside.read_bytes() == old
    check_request(vendor_dir, "push.b64", world,
                  (vendor_dir / "push.csr").read_bytes())


# ---- what is wrong with the vendor's certificate ----------------------------

def spoil_vendor(what, world, where):
    """Words that must be in the answer."""
    crt = where / "vendor.crt"
    if what == "missing":
        crt.unlink()
        return ["no V/vendor.crt", "developer.apple.com"]
    if what == "garbage":
        crt.write_bytes(b"<html>sign in</html>")
        return ["vendor.crt"]
    if what == "csr":
        crt.write_bytes((where / "vendor.csr").read_bytes())
        return ["vendor.crt"]
    if what == "mismatch":
        crt.write_bytes(Signer(name_of("MDM Vendor"), world.g3, False).der)
        return ["not issued for vendor.key"]
    if what == "no-key":
        (where / "vendor.key").unlink()
        return ["no V/vendor.key"]
    if what == "expired":
        world.equip(where, days=(-400, -35))
        return ["vendor.crt expired on 20", "developer.apple.com"]
    if what == "not-yet":
        world.equip(where, days=(3, 300))
        return ["vendor.crt is not valid before 20", "clock"]
    if what == "self-signed":
        crt.write_bytes(Signer(name_of("MDM Vendor"), None, False).der)
        return ["does not lead to Apple's root", "MDM Vendor"]
    if what == "push-certificate":
        world.equip(where, user_id="com.apple.mgmt.External.x")
        return ["is a push certificate"]
    if what == "small":
        crt.write_bytes(Signer(name_of("MDM Vendor"), world.g3, False,
                               key=new_rsa(1024)).der)
        return ["RSA key of 1024 bits", "2048"]
    if what == "ec":
        crt.write_bytes(Signer(name_of("MDM Vendor"), world.g3, False,
                               key=ec.generate_private_key(
                                   ec.SECP256R1())).der)
        return ["not an RSA key"]
    if what == "impostor":      # the right name, another key
        fake = Signer(world.g3.cert.subject, world.root)
        world.equip(where, under=fake)
        return ["did not sign", "G3"]
    if what == "other-root":
        fake = Signer(name_of("Apple Root CA"))
        (where / "AppleWWDRCAG3.cer").write_bytes(
            Signer(world.g3.cert.subject, fake, key=world.g3.key).der)
        (where / "fake-root.cer").write_bytes(fake.der)
        return ["does not lead to Apple's root"]
    if what == "intermediate-expired":
        (where / "AppleWWDRCAG3.cer").write_bytes(
            Signer(world.g3.cert.subject, world.root, days=(-900, -3),
                   key=world.g3.key).der)
        return ["does not lead to Apple's root", "expired"]
    if what == "intermediate-no-ca":
        (where / "AppleWWDRCAG3.cer").write_bytes(
            Signer(world.g3.cert.subject, world.root, False,
                   key=world.g3.key).der)
        return ["does not lead to Apple's root", "may not issue"]
    assert what == "no-intermediate"
    (where / "AppleWWDRCAG3.cer").unlink()
    return ["vendor.crt was issued by", "G3",
            "https://www.apple.com/certificateauthority/AppleWWDRCAG3.cer",
            "--fetch"]


@pytest.mark.parametrize("what", [
    "missing", "garbage", "csr", "mismatch", "no-key", "expired", "not-yet",
    "self-signed", "push-certificate", "small", "ec", "impostor",
    "other-root", "intermediate-expired", "intermediate-no-ca",
    "no-intermediate"])
def test_unusable_vendor_certificate(what, run, vendor_dir, world):
    words = spoil_vendor(what, world, vendor_dir)
    before = snapshot(vendor_dir)
    status, _, err = req(run, world, "DE")
    assert status == 1
    for word in words:
        assert word in err, err
    assert snapshot(vendor_dir) == before


def test_without_root_apples_is_wanted(run, vendor_dir, world):
    """A root of the same name in the directory is not Apple's."""
    status, _, err = run("-d", "V", "req", "DE", *GIVEN)
    assert status == 1
    assert "https://www.apple.com/appleca/AppleIncRootCertificate.cer" in err
    (vendor_dir / "root.pem").write_bytes(world.root.pem)
    status, _, err = run("-d", "V", "req", "DE", *GIVEN)
    assert status == 1 and "does not lead to Apple's root" in err
    assert not (vendor_dir / "push.key").exists()


def test_the_right_issuer_is_picked(run, vendor_dir, world):
    """By signature, among others of the same name and other files."""
    (vendor_dir / "0-impostor.cer").write_bytes(
        Signer(world.g3.cert.subject, world.root).der)
    (vendor_dir / "0-expired.cer").write_bytes(
        Signer(world.g3.cert.subject, world.root, days=(-900, -3),
               key=world.g3.key).der)
    (vendor_dir / "0-junk.pem").write_bytes(b"\x30\x82junk")
    g4 = Signer(name_of("Apple WWDR", "G4"), world.root)
    (vendor_dir / "G4.pem").write_bytes(g4.pem)
    assert req(run, world, "DE")[0] == 0
    check_request(vendor_dir, "push.b64", world,
                  (vendor_dir / "push.csr").read_bytes())


# ---- --fetch ----------------------------------------------------------------

def test_fetch_intermediate(run, vendor_dir, world, pki):
    (vendor_dir / "AppleWWDRCAG3.cer").unlink()
    with WebSite(pki) as site:
        site.files["/certificateauthority/AppleWWDRCAG3.cer"] = world.g3.der
        status, _, err = req(run, world, "DE", "--fetch", "--fetch-from",
                             site.url)
        assert status == 1 and "not trusted" in err
        status, out, err = req(run, world, "DE", "--fetch", "--fetch-from",
                               site.url, "--ca", site.ca_file)
        assert status == 0, err
        assert "AppleWWDRCAG3.cer" in out
        (method, path, headers, _), = site.requests
        assert method == "GET" and headers["Accept"] == "*/*"
        assert headers["User-Agent"].startswith("mdmcerts/")
    assert (vendor_dir / "AppleWWDRCAG3.cer").read_bytes() == world.g3.der
    check_request(vendor_dir, "push.b64", world,
                  (vendor_dir / "push.csr").read_bytes())
    assert req(run, world, "DE", "--renew", "--fetch")[0] == 0  # offline


@pytest.mark.parametrize("serve, words", [
    (lambda w: w.g3.der, ["SHA-256", "dcf21878c77f4198"]),
    (lambda w: b"<html>", ["did not deliver a certificate"]),
    (lambda w: b"x" * 400000, ["longer than"]),
    (lambda w: None, ["status 404", "browser"]),
])
def test_fetched_certificates_are_pinned(serve, words, run, vendor_dir,
                                         world, pki):
    (vendor_dir / "AppleWWDRCAG3.cer").unlink()
    before = snapshot(vendor_dir)
    with WebSite(pki) as site:
        data = serve(world)
        if data is not None:
            site.files["/certificateauthority/AppleWWDRCAG3.cer"] = data
        status, _, err = run("-d", "V", "req", "DE", *GIVEN, "--fetch",
                             "--fetch-from", site.url, "--ca", site.ca_file)
    assert status == 1
    for word in words:
        assert word in err, err
    assert snapshot(vendor_dir) == before


def test_fetched_root_is_pinned(run, vendor_dir, world, pki):
    before = snapshot(vendor_dir)
    with WebSite(pki) as site:
        site.files["/appleca/AppleIncRootCertificate.cer"] = world.root.der
        status, _, err = run("-d", "V", "req", "DE", *GIVEN, "--fetch",
                             "--fetch-from", site.url, "--ca", site.ca_file)
    assert status == 1 and "b0b1730ecbc7ff4505142c49f1295e6e" in err
    assert snapshot(vendor_dir) == before


def test_fetch_wants_https(run, vendor_dir, world):
    (vendor_dir / "AppleWWDRCAG3.cer").unlink()
    status, _, err = req(run, world, "DE", "--fetch", "--fetch-from",
                         "http://localhost:1")
    assert status == 1 and "no https:// URL" in err


# ---- sign_req ---------------------------------------------------------------

def foreign_csr(key, digest=None):
    return (x509.CertificateSigningRequestBuilder()
            .subject_name(name_of("somebody else"))
            .sign(key, digest or hashes.SHA256()))


@pytest.mark.parametrize("form", ["der", "pem", "pem-text"])
def test_sign_req(form, run, terminal, vendor_dir, world, tmp_path):
    csr = foreign_csr(new_rsa())
    data = csr.public_bytes(DER if form == "der" else PEM)
    if form == "pem-text":
        data = b"From: a friend\r\n\r\n" + data.replace(b"\n", b"\r\n")
    (tmp_path / "theirs.csr").write_bytes(data)
    with terminal("-d", "V", "sign_req", "theirs.csr", "--root",
                  world.root_file) as t:
        t.answer(VENDOR + ": ", "vendor secret")
        assert t.wait() == 0, t.text
        assert PUSH not in t.text
    made_file = tmp_path / "theirs.csr.b64"
    assert stat.S_IMODE(made_file.stat().st_mode) == 0o600
    (vendor_dir / "theirs.b64").write_bytes(made_file.read_bytes())
    check_request(vendor_dir, "theirs.b64", world, csr.public_bytes(DER))
    args = ["-d", "V", "sign_req", "theirs.csr", "--root", world.root_file,
            *GIVEN[:2]]
    status, _, err = run(*args)
    assert status == 1 and "theirs.csr.b64 exists already" in err
    assert run(*args, "--force")[0] == 0


def bad_csr(what):
    good = foreign_csr(new_rsa()).public_bytes(DER)
    if what == "altered":
        return good.replace(b"somebody else", b"anybody  else"), "altered"
    if what == "small":
        return foreign_csr(new_rsa(1024)).public_bytes(DER), "1024 bits"
    if what == "ec":
        return foreign_csr(ec.generate_private_key(
            ec.SECP256R1())).public_bytes(DER), "not an RSA key"
    if what == "truncated":
        return good[:-20], "no signing request"
    if what == "trailing":
        return good + b"\0", "no signing request"
    if what == "certificate":
        return Signer(name_of("x")).pem, "no signing request"
    return {"empty": b"", "text": b"hello"}[what], "no signing request"


@pytest.mark.parametrize("what", ["altered", "small", "ec", "truncated",
                                  "trailing", "certificate", "empty",
                                  "text"])
def test_sign_req_refuses(what, run, vendor_dir, world, tmp_path):
    data, words = bad_csr(what)
    (tmp_path / "theirs.csr").write_bytes(data)
    status, _, err = run("-d", "V", "sign_req", "theirs.csr", "--root",
                         world.root_file, *GIVEN[:2])
    assert status == 1 and words in err, err
    assert not (tmp_path / "theirs.csr.b64").exists()
    assert vendor_dir.exists()


# ---- files ------------------------------------------------------------------

def as_nobody():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="root changes the user")
def test_directory_that_cannot_be_written(program, vendor_dir, world,
                                          tmp_path):
    os.chmod(vendor_dir, 0o755)
    for path in [vendor_dir, *vendor_dir.iterdir()]:
        os.chmod(path, 0o755)
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/") and len(path.parts) > 2:
            os.chmod(path, os.stat(path).st_mode | 0o011)
    before = snapshot(vendor_dir)
    done = subprocess.run(
        [program, "-d", str(vendor_dir), "req", "DE", "--root",
         world.root_file, *GIVEN], env=ENV, cwd="/", capture_output=True,
        preexec_fn=as_nobody, timeout=60, check=False)
    assert done.returncode == 1
    assert b"cannot write" in done.stderr and b"Permission" in done.stderr
    assert snapshot(vendor_dir) == before


@pytest.mark.parametrize("odd", ["push.csr", "push.b64"])
def test_something_odd_in_the_way(odd, run, vendor_dir, world):
    """A renewal replaces all of its files or none."""
    assert req(run, world, "DE")[0] == 0
    (vendor_dir / odd).unlink()
    (vendor_dir / odd).mkdir()
    before = {n: p.read_bytes() for n, p in
              ((p.name, p) for p in vendor_dir.iterdir()) if p.is_file()}
    status, _, err = req(run, world, "DE", "--renew")
    assert status == 1 and f"{odd} is not an ordinary file" in err
    assert (vendor_dir / odd).is_dir()
    assert before == {p.name: p.read_bytes() for p in vendor_dir.iterdir()
                      if p.is_file()}


def test_full_disk(run, vendor_dir, world):
    """Everything is written and synced before anything gets its name."""
    before = snapshot(vendor_dir)

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    status, _, err = run("-d", "V", "req", "DE", "--root", world.root_file,
                         *GIVEN, preexec_fn=small_files)
    assert status == 1 and "cannot write V/push.b64" in err, err
    assert "nothing was changed" in err
    assert snapshot(vendor_dir) == before


@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_killed_at_any_time(number, program, vendor_dir, world, tmp_path):
    """At moments spread over a whole run: either all is there, or nothing
    (KILL, between two renames, may leave the key without its request, and
    never a part of a file)."""
    number = getattr(signal, "SIG" + number)
    before = set(snapshot(vendor_dir))
    command = [program, "-d", "V", "req", "DE", "--root", world.root_file,
               *GIVEN]
    start = time.monotonic()
    subprocess.run(command, env=ENV, cwd=tmp_path, check=True,
                   capture_output=True, timeout=60)
    whole = time.monotonic() - start
    for i in range(24):
        for name in set(snapshot(vendor_dir)) - before:
            (vendor_dir / name).unlink()
        process = subprocess.Popen(command, env=ENV, cwd=tmp_path,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(whole * (i + 0.5) / 20)
        process.send_signal(number)
        process.wait(30)
        new = {n for n in set(snapshot(vendor_dir)) - before
               if not n.startswith(".")}
        if number == signal.SIGTERM:
            assert new in (set(), {"push.key", "push.csr", "push.b64"}), new
            assert set(snapshot(vendor_dir)) - before == new
        if "push.key" in new:
            check_key(vendor_dir / "push.key", "PP")
        if "push.b64" in new:
            check_request(vendor_dir, "push.b64", world,
                          (vendor_dir / "push.csr").read_bytes())


# ---- the command line -------------------------------------------------------

COMMANDS = ["init", "req", "sign_req", "check", "import", "fetch"]


def test_help(run):
    status, out, err = run("--help")
    assert status == 0 and not err
    for command in COMMANDS:
        assert f"\n  {command} " in out
        status, text, err = run(command, "--help")
        assert status == 0 and not err
        assert text.startswith("usage: mdmcerts") and command in text
        assert max(len(line) for line in text.splitlines()) <= 80
    assert run("--version")[1].startswith("mdmcerts ")


@pytest.mark.parametrize("args", [
    [], ["no-such"], ["init", "extra"], ["req"], ["req", "DE", "FR"],
    ["init", "--no-such"], ["init", "--json"], ["check"], ["sign_req"],
    ["check", "x", "--warn", "many"], ["import"], ["fetch"],
    ["req", "DE", "--root"], ["import", "--store", "sqlite:/x"],
    ["import", "--store", "nosql:/x", "--cert", "y"]])
def test_wrong_usage(args, run, tmp_path):
    status, out, err = run(*args)
    assert status == 2 and not out and err
    assert list(tmp_path.iterdir()) == []


def test_manual_names_every_option(run):
    """mdmcerts(1) and --help say the same words."""
    page = os.path.join(os.path.dirname(__file__), "..", "..", "docs",
                        "mdmcerts.1")
    with open(page, encoding="utf-8") as f:
        manual = f.read().replace("\\-", "-")
    for command in COMMANDS:
        text = run(command, "--help")[1]
        for option in set(re.findall(r"--[a-z][a-z-]+", text)):
            assert option in manual, (command, option)
