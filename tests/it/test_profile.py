"""What stands in an enrolment profile: every setting, signing, and that a
profile from the server leads a device all the way into management."""
import json
import os
import plistlib
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from mdmtest.device import Device, Transport
from mdmtest.pki import Identity
from mdmtest.scep_client import ScepClient

CASES = os.path.join(os.path.dirname(__file__), "..", "cases")
TYPE = "application/x-apple-aspen-config"
ENDPOINTS = {"/mdm": "mdm", "/mdmapi/": "api", "/scep": "scep",
             "/enroll": "enroll"}


@pytest.fixture
def site(own_server):
    """A server with profiles, by these settings of the virtual host."""
    def make(*settings, endpoints=None, **more):
        return own_server([("server", *s) for s in settings],
                          endpoints=endpoints or ENDPOINTS, **more)
    return make


def fetch(server, path="/enroll"):
    transport = Transport(server)
    reply = transport.request("GET", path)
    transport.close()
    return reply


def profile_of(server):
    reply = fetch(server)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == TYPE
    assert reply.headers["content-disposition"] == \
        'attachment; filename="enroll.mobileconfig"'
    assert reply.headers["cache-control"] == "no-store"
    return plistlib.loads(reply.body)


def payloads(profile):
    found = {}
    for payload in profile["PayloadContent"]:
        found.setdefault(payload["PayloadType"], []).append(payload)
    return found


def test_without_settings(site):
    server = site()
    profile = profile_of(server)
    parts = payloads(profile)
    mdm, = parts["com.apple.mdm"]
    scep, = parts["com.apple.security.scep"]
    root, = parts["com.apple.security.root"]
    base = f"https://localhost:{server.port}"
    assert profile["PayloadType"] == "Configuration"
    assert profile["PayloadScope"] == "System"
    assert profile["PayloadIdentifier"].endswith(".mdm")
    assert mdm["ServerURL"] == base + "/mdm" and "CheckInURL" not in mdm
    assert mdm["Topic"] == server.push.topic
    assert mdm["AccessRights"] == 8191
    assert mdm["CheckOutWhenRemoved"] is True
    assert mdm["SignMessage"] is False
    assert mdm["ServerCapabilities"] == [
        "com.apple.mdm.per-user-connections", "com.apple.mdm.bootstraptoken"]
    assert mdm["IdentityCertificateUUID"] == scep["PayloadUUID"]
    inner = scep["PayloadContent"]
    assert inner["URL"] == base + "/scep"
    assert (inner["Key Type"], inner["Keysize"], inner["Key Usage"]) == \
        ("RSA", 2048, 5)
    assert root["PayloadContent"] == ScepClient(Transport(server)).ca() \
        .public_bytes(serialization.Encoding.DER)
    uuids = [profile["PayloadUUID"]] + [p["PayloadUUID"] for p
                                        in profile["PayloadContent"]]
    assert len(set(uuids)) == len(uuids)


def test_each_profile_has_a_challenge_of_its_own(site):
    server = site()
    first, second = profile_of(server), profile_of(server)
    challenge = [payloads(p)["com.apple.security.scep"][0]["PayloadContent"]
                 ["Challenge"] for p in (first, second)]
    assert challenge[0] != challenge[1]
    # What makes the second replace the first stays the same.
    for one, other in ((first, second), *zip(first["PayloadContent"],
                                             second["PayloadContent"])):
        assert one["PayloadIdentifier"] == other["PayloadIdentifier"]
    server.reload()
    server.wait_store()
    assert profile_of(server)["PayloadIdentifier"] == \
        first["PayloadIdentifier"]


def test_settings(site, pki, tmp_path):
    word = tmp_path / "challenge"
    word.write_text("ch&llenge<>'\"_%$\n")
    topic = "com.apple.mgmt.External.chosen"
    server = site(
        ("PUBLIC_URL", "https://mdm.example.com:8443/"),
        ("PROFILE_ORGANIZATION", "R&D <Lab>"),
        ("PROFILE_NAME", "名前 📱"), ("PROFILE_IDENTIFIER", "com.example.x"),
        ("PROFILE_ACCESS_RIGHTS", "3"), ("PROFILE_TOPIC", topic),
        ("PROFILE_CHECKIN_URL", "https://other.example/c?a=1&b=2"),
        ("PROFILE_SCEP_URL", "http://scep.example.com/scep"),
        ("PROFILE_SCEP_CHALLENGE", str(word)),
        ("PROFILE_SIGN_MESSAGE", "on"), ("PROFILE_CHECK_OUT", "off"),
        ("PROFILE_USER_CHANNELS", "off"),
        ("PROFILE_CERTIFICATE", pki.server_ca.cert_file))
    profile = profile_of(server)
    parts = payloads(profile)
    mdm, = parts["com.apple.mdm"]
    scep = parts["com.apple.security.scep"][0]["PayloadContent"]
    root, = parts["com.apple.security.root"]
    assert profile["PayloadOrganization"] == "R&D <Lab>"
    assert profile["PayloadDisplayName"] == "名前 📱"
    assert profile["PayloadIdentifier"] == "com.example.x"
    assert mdm["ServerURL"] == "https://mdm.example.com:8443/mdm"
    assert mdm["CheckInURL"] == "https://other.example/c?a=1&b=2"
    assert mdm["AccessRights"] == 3 and mdm["Topic"] == topic
    assert mdm["SignMessage"] is True
    assert mdm["CheckOutWhenRemoved"] is False
    assert mdm["ServerCapabilities"] == ["com.apple.mdm.bootstraptoken"]
    assert scep["URL"] == "http://scep.example.com/scep"
    assert scep["Challenge"] == "ch&llenge<>'\"_%$"
    assert root["PayloadContent"] == pki.server_ca.cert.public_bytes(
        serialization.Encoding.DER)


