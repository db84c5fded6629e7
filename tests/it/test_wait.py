"""?wait=: what Apple's service said, in the answer of the call."""
import os
import threading
import time

import pytest
from helpers import command_plist, offered
from mdmtest.apache import ApacheServer
from mdmtest.device import Device
from mdmtest.mock_apns import answer
from mdmtest.wait import wait_for

PLACES = 8      # calls of a process that wait at once


def result(reply, device):
    return reply.json["status"][device.id]


def new_device(server, pki, **more):
    return Device(server, pki.device(), server.push.topic, **more).enroll()


def begin(work, number=1):
    """Threads at work(i), started; each of them closes what it opens."""
    threads = [threading.Thread(target=work, args=(i,))
               for i in range(number)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_accepted(method, api, apns, enroll):
    device = enroll()
    begun = time.monotonic()
    reply = api.call(method, f"/v1/push/{device.id}?wait=20s")
    assert reply.status == 200
    assert time.monotonic() - begun < 8
    (push,) = apns.for_token(device.token_hex)
    assert result(reply, device) == {
        "push_result": push["headers"]["apns-id"]}


def test_enqueue_accepted(api, apns, enroll):
    device = enroll()
    command_uuid, body = command_plist("ProfileList")
    reply = api.enqueue(device.id, body, "?wait=20")
    assert reply.status == 200
    assert reply.json["command_uuid"] == command_uuid
    (push,) = apns.for_token(device.token_hex)
    assert result(reply, device) == {
        "push_result": push["headers"]["apns-id"]}
    assert offered(device.idle()) == command_uuid


@pytest.mark.parametrize("status,reason,timestamp", [
    (400, "BadDeviceToken", None), (413, "PayloadTooLarge", None),
    (410, "Unregistered", 1)])
def test_refused(status, reason, timestamp, api, apns, enroll, log):
    log.expect("MDM0404", "MDM0406")
    device, good = enroll(), enroll()
    if timestamp:
        timestamp = int(time.time() * 1000) + 60_000
    apns.script(device.token_hex, answer(status, reason,
                                         timestamp=timestamp))
    reply = api.push([device.id, good.id, "nobody"], "?wait=20s")
    assert reply.status == 207
    words = f"push HTTP status: {status}: APNs push error: {reason}"
    if timestamp:
        words += f": timestamp {timestamp}"
    assert result(reply, device) == {"push_error": words}
    assert set(result(reply, good)) == {"push_result"}
    assert "push data missing" in reply.json["status"]["nobody"]["push_error"]
    # The token is known to be dead by now.
    if status != 413:
        assert api.push(device.id, "?wait=20s").status == 500
    device.new_token()
    assert device.token_update().status == 200
    apns.script(device.token_hex, answer(413, "PayloadTooLarge"))
    assert api.push(device.id, "?wait=20s").status == 500


def test_repeated_within_the_time(api, apns, enroll, log):
    """A failure that is mended while the call waits is none."""
    device = enroll()
    apns.script(device.token_hex, answer(503, "ServiceUnavailable"))
    reply = api.push(device.id, "?wait=20s")
    assert reply.status == 200
    assert set(result(reply, device)) == {"push_result"}
    assert len(apns.for_token(device.token_hex)) == 2


def test_repeated_later(api, apns, enroll, log):
    """The repetition lies behind the time: said at once, and pending."""
    device = enroll()
    apns.script(device.token_hex, *[answer(503, "ServiceUnavailable")] * 2)
    begun = time.monotonic()
    reply = api.push(device.id, "?wait=900ms")
    assert reply.status == 500
    assert time.monotonic() - begun < 5
    assert result(reply, device) == {
        "push_error": "push HTTP status: 503: APNs push error: "
                      "ServiceUnavailable", "push_pending": True}
    apns.wait_token(device.token_hex, count=3, timeout=20)


def test_no_answer_in_time(api, apns, enroll, log):
    device = enroll()
    apns.script(device.token_hex, answer(action="drop"))
    begun = time.monotonic()
    reply = api.push(device.id, "?wait=1s")
    assert 0.9 < time.monotonic() - begun < 4
    assert reply.status == 200
    (push,) = apns.for_token(device.token_hex)
    assert result(reply, device) == {
        "push_result": push["headers"]["apns-id"], "push_pending": True}
    apns.wait_token(device.token_hex, count=2, timeout=20)


def test_not_needed(own_server, own_apns, pki, log):
    """The device comes by itself before the push has left."""
    log.expect("MDM0402")
    server = own_server()
    device, api = new_device(server, pki), server.api()
    own_apns.stop()
    command_uuid, body = command_plist("ProfileList")
    replies = []
    (thread,) = begin(lambda i: replies.append(
        api.enqueue(device.id, body, "?wait=30s")))
    wait_for(lambda: offered(device.idle()) == command_uuid, 10,
             "the command")
    thread.join(20)
    (reply,) = replies
    assert reply.status == 200
    assert set(result(reply, device)) == {"push_result", "push_note"}
    own_apns.start()
    device.close()
    api.transport.close()


def test_dropped(own_server, own_apns, pki, log):
    log.expect("MDM0402")
    server = own_server()
    device, api = new_device(server, pki), server.api()
    own_apns.stop()
    replies = []
    (thread,) = begin(lambda i: replies.append(
        api.push(device.id, "?wait=30s")))
    other = server.api()
    wait_for(lambda: other.enrollment(device.id).json["push"]
             ["next_attempt"], 10, "the push")
    assert device.check_in("CheckOut").status == 200
    thread.join(20)
    assert replies[0].status == 500
    assert "has left" in result(replies[0], device)["push_error"]
    own_apns.start()
    device.close()
    api.transport.close()
    other.transport.close()


def test_topic_without_certificate_or_stopped(own_server, own_apns, pki, log):
    log.expect("MDM0205", "MDM0405", "MDM0409")
    server = own_server(push=False)
    device, api = new_device(server, pki), server.api()
    begun = time.monotonic()
    reply = api.push(device.id, "?wait=30s")
    assert result(reply, device) == {
        "push_error": "no push certificate of the topic is stored",
        "push_pending": True}
    # The certificate comes, and APNs does not like it.
    own_apns.set_default(answer(403, "BadCertificate"))
    assert api.put_pushcert(server.push.both_pem).status == 200
    log.require("MDM0405")
    reply = api.push(device.id, "?wait=30s")
    assert reply.status == 500
    assert result(reply, device) == {
        "push_error": "APNs refuses the push certificate: BadCertificate",
        "push_pending": True}
    own_apns.set_default(answer())
    assert time.monotonic() - begun < 20
    # The same certificate again: tried again, and now it works.
    assert api.put_pushcert(server.push.both_pem).status == 200
    reply = api.push(device.id, "?wait=30s")
    assert set(result(reply, device)) == {"push_result"}
    device.close()
    api.transport.close()


def test_push_off_and_due_later(own_server, pki):
    server = own_server([("http", "PUSH", "off")])
    device, api = new_device(server, pki), server.api()
    begun = time.monotonic()
    _, body = command_plist("ProfileList")
    reply = api.enqueue(device.id, body, "?wait=1s")
    assert 0.9 < time.monotonic() - begun < 5
    assert reply.status == 200
    assert result(reply, device)["push_pending"] is True
    other = new_device(server, pki)
    # Nothing will be said in time, or nothing is to be said: no waiting.
    begun = time.monotonic()
    for query in ("?wait=30s&not_before=1h", "?wait=30s&nopush=1"):
        _, body = command_plist("ProfileList")
        reply = api.enqueue(other.id, body, query)
        assert reply.status == 200
    assert reply.json["no_push"] is True and result(reply, other) == {}
    assert time.monotonic() - begun < 5
    for closer in (device, other, api.transport):
        closer.close()


@pytest.mark.parametrize("value", ["31s", "1m", "soon", "", "-1s", "5x"])
def test_bad_times_change_nothing(value, api, apns, enroll):
    device = enroll()
    assert api.push(device.id, f"?wait={value}").status == 400
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body, f"?wait={value}").status == 400
    assert api.command(command_uuid).status == 404
    assert api.enrollment(device.id).json["push"]["apns_id"] is None


