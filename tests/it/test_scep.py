"""The built-in SCEP server: every message of tests/cases/scep, and whole
enrolments by a client of the tests' own (mdmtest/scep_client.py)."""
import concurrent.futures
import datetime
import json
import os
import sqlite3
import subprocess
import time
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mdmtest import scep_client as sc
from mdmtest.deftable import TOP
from mdmtest.device import Device, Transport
from mdmtest.pki import Identity
from mdmtest.rawhttp import Wire
from mdmtest.servers import ENDPOINTS
from mdmtest.wait import wait_for

CASES = os.path.join(TOP, "tests", "cases")
SCEP = {**ENDPOINTS, "/scep": "scep"}
STATIC = "s3cret-challenge"


def case(name):
    with open(os.path.join(CASES, "scep", name), "rb") as f:
        return f.read()


def manifest():
    with open(os.path.join(CASES, "manifest.scep.json"),
              encoding="utf-8") as f:
        return [r for r in json.load(f) if r["expect"] != "fixture"]


@pytest.fixture
def scep_server(own_server, log):
    log.expect("MDM0520", "MDM0521", "MDM0522", "MDM0204", "MDM0524")

    def make(settings=(), endpoints=None, **more):
        return own_server(list(settings), endpoints=endpoints or SCEP,
                          **more)
    return make


def file_settings(directory, challenge=STATIC):
    """The authority of the cases, and one challenge for all."""
    path = os.path.join(directory, "static-challenge")
    with open(path, "w", encoding="ascii") as f:
        f.write(challenge + "\n")
    here = os.path.join(CASES, "scep")
    return [("http", "SCEP_CERTIFICATE", os.path.join(here, "ca.pem")),
            ("http", "SCEP_CERTIFICATE_KEY", os.path.join(here, "ca.key")),
            ("http", "SCEP_CHALLENGE", path)]


def rows_of(server, sql):
    base = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True,
                           timeout=10)
    try:
        return base.execute(sql).fetchall()
    finally:
        base.close()


def client_of(server):
    transport = Transport(server)
    transport.ca_file = server.ca_file
    return sc.ScepClient(transport)


def challenge_of(server, **what):
    reply = server.api().call("POST", "/v1/scep/challenges",
                              json.dumps(what) if what else None)
    assert reply.status == 200, reply
    assert reply.headers["cache-control"] == "no-store"
    return reply.json["challenge"]


def identity_of(server, cert, key, stem):
    return Identity(server.path("htdocs"), stem, cert, key)


# -- the cases ---------------------------------------------------------------

def play(client, row):
    """What became of one case: a status, "issue", or the failInfo."""
    data = case(os.path.basename(row["file"]))
    if row["file"].endswith(".url"):
        # By hand: nginx hangs up on a line that is too long for it.
        with Wire(client.transport) as wire:
            wire.send(b"GET " + data.strip(b"\n") + b" HTTP/1.1\r\n"
                      b"Host: localhost\r\nConnection: close\r\n\r\n")
            reply = wire.reply()
    else:
        reply = client.post(data)
    if reply.status != 200 or "pki" not in reply.headers.get(
            "content-type", ""):
        return str(reply.status)
    answer = client.answer(reply)
    return "issue" if answer.status == "0" else answer.fail


VERDICTS = {
    "issue": {"issue"}, "issue-or-badAlg": {"issue", "badAlg"},
    "either": {"issue", "400"}, "400": {"400"}, "200": {"200"},
    "414-or-400": {"400", "414"}, "badMessageCheck": {"badMessageCheck"},
    "badAlg": {"badAlg"}, "badRequest": {"badRequest"},
    "compare-bytes": {"badRequest"},
    "badRequest-on-second-use": {"issue"},
    "badRequest-or-policy": {"badRequest"}}
# What we decided where the verdict leaves it open.
DECIDED = {"scep/C68-pkcsreq-sha1.p7": "issue",
           "scep/C69-get-url-alphabet.url": "issue",
           "scep/C74-env-rsa-oaep.p7": "issue"}


