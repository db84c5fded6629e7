"""Ways into management that begin without an enrolment: devices that
introduce themselves, log-ins of users, service discovery."""
import base64
import datetime
import json
import os
import re
import sqlite3
import subprocess
import urllib.parse

import pytest
from conftest import KINDS, push_settings
from mdmtest import logs
from mdmtest.device import Device, Transport
from mdmtest.factory import SIGNED, Factory, header_of, machine_info
from mdmtest.pki import Identity
from mdmtest.scep_client import ScepClient
from mdmtest.wait import wait_for

PROFILE = "application/x-apple-aspen-config"
WELLKNOWN = "/.well-known/com.apple.remotemanagement"
LOGIN = "/login"
RESULT = ("apple-remotemanagement-user-login://authentication-results"
          "?access-token=")
ANNA = "anna@example.com"
PASSWORD = "correct horse"
MODULES = "/usr/lib/apache2/modules"
ENDPOINTS = {
    "/mdm": "mdm", "/mdmapi/": "api", "/scep": "scep",
    "/enroll": "enroll", "/ade": "enroll",
    "/any": "enroll", "/some": "enroll", "/ota": "enroll",
    "/byod": "enroll", "/adde": "enroll", LOGIN: "enroll",
    "/open-login": "enroll", "/variable-login": "enroll",
    WELLKNOWN: "wellknown"}


def password_file(server):
    digest = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD],
                            check=True, capture_output=True).stdout.decode()
    path = server.path("htpasswd")
    with open(path, "w", encoding="ascii") as f:
        for name in (ANNA, "bert", "two words"):
            f.write(f"{name}:{digest.strip()}\n")
    os.chmod(path, 0o644)
    return path


def protect(server, place):
    """The host's own log-in in front of a location."""
    path = password_file(server)
    if server.kind == "nginx":
        return [(place, 'auth_basic "test";'),
                (place, f"auth_basic_user_file {path};")]
    return [(place, "AuthType Basic"), (place, 'AuthName "test"'),
            (place, f"AuthUserFile {path}"), (place, "Require valid-user")]


def host_lines(server):
    if server.kind == "nginx":
        return [
            # asks for the user before anybody has checked a password
            ("server", "set $asked $remote_user;"),
            ("/variable-login", "set $who $http_x_who;"),
            *protect(server, LOGIN)]
    loads = ["authn_core", "authn_file", "auth_basic", "authz_user",
             "setenvif"]
    return [*[("http", f"LoadModule {n}_module {MODULES}/mod_{n}.so")
              for n in loads],
            ("/variable-login", "SetEnvIf X-Who (.+) who=$1"),
            *protect(server, LOGIN)]


class World:
    """A server that serves every way, and those who come."""

    def __init__(self, kind, pki, build_dir, apns, workdir):
        self.factory = Factory(os.path.join(workdir, f"factory-{kind}"))
        self.foreign = Factory(os.path.join(workdir, f"foreign-{kind}"))
        self.server = KINDS[kind](pki, build_dir, push_settings(pki, apns),
                                  endpoints=ENDPOINTS)
        server = self.server
        server.push = pki.push()
        server.raw += host_lines(server)
        with open(server.path("serials"), "w", encoding="ascii") as f:
            f.write("# those of the school\nZX0TESTQ7L\nABC123\n")
        server.settings += [
            ("server", "ENROLLMENT_CA_CERTIFICATE", self.factory.ca_file),
            ("server", "ENROLLMENT_LOGIN", LOGIN),
            ("/ade", "ENROLLMENT_FLOW", "device"),
            ("/any", "ENROLLMENT_FLOW", "device"),
            ("/any", "ENROLLMENT_SIGNATURE", "accept-unverified"),
            ("/some", "ENROLLMENT_FLOW", "device"),
            ("/some", "ENROLLMENT_SERIAL", server.path("serials")),
            ("/some", "ENROLLMENT_MINIMUM_OS", "iPhone=26.1",
             "Mac=15.2:24C101"),
            ("/ota", "ENROLLMENT_FLOW", "ota"),
            ("/byod", "ENROLLMENT_FLOW", "byod"),
            ("/adde", "ENROLLMENT_FLOW", "adde"),
            (LOGIN, "ENROLLMENT_FLOW", "login"),
            (LOGIN, "ENROLLMENT_USER", "domain=school.example"),
            ("/open-login", "ENROLLMENT_FLOW", "login"),
            ("/variable-login", "ENROLLMENT_FLOW", "login"),
            ("/variable-login", "ENROLLMENT_USER", "variable=who"),
            (WELLKNOWN, "SERVICE_DISCOVERY", "mdm-adde", "/adde", "Mac"),
            (WELLKNOWN, "SERVICE_DISCOVERY", "mdm-byod",
             "https://mdm.example.com/byod", "iPhone", "iPad")]

    def stop(self):
        self.server.stop()
        self.server.remove()


