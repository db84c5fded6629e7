"""Settings of the host that devices would run into: the configuration test of
both servers warns of them, names the endpoint's line and the remedy, and
passes all the same."""
import os
import re

import pytest
from mdmtest.servers import free_port

DEVICES = ("/mdm", "/checkin", "/server")
BODY = {"nginx": "client_max_body_size", "apache": "LimitRequestBody"}
HEADER = {"nginx": "large_client_header_buffers",
          "apache": "LimitRequestFieldSize"}
ASK = {"nginx": "ssl_verify_client optional_no_ca",
       "apache": "SSLVerifyClient optional_no_ca"}
# The lines of the test's own configurations that stand in for a sample's.
BODY_LINE = {"nginx": "client_max_body_size 32m;",
             "apache": "LimitRequestBody 33554432"}
ASK_LINE = {"nginx": "ssl_verify_client optional_no_ca;",
            "apache": "SSLVerifyClient optional_no_ca"}
PLAIN = {"nginx": [(" ssl http2;", ";")],
         "apache": [("SSLEngine on", "SSLEngine off")]}


def body_line(kind, size):
    return f"client_max_body_size {size};" if kind == "nginx" \
        else f"LimitRequestBody {size}"


def header_line(kind, size):
    return f"large_client_header_buffers 8 {size};" if kind == "nginx" \
        else f"LimitRequestFieldSize {size}"


@pytest.fixture
def warnings(own_server):
    """Runs the configuration test; the warnings by the path of their
    endpoint, which is found by the line that they name."""

    def run(settings=(), raw=(), changes=(), files=(), **more):
        server = own_server(list(settings), start=False, raw=list(raw),
                            **more)
        plain = server.configuration

        def configuration():
            text = plain()
            for old, new in changes:
                assert old in text, f"no {old!r}"
                text = text.replace(old, new)
            return text
        server.configuration = configuration
        for name, text in files:
            with open(server.path(name), "w", encoding="utf-8") as f:
                f.write(text)
        status, text = server.configtest()
        assert status == 0, text
        with open(server.conf_file, encoding="utf-8") as f:
            lines = f.read().splitlines()
        found = {}
        for line in text.splitlines():
            if "MDM0003" not in line:
                assert "MDM0" not in line, line
                continue
            place = re.search(r" in (/\S+):(\d+)$", line)
            assert place, line
            assert os.path.samefile(place.group(1), server.conf_file), line
            number = int(place.group(2)) - 1
            assert "ndpoint " in lines[number], (line, lines[number])
            while "ocation " not in lines[number]:
                number -= 1
            path = re.search(r"(/[^\s\">]*)", lines[number]).group(1)
            found.setdefault(path, []).append(line)
        return found

    return run


def test_nothing_to_warn_of(warnings):
    assert warnings() == {}


# ---- bodies ----------------------------------------------------------------

def test_small_bodies(warnings, kind):
    found = warnings(changes=[(BODY_LINE[kind], body_line(kind, 33554431))])
    assert sorted(found) == sorted(DEVICES)
    for line, in found.values():
        assert f"{BODY[kind]} of 33554431 bytes" in line
        assert "set it to 33554432 or more" in line


def test_default_of_bodies(warnings, kind):
    """nginx allows 1 MB, httpd 1 GB when nothing is said."""
    found = warnings(changes=[(BODY_LINE[kind], "")])
    if kind == "apache":
        assert found == {}
    else:
        assert sorted(found) == sorted(DEVICES)
        assert "client_max_body_size of 1048576 bytes" in found["/mdm"][0]


def test_any_body(warnings, kind):
    assert warnings(changes=[(BODY_LINE[kind], body_line(kind, 0))],
                    settings=[("http", "PLIST_LIMITS", "size=1g")]) == {}


def test_body_limit_of_the_location(warnings, kind):
    """What holds for the URL counts, from wherever it comes."""
    found = warnings(raw=[("/mdm", body_line(kind, 1000000))])
    assert list(found) == ["/mdm"]
    found = warnings(changes=[(BODY_LINE[kind], body_line(kind, 1000000))],
                     raw=[("/mdm", body_line(kind, 40000000))])
    assert sorted(found) == ["/checkin", "/server"]


def test_body_limit_against_our_own(warnings, kind):
    """What the module refuses itself the host may refuse, too."""
    small = [(BODY_LINE[kind], body_line(kind, 8388608))]
    assert warnings(changes=small, settings=[
        ("server", "PLIST_LIMITS", "size=8m")]) == {}
    found = warnings(changes=small, settings=[
        ("server", "PLIST_LIMITS", "size=8m"),
        ("/mdm", "PLIST_LIMITS", "size=9m")])
    assert list(found) == ["/mdm"]
    assert "set it to 9437184 or more" in found["/mdm"][0]


