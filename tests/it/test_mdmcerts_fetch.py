"""The program mdmcerts: fetch, against a stand-in for mdmcert.download."""
import base64
import json
import os
import re
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from mdmcerts_rig import (ENV, PUSH, openssl, program, run, snapshot,
                          terminal, world)
from mdmtest.vendor import (Signer, WebSite, mail_for, make_request, name_of,
                            new_rsa)

_ = (program, run, terminal, world)      # fixtures
FILES = {"push.key", "push.csr", "mdmcert.key", "mdmcert.crt"}


@pytest.fixture
def site(pki):
    with WebSite(pki) as made:
        yield made


@pytest.fixture(scope="session")
def vendor(world):
    return Signer(name_of("MDM Vendor: other"), world.g3, False)


@pytest.fixture
def ask(run, site):
    """The first half, to the stand-in."""
    def call(*more, env=None):
        return run("-d", "V", "fetch", "DE", "--email", "admin@example.com",
                   "--url", site.url + "/api/v1/signrequest", "--ca",
                   site.ca_file, "--push-password", "env:PP", *more,
                   env={"MDMCERTS_API_KEY": "key-1", **(env or {})})
    return call


def decrypt(run, *more, env=None):
    return run("-d", "V", "fetch", "--decrypt", "mail.p7", "--push-password",
               "env:PP", *more, env=env)


def test_request(ask, site, tmp_path):
    status, out, err = ask()
    assert status == 0, err
    where = tmp_path / "V"
    assert set(snapshot(where)) == FILES
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600
               for p in where.iterdir())
    assert "admin@example.com" in out and "--decrypt" in out
    assert "key-1" not in out + err
    (method, path, headers, body), = site.requests
    assert (method, path) == ("POST", "/api/v1/signrequest")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("mdmcerts/")
    asked = json.loads(body)
    assert set(asked) == {"csr", "email", "key", "encrypt"}
    assert asked["email"] == "admin@example.com" and asked["key"] == "key-1"
    csr = openssl("req", "-inform", "DER", "-in", str(where / "push.csr"))
    assert base64.b64decode(asked["csr"], validate=True) == csr
    cert = base64.b64decode(asked["encrypt"], validate=True)
    assert cert == (where / "mdmcert.crt").read_bytes()
    shown = openssl("x509", "-noout", "-text", "-checkend", "31000000",
                    data=cert).decode()
    assert "CN = mdmcert.download" in shown and "2048 bit" in shown
    assert openssl("x509", "-noout", "-pubkey", data=cert) == openssl(
        "pkey", "-in", str(where / "mdmcert.key"), "-passin", "env:PP",
        "-pubout")
    for name in ("push.key", "mdmcert.key"):
        assert b"ENCRYPTED PRIVATE KEY" in (where / name).read_bytes()


def test_both_halves_on_a_terminal(terminal, site, vendor, tmp_path,
                                   monkeypatch):
    monkeypatch.setitem(ENV, "MDMCERTS_EMAIL", "admin@example.com")
    monkeypatch.setitem(ENV, "MDMCERTS_URL", site.url + "/x")
    with terminal("-d", "V", "-p", "my-", "fetch", "de", "--ca",
                  site.ca_file) as t:
        t.answer(PUSH + ": ", "push secret")
        t.answer(PUSH + " (again): ", "push secret")
        t.answer("mdmcert.download API key: ", "key-2")
        assert t.wait() == 0, t.text
        assert "mdmcerts -d V -p my- fetch --decrypt FILE" in t.text
    post = site.requests[0][3]
    assert json.loads(post)["key"] == "key-2"
    request, mail = mail_for(post, vendor, str(tmp_path))
    (tmp_path / "mail.p7").write_bytes(b"\r\n" + mail + b"\r\n")
    with terminal("-d", "V", "-p", "my-", "fetch", "--decrypt",
                  "mail.p7") as t:
        t.answer(PUSH + ": ", "push secret")
        assert t.wait() == 0, t.text
        assert "identity.apple.com" in t.text
    made = tmp_path / "V" / "my-push.b64"
    assert made.read_bytes() == request
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


