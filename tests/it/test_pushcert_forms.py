"""Push certificates in every dress of tests/cases/pki, handed to the API and
named in the configuration: what the manifest says, and one sentence a fault,
the same in both places (and in mdmcerts, see test_mdmcerts_check.py)."""
import base64
import json
import os

import pytest

CASES = os.path.join(os.path.dirname(__file__), "..", "cases")
TAKEN = None

# (file, key file or None, pass phrase or None, words of the refusal)
FORMS = [
    ("push-ok.pem", "push-ok.key", None, TAKEN),
    ("C49-renewed-same-topic.pem", "push-ok.key", None, TAKEN),
    ("C49-renewed-new-key.pem", "C49-renewed-new-key.key", None, TAKEN),
    ("C51-expired.pem", "push-ok.key", None, "expired on"),
    ("C51-not-yet-valid.pem", "push-ok.key", None, "is not valid before"),
    ("push-ok.pem", "C52-key-mismatch.key", None, "do not belong together"),
    ("C52-cert-without-key.pem", None, None, "no private key"),
    ("C52-csr-instead-of-cert.pem", "push-ok.key", None, "signing request"),
    ("push-ok.pem", "C52-public-key-only.pem", None, "only a public key"),
    ("C53-ec-push.pem", "C53-ec-pkcs8.key", None, "not an RSA key"),
    ("C53-ec-push.pem", "C53-ec-sec1.key", None, "not an RSA key"),
    ("push-ok.pem", "C53-rsa-pkcs1.key", None, TAKEN),
    ("push-ok.pem", "C53-rsa-pkcs8.key", None, TAKEN),
    ("push-ok.pem", "C53-rsa-pkcs8.der", None, TAKEN),
    ("push-ok.pem", "C54-des3-dek-info.key", "secret", TAKEN),
    ("push-ok.pem", "C54-des-dek-info.key", "secret", TAKEN),
    ("push-ok.pem", "C54-pkcs8-encrypted.key", "secret", TAKEN),
    ("push-ok.pem", "C54-pkcs8-encrypted.key", "wrong", "does not open"),
    ("push-ok.pem", "C54-pkcs8-encrypted.key", None, "is encrypted"),
    ("push-ok.pem", "C54-pkcs8-pbes1-3des.key", "secret", TAKEN),
    ("push-ok.pem", "C54-pkcs8-pbe-md5-des.key", "secret", TAKEN),
    ("C55-3des.p12", None, "secret", TAKEN),
    ("C55-extra-certs.p12", None, "secret", TAKEN),
    ("C55-modern-aes256.p12", None, "secret", TAKEN),
    ("C55-modern-aes256.p12", None, "wrong", "does not open"),
    ("C55-rc2-40-keychain.p12", None, "secret", TAKEN),
    ("C55-no-key.p12", None, "secret", "holds no private key"),
    ("C55-no-mac.p12", None, "secret", "no checksum"),
    ("C55-truncated.p12", None, "secret", "cut off"),
    ("C56-crlf.pem", None, None, TAKEN),
    ("C56-utf8-bom.pem", None, None, TAKEN),
    ("C56-key-first.pem", None, None, TAKEN),
    ("C56-no-final-newline.pem", None, None, TAKEN),
    ("C56-leading-blank-lines.pem", None, None, TAKEN),
    ("C56-trailing-spaces.pem", None, None, TAKEN),
    ("C56-one-line-base64.pem", None, None, TAKEN),
    ("C56-trusted-cert.pem", None, None, TAKEN),
    ("C56-der.cer", "C53-rsa-pkcs8.der", None, TAKEN),
    ("C56-bare-cr.pem", None, None, "line ends of old Macs"),
    ("C56-utf16.pem", None, None, "UTF-16"),
    ("C56-two-keys.pem", None, None, "more than one private key"),
    ("C56-base64-only.txt", None, None, "BEGIN and END lines"),
]
GOOD = {"accept", "accept-with-passphrase"}
BAD = {"reject", "clear-error"}


def path_of(name):
    return os.path.join(CASES, "pki", name)


def read(name):
    with open(path_of(name), "rb") as f:
        return f.read()


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def name_of(form):
    return "+".join(str(p) for p in form[:3] if p)


def test_verdicts_are_the_manifests():
    """Every input of C49 to C56 is here, with the manifest's verdict."""
    with open(os.path.join(CASES, "manifest.pki.json"),
              encoding="utf-8") as f:
        rows = json.load(f)
    rows = rows.get("cases", rows) if isinstance(rows, dict) else rows
    named = {}
    for cert, key, phrase, words in FORMS:
        for name in (cert, key):
            if name:
                named.setdefault(name, []).append((phrase, words))
    for row in rows:
        name = os.path.basename(row["file"])
        if row["case"] not in ("C49", "C51", "C52", "C53", "C54", "C55",
                               "C56"):
            continue
        if name in ("C49-topic-changed.pem", "C53-rsa-1024.pem"):
            continue        # test_topic, test_short_key
        assert name in named, name
        verdicts = [w for p, w in named[name] if p != "wrong"]
        if row["expect"] in GOOD:
            assert TAKEN in verdicts, row
        elif row["expect"] in BAD:
            assert TAKEN not in verdicts, row