def test_cases(scep_server, workdir):
    server = scep_server(file_settings(workdir))
    client = client_of(server)
    wrong = []
    for row in manifest():
        if row["expect"].endswith("-at-config"):
            continue
        got = play(client, row)
        wanted = ({DECIDED[row["file"]]} if row["file"] in DECIDED
                  else VERDICTS[row["expect"]])
        if got not in wanted:
            wrong.append((row["file"], row["expect"], got))
    assert not wrong, wrong
    assert client.caps()
    # Serial numbers are our own, whatever was sent, and recorded.
    # All of them are one transaction of one key: only the static challenge
    # and that of a renewed try make a difference.
    issued = rows_of(server, "SELECT serial FROM issued")
    assert issued and len(set(issued)) == len(issued)


def test_challenge_with_underscore(scep_server, workdir, log):
    """Compared byte by byte, whatever the kind of string may hold.  (So
    short a one is a warning.)"""
    log.expect("MDM0003")
    data = case("C73-challenge-underscore-printable.p7")
    server = scep_server(file_settings(workdir, "a_b&c*"))
    client = client_of(server)
    assert client.answer(client.post(data)).status == "0"


def test_the_same_request_again(scep_server, workdir):
    """C73: the answer was lost; the same certificate, and no second one.
    (That a challenge is refused later is test_challenge_is_good_once.)"""
    server = scep_server(file_settings(workdir))
    client = client_of(server)
    data = case("C73-challenge-replay.p7")
    sql = "SELECT serial, fingerprint FROM issued"
    assert client.answer(client.post(data)).status == "0"
    issued = rows_of(server, sql)
    assert client.answer(client.post(data)).status == "0"
    assert len(issued) == 1 and rows_of(server, sql) == issued


def test_cases_at_configuration(own_server, workdir):
    here = os.path.join(CASES, "scep")
    server = own_server([
        ("http", "SCEP_CERTIFICATE", os.path.join(here, "C74-ec-ca.pem")),
        ("http", "SCEP_CERTIFICATE_KEY", os.path.join(here, "C74-ec-ca.key"))],
        start=False, endpoints=SCEP)
    status, text = server.configtest()
    assert status != 0 and "not RSA" in text, text
    server.settings = [
        ("http", "SCEP_CERTIFICATE",
         os.path.join(here, "C70-ca-without-keyencipherment.pem")),
        ("http", "SCEP_CERTIFICATE_KEY", os.path.join(here, "ca.key"))]
    status, text = server.configtest()
    assert status == 0 and "keyEncipherment" in text, text
    assert "MDM0003" in text, text
    # One without the other, and two that are no pair.
    server.settings = server.settings[:1]
    status, text = server.configtest()
    assert status != 0 and "C70-ca-without" in text, text
    for row in ("SCEP_CERTIFICATE", "SCEP_CERTIFICATE_KEY"):
        assert getattr(server.table[row], server.kind) in text
    server.settings = [
        ("http", "SCEP_CERTIFICATE", os.path.join(here, "ca.pem")),
        ("http", "SCEP_CERTIFICATE_KEY",
         write_key(os.path.join(workdir, "other.key")))]
    status, text = server.configtest()
    assert status != 0 and "do not belong together" in text, text


