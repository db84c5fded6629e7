"""The administration API: credentials, push certificates, lists, errors."""
import base64
import datetime
import hashlib
import uuid

import pytest
from helpers import command_plist, enrolled_ids
from mdmtest.api import Api, quote_id
from mdmtest.pki import cert_pem, key_pem, new_topic

CALLS = [("GET", "/v1/enrollments"), ("PUT", "/v1/enqueue/x"),
         ("GET", "/v1/push/x"), ("GET", "/v1/commands/x"),
         ("PUT", "/v1/pushcert"), ("GET", "/v1/nothing"), ("GET", "/")]


@pytest.mark.parametrize("method,path", CALLS)
def test_credentials_are_asked_for(method, path, server, log):
    log.expect("MDM0602")
    for token in (None, "", "wrong", server.api_token + "x",
                  server.api_token[:-1]):
        api = server.api()
        if token is None:
            api.headers = {}
        else:
            pair = base64.b64encode(f"nanomdm:{token}".encode()).decode()
            api.headers = {"Authorization": "Basic " + pair}
        reply = api.call(method, path)
        assert reply.status == 401, reply
        assert reply.headers["www-authenticate"].startswith("Basic realm=")
        api.transport.close()


@pytest.mark.parametrize("value", [
    "Basic", "Basic ", "Basic !!!!", "Basic YQ==", "Bearer", "Bearer ",
    "Digest x", "Basic " + "A" * 5000, "Basic Om5hbm9tZG0="])
def test_damaged_credentials(value, server, log):
    log.expect("MDM0602")
    api = server.api()
    api.headers = {"Authorization": value}
    assert api.call("GET", "/v1/enrollments").status == 401
    api.transport.close()


def test_any_user_name_and_bearer(server, api):
    for user in ("nanomdm", "", "admin", "é"):
        api.headers["Authorization"] = "Basic " + base64.b64encode(
            f"{user}:{server.api_token}".encode()).decode()
        assert api.call("GET", "/v1/enrollments?limit=1").status == 200
    for scheme in ("Bearer", "bearer"):
        api.headers["Authorization"] = f"{scheme} {server.api_token}"
        assert api.call("GET", "/v1/enrollments?limit=1").status == 200


def test_scopes(own_server, pki):
    """A token of the hashed form may do what its scopes say, no more."""
    secret = {name: f"token-of-{name}-0123456789" for name in
              ("reader", "queuer", "chief")}
    scopes = {"reader": "read", "queuer": "command", "chief": "admin"}
    server = own_server(wait_store=False, tokens="".join(
        f"{n}:{scopes[n]}:sha256:{hashlib.sha256(t.encode()).hexdigest()}\n"
        for n, t in secret.items()))
    push = pki.push(server.push.topic)
    body = command_plist("ProfileList")[1]
    answers = {"reader": (200, 403, 403, 403),
               "queuer": (403, 404, 403, 403),
               "chief": (200, 404, 200, 200)}
    for name, wanted in answers.items():
        api = Api(server, secret[name])
        got = (api.enrollments("").status, api.enqueue("x", body).status,
               api.put_pushcert(push.both_pem).status,
               api.resume_pushcert(push.topic).status)
        assert got == wanted, (name, got)
        api.transport.close()


def test_version_needs_no_credentials(server):
    api = server.api()
    api.headers = {}
    reply = api.call("GET", "/version")
    assert reply.status == 200
    assert reply.json["version"]
    api.transport.close()


def test_device_certificate_is_no_credential(server, enroll, log):
    log.expect("MDM0602")
    device = enroll()
    reply = device.transport.request("GET", "/mdmapi/v1/enrollments")
    assert reply.status == 401


def test_without_token_file(own_server, log):
    log.expect("MDM0601", "MDM0003")
    server = own_server([("/mdmapi/", "API_TOKEN_FILE", None)],
                        wait_store=False)
    api = server.api("whatever")
    reply = api.call("GET", "/v1/enrollments")
    assert reply.status == 403, reply
    line = log.require("MDM0601")
    assert {"apache": "MDMAPITokenFile",
            "nginx": "mdm_api_token_file"}[server.kind] in line \
        or "MDMAPITokenFile" in line
    api.transport.close()