def test_places_are_bounded(own_server, own_apns, pki, log):
    """More calls than places: the others are answered at once, and the
    server serves devices all the while."""
    log.expect("MDM0402")
    server = own_server([("http", "PUSH", "off")], workers=1)
    devices = [new_device(server, pki) for _ in range(PLACES + 3)]
    polling = new_device(server, pki)
    replies = []

    def call(number):
        api = server.api()
        begun = time.monotonic()
        reply = api.push(devices[number].id, "?wait=6s")
        replies.append((time.monotonic() - begun, reply,
                        devices[number]))
        api.transport.close()
    threads = begin(call, len(devices))
    wait_for(lambda: len(replies) >= 3, 5, "those without a place")
    begun = time.monotonic()
    assert polling.idle().status == 200
    assert time.monotonic() - begun < 3
    for thread in threads:
        thread.join(20)
    assert all(reply.status == 200 and result(reply, d)["push_pending"]
               for _, reply, d in replies)
    assert sorted(took > 5 for took, _, _ in replies) \
        == [False] * 3 + [True] * PLACES
    for device in [*devices, polling]:
        device.close()


@pytest.mark.parametrize("how", ["reload", "quit"])
@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_the_end_of_the_process_ends_the_waiting(mpm, how, kind, own_server,
                                                 own_apns, pki, log):
    if mpm == "prefork":
        if kind != ApacheServer.kind:
            pytest.skip("nginx has no MPMs")
        log.expect("MDM0003", "MDM0004", "prefork")
    server = own_server([("http", "PUSH", "off")], mpm=mpm, workers=3)
    device = new_device(server, pki)
    watch = server.api()
    replies = []

    def call(number):
        api = server.api()
        replies.append(api.push(device.id, "?wait=30s"))
        api.transport.close()
    (thread,) = begin(call)
    wait_for(lambda: watch.enrollment(device.id).json["push"]["apns_id"], 10,
             "the push")
    watch.transport.close()
    device.close()
    before = server.worker_pids()
    begun = time.monotonic()
    getattr(server, how)()
    thread.join(30)
    assert time.monotonic() - begun < 12
    wait_for(lambda: not [p for p in before
                          if os.path.exists(f"/proc/{p}")], 15,
             "the end of the former workers")
    assert time.monotonic() - begun < 15
    (reply,) = replies
    assert reply.status == 200
    assert result(reply, device)["push_pending"] is True


def test_many_at_once_from_any_process(own_server, own_apns, pki):
    """Another process than the leader's answers as well, and many targets
    do not take longer than their pushes."""
    server = own_server(workers=4)
    devices = [new_device(server, pki) for _ in range(60)]
    api = server.api()
    for _ in range(12):
        api.transport.close()       # one worker or another
        reply = api.push([d.id for d in devices], "?wait=20s")
        assert reply.status == 200
        assert all(set(result(reply, d)) == {"push_result"} for d in devices)
    for device in devices:
        pushes = own_apns.for_token(device.token_hex)
        assert len(pushes) == 12
        assert result(reply, device)["push_result"] \
            == pushes[-1]["headers"]["apns-id"]
        device.close()
    api.transport.close()
