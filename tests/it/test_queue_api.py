"""Looking into a queue, taking commands out of it, and what may be said of a
command when it is queued."""
import datetime
import hashlib
import time
import urllib.parse
import uuid

import pytest
from helpers import (command_plist, next_push, offered, queue_commands,
                     seconds_until, state_of)
from mdmtest.device import Device

HOUR = 3600
KEYS = {"command_uuid", "request_type", "state", "priority", "queued_at",
        "not_before", "expires", "sent_at", "sent_count", "not_now_count",
        "finished_at"}


def uuids(reply):
    assert reply.status == 200, reply
    return [r["command_uuid"] for r in reply.json["commands"]]


def enqueue(api, device, query="", request_type="ProfileList"):
    command_uuid, body = command_plist(request_type)
    reply = api.enqueue(device.id, body, "?nopush=1" + query)
    assert reply.status == 200, reply
    return command_uuid


def later(seconds):
    return (datetime.datetime.now(datetime.timezone.utc)
            + datetime.timedelta(seconds=seconds)).strftime(
                "%Y-%m-%dT%H:%M:%SZ")


# -- looking ------------------------------------------------------------------

def test_members_of_a_row(api, enroll):
    device = enroll()
    a = enqueue(api, device, "&priority=7&expires=4h")
    b = enqueue(api, device, "&not_before=1h", "DeviceInformation")
    first, second = api.queue(device.id).json["commands"]
    assert set(first) == set(second) == KEYS
    assert first["command_uuid"] == a and second["command_uuid"] == b
    assert first["request_type"] == "ProfileList"
    assert second["request_type"] == "DeviceInformation"
    assert first["state"] == second["state"] == "queued"
    assert (first["priority"], second["priority"]) == (7, 5)
    assert abs(seconds_until(first["queued_at"])) < 30
    assert abs(seconds_until(first["expires"]) - 4 * HOUR) < 30
    assert abs(seconds_until(second["not_before"]) - HOUR) < 30
    assert first["not_before"] is second["expires"] is None
    assert first["sent_at"] is first["finished_at"] is None
    assert first["sent_count"] == first["not_now_count"] == 0
    assert offered(device.idle()) == a
    assert offered(device.not_now(a)) is None
    first = api.queue(device.id).json["commands"][0]
    assert (first["sent_count"], first["not_now_count"]) == (1, 1)
    assert abs(seconds_until(first["sent_at"])) < 30


def test_states(api, enroll):
    device = enroll()
    put_off, good, bad, wrong, sent, gone, waits = queue_commands(
        api, device, 7)
    assert offered(device.idle()) == put_off
    assert offered(device.not_now(put_off)) == good
    assert offered(device.report(good)) == put_off
    assert offered(device.not_now(put_off)) == bad
    assert offered(device.report(bad, "Error")) == put_off
    assert offered(device.not_now(put_off)) == wrong
    assert offered(device.report(wrong, "CommandFormatError")) == put_off
    assert offered(device.not_now(put_off)) == sent
    assert api.cancel(device.id, gone).status == 200
    wanted = {"not_now": [put_off], "acknowledged": [good], "error": [bad],
              "command_format_error": [wrong], "sent": [sent],
              "cancelled": [gone], "queued": [waits], "expired": [],
              "active": [put_off, sent, waits]}
    for state, made in wanted.items():
        assert uuids(api.queue(device.id, "?state=" + state)) == made, state
        for row in api.queue(device.id, "?state=" + state).json["commands"]:
            assert state in (row["state"], "active")
    assert uuids(api.queue(device.id)) == [put_off, good, bad, wrong, sent,
                                           gone, waits]
    for state in ("", "Queued", "done", "0"):
        assert api.queue(device.id, "?state=" + state).status == 400