def test_unknown_things_are_404(api):
    unknown = str(uuid.uuid4()).upper()
    assert api.enrollment(unknown).status == 404
    assert api.command(unknown).status == 404
    assert api.result(unknown, unknown).status == 404
    assert api.get_pushcert(new_topic()).status == 404
    for path in ("/v1/nothing", "/v2/enrollments", "/v1", "/",
                 "/v1/enrollments/"):
        reply = api.call("GET", path)
        assert reply.status in (400, 404), (path, reply)
        assert reply.json["error"]


def test_result_of_an_id_that_had_none(api, enroll):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    reply = api.result(command_uuid, device.id)
    assert reply.status == 404, reply


def test_wrong_methods(api):
    for method, path in (("DELETE", "/v1/pushcert"),
                         ("PATCH", "/v1/enrollments"),
                         ("DELETE", "/v1/push/x"),
                         ("GET", "/v1/enqueue/x"), ("PUT", "/version")):
        reply = api.call(method, path)
        assert reply.status == 405, (method, path, reply)
        assert reply.headers["allow"]


def test_push_to_unknown_id(api):
    unknown = str(uuid.uuid4()).upper()
    reply = api.push(unknown)
    assert reply.status in (404, 500), reply
    assert reply.json["status"][unknown]["push_error"]


def test_enqueue_to_unknown_id(api):
    unknown = str(uuid.uuid4()).upper()
    _, body = command_plist("ProfileList")
    reply = api.enqueue(unknown, body)
    assert reply.status in (404, 500), reply
    assert reply.json["status"][unknown]["command_error"]


def test_push_alone(api, apns, enroll):
    one, two = enroll(), enroll()
    unknown = str(uuid.uuid4()).upper()
    reply = api.push([one.id, unknown, two.id])
    assert reply.status == 207, reply
    for device in (one, two):
        push = apns.wait_token(device.token_hex)
        assert push["headers"]["apns-id"] \
            == reply.json["status"][device.id]["push_result"]


def test_ids_with_every_character(api, enroll):
    """Decoded once, after the split at commas."""
    device = enroll()
    user = device.ipad_user("a,b/c%2Fd e+f?g#h\"é\U0001f600")
    assert user.token_update().status == 200
    reply = api.enrollment(user.id)
    assert reply.status == 200
    assert reply.json["id"] == user.id
    _, body = command_plist("ProfileList")
    reply = api.enqueue([device.id, user.id], body, "?nopush=1")
    assert reply.status == 200, reply
    path = "/v1/enrollments/" + quote_id(quote_id(user.id))
    assert api.call("GET", path).status == 404


@pytest.mark.parametrize("path", [
    "/v1/enrollments/%", "/v1/enrollments/%zz", "/v1/enrollments/%00",
    "/v1/enqueue/", "/v1/enqueue/,", "/v1/push/,,", "/v1/enrollments/"
    + "x" * 600])
def test_damaged_ids(path, api, log):
    log.expect("AH10244", "AH00127", "AH10508", "client sent invalid")
    _, body = command_plist("ProfileList")
    method = "PUT" if "enqueue" in path else "GET"
    reply = api.call(method, path, body if method == "PUT" else None)
    assert reply.status in (400, 404, 500), reply


def test_paging(server, api, enroll):
    devices = [enroll() for _ in range(5)]
    whole = enrolled_ids(server)
    assert len(whole) == len(set(whole))
    assert {d.id for d in devices} <= set(whole)
    paged, cursor = [], ""
    for _ in range(len(whole)):
        reply = api.enrollments("?limit=2" + (f"&cursor={cursor}"
                                              if cursor else ""))
        assert reply.status == 200, reply
        rows = reply.json["enrollments"]
        assert 1 <= len(rows) <= 2
        paged += [r["id"] for r in rows]
        cursor = reply.json.get("next_cursor")
        if not cursor:
            break
    assert sorted(paged) == sorted(whole)


@pytest.mark.parametrize("query", ["?limit=0", "?limit=-1", "?limit=x",
                                   "?cursor=%00garbage"])
def test_bad_paging(query, api):
    reply = api.enrollments(query)
    assert reply.status == 400, reply
    assert reply.json["error"]


def test_filters(api, enroll):
    device = enroll()
    gone = enroll()
    assert gone.check_out().status == 200

    def ids(query):
        reply = api.enrollments(query)
        assert reply.status == 200, reply
        return [e["id"] for e in reply.json["enrollments"]]

    assert ids("?serial=" + device.serial) == [device.id]
    assert ids("?serial=NO" + device.serial) == []
    assert ids(f"?enabled=1&serial={gone.serial}") == []
    assert ids(f"?enabled=0&serial={gone.serial}") == [gone.id]


