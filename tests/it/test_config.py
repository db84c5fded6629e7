"""Configuration: every directive of the table in both servers, good and bad
values, texts that help, and a test that touches nothing."""
import os
import plistlib
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from mdmtest import deftable

TABLE = deftable.directives()

PROFILE = plistlib.dumps({
    "PayloadType": "Configuration", "PayloadVersion": 1,
    "PayloadIdentifier": "org.example.wifi", "PayloadContent": [],
    "PayloadUUID": "2F0D0C5B-3B7B-4D7C-9D0C-0B6E0B1C2D3E"}).decode()
CASES = os.path.join(deftable.TOP, "tests", "cases")
SERVER_UUID = "677cab70-fe18-11e2-b778-0800200c9a66"

# Per directive: settings that must be accepted and settings that must be
# refused.  "{name}" stands for files that prepare() makes.
GOOD = {
    "ENDPOINT": [["mdm"], ["server"], ["checkin"], ["api"], ["scep"],
                 ["off"]],
    "STORE": [["sqlite:mdm.db"], ["sqlite:{dir}/other.db"]],
    "STATE_DIR": [["{dir}/state2"]],
    "STORE_CONNECTIONS": [["1"], ["8"]],
    "STORE_TIMEOUT": [["10s"], ["1m"], ["500ms"]],
    "SECRET_KEY_FILE": [["{secret}"], ["{secret}", "{other_secret}"]],
    "DEVICE_CA_CERTIFICATE": [["{device_ca}"], ["{two_cas}"]],
    "DEVICE_IDENTITY": [["certificate"], ["signature"],
                        ["certificate", "signature"],
                        ["certificate", "header=Client-Cert"]],
    "USER_AUTHENTICATE": [["refuse"], ["empty-challenge"]],
    "RETROACTIVE_BINDING": [["on"], ["off"]],
    "MIGRATION": [["on"], ["off"]],
    "TRUSTED_PROXY": [["127.0.0.1"], ["10.0.0.0/8", "2001:db8::/32", "::1"],
                      [f"192.0.2.{i}" for i in range(64)]],
    "PLIST_LIMITS": [["size=8m"], ["depth=32"], ["items=1000"],
                     ["size=1k", "depth=64", "items=100"]],
    "API_TOKEN_FILE": [["{tokens}"], ["{hashed_tokens}"]],
    "PUSH": [["on"], ["off"]],
    "PUSH_SERVER": [["localhost"], ["api.push.apple.com:2197"],
                    ["127.0.0.1:2197"]],
    "PUSH_CERTIFICATE": [["{push_both}"], ["{push_cert}", "{push_key}"]],
    "PUSH_CERTIFICATE_PASS_PHRASE": [["file:{phrase}"],
                                     ["exec:{say_phrase}"]],
    "PUSH_PROXY": [["off"], ["http://proxy.example.com"],
                   ["http://127.0.0.1:3128/"], ["http://[::1]:8080"],
                   ["http://user:pass%40word@proxy.example.com:3128"],
                   ["http://user:!$&'()*+,=@h"]],
    "PUSH_TRUSTED_CERTIFICATE": [["{server_ca}"]],
    "PUSH_EXPIRATION": [["7d"], ["1h"], ["30d"]],
    "PUSH_TIMEOUT": [["30s"], ["5s"]],
    "PUSH_PING": [["10m"], ["5s"], ["1h"]],
    "PUSH_CONCURRENCY": [["1"], ["1000"]],
    "PUSH_RETRY": [["15s", "1h"], ["1s", "1s"]],
    "PUSH_TOPIC_CHANGE": [["on"], ["off"]],
    "PUSH_REPEAT": [["4h"], ["1m"], ["off"]],
    "PUSH_SILENT": [["1h"], ["7d"], ["off"]],
    "PUSH_CERTIFICATE_WARN": [["30d"], ["1h"], ["3650d"]],
    "PUSH_RATE": [["1"], ["100000"], ["off"]],
    "LEASE_TIME": [["15s"], ["1m"]],
    "COMMAND_EXPIRATION": [["off"], ["30d"], ["1m"]],
    "RESULT_RETENTION": [["90d"], ["1h"], ["off"]],
    "DECLARATIVE_MANAGEMENT": [
        ["http://127.0.0.1:9000/v1"], ["off"],
        ["https://dm.example.com", "hmac={hmac}"]],
    "ESCROW_KEY_UNLOCK_URL": [["https://apple.example.com/unlock"],
                              ["https://localhost:8443/", "ca={server_ca}"]],
    "TOKEN_SIGNER": [["{rsa_key}", SERVER_UUID],
                     ["{rsa_key}", SERVER_UUID.upper()]],
    "SCEP_CERTIFICATE": [["{scep_ca}"]],
    "SCEP_CERTIFICATE_KEY": [["{scep_key}"]],
    "SCEP_VALIDITY": [["365d"], ["1h"], ["3650d"]],
    "PUBLIC_URL": [["https://mdm.example.com"],
                   ["https://mdm.example.com:8443/"]],
    "PROFILE_ORGANIZATION": [["Example"], ["R&D <Lab>"], ["名前 📱"],
                             ["x" * 4000]],
    "PROFILE_NAME": [["Müller & Söhne"], ["]]>"], ["&amp;"]],
    "PROFILE_IDENTIFIER": [["com.example.mdm"], ["a"]],
    "PROFILE_ACCESS_RIGHTS": [["8191"], ["1"], ["3"], ["192"]],
    "PROFILE_SIGNER": [["{push_cert}", "{push_key}"]],
    "PROFILE_TOPIC": [["com.apple.mgmt.External.1"]],
    "PROFILE_SERVER_URL": [["https://x.example/mdm"],
                           ["https://x.example/mdm?a=1&b=2"]],
    "PROFILE_CHECKIN_URL": [["https://x.example/checkin"]],
    "PROFILE_SCEP_URL": [["https://x.example/scep"],
                         ["http://x.example/scep"]],
    "PROFILE_SCEP_CHALLENGE": [["{phrase}"]],
    "PROFILE_SIGN_MESSAGE": [["on"], ["off"]],
    "PROFILE_CHECK_OUT": [["on"], ["off"]],
    "PROFILE_USER_CHANNELS": [["on"], ["off"]],
    "PROFILE_CERTIFICATE": [["{device_ca}"]],
    "SCEP_CHALLENGE": [["{hmac}"], ["{phrase}"]],
    "SCEP_LEGACY": [["on"], ["off"]],
    "RETURN_TO_SERVICE": [
        ["on"], ["off"], ["on", "wifi-profile={profile}"],
        ["on", "wifi-profile={signed_profile}", "mdm-profile={profile}",
         "preserve-data-plan", "retry-enrollment"]],
    "ENROLLMENT_FLOW": [["download", "device"], ["device"], ["byod"],
                        ["download", "device", "ota"], ["login"]],
    "ENROLLMENT_CA_CERTIFICATE": [["{device_ca}"], ["{two_cas}"]],
    "ENROLLMENT_SIGNATURE": [["require"], ["accept-unverified"]],
    "ENROLLMENT_MINIMUM_OS": [["iPhone=26.1"], ["iPad=18", "Mac=15:24A1"]],
    "ENROLLMENT_SERIAL": [["{serials}"]],
    "ENROLLMENT_LOGIN": [["/login"], ["https://mdm.example.com/login"]],
    "ENROLLMENT_USER": [["domain=example.com"],
                        ["variable=MAIL", "domain=example.com"]],
    "ENROLLMENT_TOKEN_LIFE": [["1h"], ["15m", "180d"], ["1h", "off"]],
    "SERVICE_DISCOVERY": [["mdm-byod", "/byod"],
                          ["mdm-adde", "https://h.example/adde", "Mac"]],
}
BAD = {
    "ENDPOINT": [["mdmx"], ["MDM api"], [""]],
    "STORE": [["mysql:x"], ["sqlite:"], [""], ["mdm.db"]],
    "STATE_DIR": [[""]],
    "STORE_CONNECTIONS": [["0"], ["-1"], ["four"], ["1000000"], ["4x"]],
    "STORE_TIMEOUT": [["soon"], ["-1s"], ["0s"], ["10y"], [""]],
    "SECRET_KEY_FILE": [["{missing}"], ["{short_secret}"],
                        ["{open_secret}"], ["{secret}", "{missing}"],
                        ["{secret}", "{open_secret}"],
                        ["{secret}", "{short_secret}"],
                        ["{secret}", "{secret}"],
                        ["{secret}", "{same_secret}"]],
    "DEVICE_CA_CERTIFICATE": [["{missing}"], ["{garbage}"], ["{push_key}"],
                              ["{dir}"]],
    "DEVICE_IDENTITY": [["header"], ["header="], ["header=a b"], ["tls"],
                        ["certificate", "certificate"], [""]],
    "USER_AUTHENTICATE": [["410"], ["empty"], [""]],
    "RETROACTIVE_BINDING": [["yes"], [""]],
    "MIGRATION": [["1"], [""]],
    "TRUSTED_PROXY": [["localhost"], ["10.1.2.3/8"], ["10.0.0.0/33"],
                      ["127.0.0.1", "x"], ["2001:db8::1/32"], [""]],
    "PLIST_LIMITS": [["size=0"], ["depth=x"], ["items=-1"], ["colour=red"],
                     ["8m"], ["depth=1000000"]],
    "API_TOKEN_FILE": [["{missing}"], ["{no_tokens}"], ["{bad_tokens}"],
                       ["{bad_scope_tokens}"]],
    "PUSH": [["yes"], ["1"], [""]],
    "PUSH_SERVER": [["localhost:0"], ["localhost:99999"], ["localhost:x"],
                    [":2197"], ["https://localhost"], [""]],
    "PUSH_CERTIFICATE": [["{missing}"], ["{garbage}"], ["{push_cert}"],
                         ["{push_cert}", "{other_key}"], ["{device_both}"],
                         ["{push_cert}", "{missing}"]],
    "PUSH_CERTIFICATE_PASS_PHRASE": [
        ["{phrase}"], ["file:{missing}"], ["file:{dir}"], ["exec:true"],
        ["exec:{missing}"], ["exec:{phrase}"], ["exec:/bin/false"],
        ["exec:/bin/true"], [""]],
    "PUSH_PROXY": [["on"], [""], ["proxy.example.com:3128"],
                   ["https://proxy.example.com"], ["socks5://h:1080"],
                   ["http://h:0"], ["http://h/path"], ["http://u:p@@h"],
                   ["http://user:a/b@h"], ["http://user:%zz@h"],
                   ["http://user:%0d%0aX@h"], ["http://:word@h"]],
    "PUSH_TRUSTED_CERTIFICATE": [["{missing}"], ["{garbage}"]],
    "PUSH_EXPIRATION": [["never"], ["-7d"], ["7"]],
    "PUSH_TIMEOUT": [["0s"], ["x"]],
    "PUSH_PING": [["4s"], ["2h"], ["off"]],
    "PUSH_CONCURRENCY": [["0"], ["-5"], ["many"]],
    "PUSH_RETRY": [["1h", "15s"], ["x", "1h"], ["0s", "0s"]],
    "PUSH_TOPIC_CHANGE": [["maybe"]],
    "PUSH_REPEAT": [["0s"], ["59s"], ["never"], [""]],
    "PUSH_SILENT": [["59m"], ["0"], ["never"], [""]],
    "PUSH_CERTIFICATE_WARN": [["59m"], ["off"], ["soon"], [""]],
    "PUSH_RATE": [["0"], ["100001"], ["fast"], [""]],
    "LEASE_TIME": [["0s"], ["x"]],
    "COMMAND_EXPIRATION": [["1s"], ["on"], ["4000d"], [""]],
    "RESULT_RETENTION": [["59m"], ["forever"], ["0"], [""]],
    "ESCROW_KEY_UNLOCK_URL": [["http://h/"], ["off"], [""],
                              ["https://h/?x=1"],
                              ["https://h/", "ca={missing}"],
                              ["https://h/", "ca={garbage}"],
                              ["https://h/", "{server_ca}"]],
    "DECLARATIVE_MANAGEMENT": [
        ["builtin"], ["on"], [""], ["file:///etc/passwd"], ["ftp://h/x"],
        ["http://"], ["http://user:word@h/"], ["http://h/?x=1"],
        ["http://h/", "key={hmac}"], ["http://h/", "hmac={missing}"],
        ["http://h/", "hmac={short_hmac}"], ["off", "hmac={hmac}"]],
    "TOKEN_SIGNER": [
        ["{missing}", SERVER_UUID], ["{garbage}", SERVER_UUID],
        ["{rsa_key}", "not-a-uuid"], ["{rsa_key}", SERVER_UUID + "0"],
        ["{small_key}", SERVER_UUID], ["{ec_key}", SERVER_UUID],
        ["{sealed_key}", SERVER_UUID], ["{device_ca}", SERVER_UUID]],
    "SCEP_CERTIFICATE": [["{missing}"], ["{garbage}"], ["{scep_key}"]],
    "SCEP_CERTIFICATE_KEY": [["{missing}"], ["{dir}"]],
    "SCEP_VALIDITY": [["59m"], ["off"], ["3651d"], [""]],
    "PUBLIC_URL": [["http://mdm.example.com"], ["mdm.example.com"],
                   ["https://mdm.example.com/mdm"], ["https://"], [""]],
    "PROFILE_ORGANIZATION": [[""], ["a\x01b"]],
    "PROFILE_NAME": [[""], ["a\x01b"]],
    "PROFILE_IDENTIFIER": [[""], ["a b"], ["com/example"], ["x" * 201]],
    "PROFILE_ACCESS_RIGHTS": [["0"], ["8192"], ["2"], ["128"], ["all"],
                              [""]],
    "PROFILE_SIGNER": [["{push_cert}", "{other_key}"],
                       ["{push_cert}", "{missing}"],
                       ["{garbage}", "{push_key}"]],
    "PROFILE_TOPIC": [["com.example"], [""]],
    "PROFILE_SERVER_URL": [["http://x.example/mdm"], ["/mdm"], [""]],
    "PROFILE_CHECKIN_URL": [["http://x.example/"], [""]],
    "PROFILE_SCEP_URL": [["ftp://x.example/"], ["/scep"], [""]],
    "PROFILE_SCEP_CHALLENGE": [["{missing}"], ["{dir}"]],
    "PROFILE_SIGN_MESSAGE": [["yes"], [""]],
    "PROFILE_CHECK_OUT": [["1"], [""]],
    "PROFILE_USER_CHANNELS": [["no"], [""]],
    "PROFILE_CERTIFICATE": [["{missing}"], ["{garbage}"], ["{push_key}"]],
    "SCEP_CHALLENGE": [["{missing}"], ["{empty}"], ["{dir}"],
                       ["{long_word}"]],
    "SCEP_LEGACY": [["des"], [""]],
    "RETURN_TO_SERVICE": [
        ["yes"], [""], ["off", "retry-enrollment"], ["on", "on"],
        ["on", "wifi-profile={missing}"], ["on", "wifi-profile={garbage}"],
        ["on", "mdm-profile={push_cert}"], ["on", "mdm-profile={dir}"],
        ["on", "retry-enrollment", "retry-enrollment"]],
    "ENROLLMENT_FLOW": [["all"], [""], ["byod", "device"], ["ota", "ota"]],
    "ENROLLMENT_CA_CERTIFICATE": [["{missing}"], ["{garbage}"],
                                  ["{push_cert}"]],
    "ENROLLMENT_SIGNATURE": [["off"], [""]],
    "ENROLLMENT_MINIMUM_OS": [["26.1"], ["iPhone"], ["Phone=1"],
                              ["iPhone=new"], ["iPad=18", "iPad=19"]],
    "ENROLLMENT_SERIAL": [["{missing}"], ["{two_words}"], ["{dir}"]],
    "ENROLLMENT_LOGIN": [["login"], ["http://mdm.example.com/login"], [""]],
    "ENROLLMENT_USER": [["example.com"], ["domain=@example.com"],
                        ["variable="]],
    "ENROLLMENT_TOKEN_LIFE": [["1s"], ["off"], ["1h", "1m"], [""]],
    "SERVICE_DISCOVERY": [["byod", "/byod"], ["mdm-byod", "byod"],
                          ["mdm-byod", "/byod", "Phone"]],
}
# What must stand beside a directive for its good values.
BESIDE = {"DEVICE_IDENTITY": [("/mdm", "TRUSTED_PROXY", "127.0.0.1")],
          "SCEP_CERTIFICATE": [("http", "SCEP_CERTIFICATE_KEY",
                                "{scep_key}")],
          "SCEP_CERTIFICATE_KEY": [("http", "SCEP_CERTIFICATE",
                                    "{scep_ca}")],
          "PROFILE_SCEP_CHALLENGE": [("server", "PROFILE_SCEP_URL",
                                      "https://x.example/scep")]}