@pytest.fixture(scope="module")
def module_world(kind, pki, build_dir, session_apns, workdir):
    made = World(kind, pki, build_dir, session_apns, workdir)
    try:
        made.server.start()
        api = made.server.api()
        assert api.put_pushcert(made.server.push.both_pem).status == 200
        api.transport.close()
        yield made
        made.server.quit()
        bad = logs.judge(made.server.log_text(), WORDS)
        assert not bad, "at the end of the module:\n" + "\n".join(bad)
    finally:
        made.stop()


# Lines that introductions and log-ins bring, and those of the hosts'
# own password checks.
WORDS = ["MDM0220", "MDM0221", "MDM0222", "MDM0223", "MDM0520", "MDM0521",
         "MDM0204",
         r"password mismatch|user .* was not found|user .* not found|AH0161"]


@pytest.fixture
def world(module_world, log):
    log.watch(module_world.server)
    log.expect(*WORDS)
    yield module_world
    module_world.server.get_static()


@pytest.fixture
def client(world):
    transport = Transport(world.server)
    yield transport
    transport.close()


@pytest.fixture
def factory(world):
    return world.factory


def post(client, path, message, **headers):
    return client.request("POST", path, message,
                          {"Content-Type": SIGNED, **headers})


def basic(user, password=PASSWORD):
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def introductions(server):
    api = server.api()
    reply = api.call("GET", "/v1/introductions?limit=1000")
    api.transport.close()
    assert reply.status == 200, reply
    return reply.json["introductions"]


def newest(server, udid):
    return [i for i in introductions(server) if i["udid"] == udid]


def told(server, number):
    """Such a line comes once a minute, so perhaps in a test before."""
    wait_for(lambda: number in server.log_since(0), 10, number)


def management(world, reply):
    """What a profile that enrols says, after a look at all of it."""
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == PROFILE
    assert reply.headers["cache-control"] == "no-store"
    profile = reply.plist
    assert profile["PayloadType"] == "Configuration"
    scep, mdm, *_ = profile["PayloadContent"]
    assert mdm["PayloadType"] == "com.apple.mdm"
    assert mdm["IdentityCertificateUUID"] == scep["PayloadUUID"]
    assert mdm["Topic"] == world.server.push.topic
    assert mdm["ServerURL"] == world.server.url + "/mdm"
    assert "com.apple.mdm.bootstraptoken" in mdm["ServerCapabilities"]
    check_scep(world, scep)
    uuids = [p["PayloadUUID"] for p in (profile, scep, mdm)]
    assert len(set(uuids)) == 3
    return mdm


def check_scep(world, scep):
    assert scep["PayloadType"] == "com.apple.security.scep"
    content = scep["PayloadContent"]
    assert content["URL"] == world.server.url + "/scep"
    assert re.fullmatch("[A-Za-z0-9]{32}", content["Challenge"])
    assert content["Keysize"] == 2048 and content["Key Usage"] == 5
    [[[name, value]]] = content["Subject"]
    assert name == "CN" and value


# ---- introductions ---------------------------------------------------------

def test_device_gets_profile(world, client, factory):
    """SHA-1 all through, an intermediate that has ended."""
    message = factory.sign([factory.device()], machine_info(UDID="OK-1"))
    reply = post(client, "/ade", message)
    mdm = management(world, reply)
    assert mdm["AccessRights"] == 8191 and "EnrollmentMode" not in mdm
    [seen] = newest(world.server, "OK-1")
    assert seen["verified"] is True and seen["answer"] == "profile"
    assert seen["flow"] == "device" and seen["serial_number"] == "ZX0TESTQ7L"
    assert seen["product_name"] == "iPhone17,2"
    assert seen["os_version"] == "26.1" and seen["language"] == "en-GB"
    assert seen["build_version"] == "23B85" and seen["count"] == 1


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_newer_digests(world, client, factory, digest):
    message = factory.sign([factory.device()], machine_info(), digest=digest)
    assert post(client, "/ade", message).status == 200


def test_clocks(world, client, factory):
    """The device's certificate begins in 90 seconds, or has ended: a new
    device's clock and ours need not agree."""
    minute = 1 / 1440
    for days in ((1.5 * minute, 900), (-900, -1)):
        message = factory.sign([factory.device(days=days)], machine_info())
        assert post(client, "/ade", message).status == 200, days


