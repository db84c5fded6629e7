"""The program mdmcerts: check, on every push certificate of tests/cases/pki
with the verdict of its manifest, and on each fault by itself."""
import datetime
import json
import os
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from mdmcerts_rig import PUSH, openssl, program, run, terminal, world
from mdmtest.vendor import DAY, PEM, UTC, Signer, name_of, new_rsa

_ = (program, run, terminal, world)      # fixtures
CASES = os.path.abspath(os.path.join(os.path.dirname(__file__), "..",
                                     "cases"))
TOPIC = "com.apple.mgmt.External.aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
# What is chosen where the manifest leaves a choice, and words that must come.
DECIDED = {
    "C49-topic-changed.pem": (0, "topic"),
    "C51-expired.pem": (1, "expired on 2021-01-01"),
    "C51-not-yet-valid.pem": (1, "not valid before 2035-01-01"),
    "C52-key-mismatch.key": (1, "do not belong together"),
    "C52-csr-instead-of-cert.pem": (1, "is a signing request"),
    "C52-cert-without-key.pem": (1, "no private key"),
    "C52-public-key-only.pem": (1, "only a public key"),
    "C53-ec-push.pem": (1, "not an RSA key"),
    "C53-rsa-1024.pem": (1, "1024 bits"),
    "C53-rsa-pkcs8.der": (0, ""),
    "C54-des-dek-info.key": (0, ""),
    "C54-pkcs8-pbe-md5-des.key": (0, ""),
    "C55-rc2-40-keychain.p12": (0, ""),
    "C55-no-mac.p12": (1, "has no checksum"),
    "C55-no-key.p12": (1, "no private key"),
    "C55-truncated.p12": (1, "cut off"),
    "C56-bare-cr.pem": (1, "line ends of old Macs"),
    "C56-utf16.pem": (1, "UTF-16"),
    "C56-two-keys.pem": (1, "more than one private key"),
    "C56-trusted-cert.pem": (0, ""),
    "C56-der.cer": (0, ""),
    "C56-base64-only.txt": (1, "base64 without"),
}
ALLOWED = {
    "accept": {0}, "accept-with-passphrase": {0}, "reject": {1},
    "clear-error": {1}, "clear-error-without-legacy": {0, 1},
    "accept-or-clear-error": {0, 1}, "accept-or-say-legacy": {0, 1},
    "either": {0, 1}, "warn": {0, 1, 3}, "refuse-unless-forced": {0},
}
# Where the other half is not the obvious one.
CERT_FOR = {"C49-renewed-new-key.key": "C49-renewed-new-key.pem",
            "C53-ec-pkcs8.key": "C53-ec-push.pem",
            "C53-ec-sec1.key": "C53-ec-push.pem"}
KEY_FOR = {"C49-renewed-new-key.pem": "C49-renewed-new-key.key",
           "C53-ec-push.pem": "C53-ec-sec1.key",
           "C52-cert-without-key.pem": "C52-cert-without-key.pem"}


def manifest():
    with open(os.path.join(CASES, "manifest.pki.json"),
              encoding="utf-8") as f:
        rows = json.load(f)
    return [r for r in rows if r["file"].startswith("pki/")
            and (r["case"] == "push" or r["case"] in
                 {"C49", "C50", "C51", "C52", "C53", "C54", "C55", "C56"})]


def operands(name):
    """CERT and KEY for a case, as an administrator would name them."""
    path = lambda n: os.path.join(CASES, "pki", n)      # noqa: E731
    if name.endswith((".p12", ".txt", ".cer")) \
            or name.startswith("C56") or name == "push-ca.pem":
        return [path(name)]
    if name.endswith((".key", ".der")) or name == "C52-public-key-only.pem":
        return [path(CERT_FOR.get(name, "push-ok.pem")), path(name)]
    return [path(name), path(KEY_FOR.get(name, "push-ok.key"))]


def test_the_cases_are_there():
    names = {os.path.basename(r["file"]) for r in manifest()}
    assert len(names) == 45 and set(DECIDED) <= names
    for row in manifest():
        assert os.path.exists(os.path.join(CASES, row["file"])), row
        name = os.path.basename(row["file"])
        if row["expect"] != "fixture":
            assert len(ALLOWED[row["expect"]]) == 1 or name in DECIDED