@pytest.mark.parametrize("dress", ["plain", "wrapped", "upper", "der"])
def test_mailed_file(dress, ask, run, site, vendor, tmp_path):
    assert ask()[0] == 0
    request, mail = mail_for(site.requests[0][3], vendor, str(tmp_path))
    dressed = {"plain": mail, "upper": mail.upper(),
               "wrapped": re.sub(b"(.{76})", rb"\1\r\n", mail),
               "der": bytes.fromhex(mail.decode())}[dress]
    (tmp_path / "mail.p7").write_bytes(dressed)
    assert decrypt(run)[0] == 0
    assert (tmp_path / "V" / "push.b64").read_bytes() == request


def test_wrapped_request_is_written_verbatim(ask, run, site, vendor,
                                             tmp_path):
    assert ask()[0] == 0
    post = site.requests[0][3]
    plain = mail_for(post, vendor, str(tmp_path))[0]
    wrapped = re.sub(b"(.{76})", rb"\1\r\n", plain) + b"\r\n"
    (tmp_path / "mail.p7").write_bytes(
        mail_for(post, vendor, str(tmp_path), wrapped)[1])
    assert decrypt(run)[0] == 0
    assert (tmp_path / "V" / "push.b64").read_bytes() == wrapped


@pytest.mark.parametrize("verdict, words", [
    ((200, b'{"result": "failure", "reason": "no such \\u0007 user"}'),
     ["refused", "no such ? user"]),
    ((403, b'{"result": "failure"}'), ["refused", "403"]),
    ((502, b"<html>bad gateway</html>"), ["502", "try again"]),
    ((200, b""), ["no word"]),
    ((200, b"[" * 60000), ["no word"]),
    ((200, b" " * 100000), ["longer than"]),
])
def test_refused(verdict, words, ask, site, tmp_path):
    site.verdict = verdict
    status, _, err = ask()
    assert status == 1
    for word in words:
        assert word in err, err
    assert "key-1" not in err
    assert snapshot(tmp_path / "V") == {}


def test_not_reachable(run, tmp_path, pki):
    args = ["-d", "V", "fetch", "DE", "--email", "a@b", "--push-password",
            "env:PP", "--ca", pki.server_ca.cert_file]
    env = {"MDMCERTS_API_KEY": "k"}
    with WebSite(pki) as gone:
        url = gone.url
    status, _, err = run(*args, "--url", url, env=env)
    assert status == 1 and "no connection" in err
    status, _, err = run(*args, "--url", "http://localhost/", env=env)
    assert status == 1 and "no https:// URL" in err
    assert snapshot(tmp_path / "V") == {}


def test_untrusted_server(run, site, tmp_path):
    """Nothing is sent to somebody whose certificate is not trusted."""
    status, _, err = run("-d", "V", "fetch", "DE", "--email", "a@b", "--url",
                         site.url, "--push-password", "env:PP",
                         env={"MDMCERTS_API_KEY": "k"})
    assert status == 1 and "not trusted" in err
    assert not site.requests and snapshot(tmp_path / "V") == {}


@pytest.mark.parametrize("email", ["", "a b", 'a"b', "a\\b", "ä@b"])
def test_odd_address(email, run, tmp_path):
    status, _, err = run("-d", "V", "fetch", "DE", "--email", email,
                         "--push-password", "env:PP")
    assert status == 2 and "e-mail" in err
    assert not os.path.exists(tmp_path / "V")