def test_pages(api, enroll):
    device, other = enroll(), enroll()
    made = queue_commands(api, device, 5)
    queue_commands(api, other, 2)
    for limit in (1, 2, 3, 5, 7):
        seen, cursor = [], ""
        while True:
            reply = api.queue(device.id, f"?limit={limit}&cursor={cursor}")
            assert 1 <= len(uuids(reply)) <= limit
            seen += uuids(reply)
            cursor = reply.json.get("next_cursor")
            if cursor is None:
                break
        assert seen == made
    for query in ("?limit=0", "?limit=x", "?cursor=x", "?limit=1001"):
        assert api.queue(device.id, query).status == 400


def test_pages_of_a_command(api, enroll):
    devices = [enroll() for _ in range(4)]
    command_uuid, body = command_plist()
    assert api.enqueue([d.id for d in devices], body).status == 200
    for limit in (1, 2, 3, 4, 5):
        seen, cursor = [], ""
        while cursor is not None:
            reply = api.command(command_uuid,
                                f"?limit={limit}&cursor={cursor}")
            assert 1 <= len(reply.json["status"]) <= limit
            seen += reply.json["status"]
            cursor = reply.json.get("next_cursor")
        assert sorted(seen) == sorted(d.id for d in devices)


def test_unknown_enrolment(api, enroll):
    enroll()
    nobody = str(uuid.uuid4()).upper()
    for reply in (api.queue(nobody), api.clear_queue(nobody),
                  api.cancel(nobody, "x")):
        assert reply.status == 404, reply
        assert reply.json["error"]


# -- taking out ---------------------------------------------------------------

def test_cancel_one(api, enroll):
    device, other = enroll(), enroll()
    a, b = queue_commands(api, device, 2)
    (c,) = queue_commands(api, other, 1)
    assert offered(device.idle()) == a
    reply = api.cancel(device.id, a)
    assert (reply.status, reply.json) == (200, {"cancelled": 1})
    assert state_of(api, a, device.id) == "cancelled"
    assert offered(device.idle()) == b
    assert api.cancel(device.id, a).status == 409
    assert api.cancel(device.id, c).status == 404       # another device's
    assert api.cancel(device.id, a.upper()).status in (404, 409)
    assert offered(device.report(b)) is None
    reply = api.cancel(device.id, b)
    assert reply.status == 409 and "acknowledged" in reply.json["error"]
    assert state_of(api, b, device.id) == "acknowledged"
    assert offered(other.idle()) == c
    # Ids as odd as they may be.
    odd = "a/b c,é;" + str(uuid.uuid4())
    _, body = command_plist("ProfileList", command_uuid=odd)
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    assert api.cancel(device.id, odd).json == {"cancelled": 1}


def test_clear_all(api, apns, enroll, log):
    device = enroll()
    user = device.user()
    assert user.token_update().status == 200
    done, *rest = queue_commands(api, device, 4)
    (kept,) = queue_commands(api, user, 1)
    assert offered(device.idle()) == done
    assert offered(device.report(done)) == rest[0]
    assert offered(device.not_now(rest[0])) == rest[1]
    assert next_push(api, device) is not None
    assert api.clear_queue(device.id).json == {"cancelled": 3}
    log.require("MDM0603.*cleared the queue of " + device.id)
    assert next_push(api, device) is None
    assert api.clear_queue(device.id).json == {"cancelled": 0}
    assert uuids(api.queue(device.id, "?state=active")) == []
    assert uuids(api.queue(device.id, "?state=cancelled")) == rest
    assert offered(device.idle()) is None
    # Its user's queue is another one, and the next command comes through.
    assert offered(user.idle()) == kept
    (new,) = queue_commands(api, device, 1)
    assert offered(device.idle()) == new


def test_cancelling_leaves_the_others_their_push(api, apns, enroll):
    device = enroll()
    made = []
    for _ in range(2):
        command_uuid, body = command_plist("ProfileList")
        assert api.enqueue(device.id, body).status == 200
        made.append(command_uuid)
    apns.wait_token(device.token_hex)
    assert offered(device.idle()) == made[0]
    assert api.cancel(device.id, made[0]).status == 200
    assert next_push(api, device) > HOUR
    assert api.cancel(device.id, made[1]).status == 200
    assert next_push(api, device) is None