# ---- headers ---------------------------------------------------------------

def test_small_headers(warnings, kind):
    found = warnings(raw=[("server", header_line(kind, 4096))])
    if kind == "apache":    # read before the virtual host is known
        assert found == {} or sorted(found) == sorted(DEVICES)
    found = warnings(raw=[("http", header_line(kind, 4096))])
    assert sorted(found) == sorted(DEVICES)
    for line, in found.values():
        assert f"{HEADER[kind]} of 4096 bytes" in line
        assert "Mdm-Signature" in line and "8192 or more" in line


def test_large_headers(warnings, kind):
    for size in (8192, 32768):
        assert warnings(raw=[("http", header_line(kind, size))]) == {}


def test_headers_that_matter(warnings, kind):
    """Only where devices prove themselves by one."""
    small = [("http", header_line(kind, 4096))]
    assert warnings(raw=small, settings=[
        ("server", "DEVICE_IDENTITY", "certificate")]) == {}
    found = warnings(raw=small, settings=[
        ("server", "DEVICE_IDENTITY", "certificate"),
        ("/mdm", "DEVICE_IDENTITY", "certificate", "header=X-Device-Cert"),
        ("/mdm", "TRUSTED_PROXY", "127.0.0.1")])
    assert list(found) == ["/mdm"]
    assert "X-Device-Cert" in found["/mdm"][0]


# ---- certificates ----------------------------------------------------------

ONLY = [("server", "DEVICE_IDENTITY", "certificate")]
OTHERS = [[], [("server", "DEVICE_IDENTITY", "signature")],
          [("server", "DEVICE_IDENTITY", "certificate", "header=X-Cert"),
           ("server", "TRUSTED_PROXY", "127.0.0.1")]]


def test_nobody_is_asked(warnings, kind):
    silent = [(ASK_LINE[kind], "")]
    found = warnings(ONLY, changes=silent)
    assert sorted(found) == sorted(DEVICES)
    for line, in found.values():
        assert "asks nobody" in line and f'"{ASK[kind]}"' in line
    off = ASK_LINE[kind].replace(
        "optional_no_ca", "off" if kind == "nginx" else "none")
    assert sorted(warnings(ONLY, changes=[(ASK_LINE[kind], off)])) \
        == sorted(DEVICES)
    for settings in OTHERS:
        assert warnings(settings, changes=silent) == {}


def test_asked_from_outside(warnings, kind):
    """The setting may stand outside of the site."""
    outside = ASK_LINE[kind].replace(" ", "  ")
    assert warnings(ONLY, changes=[(ASK_LINE[kind], "")],
                    raw=[("http", outside)]) == {}


def test_site_without_tls(warnings, kind):
    found = warnings(ONLY, changes=PLAIN[kind])
    assert sorted(found) == sorted(DEVICES)
    for line, in found.values():
        assert "no TLS" in line and f'"{ASK[kind]}"' in line
    for settings in OTHERS:
        assert warnings(settings, changes=PLAIN[kind]) == {}


@pytest.mark.parametrize("kind", ["nginx"], indirect=True)
def test_one_of_two_addresses_has_tls(warnings, kind):
    assert warnings(ONLY, changes=[
        ("server_name",
         f"listen 127.0.0.1:{free_port()}; server_name")]) == {}


@pytest.mark.parametrize("kind", ["nginx"], indirect=True)
def test_another_server_has_tls(warnings, kind, pki):
    """Which is of no use to this one."""
    other = ("http {\n", f"""http {{
  server {{
    listen 127.0.0.1:{free_port()} ssl;
    ssl_certificate {pki.server.cert_file};
    ssl_certificate_key {pki.server.key_file};
  }}
""")
    found = warnings(ONLY, changes=[*PLAIN[kind], other])
    assert sorted(found) == sorted(DEVICES)


# ---- httpd: certificates for one URL ---------------------------------------