def test_two_urls(site):
    server = site(endpoints={"/checkin": "checkin", "/server": "server",
                             "/scep": "scep", "/enroll": "enroll",
                             "/mdmapi/": "api"})
    mdm, = payloads(profile_of(server))["com.apple.mdm"]
    base = f"https://localhost:{server.port}"
    assert mdm["ServerURL"] == base + "/server"
    assert mdm["CheckInURL"] == base + "/checkin"


def strings():
    with open(os.path.join(CASES, "http", "C60-profile-strings.json"),
              encoding="utf-8") as f:
        return json.load(f)["values"]


@pytest.mark.parametrize("number", range(len(strings())))
def test_text_of_an_administrator(number, site):
    """C60: parses back to exactly this, or is refused."""
    text = strings()[number]
    server = site(("PROFILE_ORGANIZATION", text), start=False)
    status, out = server.configtest()
    if not text or any(ord(c) < 32 for c in text):
        assert status != 0, out
        return
    if server.kind == "nginx" and len(text) > 4000:
        assert "too long parameter" in out      # nginx's own bound
        return
    assert status == 0, out
    server.start()
    server.api().put_pushcert(server.push.both_pem)
    assert profile_of(server)["PayloadOrganization"] == text


def test_signed(site, pki, tmp_path):
    signer = pki.web_server("localhost")
    server = site(("PROFILE_SIGNER", signer.cert_file, signer.key_file,
                   pki.server_ca.cert_file))
    reply = fetch(server)
    assert reply.status == 200
    assert reply.headers["content-type"] == TYPE
    path = tmp_path / "profile"
    path.write_bytes(reply.body)
    done = subprocess.run(
        ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(path),
         "-CAfile", pki.server_ca.cert_file, "-purpose", "any"],
        capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    profile = plistlib.loads(done.stdout)
    assert "com.apple.mdm" in payloads(profile)
    done = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-in", str(path),
         "-print_certs"], capture_output=True, check=True)
    assert done.stdout.count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("what", ["no certificate", "two topics"])
def test_topic_is_not_clear(what, site, pki, log):
    log.expect("MDM0224")
    server = site(push=False)
    if what == "two topics":
        for _ in range(2):
            assert server.api().put_pushcert(pki.push().both_pem,
                                             "?force=1").status == 200
    reply = fetch(server)
    assert reply.status == 503 and reply.headers["retry-after"]


def test_challenge_without_outside_server(site, tmp_path):
    word = tmp_path / "challenge"
    word.write_text("secret\n")
    server = site(("PROFILE_SCEP_CHALLENGE", str(word)), start=False)
    status, text = server.configtest()
    assert status != 0 and "MDMProfileSCEPURL" in text


def test_all_the_way(site, own_apns, workdir, log):
    """Profile, SCEP, check-in, push, command, result: as a device does."""
    log.expect("MDM0522")
    server = site()
    profile = profile_of(server)
    mdm, = payloads(profile)["com.apple.mdm"]
    scep = payloads(profile)["com.apple.security.scep"][0]["PayloadContent"]
    client = ScepClient(Transport(server))
    _, key, cert = client.enrol(scep["Challenge"], scep["Subject"][0][0][1])
    identity = Identity(workdir, f"from-profile-{server.kind}", cert, key)
    device = Device(server, identity, mdm["Topic"]).enroll()
    api = server.api()
    reply = api.push(device.id)
    assert reply.status == 200, reply
    own_apns.wait_token(device.token_hex)
    assert device.idle().status == 200
    device.close()
    # The challenge was good once.
    assert client.enrol(scep["Challenge"], "another")[2] is None