def test_methods_and_scopes(own_server, pki):
    secret = {name: f"token-of-{name}-0123456789"
              for name in ("read", "command")}
    server = own_server(wait_store=False, push=False, tokens="".join(
        f"{n}:{n}:sha256:{hashlib.sha256(s.encode()).hexdigest()}\n"
        for n, s in secret.items()) + "chief:token-of-the-chief-012\n")
    device = Device(server, pki.device(), "com.apple.mgmt.External."
                    + str(uuid.uuid4()))
    chief = server.api("token-of-the-chief-012")
    path = f"/v1/enrollments/{device.id}/commands"
    reply = chief.call("PUT", path)
    assert reply.status == 405 and reply.headers["allow"] == "GET, DELETE"
    reply = chief.call("GET", path + "/x")
    assert reply.status == 405 and reply.headers["allow"] == "DELETE"
    for name, method, more in (("read", "DELETE", ""),
                               ("read", "DELETE", "/x"),
                               ("command", "GET", "")):
        api = server.api(secret[name])
        assert api.call(method, path + more).status == 403, (name, method)
        api.transport.close()
    chief.transport.close()


# -- priority, not_before, expires -------------------------------------------

@pytest.mark.parametrize("query", [
    "priority=10", "priority=-1", "priority=high", "priority=", "priority=5x",
    "not_before=soon", "not_before=2026-01-31", "not_before=-1h",
    "not_before=", "expires=never", "expires=yesterday", "expires=-5m",
    "expires=", "expires=0",
    "expires=2020-01-01T00:00:00Z", "not_before=2h&expires=1h"])
def test_wrong_parameters(query, api, enroll):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    reply = api.enqueue(device.id, body, "?nopush=1&" + query)
    assert reply.status == 400, reply
    name = query.split("=")[-2].split("&")[-1]
    assert name in reply.json["error"]
    assert uuids(api.queue(device.id)) == []
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    assert offered(device.idle()) == command_uuid


def test_priority_then_age(api, enroll):
    device = enroll()
    made = [(p, enqueue(api, device, f"&priority={p}" if p is not None
                        else "")) for p in (0, 9, None, 5, 9, 0, 6)]
    order = [u for _, u in sorted(
        made, key=lambda m: -(5 if m[0] is None else m[0]))]
    assert [u for u, _ in device.run_once()] == order


@pytest.mark.parametrize("form", ["duration", "time"])
def test_not_before(form, api, apns, enroll):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    wait = 4
    value = f"{wait}s" if form == "duration" else later(wait)
    start = time.time()
    reply = api.enqueue(device.id, body, "?not_before="
                        + urllib.parse.quote(value))
    assert reply.status == 200, reply
    assert offered(device.idle()) is None
    # The push comes when the command may be delivered.
    request = apns.wait_token(device.token_hex, timeout=30)
    assert request["time"] is not None
    assert time.time() - start > wait - 1.5
    assert len(apns.for_token(device.token_hex)) == 1
    assert offered(device.idle()) == command_uuid


def test_expires(api, enroll):
    from mdmtest.wait import wait_for
    device = enroll()
    short = enqueue(api, device, "&expires=1s&priority=9")
    long = enqueue(api, device, "&expires=" + later(HOUR))
    wait_for(lambda: state_of(api, short, device.id) == "expired", 20,
             "the command to expire")
    assert uuids(api.queue(device.id, "?state=expired")) == [short]
    assert offered(device.idle()) == long
    # A late report of it is kept.
    assert offered(device.report(short)) == long
    assert state_of(api, short, device.id) == "acknowledged"


def test_preset_life(own_server, pki):
    server = own_server([("http", "COMMAND_EXPIRATION", "2h")])
    api = server.api()
    device = Device(server, pki.device(), server.push.topic).enroll()
    for query in ("", "&not_before=3h", "&expires=30m", "&expires=off"):
        enqueue(api, device, query)
    rows = api.queue(device.id).json["commands"]
    for row, hours in zip(rows, (2, 5, 0.5)):
        assert abs(seconds_until(row["expires"]) - hours * HOUR) < 30
    assert rows[3]["expires"] is None
    device.close()
    api.transport.close()