def write_key(path):
    with open(path, "wb") as f:
        f.write(sc.new_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
    return path


def test_requests_that_are_none(scep_server):
    server = scep_server()
    transport = Transport(server)

    def ask(method, target, body=None):
        return transport.request(method, target, body).status

    assert ask("GET", "/scep") == 400
    assert ask("GET", "/scep?operation=") == 400
    assert ask("GET", "/scep?operation=getcacaps") == 400
    assert ask("GET", "/scep?operation=PKIOperation") == 400
    assert ask("GET", "/scep?operation=PKIOperation&message=") == 400
    assert ask("GET", "/scep?operation=PKIOperation&message=%zz") == 400
    assert ask("GET", "/scep?operation=PKIOperation&message=!") == 400
    assert ask("GET", "/scep?operation=GetNextCACert") == 404
    assert ask("POST", "/scep?operation=PKIOperation", b"") == 400
    assert ask("POST", "/scep?operation=PKIOperation", b"x" * 65536) == 400
    assert ask("POST", "/scep?operation=PKIOperation", b"0" * 65537) == 413
    put = transport.request("PUT", "/scep?operation=GetCACaps", b"")
    assert put.status == 405 and put.headers["allow"] == "GET, POST"
    caps = client_of(server).caps()
    assert {"Renewal", "SHA-1", "SHA-256", "SHA-512", "AES", "DES3",
            "SCEPStandard", "POSTPKIOperation"} == set(caps)
    assert client_of(server).get("GetCACaps").headers["content-type"] \
        .startswith("text/plain")


# -- what is issued ----------------------------------------------------------

def test_made_authority(scep_server):
    server = scep_server()
    ca = client_of(server).ca()
    assert ca.public_key().key_size == 3072
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign \
        and usage.value.crl_sign and usage.value.digital_signature \
        and usage.value.key_encipherment
    assert ca.extensions.get_extension_for_class(
        x509.BasicConstraints).value.ca
    years = (ca.not_valid_after - ca.not_valid_before).days / 365
    assert 9.9 < years < 10.1
    # Sealed, and the same after a restart.
    sealed = rows_of(server, "SELECT key_s FROM authority")
    assert len(sealed) == 1 and sealed[0][0][0] == 2
    server.restart()
    assert client_of(server).ca() == ca


def test_issued_certificate(scep_server):
    server = scep_server([("http", "SCEP_VALIDITY", "30d")])
    client = client_of(server)
    ca = client.ca()
    san = x509.SubjectAlternativeName([x509.DNSName("evil.example.com")])
    answer, key, cert = client.enrol(challenge_of(server), "My Mac", ca=ca,
                                     extensions=[san])
    assert answer.status == "0" and answer.cipher == "aes256"
    assert answer.digest == "sha256"
    assert cert.public_key().public_numbers() \
        == key.public_key().public_numbers()
    assert cert.subject.rfc4514_string() == "CN=My Mac"
    assert cert.issuer == ca.subject
    ca.public_key().verify(cert.signature, cert.tbs_certificate_bytes,
                           sc.rsa_padding.PKCS1v15(),
                           cert.signature_hash_algorithm)
    now = datetime.datetime.utcnow()
    assert 8 < (now - cert.not_valid_before).total_seconds() / 60 < 12
    assert 29.9 < (cert.not_valid_after - now).total_seconds() / 86400 < 30.1
    kinds = {type(e.value): e for e in cert.extensions}
    assert x509.SubjectAlternativeName not in kinds
    assert not kinds[x509.BasicConstraints].value.ca
    assert kinds[x509.KeyUsage].critical
    assert list(kinds[x509.ExtendedKeyUsage].value) \
        == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert kinds[x509.AuthorityKeyIdentifier].value.key_identifier \
        == ca.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier).value.digest
    assert cert.serial_number.bit_length() > 120
    found = server.api().call("GET", "/v1/scep/certificates").json
    assert [c["serial"] for c in found["certificates"]] \
        == [f"{cert.serial_number:036x}"]
    row = found["certificates"][0]
    assert row["state"] == "issued" and row["subject"] == "CN=My Mac"
    assert row["sha256"] == cert.fingerprint(hashes.SHA256()).hex()


def test_algorithms(scep_server):
    server = scep_server()
    client = client_of(server)
    ca = client.ca()
    for cipher, digest, method in (
            ("aes128", "sha256", "get"), ("aes256", "sha512", "post"),
            ("3des", "sha256", "post"), ("3des", "sha1", "get")):
        answer, _, cert = client.enrol(
            challenge_of(server), ca=ca, cipher=cipher, digest=digest,
            method=method)
        assert cert is not None, (cipher, digest, answer.fail)
        assert answer.cipher == cipher
        assert answer.digest == ("sha1" if digest == "sha1" else "sha256")
    challenge = challenge_of(server)
    for cipher, digest in (("des", "sha256"), ("aes128", "md5")):
        answer, _, _ = client.enrol(challenge, ca=ca, cipher=cipher,
                                    digest=digest)
        assert answer.fail == "badAlg", (cipher, digest)
    # None of these used the challenge up.
    assert client.enrol(challenge, ca=ca)[0].status == "0"
    answer, _, _ = client.enrol(challenge_of(server), ca=ca,
                                key=sc.new_key(1024))
    assert answer.fail == "badRequest"