def test_pieces_and_indefinite_lengths(world, client, factory):
    """BER, as devices write it: the content in pieces."""
    message = factory.sign([factory.device()], machine_info(), "-stream")
    assert b"\x24\x80" in message
    assert post(client, "/ade", message).status == 200


def test_header_of_a_web_view(world, client, factory):
    message = factory.sign([factory.device()], machine_info(UDID="HEADER-1"))
    reply = client.request("GET", "/ade", headers=header_of(message))
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == PROFILE
    assert len(newest(world.server, "HEADER-1")) == 1
    for bad in ("*", "", "QUJD"):
        reply = client.request("GET", "/ade",
                               headers={"x-apple-aspen-deviceinfo": bad})
        assert reply.status == (403 if bad == "" else 400), (bad, reply)
    # without it there is nothing here for a browser
    assert client.request("GET", "/ade").status == 403


def test_nobody_vouches(world, client, factory):
    for signer, maker in ((factory.self_made(), factory),
                          (world.foreign.device(), world.foreign)):
        message = maker.sign([signer], machine_info(UDID="CLAIM-1"))
        reply = post(client, "/ade", message)
        assert reply.status == 403, reply
        assert not newest(world.server, "CLAIM-1")
    told(world.server, "MDM0221")
    # the same maker, but the intermediate is missing
    message = factory.sign([factory.device()], machine_info(),
                           intermediate=False)
    assert post(client, "/ade", message).status == 403


def test_claims_where_they_are_taken(world, client, factory):
    message = factory.sign([factory.self_made()],
                           machine_info(UDID="CLAIM-2"), intermediate=False)
    assert post(client, "/any", message).status == 200
    good = factory.sign([factory.device()], machine_info(UDID="CLAIM-2"))
    assert post(client, "/any", good).status == 200
    # who claims does not stand in the place of who proves
    seen = newest(world.server, "CLAIM-2")
    assert sorted(s["verified"] for s in seen) == [False, True]


def damaged(factory):
    """Messages that are refused whoever signed them."""
    info = machine_info()
    good = factory.sign([factory.device()], info)
    at = good.index(b"ZX0TESTQ7L")
    key = factory.device()
    return {
        "changed": good[:at] + b"Y" + good[at + 1:],
        "cut": good[:len(good) // 2],
        "longer": good + b"\0",
        "no signature": info,
        "nothing": b"",
        "two signers": factory.sign([key, factory.device()], info),
        "detached": detached(factory, key, info),
        "no certificate": factory.sign([key], info, "-nocerts",
                                       intermediate=False),
        "md5": factory.sign([key], info, digest="md5"),
        "no list": factory.sign([key], b"hello"),
        "nested list": factory.sign(
            [key], b"<plist version='1.0'>" + b"<array>" * 500
            + b"</array>" * 500 + b"</plist>"),
        "entities": factory.sign(
            [key], b"<!DOCTYPE plist [<!ENTITY a 'b'>]><plist "
            b"version='1.0'><dict><key>SERIAL</key><string>&a;</string>"
            b"</dict></plist>"),
        "wrong types": factory.sign([key], machine_info(SERIAL=5)),
        "bomb": b"\x30\x80" * 20000,
        "pieces bomb": b"\x24\x80" * 20000,
    }


def detached(factory, signer, content):
    path = os.path.join(factory.directory, "content")
    with open(path, "wb") as f:
        f.write(content)
    return subprocess.run(
        ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-in",
         path, "-signer", signer.cert_file, "-inkey", signer.key_file],
        check=True, capture_output=True).stdout


def test_damaged(world, client, factory):
    for path in ("/ade", "/any"):
        for name, message in damaged(factory).items():
            reply = post(client, path, message)
            assert reply.status == 400, (path, name, reply)
            assert b"openssl" not in reply.body.lower()


def test_huge(world, client, factory):
    message = factory.sign([factory.device()],
                           machine_info(LANGUAGE="x" * 70000))
    assert post(client, "/ade", message).status == 413
    assert post(client, "/any", b"\x30" * (2 << 20)).status == 413


def test_other_requests(world, client, factory):
    message = factory.sign([factory.device()], machine_info())
    reply = client.request("POST", "/ade", message,
                           {"Content-Type": "text/plain"})
    assert reply.status == 415
    assert client.request("POST", "/ade", message).status == 415
    reply = client.request("PUT", "/ade", message, {"Content-Type": SIGNED})
    assert reply.status == 405 and reply.headers["allow"] == "GET, POST"
    reply = client.request("HEAD", LOGIN, headers=basic(ANNA))
    assert reply.status == 405 and reply.headers["allow"] == "GET"
    assert post(client, "/ota", message).status == 403
    assert client.request("GET", "/byod").status == 403


