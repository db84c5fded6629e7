"""HTTP as devices and proxies speak it: methods, media types, sizes, HTTP/2,
odd framing, broken connections."""
import gzip
import os
import plistlib
import socket

import pytest
from helpers import command_plist, curl, offered, state_of
from mdmtest.device import CHECKIN, COMMAND, Transport

IDLE = "application/x-apple-aspen-mdm"


@pytest.mark.parametrize("path", ["/mdm", "/checkin", "/server"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH",
                                    "OPTIONS"])
def test_methods(method, path, server, enroll):
    device = enroll()
    reply = device.put(path, CHECKIN, b"", method)
    assert reply.status == 405, reply
    assert [m.strip() for m in reply.headers["allow"].split(",")] == ["PUT"]
    assert device.idle().status == 200      # the connection is not confused


def test_trace_is_no_way_in(server):
    reply = Transport(server).request("TRACE", "/mdm")
    assert reply.status in (403, 405), reply


def check_in(device):
    return plistlib.dumps({
        "MessageType": "TokenUpdate", "UDID": device.udid,
        "Topic": device.topic, "Token": device.token,
        "PushMagic": device.magic})


@pytest.mark.parametrize("content_type", [
    CHECKIN, CHECKIN.upper(), CHECKIN + "; charset=UTF-8",
    CHECKIN + ";charset=\"utf-8\" ; x=y", "Application/X-Apple-ASPEN-MDM-"
    "Checkin"])
def test_check_in_types(content_type, enroll):
    device = enroll()
    reply = device.put("/mdm", content_type, check_in(device))
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("content_type", [
    COMMAND, IDLE, IDLE.upper(), IDLE + ";charset=utf-8"])
def test_command_types(content_type, enroll):
    device = enroll()
    reply = device.put("/mdm", content_type, plistlib.dumps(
        {"Status": "Idle", "UDID": device.udid}))
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("content_type", [
    "text/xml", "application/xml", "application/x-www-form-urlencoded",
    "application/x-apple-aspen-mdm-checkins",
    "application/x-apple-aspen-mdm-check", "application/x-apple-aspen",
    "application/x-apple-aspen-mdm2", "x"])
def test_foreign_types(content_type, enroll, log):
    log.expect("MDM0201")
    device = enroll()
    reply = device.put("/mdm", content_type, check_in(device))
    assert reply.status == 415, reply


def test_no_type(enroll, log):
    log.expect("MDM0201")
    device = enroll()
    for headers in ({}, {"Content-Type": ""}):
        reply = device.transport.request("PUT", "/mdm", check_in(device),
                                         headers)
        assert reply.status == 400, reply


def test_halves_do_not_mix(enroll, log):
    """checkin takes no reports, server takes no check-ins."""
    log.expect("MDM0201")
    device = enroll()
    reply = device.put("/server", CHECKIN, check_in(device))
    assert reply.status == 415, reply
    reply = device.put("/checkin", COMMAND, plistlib.dumps(
        {"Status": "Idle", "UDID": device.udid}))
    assert reply.status == 415, reply


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "compress",
                                      "x-future"])
def test_content_encodings_are_refused(encoding, enroll, log):
    log.expect("MDM0201")
    device = enroll()
    reply = device.transport.request(
        "PUT", "/mdm", gzip.compress(check_in(device)),
        {"Content-Type": CHECKIN, "Content-Encoding": encoding})
    assert reply.status == 415, reply


def test_identity_encoding_is_fine(enroll):
    device = enroll()
    reply = device.transport.request(
        "PUT", "/mdm", check_in(device),
        {"Content-Type": CHECKIN, "Content-Encoding": "identity"})
    assert reply.status == 200, reply


def test_unlabelled_gzip(enroll, log):
    log.expect("MDM0201")
    device = enroll()
    reply = device.put("/mdm", CHECKIN, gzip.compress(check_in(device)))
    assert reply.status == 400, reply


def test_answers_carry_no_surprises(api, enroll):
    """Success has no body and no compression; errors are plain text."""
    device = enroll()
    reply = device.transport.request(
        "PUT", "/mdm", plistlib.dumps({"Status": "Idle",
                                       "UDID": device.udid}),
        {"Content-Type": COMMAND, "Accept-Encoding": "gzip, deflate, br"})
    assert reply.status == 200
    assert reply.headers["content-length"] == "0"
    assert "content-type" not in reply.headers
    assert "content-encoding" not in reply.headers
    reply = device.put("/mdm", CHECKIN, b"no plist")
    assert reply.status == 400
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.body and b"<html" not in reply.body.lower()