def test_single_des_by_directive(scep_server):
    server = scep_server([("http", "SCEP_LEGACY", "on")])
    client = client_of(server)
    answer, _, cert = client.enrol(challenge_of(server), cipher="des")
    assert cert is not None and answer.cipher == "3des"
    assert client.enrol(challenge_of(server), cipher="aes256")[2] is not None


def test_decryption_faults_are_all_the_same(scep_server):
    """Nothing tells a client what was wrong inside."""
    server = scep_server()
    client = client_of(server)
    ca = client.ca()
    key = sc.new_key()
    signer = sc.self_signed(key)
    other = sc.self_signed(sc.new_key())
    plain = sc.request(key, "device", challenge_of(server))
    good = sc.envelope(ca, plain)
    wrong_key = bytearray(good)
    at = good.index(sc.issuer_and_serial(ca)) + len(
        sc.issuer_and_serial(ca)) + 30
    wrong_key[at] ^= 1
    for inner in (sc.envelope(ca, plain, break_padding=True),
                  bytes(wrong_key), sc.envelope(other, plain),
                  sc.envelope(ca, b"no request"), sc.envelope(ca, b""),
                  sc.envelope(ca, plain[:-5]), plain, b"\x30\x00"):
        answer = client.answer(client.post(sc.message(
            sc.PKCS_REQ, inner, signer, key)), ca)
        assert answer.fail == "badMessageCheck"
    answer = client.answer(client.post(sc.message(
        sc.PKCS_REQ, good, signer, key)), ca)
    assert answer.status == "0"


def test_other_message_types(scep_server):
    server = scep_server()
    client = client_of(server)
    ca = client.ca()
    answer, key, cert = client.enrol(challenge_of(server), ca=ca,
                                     transaction="poll-me")
    signer = sc.self_signed(key)
    poll = sc.seq(ca.subject.public_bytes(), signer.subject.public_bytes())

    def send(kind, transaction, with_key=key):
        return client.answer(client.post(sc.message(
            kind, sc.envelope(ca, poll), sc.self_signed(with_key), with_key,
            transaction)), ca)
    assert client.opened(send(sc.CERT_POLL, "poll-me"), key) == cert
    assert send(sc.CERT_POLL, "another").fail == "badCertId"
    # The key is part of it: nobody fetches another one's certificate.
    assert send(sc.CERT_POLL, "poll-me", sc.new_key()).fail == "badCertId"
    for kind in (18, 21, 22, 3, 99):
        assert send(kind, "poll-me").fail == "badRequest", kind
    assert answer.status == "0"


# -- challenges --------------------------------------------------------------

def test_challenge_is_good_once(scep_server):
    server = scep_server()
    client = client_of(server)
    ca = client.ca()
    challenge = challenge_of(server)
    key = sc.new_key()
    first, _, cert = client.enrol(challenge, key=key, ca=ca, transaction="T1")
    assert first.status == "0"
    # The answer was lost: the same transaction again, the same certificate.
    again, _, same = client.enrol(challenge, key=key, ca=ca, transaction="T1")
    assert again.status == "0" and same == cert
    # Another transaction, or another key, is another request.
    assert client.enrol(challenge, key=key, ca=ca, transaction="T2")[0].fail \
        == "badRequest"
    assert client.enrol(challenge, ca=ca, transaction="T1")[0].fail \
        == "badRequest"
    for bad in (None, "", "x", "A" * 32, "A" * 300, challenge.lower()):
        assert client.enrol(bad, ca=ca)[0].fail == "badRequest", bad
    assert rows_of(server, "SELECT COUNT(*) FROM issued")[0][0] == 1