# ---- push certificates ---------------------------------------------------

def test_pushcert_round(server, api):
    push = server.push
    reply = api.get_pushcert(push.topic)
    assert reply.status == 200
    assert reply.json["topic"] == push.topic
    stamp = reply.json["not_after"].replace("Z", "+00:00")
    assert datetime.datetime.fromisoformat(stamp) == push.not_after
    assert b"PRIVATE" not in reply.body


@pytest.mark.parametrize("order", ["cert-key", "key-cert", "glued", "crlf"])
def test_pushcert_forms(order, server, api, pki, own_server):
    server = own_server(push=False)
    push = server.push
    cert, key = cert_pem(push.cert), key_pem(push.key)
    body = {"cert-key": cert + key, "key-cert": key + cert,
            "glued": cert.rstrip() + key.rstrip(),
            "crlf": (cert + key).replace(b"\n", b"\r\n")}[order]
    client = server.api()
    reply = client.put_pushcert(body)
    assert reply.status == 200, reply
    assert reply.json["topic"] == push.topic
    assert client.get_pushcert(push.topic).status == 200
    client.transport.close()


def test_pushcert_refusals(api, pki):
    push, other = pki.push(), pki.push()
    device = pki.device()
    for body in (b"", b"garbage", cert_pem(push.cert), key_pem(push.key),
                 cert_pem(push.cert) + key_pem(other.key),
                 cert_pem(push.cert)[:-40] + key_pem(push.key),
                 device.both_pem):
        reply = api.put_pushcert(body, "?force=1")
        assert reply.status == 400, (body[:80], reply)
        assert reply.json["error"]
    expired = pki.push(days=(-400, -5))
    reply = api.put_pushcert(expired.both_pem, "?force=1")
    assert reply.status == 400, reply
    assert api.get_pushcert(push.topic).status == 404
    assert api.get_pushcert(expired.topic).status == 404


def test_pushcert_topic_change(server, api, pki, enroll):
    enroll()
    stray = pki.push()
    reply = api.put_pushcert(stray.both_pem)
    assert reply.status == 409, reply
    assert server.push.topic in reply.json["error"] \
        or stray.topic in reply.json["error"]
    assert api.get_pushcert(stray.topic).status == 404
    assert api.put_pushcert(stray.both_pem, "?force=1").status == 200
    assert api.get_pushcert(stray.topic).status == 200
    # It never removes the old one.
    assert api.get_pushcert(server.push.topic).status == 200


def test_pushcert_back_in_time(server, api, pki):
    topic = server.push.topic
    older = pki.push(topic, days=(-30, 100))
    assert api.put_pushcert(older.both_pem).status == 409
    assert api.put_pushcert(older.both_pem, "?force=1").status == 200
    assert api.put_pushcert(server.push.both_pem).status == 200


def test_renewed_pushcert_is_used_by_the_next_push(server, api, pki, apns,
                                                   enroll):
    device = enroll()
    assert api.push(device.id).status == 200
    assert apns.wait_token(device.token_hex)["fingerprint"] \
        == server.push.fingerprint
    renewed = pki.push(server.push.topic, days=(-1, 380))
    assert api.put_pushcert(renewed.both_pem).status == 200
    server.push = renewed
    assert api.push(device.id).status == 200
    second = apns.wait_token(device.token_hex, count=2)
    assert second["fingerprint"] == renewed.fingerprint
    assert second["topic"] == server.push.topic


def test_two_topics_side_by_side(server, api, pki, apns, enroll):
    other = pki.push()
    assert api.put_pushcert(other.both_pem, "?force=1").status == 200
    one, two = enroll(), enroll(topic=other.topic)
    assert api.push([one.id, two.id]).status == 200
    first = apns.wait_token(one.token_hex)
    second = apns.wait_token(two.token_hex)
    assert first["fingerprint"] == server.push.fingerprint
    assert second["fingerprint"] == other.fingerprint
    assert second["headers"]["apns-topic"] == other.topic
    assert first["connection"] != second["connection"]


def test_changes_are_logged(server, api, pki, enroll, log):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    line = log.require("MDM0603")
    assert server.api_token not in server.log_text()
    assert line