@pytest.fixture(scope="module")
def forms_server(kind, pki, build_dir, session_apns):
    from conftest import KINDS, push_settings
    server = KINDS[kind](pki, build_dir, push_settings(pki, session_apns)
                         + [("http", "PUSH", "off")])
    try:
        server.start()
        yield server
        server.quit()
    finally:
        server.stop()
        server.remove()


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_by_api(form, forms_server):
    cert, key, phrase, words = form
    body = read(cert)
    if key and key.endswith(".der"):    # DER first, then text
        body = read(key) + body
    elif key:
        body += b"\n" + read(key)
    headers = {"X-Key-Passphrase": phrase} if phrase else {}
    api = forms_server.api()
    reply = api.call("PUT", "/v1/pushcert?force=1", body, headers)
    api.transport.close()
    if words is TAKEN:
        assert reply.status == 200, reply
        assert reply.json["topic"].startswith("com.apple.mgmt.")
        assert reply.json["not_after"].endswith("Z")
    else:
        assert reply.status == 400, reply
        assert words in reply.json["error"]


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_in_configuration(form, own_server, tmp_path):
    cert, key, phrase, words = form
    files = [path_of(cert)] + ([path_of(key)] if key else [])
    settings = [("http", "PUSH_CERTIFICATE", *files)]
    if phrase:
        word = tmp_path / "phrase"
        word.write_text(phrase + "\n")
        settings.append(("http", "PUSH_CERTIFICATE_PASS_PHRASE",
                         f"file:{word}"))
    server = own_server(settings, start=False)
    status, text = server.configtest()
    if words is TAKEN:
        assert status == 0, text
    elif cert == "C51-expired.pem":      # a site must come up
        assert status == 0 and "MDM0502" in text, text
    else:
        assert status != 0
        # The line says which file; two of them may be meant.
        assert "C5" in text or "push-ok" in text, text
        if "is encrypted" != words and phrase != "wrong":
            assert words in text, text


def test_short_key(forms_server, own_server, pki):
    """1024 bits: Apple takes no such key, nor does OpenSSL."""
    import cryptography.hazmat.primitives.asymmetric.rsa as rsa
    short = pki.push(key=rsa.generate_private_key(65537, 1024))
    api = forms_server.api()
    reply = api.put_pushcert(short.both_pem, "?force=1")
    assert reply.status == 400
    assert "RSA key of 1024 bits; Apple wants 2048" in reply.json["error"]
    server = own_server([("http", "PUSH_CERTIFICATE", short.both_file)],
                        start=False)
    status, text = server.configtest()
    assert status != 0 and "RSA key of 1024 bits" in text


def test_renewal_and_other_topic(own_server, enroll, pki, own_apns):
    """Same topic: replaced in place.  Another one: refused with the number
    of those whom it would silence.  Older: refused.  Each but the expired
    one can be forced."""
    server = own_server()
    first = server.push
    for _ in range(3):
        enroll(server)
    api = server.api()
    renewed = pki.push(first.topic)
    assert api.put_pushcert(renewed.both_pem).status == 200
    reply = api.put_pushcert(pki.push(first.topic,
                                      days=(-9, 200)).both_pem)
    assert reply.status == 409 and "older" in reply.json["error"]
    other = pki.push()
    reply = api.put_pushcert(other.both_pem)
    assert reply.status == 409
    assert "3 use another" in reply.json["error"]
    assert first.topic in reply.json["error"]
    expired = pki.push(first.topic, days=(-400, -1))
    reply = api.put_pushcert(expired.both_pem, "?force=1")
    assert reply.status == 400 and "expired on" in reply.json["error"]
    assert api.put_pushcert(other.both_pem, "?force=1").status == 200
    # The old one is still there and used.
    assert api.get_pushcert(first.topic).status == 200
    device = enroll(server)
    api.push(device.id)
    push = own_apns.wait_token(device.token_hex)
    assert push["fingerprint"] == renewed.fingerprint


def test_key_is_sealed_and_unreadable_elsewhere(own_server, pki):
    server = own_server(push=False)
    push = pki.push()
    assert server.api().put_pushcert(push.both_pem).status == 200
    pem = open(push.key_file, "rb").read()
    secret = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    server.quit()
    for name in os.listdir(server.state_dir):
        with open(os.path.join(server.state_dir, name), "rb") as f:
            data = f.read()
        assert secret[40:72] not in data and pem[60:100] not in data, name


def test_renewed_certificate_alone(own_server, enroll, own_apns, pki):
    """The key stayed the same, so the certificate is all there is: it is
    taken with the stored key and used at once."""
    server = own_server()
    api = server.api()
    old = server.push
    device = enroll(server)
    renewed = pki.push(old.topic, days=(0, 390), key=old.key)
    stranger = pki.push(old.topic, days=(0, 390))
    reply = api.put_pushcert(read_file(stranger.cert_file))
    assert reply.status == 400
    assert "the one that is stored for this topic does not belong to" \
        in reply.json["error"]
    reply = api.put_pushcert(read_file(renewed.cert_file))
    assert reply.status == 200, reply
    assert reply.json["topic"] == old.topic
    assert api.push(device.id).status == 200
    push = own_apns.wait_token(device.token_hex)
    assert push["fingerprint"] == renewed.fingerprint
    # Itself once more, and the one before it, are no renewals.
    for again in (renewed, old):
        reply = api.put_pushcert(read_file(again.cert_file), "?force=1")
        assert reply.status == 400
        assert "there is no private key in it; the file" \
            in reply.json["error"]
    # A topic of which nothing is stored.
    reply = api.put_pushcert(read_file(pki.push().cert_file), "?force=1")
    assert reply.status == 400
    assert "there is no private key in it; the file" in reply.json["error"]
    api.transport.close()