def test_one_challenge_many_at_once(scep_server):
    server = scep_server()
    ca = client_of(server).ca()
    challenge = challenge_of(server)

    def enrol(_):
        return client_of(server).enrol(challenge, ca=ca)[0].status
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(enrol, range(8)))
    assert sorted(found) == ["0"] + ["2"] * 7


def test_challenge_ends(scep_server):
    server = scep_server()
    api = server.api()
    client = client_of(server)
    reply = api.call("POST", "/v1/scep/challenges?expires=1s")
    assert reply.status == 200
    ends = time.monotonic() + 1.1
    wait_for(lambda: time.monotonic() > ends, 5, "the end of a challenge")
    assert client.enrol(reply.json["challenge"])[0].fail == "badRequest"
    for query, body in (("?expires=1y", None), ("?expires=0s", None),
                        ("?expires=91d", None), ("?purpose=x", None),
                        ("", "[]"), ("", "{"), ("", '{"expires": 3}'),
                        ("", '{"hint": "x"}'),
                        ("", '{"purpose": "renew"}'),
                        ("", json.dumps({"serial_number": "x" * 65})),
                        ("", json.dumps({"common_name": "ä"}))):
        reply = api.call("POST", "/v1/scep/challenges" + query, body)
        assert reply.status == 400, (query, body, reply)
    reply = api.call("POST", "/v1/scep/challenges", json.dumps(
        {"purpose": "renew", "enrollment_id": "nobody"}))
    assert reply.status == 404
    # Kept as a hash alone.
    challenge = challenge_of(server)
    with open(server.database, "rb") as f:
        assert challenge.encode() not in f.read()


def test_challenge_is_bound(scep_server):
    """The certificate says whom it is for, and speaks for nobody else."""
    server = scep_server()
    client = client_of(server)
    topic = server.push.topic

    def device_with(udid, cert, key, stem):
        return Device(server, identity_of(server, cert, key, stem), topic,
                      udid=udid)
    what = {"enrollment_id": "UDID-A", "serial_number": "SERIAL-A"}
    _, key, cert = client.enrol(challenge_of(server, **what), "whatever")
    assert cert.subject.get_attributes_for_oid(
        NameOID.COMMON_NAME)[0].value == "UDID-A"
    assert cert.subject.get_attributes_for_oid(
        NameOID.SERIAL_NUMBER)[0].value == "SERIAL-A"
    other = device_with("UDID-B", cert, key, "other")
    assert other.authenticate(SerialNumber="SERIAL-A").status == 403
    mine = device_with("UDID-A", cert, key, "mine")
    assert mine.authenticate(SerialNumber="SERIAL-B").status == 403
    assert mine.authenticate(SerialNumber="SERIAL-A").status == 200
    assert mine.token_update().status == 200
    # A common name that was said must be asked for.
    challenge = challenge_of(server, common_name="kiosk")
    assert client.enrol(challenge, "other")[0].fail == "badRequest"
    assert client.enrol(challenge, "kiosk")[0].status == "0"


def test_static_challenge(scep_server, workdir):
    server = scep_server(file_settings(workdir, "one for everybody"))
    client = client_of(server)
    ca = client.ca()
    assert client.enrol("one for everybody", ca=ca)[0].status == "0"
    assert client.enrol("one for everybody", ca=ca)[0].status == "0"
    assert client.enrol("one for everybodY", ca=ca)[0].fail == "badRequest"
    assert client.enrol(challenge_of(server), ca=ca)[0].status == "0"


# -- whole enrolments --------------------------------------------------------

def enrol_device(server, client, stem, **what):
    _, key, cert = client.enrol(challenge_of(server, **what), "device")
    assert cert is not None
    identity = identity_of(server, cert, key, stem)
    return Device(server, identity, server.push.topic).enroll()


def certificate_state(server, cert):
    reply = server.api().call(
        "GET", f"/v1/scep/certificates/{cert.serial_number:036x}")
    assert reply.status == 200, reply
    return reply.json["state"]


