"""HTTP as nobody should send it: the raw requests of tests/cases/http and
their neighbours, byte for byte over TLS.

Whatever comes in, the answer is the one written down, in time; no 401 but by
the API; and afterwards the connection is closed or serves the next request:
no byte of a refused request is taken for another one.
"""
import base64
import json
import os
import re

import pytest
from helpers import command_plist, enrolled_ids, offered, table_rows
from mdmtest.deftable import TOP
from mdmtest.device import CHECKIN, Transport
from mdmtest.rawhttp import Wire

CASES = os.path.join(TOP, "tests", "cases")
UDID = "11111111-2222-5333-8444-555566667777"
TOPIC = "com.apple.mgmt.External.aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"


def read(*name):
    with open(os.path.join(CASES, *name), "rb") as f:
        return f.read()


def manifest():
    """Of these files; those of C42 are about signatures."""
    return [row for row in json.loads(read("manifest.http.json"))
            if row["case"] != "C42"]


FILES = manifest()
EXPECT = {
    "200": {200}, "400": {400}, "404": {404}, "405": {405}, "413": {413},
    "415": {415}, "417": {417},
    "200 with empty body when nothing is queued": {200},
    "200-or-400": {200, 400}, "200-or-413": {200, 413},
    "200-or-415": {200, 415}, "200-or-417": {200, 417},
    "400-or-411": {400, 411}, "400-or-413": {400, 413},
    "405-or-200": {405, 200}, "400-or-by-message": {400},
    "404/401": {404, 401},
    "400, 200": {400}}


def decided():
    """{file: status} of the table in docs/protocol.md."""
    with open(os.path.join(TOP, "docs", "protocol.md"),
              encoding="utf-8") as f:
        found = re.findall(r"^\| `(http/\S+)` \| (\d{3}) \|", f.read(), re.M)
    return {name: int(status) for name, status in found}


DECIDED = decided()


class Identity:
    def __init__(self, name):
        self.cert_file = os.path.join(CASES, "pki", name + ".pem")
        self.key_file = os.path.join(CASES, "pki", name + ".key")


class Stage:
    """A server whose API takes all paths that no other endpoint has, so that
    a path trick would find it; device-a is enrolled."""

    def __init__(self, server):
        self.server = server
        self.identity = Identity("device-a")
        self.api = server.api()
        transport = Transport(server, self.identity)
        for name in ("C19-1-authenticate", "C19-2-tokenupdate-with-unlock"):
            reply = transport.request(
                "PUT", "/mdm", read("mdm", name + ".plist"),
                {"Content-Type": CHECKIN})
            assert reply.status == 200, reply
        transport.close()

    def credentials(self):
        pair = base64.b64encode(f"x:{self.server.api_token}".encode())
        return b"Authorization: Basic " + pair + b"\r\n"

    def ask(self, data, *methods):
        """Answers to one burst of bytes; then the connection must be closed
        or serve the next request."""
        with Wire(self.server, self.identity) as wire:
            wire.send(data)
            got = wire.replies(*(methods or ("PUT",)))
            wire.send(NEXT)
            after = wire.until_end()
        assert [r.status for r in after] in ([], [200]), (got, after)
        assert got, "no answer at all"
        return got


@pytest.fixture(scope="module")
def stage(kind, pki, build_dir):
    from conftest import KINDS
    endpoints = {"/": "api", "/mdm": "mdm", "/mdmapi/": "api"}
    if kind == "apache":        # nginx's configuration has that location
        endpoints["/static/"] = "off"
    server = KINDS[kind](pki, build_dir, [
        ("http", "PUSH", "off"),
        ("server", "DEVICE_CA_CERTIFICATE",
         os.path.join(CASES, "pki", "device-ca.pem"))], endpoints=endpoints)
    server.settings.append(("/", "API_TOKEN_FILE", server.path("tokens")))
    try:
        server.start()
        reply = server.api().put_pushcert(pki.push(TOPIC).both_pem)
        assert reply.status == 200, reply
        made = Stage(server)
        yield made
        # Nothing of all this was an administrator's doing.
        assert enrolled_ids(server) == [UDID]
        assert made.api.enrollment(UDID).json["enabled"] is True
        rows = {n: c for n, c in table_rows(server).items() if "command" in n}
        assert rows and set(rows.values()) == {0}, rows
        made.api.transport.close()
        server.quit()
    finally:
        server.stop()
        server.remove()