# ---- error documents ---------------------------------------------------------

def document(reply, code):
    assert reply.status == 403, reply
    assert reply.headers["content-type"] == "application/json"
    found = json.loads(reply.body)
    assert found["code"] == code
    assert isinstance(found["description"], str)
    assert isinstance(found["message"], str)
    return found


def ask_some(client, factory, **more):
    return post(client, "/some",
                factory.sign([factory.device()], machine_info(**more)))


def test_software_update(world, client, factory):
    code = "com.apple.softwareupdate.required"
    found = document(ask_some(client, factory, OS_VERSION="26.0.9",
                              UDID="OLD-1"), code)
    assert found["details"] == {"OSVersion": "26.1"}
    found = document(ask_some(client, factory, OS_VERSION="14.8.1",
                              PRODUCT="MacBookPro18,1"), code)
    assert found["details"] == {"OSVersion": "15.2",
                                "BuildVersion": "24C101"}
    [seen] = newest(world.server, "OLD-1")
    assert seen["answer"] == "software update required"
    for more in ({"OS_VERSION": "26.1"}, {"OS_VERSION": "26.1.1"},
                 {"OS_VERSION": "27"},
                 {"OS_VERSION": "17.0", "PRODUCT": "iPad14,1"},
                 {"OS_VERSION": "17.0",
                  "MDM_CAN_REQUEST_SOFTWARE_UPDATE": None},
                 {"OS_VERSION": "17.0",
                  "MDM_CAN_REQUEST_SOFTWARE_UPDATE": False},
                 {"OS_VERSION": None}):
        assert ask_some(client, factory, **more).status == 200, more


def test_serial_numbers(world, client, factory):
    code = "com.apple.unrecognized.device"
    for serial in ("ZX0TESTQ7", "ZX0TESTQ7LL", "zx0testq7l", None):
        reply = ask_some(client, factory, SERIAL=serial, UDID="UNKNOWN-1")
        found = document(reply, code)
        assert "details" not in found
    assert ask_some(client, factory, SERIAL="ABC123").status == 200
    assert {s["answer"] for s in newest(world.server, "UNKNOWN-1")} == {
        "unrecognized device"}


# ---- service discovery --------------------------------------------------------

def discover(client, **query):
    return client.request("GET", WELLKNOWN + "?"
                          + urllib.parse.urlencode(query))


def test_discovery(world, client):
    who = {"user-identifier": ANNA}
    reply = discover(client, **who, **{"model-family": "Mac"})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    found = json.loads(reply.body)
    assert list(found) == ["Servers"] and len(found["Servers"]) == 1
    assert found["Servers"][0]["Version"] == "mdm-adde"
    url = urllib.parse.urlsplit(found["Servers"][0]["BaseURL"])
    assert url.scheme == "https" and url.path == "/adde"
    assert url.hostname == world.server.host
    for family in ("iPhone", "iPad"):
        reply = discover(client, **who, **{"model-family": family})
        assert json.loads(reply.body) == {"Servers": [
            {"Version": "mdm-byod",
             "BaseURL": "https://mdm.example.com/byod"}]}
    for family in ("AppleTV", "x", ""):
        document(discover(client, **who, **{"model-family": family}),
                 "com.apple.well-known.failed")
    document(client.request("GET", WELLKNOWN), "com.apple.well-known.failed")
    assert client.request("GET", WELLKNOWN + "?model-family=%zz").status == 400
    reply = client.request("POST", WELLKNOWN, b"x")
    assert reply.status == 405 and reply.headers["allow"] == "GET"


# ---- accounts -----------------------------------------------------------------

def log_in(client, user=ANNA, path=LOGIN, **headers):
    """Passes the host's log-in; gives the token."""
    reply = client.request("GET", path + "?user-identifier=" + ANNA,
                           headers={**basic(user), **headers})
    assert reply.status == 308, reply
    assert reply.headers["cache-control"] == "no-store"
    where = reply.headers["location"]
    assert where.startswith(RESULT), where
    token = where[len(RESULT):]
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert not reply.body
    return token


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def byod_message(factory, **more):
    return factory.sign([factory.device()],
                        machine_info(UDID=None, SERIAL=None, **more))