def test_enrol_block_and_unblock(scep_server, log):
    log.expect("MDM0206")
    server = scep_server()
    client = client_of(server)
    device = enrol_device(server, client, "first")
    assert device.idle().status == 200
    cert = device.identity.cert
    assert certificate_state(server, cert) == "current"
    assert server.api().block(device.id).status == 200
    assert certificate_state(server, cert) == "blocked"
    answer, _, _ = client.renew(cert, device.identity.key)
    assert answer.fail == "badRequest"
    assert device.idle().status in (401, 403)
    assert server.api().block(device.id, False).status == 200
    assert device.idle().status == 403      # it has left; the rule stands


def test_without_device_authority(scep_server):
    """No other authority needs to be named for devices."""
    server = scep_server([("server", "DEVICE_CA_CERTIFICATE", None)])
    device = enrol_device(server, client_of(server), "only")
    assert device.idle().status == 200
    stranger = Device(server, server.pki.device(), server.push.topic)
    assert stranger.authenticate().status == 403


def test_revoke(scep_server):
    server = scep_server()
    client = client_of(server)
    device = enrol_device(server, client, "lost")
    fresh, key, unused = client.enrol(challenge_of(server))
    assert fresh.status == "0"
    api = server.api()
    for cert in (device.identity.cert, unused):
        reply = api.call("POST", "/v1/scep/certificates/"
                         f"{cert.serial_number:036x}/revoke")
        assert reply.status == 200 and reply.json["state"] == "revoked"
    assert device.idle().status == 403
    assert device.authenticate().status == 403
    never = Device(server, identity_of(server, unused, key, "never"),
                   server.push.topic)
    assert never.authenticate().status == 403
    assert client.renew(device.identity.cert,
                        device.identity.key)[0].fail == "badCertId"
    assert api.call("POST", "/v1/scep/certificates/00/revoke").status == 404
    assert api.call("GET", "/v1/scep/certificates/zz").status == 404


def test_renewal(scep_server, pki):
    server = scep_server()
    client = client_of(server)
    device = enrol_device(server, client, "old")
    old = device.identity
    answer, key, cert = client.renew(old.cert, old.key, transaction="R1")
    assert answer.status == "0" and cert.subject == old.cert.subject
    # Repeated, it is the same one.
    assert client.renew(old.cert, old.key, new=key,
                        transaction="R1")[2] == cert
    device.use_identity(identity_of(server, cert, key, "new"))
    assert device.idle().status == 200
    assert certificate_state(server, old.cert) == "former"
    assert certificate_state(server, cert) == "current"
    device.use_identity(old)
    assert device.idle().status == 403
    # A former identity renews nothing; nor does one of another authority, a
    # stranger's, or one that asks for somebody else.
    assert client.renew(old.cert, old.key)[0].fail == "badRequest"
    foreign = pki.device(key_kind="rsa")
    assert client.renew(foreign.cert, foreign.key)[0].fail == "badCertId"
    own = sc.new_key()
    assert client.renew(sc.self_signed(own), own)[0].fail == "badCertId"
    assert client.renew(cert, key, "somebody else")[0].fail == "badRequest"
    # One that was issued and never enrolled with is nobody's yet.
    _, unused_key, unused = client.enrol(challenge_of(server))
    assert client.renew(unused, unused_key)[0].fail == "badRequest"


def test_renewal_by_challenge(scep_server):
    """As devices do: a new profile with a challenge to renew."""
    server = scep_server()
    client = client_of(server)
    device = enrol_device(server, client, "first")
    old = device.identity
    challenge = challenge_of(server, purpose="renew", enrollment_id=device.id)
    _, key, cert = client.enrol(challenge)
    assert cert is not None
    assert device.idle().status == 200      # until the new one is seen
    device.use_identity(identity_of(server, cert, key, "renewed"))
    assert device.idle().status == 200
    device.use_identity(old)
    assert device.idle().status == 403


# -- the authority -----------------------------------------------------------

def test_workers_race_for_the_authority(scep_server):
    server = scep_server(workers=4)

    def ask(_):
        reply = client_of(server).get("GetCACert")
        return reply.status, reply.body
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    good = {body for status, body in found if status == 200}
    assert len(good) == 1, [s for s, _ in found]
    assert {s for s, _ in found} == {200}
    rows = rows_of(server, "SELECT COUNT(*) FROM authority")
    assert rows[0][0] == 1
    server.reload()
    assert client_of(server).get("GetCACert").body in good