@pytest.fixture
def watched(stage, log):
    log.watch(stage.server)
    # What the hosts say of requests that they refuse themselves; MDM0602 is
    # the API that asks for credentials.
    log.expect("MDM0602", "client intended to send too large",
               "client sent invalid", "AH02031", "AH10244")
    yield stage
    stage.server.get_static()


# ---- the files -----------------------------------------------------------

BODY = read("http", "C59-ok-command.http").split(b"\r\n\r\n", 1)[1]
NEXT = read("http", "C59-ok-command.http").replace(
    b"Host:", b"Connection: close\r\nHost:")
START = re.compile(rb"(?:^|\n|not a plist)([A-Z]+) \S+ HTTP/1\.[01]\r\n")


def test_the_files_are_there():
    listed = {row["file"] for row in FILES}
    for name in listed:
        assert os.path.exists(os.path.join(CASES, name)), name
    for name in os.listdir(os.path.join(CASES, "http")):
        if name.endswith(".http") and not name.startswith("C42-"):
            assert f"http/{name}" in listed, name
    for row in FILES:
        allowed = EXPECT[row["expect"]]
        if len(allowed) > 1 or "-or-" in row["expect"]:     # a choice
            assert DECIDED[row["file"]] in allowed, row
    assert set(DECIDED) - {n for n in DECIDED if "/C42-" in n} <= listed


@pytest.mark.parametrize("row", FILES, ids=[r["file"] for r in FILES])
def test_file(row, kind, watched):
    data = read(row["file"])
    if row["file"] == "http/C60-path-encoded-slash.http":
        # Strangers get 401 for whatever they ask; here is somebody who may.
        assert [r.status for r in watched.ask(data)] == [401]
        data = data.replace(b"\r\n", b"\r\n" + watched.credentials(), 1)
    methods = [m.decode() for m in START.findall(data)]
    got = watched.ask(data, *methods)
    wanted = {DECIDED[row["file"]]} if row["file"] in DECIDED \
        else EXPECT[row["expect"]]
    assert got[0].status in wanted, got
    if got[0].status == 200:
        assert got[0].body == b""
        assert "content-type" not in got[0].headers
    if got[0].status == 405:
        assert got[0].headers.get("allow", "PUT") == "PUT"
    if row["file"] == "http/C59-error-then-next.http":
        # Served where the connection goes on after an error.
        assert [r.status for r in got[1:]] in ([], [200])
    elif len(methods) > 1:
        assert len(got) == len(methods)


# ---- neighbours ----------------------------------------------------------

HEAD = (b"PUT /mdm HTTP/1.1\r\nHost: mdm.example.com\r\n"
        b"Content-Type: application/x-apple-aspen-mdm\r\n")
LENGTH = str(len(BODY)).encode()
MB32 = 32 * 1024 * 1024


def with_length(value, body=BODY):
    return HEAD + b"Content-Length: " + value + b"\r\n\r\n" + body


def with_header(extra, head=HEAD):
    return head + extra + b"Content-Length: " + LENGTH + b"\r\n\r\n" + BODY


def with_coding(value, body, extra=b""):
    return (HEAD + extra + b"Transfer-Encoding: " + value + b"\r\n\r\n"
            + body)


def chunk(body=BODY, form=b"%x"):
    return form % len(body) + b"\r\n" + body + b"\r\n0\r\n\r\n"


def with_line(line, host=b"Host: mdm.example.com\r\n"):
    return (line + b"\r\n" + host
            + b"Content-Type: application/x-apple-aspen-mdm\r\n"
            b"Content-Length: " + LENGTH + b"\r\n\r\n" + BODY)


def put(target):
    return with_line(b"PUT " + target + b" HTTP/1.1")