PLACE = {"main": "http", "server": "server", "location": "/mdm"}


def test_every_directive_has_values():
    assert set(GOOD) == set(TABLE)
    assert set(BAD) == set(TABLE)


def write(path, text, mode=0o600):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def private_key(bits, password=None):
    """PEM text of an RSA key, or of an EC key without bits."""
    key = ec.generate_private_key(ec.SECP256R1()) if bits is None \
        else rsa.generate_private_key(65537, bits)
    sealed = serialization.BestAvailableEncryption(password) if password \
        else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM,
                             serialization.PrivateFormat.PKCS8,
                             sealed).decode()


def sign_profile(base, signer):
    """PROFILE as CMS in DER, made by the openssl program."""
    path = os.path.join(base, "signed-profile")
    subprocess.run(
        ["openssl", "smime", "-sign", "-nodetach", "-outform", "DER",
         "-signer", signer.cert_file, "-inkey", signer.key_file,
         "-in", os.path.join(base, "profile"), "-out", path],
        check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def files(workdir, pki):
    """The files that GOOD and BAD name."""
    base = os.path.join(workdir, "config-files")
    os.makedirs(base, exist_ok=True)
    push, other, device = pki.push(), pki.push(), pki.device()

    def make(name, text, mode=0o600):
        return write(os.path.join(base, name), text, mode)

    digest = "sha256:" + "ab" * 32
    cas = ""
    for ca in (pki.device_ca, pki.other_ca):
        with open(ca.cert_file, encoding="ascii") as f:
            cas += f.read()
    return {
        "dir": base, "missing": os.path.join(base, "missing"),
        "scep_ca": os.path.join(CASES, "scep", "ca.pem"),
        "scep_key": os.path.join(CASES, "scep", "ca.key"),
        "empty": make("empty", "\n"),
        "long_word": make("long-word", "x" * 257),
        "garbage": make("garbage", "hello\n"),
        "secret": make("secret", "5a" * 32 + "\n"),
        "other_secret": make("other-secret", "a5" * 32 + "\n"),
        "same_secret": make("same-secret", "5A" * 32),
        "short_secret": make("short", "5a" * 16 + "\n"),
        "open_secret": make("open", "5a" * 32 + "\n", 0o644),
        "tokens": make("tokens", "# comment\n\nit:0123456789abcdef\n"),
        "hashed_tokens": make("hashed", f"ro:read,command:{digest}\n"),
        "no_tokens": make("no-tokens", "# nothing\n"),
        "bad_tokens": make("bad-tokens", "justaword\n"),
        "bad_scope_tokens": make("bad-scope", f"x:push:{digest}\n"),
        "two_cas": make("two-cas", cas),
        "serials": make("serials", "# ours\nZX0TESTQ7L\nABC123\n"),
        "two_words": make("two-words", "ABC 123\n"),
        "hmac": make("hmac", "0123456789abcdef0123456789abcdef\n"),
        "short_hmac": make("short-hmac", "0123456789abcde\n"),
        "rsa_key": make("rsa-key", private_key(2048)),
        "small_key": make("small-key", private_key(1024)),
        "ec_key": make("ec-key", private_key(None)),
        "sealed_key": make("sealed-key", private_key(2048, b"word")),
        "phrase": make("phrase", "word\n"),
        "say_phrase": make("say-phrase", "#!/bin/sh\necho word\n", 0o700),
        "profile": make("profile", PROFILE),
        "signed_profile": sign_profile(base, device),
        "device_ca": pki.device_ca.cert_file,
        "server_ca": pki.server_ca.cert_file,
        "push_cert": push.cert_file, "push_key": push.key_file,
        "push_both": push.both_file, "other_key": other.key_file,
        "device_both": device.both_file,
    }


def fill(args, files):
    return [a.format(**files) if a else a for a in args]


def place_of(row):
    return "/mdmapi/" if row.id == "API_TOKEN_FILE" else PLACE[row.scope]


def name_in(server, row):
    return getattr(row, server.kind)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_good_values(name, own_server, files):
    row = TABLE[name]
    for args in GOOD[name]:
        server = own_server(start=False)
        if name == "ENDPOINT":
            server.endpoints = {"/x": args[0]}
        else:
            server.settings = [s for s in server.settings if s[1] != name]
            server.settings.append((place_of(row), name, *fill(args, files)))
            server.settings += [(place, other, *fill(more, files)) for
                                place, other, *more in BESIDE.get(name, [])]
        status, text = server.configtest()
        assert status == 0, (args, text)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_bad_values(name, own_server, files):
    row = TABLE[name]
    for args in BAD[name]:
        server = own_server(start=False)
        given = fill(args, files)
        if name == "ENDPOINT":
            server.endpoints = {"/x": ""}
            server.raw = [("/x", server.line("ENDPOINT", given))]
        else:
            server.settings = [s for s in server.settings if s[1] != name]
            server.settings.append((place_of(row), name, *given))
        status, text = server.configtest()
        assert status != 0, (args, text)
        assert name_in(server, row) in text, (args, text)
        assert os.path.basename(server.conf_file) in text, (args, text)
        # More than the host's own words about the number of arguments.
        assert len(text) > 60, (args, text)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_number_of_arguments(name, own_server, files):
    row = TABLE[name]
    wrong = [[]] if row.max < 0 else [[], ["x"] * (row.max + 1)]
    if row.min > 1:
        wrong.append(["x"] * (row.min - 1))
    for args in wrong:
        server = own_server(start=False)
        place = "/x" if name == "ENDPOINT" else place_of(row)
        if name == "ENDPOINT":
            server.endpoints = {"/x": ""}
        server.settings = [s for s in server.settings if s[1] != name]
        server.raw = [(place, server.line(name, args))]
        status, text = server.configtest()
        assert status != 0, (args, text)
        assert name_in(server, row) in text, (args, text)


@pytest.mark.parametrize("name", sorted(
    n for n, r in TABLE.items() if r.scope != "main" and not r.only))
def test_inherited_from_outside(name, own_server, files):
    """A setting may also stand in the scopes outside its own."""
    for place in ("http", "server"):
        server = own_server(start=False)
        server.settings = [s for s in server.settings if s[1] != name]
        for scope in ("server", "/mdmapi/"):
            server.settings.append((scope, name, None))
        server.settings.append((place, name, *fill(GOOD[name][0], files)))
        status, text = server.configtest()
        assert status == 0, (place, text)


@pytest.mark.parametrize("name", sorted(
    n for n, r in TABLE.items() if r.scope == "main"))
def test_main_settings_stay_outside(name, own_server, files):
    row = TABLE[name]
    for place in ("server", "/mdm"):
        server = own_server(start=False)
        server.settings = [s for s in server.settings if s[1] != name]
        server.settings.append((place, name, *fill(GOOD[name][0], files)))
        status, text = server.configtest()
        assert status != 0, (place, text)
        assert name_in(server, row) in text


def test_endpoint_stands_alone(own_server):
    for place in ("http", "server"):
        server = own_server(start=False)
        server.raw = [(place, server.line("ENDPOINT", ["mdm"]))]
        status, text = server.configtest()
        assert status != 0, (place, text)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_given_twice(name, own_server, files):
    row = TABLE[name]
    server = own_server(start=False)
    args = fill(GOOD[name][0], files)
    place = place_of(row)
    if name == "ENDPOINT":
        place, server.endpoints = "/x", {"/x": ""}
    server.settings = [s for s in server.settings if s[1] != name]
    server.settings.append((place, name, None))
    server.raw = [(place, server.line(name, args))] * 2
    status, text = server.configtest()
    if name == "PUSH_CERTIFICATE":
        # Once per topic: the same one twice is a mistake, another is not.
        server.raw = [(place, server.line(name, [files["push_both"]]))]
        assert server.configtest()[0] == 0
        return
    if name == "SERVICE_DISCOVERY":
        assert status == 0, text    # a line for each kind of device
        return
    assert status != 0, text
    assert name_in(server, row) in text


def test_two_push_certificates(own_server, pki):
    one, two = pki.push(), pki.push()
    server = own_server([("http", "PUSH_CERTIFICATE", one.both_file),
                         ("http", "PUSH_CERTIFICATE", two.cert_file,
                          two.key_file)], start=False)
    status, text = server.configtest()
    assert status == 0, text


def test_endpoint_without_device_ca(own_server):
    """Without it every device would be refused: said before the start."""
    server = own_server([("server", "DEVICE_CA_CERTIFICATE", None)],
                        start=False)
    status, text = server.configtest()
    row = TABLE["DEVICE_CA_CERTIFICATE"]
    assert status != 0 or "MDM0003" in text, text
    assert name_in(server, row) in text or row.apache in text, text


def test_header_needs_a_trusted_proxy(own_server):
    """Nobody would be believed: said before the start."""
    server = own_server([("/mdm", "DEVICE_IDENTITY", "header=X-Cert")],
                        start=False)
    status, text = server.configtest()
    assert status != 0, text
    for row in (TABLE["DEVICE_IDENTITY"], TABLE["TRUSTED_PROXY"]):
        assert name_in(server, row) in text, text
    assert "nobody would be believed" in text
    server.settings.append(("http", "TRUSTED_PROXY", "192.0.2.1"))
    status, text = server.configtest()
    assert status == 0, text


def test_trusted_proxy_without_header_is_a_warning(own_server):
    server = own_server([("/mdm", "TRUSTED_PROXY", "192.0.2.1")], start=False)
    status, text = server.configtest()
    assert status == 0, text
    assert "MDM0003" in text and "has no effect" in text, text
    assert name_in(server, TABLE["TRUSTED_PROXY"]) in text, text


def test_network_with_host_bits(own_server):
    """The error says which network it should be."""
    server = own_server([("/mdm", "TRUSTED_PROXY", "192.0.2.130/25")],
                        start=False)
    status, text = server.configtest()
    assert status != 0, text
    assert "192.0.2.128/25" in text, text


def test_expired_push_certificate_is_a_warning(own_server, pki, log):
    log.expect("MDM0502", "MDM0504", "MDM0501", "MDM0003")
    old = pki.push(days=(-400, -3))
    server = own_server([("http", "PUSH_CERTIFICATE", old.both_file)],
                        start=False)
    status, text = server.configtest()
    assert status == 0, text
    assert "expired" in text, text
    server.start()
    assert server.get_static().status == 200


def test_configtest_touches_nothing(own_server):
    server = own_server(start=False)
    os.rmdir(server.state_dir)
    status, text = server.configtest()
    assert status == 0, text
    assert not os.path.exists(server.state_dir)
    os.mkdir(server.state_dir, 0o700)
    status, text = server.configtest()
    assert status == 0, text
    assert os.listdir(server.state_dir) == []


def test_start_makes_nothing_without_endpoints(own_server):
    """The module is loaded but no location uses it."""
    server = own_server(start=False, endpoints={})
    os.rmdir(server.state_dir)
    server.start()
    assert server.get_static().status == 200
    server.quit()
    assert not os.path.exists(server.state_dir)


def test_endpoint_off(own_server, pki):
    """`off` gives the URL back to the host."""
    server = own_server(start=False)
    server.endpoints = {"/static2/": "off", "/mdmapi/": "api"}
    os.makedirs(server.path("htdocs", "static2"))
    with open(server.path("htdocs", "static2", "x.txt"), "w",
              encoding="ascii") as f:
        f.write("plain\n")
    if server.kind == "nginx":
        server.raw = [("/static2/", f"root {server.path('htdocs')};")]
    server.start()
    from mdmtest.device import Transport
    reply = Transport(server).request("GET", "/static2/x.txt")
    assert (reply.status, reply.body) == (200, b"plain\n")


def test_relative_paths_start_at_the_servers_root(own_server, pki):
    server = own_server(start=False)
    with open(server.path("ca.pem"), "wb") as out, \
            open(pki.device_ca.cert_file, "rb") as f:
        out.write(f.read())
    server.settings.append(("server", "DEVICE_CA_CERTIFICATE", "ca.pem"))
    status, text = server.configtest()
    assert status == 0, text


def test_no_name_equals_one_of_the_hosts():
    """Our names may not be those of modules shipped with the hosts."""
    names = set()
    for row in TABLE.values():
        assert row.apache.startswith("MDM")
        assert row.nginx.startswith("mdm_")
        assert row.nginx == row.nginx.lower()
        names |= {row.apache.lower(), row.nginx}
    assert len(names) == 2 * len(TABLE)
    where = "/usr/lib/apache2/modules"
    for name in os.listdir(where):
        if not name.endswith(".so") or name == "mod_mdm.so":
            continue
        with open(os.path.join(where, name), "rb") as f:
            data = f.read().lower()
        for ours in names:
            assert b"\0" + ours.encode() + b"\0" not in data, (name, ours)