@pytest.mark.parametrize("row", manifest(), ids=lambda r: r["file"])
def test_case(row, run):
    name = os.path.basename(row["file"])
    allowed = {0, 1} if row["expect"] == "fixture" else ALLOWED[row["expect"]]
    wanted, words = DECIDED.get(name, (None, ""))
    status, out, err = run("check", *operands(name), "--push-password",
                           "env:PW", env={"PW": "secret"})
    assert status in allowed, (out, err)
    assert wanted in (None, status), (out, err)
    assert words in out + err
    if status == 0:
        assert not err and "verdict:     good\n" in out
    as_json = run("check", "--json", *operands(name), "--push-password",
                  "env:PW", env={"PW": "secret"})
    assert as_json[0] == status
    check_schema(json.loads(as_json[1]), status)


def check_schema(report, status):
    """Every key of docs/mdmcerts.1, and of the type that is told there."""
    names = {0: "good", 1: "bad", 3: "expires-soon"}
    assert report["status"] == names[status]
    assert isinstance(report["problems"], list)
    assert bool(report["problems"]) == (status == 1)
    assert all(isinstance(p, str) and p for p in report["problems"])
    if len(report) == 2:        # nothing could be read
        assert status == 1
        return
    assert set(report) - {"topic", "chain_reason"} == {
        "status", "problems", "serial", "fingerprint", "issuer",
        "not_before", "not_after", "days_left", "key", "chain"}
    assert re.fullmatch("[0-9a-f]{64}", report["fingerprint"])
    assert re.fullmatch("[0-9A-F]+", report["serial"])
    for key in ("not_before", "not_after"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report[key])
    assert isinstance(report["days_left"], int)
    assert report["key"] in {"belongs", "foreign", "absent"}
    assert (report["chain"] == "verified") == ("chain_reason" not in report)


# ---- what it says of a certificate ------------------------------------------

class Push:
    """A push certificate made for a test."""

    def __init__(self, where, stem="push", days=(-1, 300), uids=(TOPIC,),
                 key=None, issuer=None):
        self.key = key or new_rsa()
        now = datetime.datetime.now(UTC)
        name = x509.Name(
            [x509.NameAttribute(NameOID.USER_ID, u) for u in uids]
            + [x509.NameAttribute(NameOID.COMMON_NAME, "APSP:x")])
        builder = (
            x509.CertificateBuilder().subject_name(name)
            .issuer_name(issuer.cert.subject if issuer else name)
            .public_key(self.key.public_key())
            .serial_number(0x0123456789abcdef)
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY
                             + datetime.timedelta(minutes=5)))
        self.cert = builder.sign(issuer.key if issuer else self.key,
                                 hashes.SHA256())
        self.cert_file = os.path.join(where, stem + ".pem")
        self.key_file = os.path.join(where, stem + ".key")
        with open(self.cert_file, "wb") as f:
            f.write(self.cert.public_bytes(PEM))
        with open(self.key_file, "wb") as f:
            f.write(self.key.private_bytes(
                PEM, serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption()))


def report_of(run, *args, **more):
    status, out, _ = run("check", "--json", *args, **more)
    report = json.loads(out)
    check_schema(report, status)
    return status, report


def test_report(run, tmp_path, world):
    push = Push(tmp_path, issuer=world.g3)
    status, report = report_of(run, push.cert_file, push.key_file)
    assert status == 0 and report["topic"] == TOPIC
    assert report["serial"] == "0123456789ABCDEF"
    assert report["days_left"] == 300 and report["key"] == "belongs"
    assert "Apple Worldwide Developer Relations" in report["issuer"]
    assert report["fingerprint"] == push.cert.fingerprint(
        hashes.SHA256()).hex()
    shown = openssl("x509", "-noout", "-startdate", "-enddate", "-dateopt",
                    "iso_8601", "-in", push.cert_file).decode()
    for key in ("not_before", "not_after"):
        assert report[key].replace("T", " ") in shown
    status, out, _ = run("check", push.cert_file, push.key_file)
    assert status == 0
    for word in (TOPIC, report["fingerprint"], "expires in 300 days",
                 "belongs to the certificate", "verdict:     good"):
        assert word in out


@pytest.mark.parametrize("days, warn, status", [
    (30, None, 0), (29, None, 3), (1, None, 3), (0, None, 3), (40, "41", 3),
    (40, "40", 0), (3, "0", 0)])
def test_expires_soon(days, warn, status, run, tmp_path):
    push = Push(tmp_path, days=(-100, days))
    more = ["--warn", warn] if warn else []
    got, report = report_of(run, push.cert_file, push.key_file, *more)
    assert (got, report["days_left"]) == (status, days)
    if status == 3:
        out = run("check", push.cert_file, push.key_file, *more)[1]
        assert "expires soon" in out