def challenge_of(reply, server):
    assert reply.status == 401, reply
    match = re.fullmatch(
        r'Bearer method="apple-as-web", url="https://([^"]+)"',
        reply.headers["www-authenticate"])
    assert match, reply.headers
    assert match.group(1).endswith(LOGIN)
    assert match.group(1).startswith(server.host)


def tokens_of(server, account):
    api = server.api()
    reply = api.call("GET", "/v1/account-tokens?limit=1000&account="
                        + urllib.parse.quote(account))
    api.transport.close()
    assert reply.status == 200, reply
    return reply.json["tokens"]


def call(server, method, path):
    api = server.api()
    reply = api.call(method, path)
    api.transport.close()
    return reply


@pytest.mark.parametrize("path", ["/byod", "/adde"])
def test_account(world, client, factory, path):
    message = byod_message(factory)
    challenge_of(post(client, path, message), world.server)
    token = log_in(client)
    mdm = management(world, post(client, path, message, **bearer(token)))
    assert mdm["EnrollmentMode"] == path[1:].upper()
    assert mdm["AssignedManagedAppleID"] == ANNA
    assert ("AccessRights" in mdm) == (path == "/adde")
    # again, as after a profile that was cancelled
    assert post(client, path, message, **bearer(token)).status == 200


def test_account_needs_a_device(world, client, factory):
    token = log_in(client)
    assert post(client, "/byod", b"hello", **bearer(token)).status == 400
    message = factory.sign([factory.self_made()], machine_info())
    assert post(client, "/byod", message, **bearer(token)).status == 403


def test_wrong_tokens(world, client, factory):
    message = byod_message(factory)
    token = log_in(client)
    for wrong in ("Bearer", "Bearer ", "Bearer x", f"Bearer {token}0",
                  f"Bearer {token[:-1]}", f"Token {token}", token,
                  "Bearer " + "a" * 5000):
        reply = post(client, "/byod", message, Authorization=wrong)
        challenge_of(reply, world.server)
    assert post(client, "/byod", message,
                Authorization=f"bearer  {token}").status == 200


def test_log_in_is_the_hosts(world, client):
    for headers in ({}, basic(ANNA, "wrong"), basic("nobody"),
                    bearer("x")):
        reply = client.request("GET", LOGIN, headers=headers)
        assert reply.status == 401, reply
        assert "location" not in reply.headers
        assert "Bearer" not in reply.headers["www-authenticate"]


def test_names_and_domains(world, client):
    token = log_in(client, "bert")
    assert tokens_of(world.server, "bert@school.example")[-1][
        "state"] == "unused"
    assert token
    reply = client.request("GET", LOGIN, headers=basic("two words"))
    assert reply.status == 403, reply


def test_open_log_in_gives_nothing(world, client):
    """A name that nobody has checked is worth nothing."""
    for headers in ({}, basic(ANNA), basic(ANNA, "wrong")):
        reply = client.request("GET", "/open-login", headers=headers)
        assert reply.status == 403, reply
        assert "location" not in reply.headers
    told(world.server, "MDM0223")


def test_user_from_a_variable(world, client):
    log_in(client, "ignored", "/variable-login",
           **{"X-Who": "clara@example.com"})
    assert tokens_of(world.server, "clara@example.com")
    for who in ("no-domain", "a b@example.com", "x" * 300 + "@example.com"):
        reply = client.request("GET", "/variable-login",
                               headers={"X-Who": who})
        assert reply.status == 403, who
    assert client.request("GET", "/variable-login").status == 403


def test_ended_and_revoked(world, client, factory):
    message = byod_message(factory)
    token = log_in(client)
    newest_one = tokens_of(world.server, ANNA)[-1]
    reply = call(world.server, "DELETE",
                 f"/v1/account-tokens/{newest_one['id']}")
    assert reply.status == 200 and reply.json == {"revoked": 1}
    challenge_of(post(client, "/byod", message, **bearer(token)),
                 world.server)
    one, two = log_in(client), log_in(client)
    reply = call(world.server, "DELETE", "/v1/account-tokens?account=" + ANNA)
    assert reply.status == 200 and reply.json["revoked"] >= 2
    for gone in (one, two):
        challenge_of(post(client, "/byod", message, **bearer(gone)),
                     world.server)
    assert {t["state"] for t in tokens_of(world.server, ANNA)} <= {
        "revoked", "expired"}
    reply = call(world.server, "DELETE", "/v1/account-tokens/0")
    assert reply.status == 400
    assert call(world.server, "DELETE", "/v1/account-tokens").status == 400