def same_authority(server, but_not):
    """The one that several connections in a row get."""
    found = {client_of(server).ca() for _ in range(12)}
    return found.pop() if len(found) == 1 and but_not not in found else None


def test_roll_over(scep_server):
    server = scep_server()
    client = client_of(server)
    api = server.api()
    before = client.ca()
    device = enrol_device(server, client, "before")
    assert api.call("POST", "/v1/scep/authorities/activate").status == 409
    reply = api.call("POST", "/v1/scep/authorities")
    assert reply.status == 200, reply
    assert [a["state"] for a in reply.json["authorities"]] \
        == ["current", "next"]
    assert api.call("POST", "/v1/scep/authorities").status == 409
    assert client.ca() == before
    assert api.call("POST", "/v1/scep/authorities/activate").status == 200
    # Every worker looks at the store once a second at least.
    after = wait_for(lambda: same_authority(server, before), 10,
                     "the next authority in every worker")
    # A client that read the certificate before is served, too.
    _, _, late = client.enrol(challenge_of(server), ca=before)
    assert late.issuer == after.subject
    assert device.idle().status == 200
    fresh = enrol_device(server, client, "after")
    for worker in range(8):
        for one in (device, fresh):
            one.use_identity(one.identity)
            assert one.idle().status == 200, worker
    answer, key, cert = client.renew(device.identity.cert,
                                     device.identity.key, ca=after)
    assert answer.status == "0" and cert.issuer == after.subject
    listed = api.call("GET", "/v1/scep/authorities").json["authorities"]
    assert [a["state"] for a in listed] == ["current", "former"]
    pem = x509.load_pem_x509_certificate(listed[0]["certificate"].encode())
    assert pem == after and listed[1]["in_use"]


def test_openssl_reads_the_answer(scep_server, workdir):
    """By a program that shares no code with the client of the tests."""
    server = scep_server()
    client = client_of(server)
    ca = client.ca()
    key = sc.new_key()
    data = sc.message(sc.PKCS_REQ, sc.envelope(ca, sc.request(
        key, "device", challenge_of(server))), sc.self_signed(key), key)
    reply = client.post(data)
    paths = {n: os.path.join(workdir, f"openssl-{server.kind}-{n}")
             for n in ("answer", "ca", "inner", "key", "cert", "p7")}
    with open(paths["answer"], "wb") as f:
        f.write(reply.body)
    with open(paths["ca"], "wb") as f:
        f.write(ca.public_bytes(serialization.Encoding.PEM))
    write = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())
    with open(paths["key"], "wb") as f:
        f.write(write)

    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)
    openssl("cms", "-verify", "-inform", "DER", "-in", paths["answer"],
            "-CAfile", paths["ca"], "-purpose", "any", "-binary",
            "-out", paths["inner"])
    openssl("cms", "-decrypt", "-inform", "DER", "-in", paths["inner"],
            "-inkey", paths["key"], "-binary", "-out", paths["p7"])
    openssl("pkcs7", "-inform", "DER", "-in", paths["p7"], "-print_certs",
            "-out", paths["cert"])
    openssl("verify", "-CAfile", paths["ca"], "-purpose", "sslclient",
            paths["cert"])


def test_get_with_plus_and_blanks(scep_server):
    """Base64 that nobody escaped: "+" is "+"."""
    server = scep_server()
    client = client_of(server)
    ca = client.ca()
    text = ""
    while "+" not in text:
        key = sc.new_key()
        data = sc.message(sc.PKCS_REQ, sc.envelope(ca, sc.request(
            key, "device", challenge_of(server))), sc.self_signed(key), key)
        text = sc.base64.b64encode(data).decode()
    for given in (text, text.replace("+", "%20"),
                  urllib.parse.quote(text), text.rstrip("=")):
        reply = client.get("PKIOperation", "&message=" + given)
        assert client.answer(reply, ca).status == "0", given[-8:]