@pytest.mark.parametrize("size", [1, 8191, 65535, 65536, 65537, 300_000])
def test_result_sizes(size, api, enroll):
    """Around the buffer sizes of both servers: memory, many buffers, temp
    file."""
    device = enroll()
    command_uuid, body = command_plist("InstalledApplicationList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    device.idle()
    reply = device.report(command_uuid, Blob="x" * size)
    assert offered(reply) is None
    assert api.result(command_uuid, device.id).body == device.last_report


def app_list(total):
    row = {"Identifier": "com.example.app", "Name": "App \U0001f4e6 & co",
           "ShortVersion": "1.2.3", "BundleSize": 4096, "IsValidated": True}
    return [dict(row, Version=str(i)) for i in range(total // 330)]


def test_ten_megabyte_result(api, enroll):
    device = enroll()
    command_uuid, body = command_plist("InstalledApplicationList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    device.idle()
    reply = device.report(command_uuid,
                          InstalledApplicationList=app_list(10_000_000))
    assert len(device.last_report) > 8_000_000
    assert offered(reply) is None
    assert state_of(api, command_uuid, device.id) == "acknowledged"
    assert api.result(command_uuid, device.id).body == device.last_report


def test_body_over_the_limit(server, enroll, log):
    """33 MB: 413 from whoever notices first, and the next one is served."""
    log.expect("client intended to send too large body", "MDM0201",
               "AH01588", "AH00636")
    device = enroll()
    try:
        reply = device.put("/mdm", COMMAND, b"x" * (33 * 1024 * 1024))
        assert reply.status == 413, reply
    except (BrokenPipeError, ConnectionResetError):
        pass        # it hung up while we were still sending
    device.close()
    assert device.idle().status == 200


def test_api_body_over_the_limit(server, api, enroll, log):
    log.expect("client intended to send too large body", "MDM0201",
               "AH01588", "AH00636")
    device = enroll()
    try:
        reply = api.enqueue(device.id, b"x" * (33 * 1024 * 1024))
        assert reply.status == 413, reply
    except (BrokenPipeError, ConnectionResetError):
        pass
    api.transport.close()
    assert api.enrollment(device.id).status == 200


def raw(server, identity, text, timeout=20):
    """Sends bytes over TLS; returns all that comes until the peer closes."""
    transport = Transport(server, identity)
    with socket.create_connection((server.host, server.port), timeout) as s:
        with transport.context.wrap_socket(
                s, server_hostname=server.host) as tls:
            tls.sendall(text)
            got = b""
            while True:
                part = tls.recv(65536)
                if not part:
                    return got
                got += part


def head(extra, method="PUT", path="/mdm", content_type=CHECKIN):
    return (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: close\r\nContent-Type: {content_type}\r\n"
            f"{extra}\r\n").encode()


def chunks(body, size, extension=b"", trailer=b""):
    out = b""
    for i in range(0, len(body), size):
        part = body[i:i + size]
        out += b"%x%s\r\n%s\r\n" % (len(part), extension, part)
    return out + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize("size,extension,trailer", [
    (100000, b"", b""), (1, b"", b""), (50, b";a=b", b"X-Late: 1\r\n")],
    ids=["whole", "bytes", "extensions"])
def test_chunked(size, extension, trailer, server, enroll):
    device = enroll()
    got = raw(server, device.identity,
              head("Transfer-Encoding: chunked\r\n")
              + chunks(check_in(device), size, extension, trailer))
    assert got.startswith(b"HTTP/1.1 200"), got[:200]


def test_slow_body_in_pieces(server, enroll):
    device = enroll()
    transport = Transport(server, device.identity)
    body = check_in(device)
    transport.connect()
    connection = transport.connection
    connection.putrequest("PUT", "/mdm")
    connection.putheader("Content-Type", CHECKIN)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    for i in range(0, len(body), 97):
        connection.sock.sendall(body[i:i + 97])
    assert connection.getresponse().status == 200
    transport.close()


@pytest.mark.parametrize("extra,statuses", [
    ("Content-Length: -1\r\n", (400,)),
    ("Content-Length: 99999999999999999999\r\n", (400, 413)),
    ("Content-Length: 8589934592\r\n", (413,)),
    ("Content-Length: 5\r\nContent-Length: 6\r\n", (400,)),
    ("Content-Length: 0\r\n", (400,)),
    ("", (400, 411)),
    ("Transfer-Encoding: chunked\r\n\r\nzz", (400,)),
], ids=["negative", "huge", "8g", "two", "zero", "none", "bad-chunk"])
def test_odd_lengths(extra, statuses, server, enroll, log):
    log.expect("MDM0201", "client intended to send too large body",
               "client sent", "AH00636", "AH01588", "AH02423", "AH00548",
               "AH03", "AH01587", "AH01590")
    device = enroll()
    got = raw(server, device.identity, head(extra))
    assert got.split(b" ")[1] in [str(s).encode() for s in statuses], got
    assert b"401" not in got.split(b"\r\n")[0]


def test_expect_100(server, enroll):
    device = enroll()
    body = check_in(device)
    got = raw(server, device.identity, head(
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n") + body)
    assert b"HTTP/1.1 200" in got


def test_error_then_next_on_one_connection(server, enroll, log):
    """The body of a refused request is not read as the next request."""
    log.expect("MDM0201")
    device = enroll()
    first = b"GET /static/hello.txt HTTP/1.1\r\n" * 30
    body = check_in(device)
    text = (head(f"Content-Length: {len(first)}\r\n",
                 content_type="text/plain")
            .replace(b"Connection: close\r\n", b"") + first
            + head(f"Content-Length: {len(body)}\r\n") + body)
    got = raw(server, device.identity, text)
    assert got.startswith(b"HTTP/1.1 415")
    assert got.count(b"HTTP/1.1 ") == 2 or b"onnection: close" in got
    assert b"hello" not in got
    if got.count(b"HTTP/1.1 ") == 2:
        assert b"HTTP/1.1 200" in got


def test_clients_that_go_away(server, api, enroll, log):
    """Cut in the head, in the body and before the answer."""
    log.expect("client prematurely closed", "MDM0201", "AH01382",
               "AH00550", "AH02008")
    device = enroll()
    body = check_in(device)
    whole = head(f"Content-Length: {len(body)}\r\n") + body
    for cut in (20, len(whole) - 30, len(whole)):
        for _ in range(5):
            transport = Transport(server, device.identity)
            s = socket.create_connection((server.host, server.port), 10)
            tls = transport.context.wrap_socket(
                s, server_hostname=server.host)
            tls.sendall(whole[:cut])
            tls.close()
    assert device.idle().status == 200
    assert api.enrollment(device.id).json["enabled"] is True


def test_http2(server, api, enroll, tmp_path, log):
    log.expect("MDM0204", "MDM0201")
    device = enroll()
    command_uuid, body = command_plist("DeviceInformation")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    idle = tmp_path / "idle"
    idle.write_bytes(plistlib.dumps({"Status": "Idle",
                                     "UDID": device.udid}))
    put = ["--http2", "-X", "PUT", "-H", "Content-Type: " + COMMAND]
    status, version, got = curl(server, "/mdm", *put, "--data-binary",
                                f"@{idle}", identity=device.identity)
    assert (status, version, got) == (200, "2", body)
    report = tmp_path / "report"
    report.write_bytes(plistlib.dumps({
        "Status": "Acknowledged", "UDID": device.udid,
        "CommandUUID": command_uuid, "Blob": os.urandom(700_000)}))
    status, version, got = curl(server, "/mdm", *put, "--data-binary",
                                f"@{report}", identity=device.identity)
    assert (status, version, got) == (200, "2", b"")
    assert api.result(command_uuid, device.id).body == report.read_bytes()
    # Without Content-Length, without identity, with another media type.
    status, _, got = curl(server, "/mdm", *put, "-T", "-",
                          identity=device.identity)
    assert status == 400, got
    status, _, _ = curl(server, "/mdm", *put, "--data-binary", f"@{idle}")
    assert status == 400


def test_http2_streams_side_by_side(server, enroll, tmp_path):
    device = enroll()
    idle = tmp_path / "idle"
    idle.write_bytes(plistlib.dumps({"Status": "Idle",
                                     "UDID": device.udid}))
    more = []
    for _ in range(19):
        more += ["-o", "/dev/null", server.url + "/mdm"]
    status, version, _ = curl(
        server, "/mdm", "--http2", "--parallel", "-X", "PUT", "-H",
        "Content-Type: " + COMMAND, "--data-binary", f"@{idle}", "-o",
        "/dev/null", *more, identity=device.identity)
    assert (status, version) == (200, "2")


def test_odd_urls(server, enroll, log):
    log.expect("MDM0201", "AH00127", "AH10244", "client sent")
    device = enroll()
    body = plistlib.dumps({"Status": "Idle", "UDID": device.udid})
    reply = device.put("/mdm?x=" + "y" * 2000, COMMAND, body)
    assert reply.status == 200, reply
    for path in ("/mdm/../mdm", "/%6ddm"):
        assert device.put(path, COMMAND, body).status in (200, 400)


def test_static_files_are_untouched(server):
    assert server.get_static().body == b"hello\n"
    reply = Transport(server).request("GET", "/static/64k.bin")
    assert (reply.status, len(reply.body)) == (200, 65536)