# Where the hosts' own HTTP differs: (httpd, nginx).
NEIGHBOURS = {
    # lengths
    "length +": (with_length(b"+" + LENGTH), 400),
    "length spaces": (with_length(b"   " + LENGTH + b"   "), 200),
    "length inner space": (with_length(b"2 98"), 400),
    "length leading zeros": (with_length(b"000" + LENGTH), 200),
    "length hex": (with_length(b"0x12a"), 400),
    "length list": (with_length(LENGTH + b", " + LENGTH), 400),
    "length list differs": (with_length(LENGTH + b", 5"), 400),
    "length empty": (with_length(b""), 400),
    "length letters": (with_length(LENGTH + b"a"), 400),
    "length fraction": (with_length(LENGTH + b".0"), 400),
    "length exponent": (with_length(b"3e2"), 400),
    "length signed zero": (with_length(b"-0", b""), 400),
    "length 2^63": (with_length(b"9223372036854775808"), 400),
    "length twice": (with_header(b"Content-Length: " + LENGTH + b"\r\n"),
                     400),
    "length name space": (HEAD + b"Content-Length : " + LENGTH + b"\r\n\r\n"
                          + BODY, 400),
    "length tab": (with_length(b"\t" + LENGTH), (200, 400)),
    "length over limit": (with_length(b"%d" % (MB32 + 1)), 413),
    # chunks
    "chunk upper case": (with_coding(b"chunked", chunk(form=b"%X")), 200),
    "chunk leading zeros": (with_coding(b"chunked", chunk(form=b"000%x")),
                            200),
    "chunk space": (with_coding(b"chunked", chunk(form=b"%x ")), 200),
    "chunk 0x": (with_coding(b"chunked", chunk(form=b"0x%x")), 400),
    "chunk minus": (with_coding(b"chunked", b"-1\r\nx\r\n0\r\n\r\n"), 400),
    "chunk no size": (with_coding(b"chunked", b"\r\n0\r\n\r\n"), 400),
    "chunk too long": (with_coding(
        b"chunked", b"5\r\nabcdefgh\r\n0\r\n\r\n"), 400),
    "chunk none": (with_coding(b"chunked", b"0\r\n\r\n"), 400),
    "chunk 2^64-1": (with_coding(b"chunked", b"f" * 16 + b"\r\n" + BODY),
                     400),
    "chunk bare LF": (with_coding(
        b"chunked", chunk().replace(b"\r\n", b"\n")), (400, 200)),
    "coding name in capitals": (with_coding(b"Chunked", chunk()), 200),
    "coding and length": (with_coding(
        b"chunked", chunk(), b"Content-Length: " + LENGTH + b"\r\n"),
        (200, 400)),
    "coding and length 0": (with_coding(
        b"chunked", chunk(), b"Content-Length: 0\r\n"), (200, 400)),
    "coding twice": (with_coding(b"chunked\r\nTransfer-Encoding: chunked",
                                 chunk()), (200, 400)),
    "coding chunked, chunked": (with_coding(b"chunked, chunked", chunk()),
                                (200, 501)),
    "coding gzip, chunked": (with_coding(b"gzip, chunked", chunk()),
                             (200, 501)),
    "coding gzip": (with_coding(b"gzip", b""), (400, 501)),
    "coding identity": (with_coding(b"identity", b""), (400, 501)),
    "coding xchunked": (with_coding(b"xchunked", chunk()), (400, 501)),
    "coding parameter": (with_coding(b"chunked;q=1", chunk()), (400, 501)),
    "coding two words": (with_coding(b"chunked x", chunk()), (400, 501)),
    "coding name space": (HEAD + b"Transfer-Encoding : chunked\r\n\r\n"
                          + chunk(), 400),
    # Content-Encoding, Expect, Content-Type
    "gzip in capitals": (with_header(b"Content-Encoding: GZIP\r\n"), 415),
    "x-gzip": (with_header(b"Content-Encoding: x-gzip\r\n"), 415),
    "identity": (with_header(b"Content-Encoding: Identity\r\n"), 200),
    "no encoding": (with_header(b"Content-Encoding: \r\n"), 200),
    "identity, gzip": (with_header(b"Content-Encoding: identity, gzip\r\n"),
                       415),
    "gzip then identity": (with_header(
        b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"), 415),
    "identity then gzip": (with_header(
        b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"), 415),
    "media type twice": (with_header(
        b"Content-Type: application/x-apple-aspen-mdm\r\n"), 415),
    "two media types": (with_header(
        b"Content-Type: application/x-apple-aspen-mdm-checkin\r\n"), 415),
    "expect in capitals": (with_header(b"Expect: 100-CONTINUE\r\n"), 200),
    "expect spaces": (with_header(b"Expect:   100-continue  \r\n"), 200),
    "expect two things": (with_header(b"Expect: 100-continue, x\r\n"), 417),
    "expect parameter": (with_header(b"Expect: 100-continue;a=b\r\n"), 417),
    "expect quoted": (with_header(b'Expect: "100-continue"\r\n'), 417),
    "expect 200-ok": (with_header(b"Expect: 200-ok\r\n"), 417),
    "expect twice": (with_header(
        b"Expect: 100-continue\r\nExpect: 100-continue\r\n"), (417, 400)),
    # the request line
    "no host": (with_line(b"PUT /mdm HTTP/1.1", b""), 400),
    "empty host": (with_line(b"PUT /mdm HTTP/1.1", b"Host: \r\n"), 400),
    "two hosts": (with_line(b"PUT /mdm HTTP/1.1",
                            b"Host: localhost\r\nHost: localhost\r\n"), 400),
    "host with a slash": (with_line(b"PUT /mdm HTTP/1.1", b"Host: a/b\r\n"),
                          400),
    "HTTP/1.0 with host": (with_line(b"PUT /mdm HTTP/1.0"), 200),
    "HTTP/1.0 kept alive": (with_line(
        b"PUT /mdm HTTP/1.0", b"Host: x\r\nConnection: keep-alive\r\n"),
        200),
    "HTTP/1.2": (with_line(b"PUT /mdm HTTP/1.2"), 200),
    "HTTP/2.0": (with_line(b"PUT /mdm HTTP/2.0"), (200, 505)),
    "http/1.1": (with_line(b"PUT /mdm http/1.1"), 400),
    "put": (with_line(b"put /mdm HTTP/1.1"), (405, 400)),
    "two spaces": (with_line(b"PUT  /mdm HTTP/1.1"), (400, 200)),
    "tab": (with_line(b"PUT\t/mdm HTTP/1.1"), 400),
    "absolute https": (put(b"https://mdm.example.com/mdm"), 200),
    "absolute http": (put(b"http://mdm.example.com/mdm"), 200),
    "absolute, other host": (put(b"https://other.example/mdm"), 200),
    "absolute, API": (put(b"https://mdm.example.com/mdmapi/v1/enqueue/x"),
                      401),
    "star": (put(b"*"), 400),
    "no slash": (put(b"mdm"), 400),
    "fragment": (put(b"/mdm#x"), (400, 200)),
    "leading empty lines": (b"\r\n\r\n" + with_header(b""), 200),
    # headers
    "odd case": (HEAD.replace(b"Content-Type", b"cOnTeNt-TyPe")
                 .replace(b"Host", b"hOST") + b"CONTENT-LENGTH: " + LENGTH
                 + b"\r\n\r\n" + BODY, 200),
    "underscore": (with_header(b"", HEAD.replace(b"t-T", b"t_T")), 400),
    "folded": (with_header(b"", HEAD.replace(b"Type: ", b"Type:\r\n ")),
               (200, 400)),
    "bare LF": (with_header(b"").replace(b"\r\n", b"\n"), (400, 200)),
    "bare CR": (with_header(b"X-A: b\rc\r\n"), 400),
    "NUL": (with_header(b"X-A: b\0c\r\n"), 400),
    "no colon": (with_header(b"XA\r\n"), (400, 200)),
    "empty name": (with_header(b": x\r\n"), 400),
    "space in name": (with_header(b"X A: x\r\n"), 400),
    "200 headers": (with_header(b"".join(
        b"X-%d: y\r\n" % i for i in range(200))), (400, 200)),
    "conditional": (with_header(b'If-Match: "x"\r\nIf-None-Match: *\r\n'),
                    200),
    "range": (with_header(b"Range: bytes=0-1\r\n"), 200),
    "upgrade": (with_header(b"Connection: Upgrade, HTTP2-Settings\r\n"
                            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
                200),
    # queries
    "empty query": (put(b"/mdm?"), 200),
    "query with a path": (put(b"/mdm?/../mdmapi/v1/enqueue/x"), 200),
    "query with NUL": (put(b"/mdm?x=%00"), 200),
    "long query": (put(b"/mdm?" + b"a" * 7000), 200),
    "query too long": (put(b"/mdm?" + b"a" * 9000), 414),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbour(name, kind, watched):
    data, wanted = NEIGHBOURS[name]
    if isinstance(wanted, tuple):
        wanted = wanted[0 if kind == "apache" else 1]
    got = watched.ask(data)
    assert [r.status for r in got] == [wanted], got


# A path leads to the device's endpoint (200), or to the API, which asks for
# credentials (401), or nowhere.
PATHS = {
    b"//mdm": 200, b"/./mdm": 200, b"/x/../mdm": 200, b"/%6d%64%6d": 200,
    b"/mdmapi/../mdm": 200, b"/mdmapi/%2e%2e/mdm": 200,
    b"/../mdm": 400, b"/mdm%": 400, b"/mdm%zz": 400, b"/mdm%00": (404, 400),
    b"/mdm/../mdmapi/": 401, b"/mdm/../v1/enqueue/x": 401,
    b"/mdm/%2e%2e/v1/enqueue/x": 401, b"/mdm/%2E%2E/mdmapi/v1/push/x": 401,
    b"/mdm;/../v1/enqueue/x": 401, b"/mdm;x": 401, b"/mdm%3bx": 401,
    b"/MDM": 401, b"/mdmx": 401, b"/mdm%20": 401, b"/mdm%2500": 401,
    b"/mdm%2f": 401, b"/mdm%2f..%2fv1%2fenqueue%2fx": 401,
    b"/mdm\\..\\v1\\enqueue\\x": 401, b"/mdm\xc3\xa9": 401,
    b"/v1//enqueue/x": 401, b"/v1/./enqueue/x": 401,
    b"/mdmapi/x/../v1/enqueue/x": 401,
}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.decode("latin-1"))
def test_path(path, kind, watched):
    wanted = PATHS[path]
    if isinstance(wanted, tuple):
        wanted = wanted[0 if kind == "apache" else 1]
    got = watched.ask(put(path))
    assert [r.status for r in got] == [wanted], got
    assert ("www-authenticate" in got[0].headers) == (wanted == 401)
    if wanted != 401:
        return
    # Nor is it a call for somebody with credentials: what the host makes
    # of a path is not what the API goes by.
    data = put(path).replace(b"\r\n", b"\r\n" + watched.credentials(), 1)
    got = watched.ask(data)
    assert got[0].status in (400, 404, 405), got


@pytest.mark.parametrize("path", [
    b"/mdm/x", b"/mdm/", b"/mdm/..%2fv1/enqueue/x",
    b"/mdm/%2E%2E%2fmdmapi/v1/enqueue/x"])
def test_below_the_device_url(path, kind, watched):
    """Apache's <Location> holds for what is below, nginx's "=" does not;
    neither makes an administrator of a device."""
    got = watched.ask(put(path))
    assert [r.status for r in got] == [200 if kind == "apache" else 401], got


@pytest.mark.parametrize("method", [
    "GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "TRACE",
    "FOO"])
@pytest.mark.parametrize("form", ["length", "chunks"])
def test_bodies_of_other_methods(method, form, watched):
    """A body after GET is a body, not the next request."""
    data = with_header(b"") if form == "length" \
        else with_coding(b"chunked", chunk())
    got = watched.ask(data.replace(b"PUT", method.encode(), 1), method)
    assert [r.status for r in got] == [405], got
    if method != "TRACE":       # nginx answers that by itself
        assert got[0].headers["allow"] == "PUT"


def test_inner_requests_are_not_served(watched):
    """A request inside the body of another that is refused."""
    inner = read("http", "C59-ok-command.http")
    assert len(inner) < 1000
    for head, status in (
            (HEAD, 400),
            (HEAD.replace(b"aspen-mdm", b"other"), 415),
            (HEAD.replace(b"PUT", b"POST"), 405),
            (HEAD + b"Content-Encoding: gzip\r\n", 415)):
        body = inner * 3
        for data in (head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
                     head + b"Transfer-Encoding: chunked\r\n\r\n"
                     + chunk(body)):
            got = watched.ask(data)
            assert [r.status for r in got] == [status], got


@pytest.mark.parametrize("form", ["one chunk", "many chunks", "length"])
def test_one_byte_over_the_limit(form, watched, log):
    log.expect("AH01588", "AH01591", "AH00636")
    if form == "length":
        data = with_length(b"%d" % (MB32 + 1), b"x" * (MB32 + 1))
    elif form == "one chunk":
        data = with_coding(b"chunked", chunk(b"x" * (MB32 + 1)))
    else:
        data = with_coding(b"chunked", (b"10000\r\n" + b"x" * 65536 + b"\r\n")
                           * 512 + b"1\r\nx\r\n0\r\n\r\n")
    got = watched.ask(data)
    assert [r.status for r in got] == [413], got


def test_at_the_limit(watched):
    """32 MB are read to the end, and are no property list."""
    for data in (with_length(b"%d" % MB32, b"x" * MB32),
                 with_coding(b"chunked", chunk(b"x" * MB32))):
        got = watched.ask(data)
        assert [r.status for r in got] == [400], got


def test_pipelined(watched):
    """Answers in the order of the requests, errors among them."""
    good, bad = with_header(b""), with_header(b"Content-Encoding: br\r\n")
    for burst, wanted in (([good] * 10, [200] * 10),
                          ([good, bad, good, bad, good],
                           [200, 415, 200, 415, 200]),
                          ([bad.replace(b"PUT", b"GET"), good],
                           [405, 200])):
        got = watched.ask(b"".join(burst), *["PUT"] * len(burst))
        assert [r.status for r in got] == wanted, got


def test_pipelined_reports(stage, enroll_here):
    """A device that does not wait: each report gets the next command."""
    device, api = enroll_here
    uuids = []
    for _ in range(3):
        command_uuid, body = command_plist("ProfileList")
        assert api.enqueue(device.id, body, "?nopush=1").status == 200
        uuids.append(command_uuid)
    requests = []
    device.put = lambda path, content_type, body: requests.append(
        b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n" % (
            path.encode(), content_type.encode(), len(body)) + body) or REPLY
    device.idle()
    for command_uuid in uuids:
        device.report(command_uuid)
    with Wire(device.server, device.identity) as wire:
        wire.send(b"".join(requests))
        got = wire.replies(*["PUT"] * 4)
    assert [offered(r) for r in got] == uuids + [None]


class REPLY:
    """What the device makes of an answer that has not come yet."""
    status, body = 0, b""


@pytest.fixture
def enroll_here(own_server, pki):
    from mdmtest.device import Device
    server = own_server()
    device = Device(server, pki.device(), server.push.topic).enroll()
    api = server.api()
    yield device, api
    api.transport.close()
    device.close()


def test_connection_close(watched):
    for data in (with_header(b"Connection: close\r\n"),
                 with_header(b"Connection: keep-alive, close\r\n")):
        with Wire(watched.server, watched.identity) as wire:
            wire.send(data)
            got = wire.until_end()
        assert [r.status for r in got] == [200], got
        assert "close" in got[0].headers["connection"].lower()


def test_continue(watched):
    """The invitation comes before the body is sent, and not for a body that
    is too large."""
    with Wire(watched.server, watched.identity) as wire:
        wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: "
                  + LENGTH + b"\r\n\r\n")
        assert wire.line() == "HTTP/1.1 100 Continue"
        assert wire.line() == ""
        wire.send(BODY)
        assert wire.reply().status == 200
    with Wire(watched.server, watched.identity) as wire:
        wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: "
                  b"%d\r\n\r\n" % (MB32 + 1))
        assert wire.reply().status == 413
        assert wire.interim == []
    with Wire(watched.server, watched.identity) as wire:
        wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: "
                  + LENGTH + b"\r\n\r\n" + BODY)
        assert wire.reply().status == 200


def test_http_0_9(watched):
    """No status line, no headers, and nothing done."""
    with Wire(watched.server, watched.identity) as wire:
        wire.send(b"PUT /mdm\r\n")
        assert b"CommandUUID" not in wire.rest()