def test_pages(world, client):
    for _ in range(3):
        log_in(client, "bert")
    seen, cursor = [], ""
    while True:
        reply = call(world.server, "GET", "/v1/account-tokens?limit=2"
                     "&account=bert%40school.example" + cursor)
        seen += [t["id"] for t in reply.json["tokens"]]
        if not reply.json.get("next_cursor"):
            break
        cursor = "&cursor=" + reply.json["next_cursor"]
    assert len(seen) >= 3 and seen == sorted(set(seen))


# ---- enrolled with an account ---------------------------------------------------

class Phone(Device):
    """Shows its user's token with every message."""

    access = None

    def put(self, *args, **more):
        self.headers = bearer(self.access) if self.access else {}
        return super().put(*args, **more)


@pytest.fixture
def phone(world, pki):
    made = []

    def make(access):
        device = Phone(world.server, pki.device(), world.server.push.topic)
        device.access = access
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


def test_device_with_token(world, client, phone):
    device = phone(log_in(client))
    device.enroll()
    [mine] = [t for t in tokens_of(world.server, ANNA)
              if t["enrollment_id"] == device.id]
    assert mine["state"] == "in use" and mine["expires_at"] is None
    assert device.idle().status == 200
    # revoked: the user is asked, the enrolment stays
    call(world.server, "DELETE", f"/v1/account-tokens/{mine['id']}")
    challenge_of(device.idle(), world.server)
    device.access = log_in(client, "bert")
    challenge_of(device.idle(), world.server)
    device.access = log_in(client)
    assert device.idle().status == 200
    mine = [t for t in tokens_of(world.server, ANNA)
            if t["enrollment_id"] == device.id]
    assert len(mine) == 1 and mine[0]["state"] == "in use"
    # a Mac's device channel sends none
    device.access = None
    assert device.idle().status == 200


def test_token_of_another_device(world, client, phone):
    one = phone(log_in(client))
    one.enroll()
    other = phone(None)
    other.enroll()
    other.access = one.access
    challenge_of(other.idle(), world.server)
    assert one.idle().status == 200


def test_blocked_leaves(world, client, phone, log):
    """Blocking is stronger than asking for a log-in."""
    device = phone(log_in(client))
    device.enroll()
    log.expect("MDM0206")
    call(world.server, "POST", f"/v1/enrollments/{device.id}/block")
    device.access = "gone"
    reply = device.idle()
    assert reply.status in (401, 403)
    assert "www-authenticate" not in reply.headers


def test_device_tokens_without_login(own_server, pki, log):
    """Where no log-in is configured, the header means nothing."""
    log.expect("MDM0205")
    server = own_server()
    device = Phone(server, pki.device(), server.push.topic)
    device.access = "anything"
    device.enroll()
    assert device.idle().status == 200
    device.close()


def test_life_of_tokens(own_server, pki, log):
    """A token that ends while the device is enrolled."""
    log.expect("MDM0205", *WORDS)
    server = own_server([("server", "ENROLLMENT_LOGIN", LOGIN),
                         ("/mdm", "ENROLLMENT_TOKEN_LIFE", "1m", "1h"),
                         (LOGIN, "ENROLLMENT_FLOW", "login"),
                         (LOGIN, "ENROLLMENT_TOKEN_LIFE", "1m")],
                        endpoints={"/mdm": "mdm", "/mdmapi/": "api",
                                   LOGIN: "enroll"}, start=False)
    server.raw += [line for line in host_lines(server)
                   if line[0] != "/variable-login"]
    server.start()
    transport = Transport(server)
    device = Phone(server, pki.device(), server.push.topic)
    device.access = log_in(transport)
    device.enroll()
    [token] = tokens_of(server, ANNA)
    end = datetime.datetime.strptime(token["expires_at"],
                                     "%Y-%m-%dT%H:%M:%SZ")
    used = datetime.datetime.strptime(token["used_at"], "%Y-%m-%dT%H:%M:%SZ")
    assert end - used == datetime.timedelta(hours=1)
    base = sqlite3.connect(server.database, timeout=10)
    with base:
        base.execute("UPDATE account_token SET expires_at = 1")
    base.close()
    challenge_of(device.idle(), server)
    device.close()
    transport.close()


# ---- over the air -----------------------------------------------------------------

def ota_begin(client, path="/ota"):
    """The first step; gives (where to post, challenge)."""
    reply = client.request("GET", path)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == PROFILE
    profile = reply.plist
    assert profile["PayloadType"] == "Profile Service"
    content = profile["PayloadContent"]
    assert {"UDID", "SERIAL", "PRODUCT", "VERSION"} <= set(
        content["DeviceAttributes"])
    url = urllib.parse.urlsplit(content["URL"])
    assert url.scheme == "https" and url.path == path
    return f"{url.path}?{url.query}", content["Challenge"]