@pytest.mark.parametrize("more, words", [
    ({"days": (-400, -3)}, "expired on 20"),
    ({"days": (2, 300)}, "not valid before 20"),
    ({"uids": ()}, "no UID"),
    ({"uids": (TOPIC, TOPIC)}, "two UIDs"),
    ({"uids": ("com.example.app",)}, "com.apple.mgmt."),
    ({"uids": ("com.apple.mgmt.a b",)}, "com.apple.mgmt."),
    ({"key": "ec"}, "not an RSA key"),
    ({"key": "short"}, "1024 bits"),
])
def test_each_fault(more, words, run, tmp_path):
    keys = {"ec": lambda: ec.generate_private_key(ec.SECP256R1()),
            "short": lambda: new_rsa(1024)}
    if "key" in more:
        more = {"key": keys[more["key"]]()}
    push = Push(tmp_path, **more)
    status, report = report_of(run, push.cert_file, push.key_file)
    assert status == 1
    assert len(report["problems"]) == 1 and words in report["problems"][0]


def test_wrong_halves(run, tmp_path):
    one, two = Push(tmp_path, "one"), Push(tmp_path, "two")
    for pair, words in (
            ((one.cert_file, two.key_file), "do not belong together"),
            ((one.key_file, one.key_file), "no certificate"),
            ((one.cert_file, one.cert_file), "no private key"),
            ((one.cert_file, "none.key"), "none.key")):
        status, report = report_of(run, *pair)
        assert status == 1 and words in report["problems"][0], report
    status, report = report_of(run, one.cert_file)
    assert status == 0 and report["key"] == "absent"
    # In the wrong order all the same.
    assert report_of(run, one.key_file, one.cert_file)[0] == 0


def test_chain(run, tmp_path, world):
    push = Push(tmp_path, issuer=world.g3)
    files = [push.cert_file, push.key_file]
    status, report = report_of(run, *files)
    assert status == 0 and report["chain"] == "unverified"
    assert "G3" in report["chain_reason"]
    status, report = report_of(run, *files, "--root", world.root_file)
    assert status == 1 and "G3" in report["problems"][0]
    (tmp_path / "D").mkdir()
    (tmp_path / "D" / "g3.pem").write_bytes(world.g3.pem)
    status, report = report_of(run, *files, "--root", world.root_file, "-d",
                               "D")
    assert status == 0 and report["chain"] == "verified"
    stranger = Signer(name_of("stranger"))
    (tmp_path / "stranger.pem").write_bytes(stranger.pem)
    assert report_of(run, *files, "--root", "stranger.pem", "-d", "D")[0] == 1


def test_password_on_a_terminal(terminal, tmp_path):
    push = Push(tmp_path)
    sealed = push.key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"push secret"))
    with open(push.key_file, "wb") as f:
        f.write(sealed)
    with terminal("check", push.cert_file, push.key_file) as t:
        t.answer(PUSH + ": ", "push secret")
        assert t.wait() == 0, t.text
    with terminal("check", push.cert_file, push.key_file) as t:
        t.answer(PUSH + ": ", "guess")
        assert t.wait() == 1 and "password" in t.text


def test_pkcs12(run, tmp_path):
    """Without a password, with one, with the wrong one."""
    push = Push(tmp_path)
    for password in (None, b"push secret"):
        protect = serialization.BestAvailableEncryption(password) \
            if password else serialization.NoEncryption()
        (tmp_path / "x.p12").write_bytes(pkcs12.serialize_key_and_certificates(
            None, push.key, push.cert, None, protect))
        status, report = report_of(run, "x.p12", "--push-password", "env:PP")
        assert status == 0 and report["key"] == "belongs"
    status, report = report_of(run, "x.p12", "--push-password", "env:PW",
                               env={"PW": "guess"})
    assert status == 1 and "pass phrase" in report["problems"][0]


@pytest.mark.parametrize("cut", range(0, 1800, 97))
def test_truncated(cut, run, tmp_path):
    """Ends with a sentence wherever it ends."""
    push = Push(tmp_path)
    with open(push.cert_file, "rb") as f:
        text = f.read()
    with open(push.key_file, "rb") as f:
        text += f.read()
    (tmp_path / "cut.pem").write_bytes(text[:cut])
    assert run("check", "cut.pem")[0] in (0, 1)
    der = push.cert.public_bytes(serialization.Encoding.DER)
    (tmp_path / "cut.der").write_bytes(der[:cut % len(der)])
    assert run("check", "cut.der")[0] == 1