@pytest.mark.parametrize("kind", ["apache"], indirect=True)
@pytest.mark.parametrize("where, text, hit", [
    ("own", "SSLVerifyClient optional_no_ca", ["/mdm"]),
    ("own", "SSLVerifyClient REQUIRE", ["/mdm"]),
    ("own", "SSLVerifyClient none", []),
    ("own", '<If "true">\nSSLVerifyClient require\n</If>', ["/mdm"]),
    ("own", '<If "true">\n<If "true">\nSSLVerifyClient require\n</If>\n'
            "</If>", ["/mdm"]),
    ("own", "Include {dir}/more.conf", ["/mdm"]),
    ("own", "<IfModule ssl_module>\nSSLVerifyClient optional\n</IfModule>",
     ["/mdm"]),
    ("own", "<IfModule !ssl_module>\nSSLVerifyClient optional\n"
            "</IfModule>", []),
    ("server", '<Location "/">\nSSLVerifyClient optional_no_ca\n'
               "</Location>", DEVICES),
    ("http", '<Location "/">\nSSLVerifyClient optional_no_ca\n'
             "</Location>", DEVICES),
    ("server", '<If "true">\nSSLVerifyClient optional_no_ca\n</If>',
     DEVICES),
    ("server", '<Location "/checkin/x">\nSSLVerifyClient require\n'
               "</Location>", []),
    ("server", '<Location "/mdmapi/">\nSSLVerifyClient require\n'
               "</Location>", []),
    ("server", '<Directory "/">\nSSLVerifyClient require\n</Directory>',
     []),
])
def test_asked_for_one_url(warnings, kind, where, text, hit):
    """mod_ssl would ask again in the middle of the request.  That breaks it
    whatever the proof is."""
    raw = [("/mdm" if where == "own" else where, text)]
    files = [("more.conf", "SSLVerifyClient optional_no_ca\n")]
    raw = [(scope, line.replace("{dir}/", "")) for scope, line in raw]
    for settings in (ONLY, [("server", "DEVICE_IDENTITY", "signature")]):
        found = warnings(settings, raw=raw, files=files,
                         changes=[("SSLVerifyClient optional_no_ca\n"
                                   "  LimitRequestBody",
                                   "SSLVerifyClient none\n"
                                   "  LimitRequestBody")])
        late = {path: line for path, (line,) in found.items()
                if "this URL alone" in line}
        assert sorted(late) == sorted(hit)
        for line in late.values():
            assert f'"{ASK[kind]}" for the whole site' in line
        # The others are left with nobody who asks.
        rest = set(DEVICES) - set(hit) if settings is ONLY else set()
        assert set(found) - set(late) == rest


@pytest.mark.parametrize("kind", ["apache"], indirect=True)
def test_asked_again_for_one_url(warnings, kind):
    """On top of what the whole site asks, only more is a question."""
    for text, hit in (("optional_no_ca", []), ("optional", []), ("none", []),
                      ("require", ["/mdm"])):
        found = warnings(raw=[("/mdm", f"SSLVerifyClient {text}")])
        assert list(found) == hit, text


@pytest.mark.parametrize("kind", ["apache"], indirect=True)
def test_mod_ssl_keeps_its_directives(own_server, kind):
    """Both modules read SSLVerifyClient: wrong values are still mod_ssl's to
    refuse, and without mod_ssl the directive is an error as ever."""
    server = own_server(start=False, raw=[("/mdm", "SSLVerifyClient maybe")])
    status, text = server.configtest()
    assert status != 0 and "SSLVerifyClient" in text, text
    server = own_server(start=False)
    plain = server.configuration
    server.configuration = lambda: "".join(
        line.replace(" ssl:warn", "") + "\n" for line in plain().splitlines()
        if not re.search("ssl_module|SSLSessionCache|SSLRandomSeed", line))
    status, text = server.configtest()
    assert status != 0 and "SSLEngine" in text and "mod_ssl" in text, text


@pytest.mark.parametrize("kind", ["apache"], indirect=True)
def test_htaccess_may_ask(own_server, kind):
    """SSLVerifyClient goes on to work in .htaccess files of other sites."""
    server = own_server(start=False, raw=[
        ("http", "AccessFileName .htaccess")])
    plain = server.configuration
    server.configuration = lambda: plain().replace(
        "  Require all granted", "  AllowOverride AuthConfig\n"
        "  Require all granted", 1)
    with open(server.path("htdocs", "static", ".htaccess"), "w",
              encoding="ascii") as f:
        f.write("SSLVerifyClient none\n")
    server.start()
    assert server.get_static().status == 200


def test_warnings_do_not_stop_the_server(own_server, kind, log):
    log.expect("MDM0003")
    server = own_server(start=False, raw=[("/mdm", body_line(kind, 4096))])
    server.start()
    assert "MDM0003" in server.log_text()
    assert server.api().enrollments("?limit=1").status == 200