def ota_info(challenge, **more):
    return machine_info(LANGUAGE=None, OS_VERSION=None,
                        MDM_CAN_REQUEST_SOFTWARE_UPDATE=None,
                        DEVICE_NAME="Anna\u2019s iPhone",
                        CHALLENGE=challenge, **more)


def test_over_the_air(world, client, factory, pki):
    where, challenge = ota_begin(client)
    info = ota_info(challenge, UDID="OTA-1")
    reply = post(client, where, factory.sign([factory.device()], info))
    assert reply.status == 200, reply
    [scep] = reply.plist["PayloadContent"]
    check_scep(world, scep)
    assert scep["PayloadContent"]["Subject"] == [[["CN", "OTA-1"]]]
    reply = post(client, where, factory.sign([pki.device(key_kind="rsa")],
                                             info, intermediate=False))
    assert reply.status == 200, reply
    management(world, reply)
    [seen] = newest(world.server, "OTA-1")
    assert seen["flow"] == "ota" and seen["count"] == 2
    assert seen["answer"] == "profile"


def test_over_the_air_refused(world, client, factory, pki):
    where, challenge = ota_begin(client)
    for wrong in ("x", None, challenge[:-1], challenge + "0"):
        message = factory.sign([factory.device()], ota_info(wrong))
        assert post(client, where, message).status == 403, wrong
    message = factory.sign([factory.self_made()], ota_info(challenge))
    assert post(client, where, message).status == 403
    message = factory.sign([pki.device(ca=pki.other_ca)],
                           ota_info(challenge), intermediate=False)
    assert post(client, where, message).status == 403
    message = factory.sign([pki.device(days=(-9, -1))], ota_info(challenge),
                           intermediate=False)
    assert post(client, where, message).status == 403
    # a log-in is no challenge, and the other way round
    message = factory.sign([factory.device()], ota_info(log_in(client)))
    assert post(client, where, message).status == 403
    challenge_of(post(client, "/byod", byod_message(factory),
                      **bearer(challenge)), world.server)


def test_over_the_air_is_not_for_enrolled_devices(world, client, factory,
                                                  phone):
    device = phone(None)
    device.enroll()
    where, challenge = ota_begin(client)
    message = factory.sign([device.identity], ota_info(challenge),
                           intermediate=False)
    assert post(client, where, message).status == 403


# ---- to the end --------------------------------------------------------------------

@pytest.fixture
def identity_of(world, client, factory):
    """Lets a profile's SCEP payload do its work; gives the identity."""
    def get(profile):
        [scep] = [p["PayloadContent"] for p in profile["PayloadContent"]
                  if p["PayloadType"] == "com.apple.security.scep"]
        [[[_, name]]] = scep["Subject"]
        path = urllib.parse.urlsplit(scep["URL"]).path
        _, key, cert = ScepClient(client, path).enrol(scep["Challenge"], name)
        assert cert is not None
        return Identity(factory.directory, "issued-" + os.urandom(4).hex(),
                        cert, key)
    return get


@pytest.fixture
def managed(world):
    made = []

    def make(identity, **more):
        device = Phone(world.server, identity, world.server.push.topic,
                       **more)
        made.append(device)
        return device

    yield make
    for device in made:
        device.close()


def test_device_to_the_end(world, client, factory, identity_of, managed):
    udid = "ADE-" + os.urandom(6).hex().upper()
    message = factory.sign([factory.device()], machine_info(UDID=udid))
    identity = identity_of(post(client, "/ade", message).plist)
    # what was given to this device is no other's
    assert managed(identity, udid="ADE-OTHER").authenticate().status == 403
    device = managed(identity, udid=udid)
    device.serial = "ZX0TESTQ7L"
    device.enroll()
    assert device.idle().status == 200


def test_over_the_air_to_the_end(world, client, factory, identity_of,
                                 managed):
    udid = "OTA-" + os.urandom(6).hex().upper()
    where, challenge = ota_begin(client)
    info = ota_info(challenge, UDID=udid)
    first = identity_of(post(client, where, factory.sign(
        [factory.device()], info)).plist)
    last = post(client, where, factory.sign([first], info,
                                            intermediate=False))
    management(world, last)
    device = managed(identity_of(last.plist), udid=udid)
    device.serial = "ZX0TESTQ7L"
    device.enroll()
    assert device.idle().status == 200
    # the identity of the step between is of no use afterwards
    device = managed(first, udid="OTA-OTHER")
    assert device.authenticate().status == 403