def test_again_keeps_the_keys(ask, run, site, vendor, tmp_path):
    """Asked twice: the push key stays, and the first mail still opens with
    the key that was put aside."""
    assert ask()[0] == 0
    first = mail_for(site.requests[0][3], vendor, str(tmp_path))[1]
    before = snapshot(tmp_path / "V")
    status, _, err = ask()
    assert status == 1 and "--renew" in err
    assert snapshot(tmp_path / "V") == before
    assert ask("--renew")[0] == 0
    after = snapshot(tmp_path / "V")
    assert after["push.key"] == before["push.key"]
    aside, = (tmp_path / "V").glob("mdmcert.key.old-*")
    assert aside.read_bytes() == before["mdmcert.key"]
    (tmp_path / "mail.p7").write_bytes(first)
    status, _, err = decrypt(run)
    assert status == 1 and "another request" in err and "old-" in err
    request, mail = mail_for(site.requests[-1][3], vendor, str(tmp_path))
    (tmp_path / "mail.p7").write_bytes(mail)
    assert decrypt(run)[0] == 0
    assert (tmp_path / "V" / "push.b64").read_bytes() == request


def test_new_key(ask, run, site, vendor, tmp_path):
    assert ask()[0] == 0
    assert ask("--new-key")[0] == 0
    request, mail = mail_for(site.requests[-1][3], vendor, str(tmp_path))
    (tmp_path / "mail.p7").write_bytes(mail)
    assert decrypt(run)[0] == 0
    assert (tmp_path / "V" / "push-new.b64").read_bytes() == request
    assert not (tmp_path / "V" / "push.b64").exists()


def other_csr():
    key = new_rsa()
    return (x509.CertificateSigningRequestBuilder()
            .subject_name(name_of("other")).sign(key, hashes.SHA256()))


@pytest.mark.parametrize("what, words", [
    ("text", "not the file of the mail"), ("odd", "not the file of the mail"),
    ("empty", "not the file of the mail"),
    ("truncated", "not the file of the mail"),
    ("signed", "not the file of the mail"),
    ("not-a-request", "no signed request"),
    ("lacks-signature", "no PushCertSignature"),
    ("other-csr", "another CSR"), ("bad-signature", "signature")])
def test_bad_mail(what, words, ask, run, site, vendor, tmp_path):
    assert ask()[0] == 0
    post = site.requests[0][3]
    good, mail = mail_for(post, vendor, str(tmp_path))
    where = str(tmp_path)
    if what in ("text", "odd", "empty", "truncated"):
        mail = {"text": b"hello", "odd": mail[:-1], "empty": b"",
                "truncated": mail[:-200]}[what]
    elif what == "signed":
        (tmp_path / "k.pem").write_bytes(openssl("genrsa", "2048"))
        mail = openssl("cms", "-sign", "-outform", "DER", "-signer",
                       os.path.join(where, "V", "mdmcert.crt"), "-inkey",
                       os.path.join(where, "V", "mdmcert.key"), "-passin",
                       "env:PP", data=b"x").hex().encode()
    elif what == "not-a-request":
        mail = mail_for(post, vendor, where, b"<html>")[1]
    elif what == "other-csr":
        mail = mail_for(post, vendor, where,
                        make_request(other_csr(), vendor))[1]
    else:
        xml = base64.b64decode(good)
        if what == "lacks-signature":
            xml = xml.replace(b"PushCertSignature", b"PushCertSomething")
        else:
            at = xml.index(b"<string>", xml.index(b"PushCertSignature")) + 20
            xml = xml[:at] + (b"A" if xml[at:at + 1] != b"A" else b"B") \
                + xml[at + 1:]
        mail = mail_for(post, vendor, where, base64.b64encode(xml))[1]
    (tmp_path / "mail.p7").write_bytes(mail)
    before = snapshot(tmp_path / "V")
    status, _, err = decrypt(run)
    assert status == 1 and words in err, err
    assert snapshot(tmp_path / "V") == before


def test_wrong_password_for_the_mail(ask, run, site, vendor, tmp_path):
    assert ask()[0] == 0
    (tmp_path / "mail.p7").write_bytes(
        mail_for(site.requests[0][3], vendor, str(tmp_path))[1])
    status, _, err = decrypt(run, env={"PP": "guess"})
    assert status == 1 and "mdmcert.key" in err
    assert not (tmp_path / "V" / "push.b64").exists()