def test_account_to_the_end(world, client, factory, identity_of, managed):
    token = log_in(client)
    reply = post(client, "/byod", byod_message(factory), **bearer(token))
    enrollment_id = "BYOD-" + os.urandom(6).hex()
    device = managed(identity_of(reply.plist), enrollment_id=enrollment_id)
    device.access = token
    device.enroll()
    assert device.idle().status == 200
    assert [t["state"] for t in tokens_of(world.server, ANNA)
            if t["enrollment_id"] == enrollment_id] == ["in use"]


# ---- samples --------------------------------------------------------------------

SAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "docs",
                       "samples")


@pytest.fixture
def sample(kind, own_server, factory):
    """A server with the sample's locations."""
    with open(os.path.join(SAMPLES, f"{kind}-enrollment.conf"),
              encoding="utf-8") as f:
        text = f.read()
    server = own_server(endpoints={"/mdm": "mdm", "/scep": "scep",
                                   "/mdmapi/": "api"}, start=False)
    loads = [line for line in host_lines(server) if line[0] == "http"]
    with open(server.path("serials"), "w", encoding="ascii") as f:
        f.write("ZX0TESTQ7L\n")
    for old, new in (("/etc/mdm/apple.pem", factory.ca_file),
                     ("/etc/mdm/htpasswd", password_file(server)),
                     ("/etc/mdm/serials", server.path("serials"))):
        assert old in text
        text = text.replace(old, new)
    server.raw += [*loads, ("server", text)]
    server.start()
    api = server.api()
    assert api.put_pushcert(server.push.both_pem).status == 200
    api.transport.close()
    return server


def test_sample(sample, factory, log):
    log.expect(*WORDS)
    client = Transport(sample)
    for path in ("/enroll", "/ota", "/login"):
        assert client.request("GET", path).status == 401, path
    assert client.request("GET", "/enroll",
                          headers=basic(ANNA)).status == 200
    # the server's log-in is for GET alone: the device's answer to POST is
    # one of ours
    assert post(client, "/ota?ota", b"x").status == 400
    message = factory.sign([factory.device()], machine_info())
    assert post(client, "/ade", message).status == 200
    challenge_of(post(client, "/byod", message), sample)
    token = log_in(client, "bert")
    assert tokens_of(sample, "bert@example.com")
    assert post(client, "/adde", message, **bearer(token)).status == 200
    assert json.loads(discover(client, **{"model-family": "iPhone"}).body)[
        "Servers"][0]["BaseURL"].endswith("/byod")
    client.close()


def test_either_of_two_rules(own_server, kind, pki, log):
    """Where the host lets in by address or by password, a name that comes
    without a checked password is nobody's."""
    server = own_server(endpoints={"/mdmapi/": "api", LOGIN: "enroll"},
                        start=False)
    server.settings += [(LOGIN, "ENROLLMENT_FLOW", "login")]
    server.raw += [line for line in host_lines(server)
                   if line[0] in ("http", "server")
                   or (line[0] == LOGIN and "Require" not in line[1])]
    server.raw += [(LOGIN, text) for text in (
        ["satisfy any;", "allow 127.0.0.1;", "deny all;"]
        if kind == "nginx" else
        ["<RequireAny>\nRequire ip 127.0.0.1\nRequire valid-user\n"
         "</RequireAny>"])]
    if kind == "apache":
        server.raw.append(
            ("http", f"LoadModule authz_host_module {MODULES}/"
             "mod_authz_host.so"))
    server.start()
    log.expect(*WORDS)
    client = Transport(server)
    for headers in (basic(ANNA, "wrong"), basic(ANNA), {}):
        reply = client.request("GET", LOGIN, headers=headers)
        assert reply.status == 403, reply
        assert "location" not in reply.headers
    client.close()


def test_incomplete(own_server, log, factory):
    """Neither a push certificate nor a SCEP server: our own trouble."""
    log.expect("MDM0224", *WORDS)
    server = own_server([("server", "ENROLLMENT_CA_CERTIFICATE",
                          factory.ca_file)],
                        endpoints={"/mdm": "mdm", "/mdmapi/": "api",
                                   "/enroll": "enroll"})
    client = Transport(server)
    message = factory.sign([factory.device()], machine_info())
    for reply in (client.request("GET", "/enroll"),
                  post(client, "/enroll", message)):
        assert reply.status == 503 and reply.headers["retry-after"]
    log.require("MDM0224")
    client.close()
