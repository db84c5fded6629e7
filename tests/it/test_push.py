"""Pushes under trouble: the service refuses, fails, hangs up, is away."""
import json
import time

import pytest
from helpers import command_plist, offered, queue_commands
from mdmtest.mock_apns import answer
from mdmtest.wait import wait_for


def push(api, *devices):
    reply = api.push([d.id for d in devices])
    assert reply.status == 200, reply
    return reply


@pytest.mark.parametrize("status,reason", [
    (503, "ServiceUnavailable"), (503, "Shutdown"),
    (500, "InternalServerError"), (429, "TooManyRequests"),
    (400, "IdleTimeout")])
def test_retried_until_it_works(status, reason, api, apns, enroll, log):
    log.expect("MDM0404", "MDM0402", "MDM0407")
    device = enroll()
    apns.script(device.token_hex, answer(status, reason),
                answer(status, reason))
    push(api, device)
    third = apns.wait_token(device.token_hex, count=3, timeout=20)
    assert json.loads(third["body"]) == {"mdm": device.magic}
    first = apns.for_token(device.token_hex)[0]
    if reason != "IdleTimeout":     # which means: connect anew and repeat
        assert third["time"] - first["time"] > 0.9


@pytest.mark.parametrize("status,reason", [
    (400, "BadDeviceToken"), (413, "PayloadTooLarge")])
def test_not_retried(status, reason, api, apns, enroll, log):
    log.expect("MDM0404", "MDM0406", "MDM0405")
    device, other = enroll(), enroll()
    apns.script(device.token_hex, answer(status, reason))
    push(api, device)
    apns.wait_token(device.token_hex)
    # Longer than the longest pause between repetitions of this test set-up,
    # seen from a push that is repeated.
    apns.script(other.token_hex, *[answer(500)] * 2)
    push(api, other)
    apns.wait_token(other.token_hex, count=3, timeout=20)
    assert len(apns.for_token(device.token_hex)) == 1
    # After its next TokenUpdate it gets pushes again.
    device.new_token()
    assert device.token_update().status == 200
    push(api, device)
    apns.wait_token(device.token_hex)


def test_unregistered(api, apns, enroll, log):
    """410 later than the last TokenUpdate: dead; earlier: kept."""
    log.expect("MDM0404", "MDM0406")
    dead, alive = enroll(), enroll()
    now = int(time.time() * 1000)
    apns.script(dead.token_hex,
                answer(410, "Unregistered", timestamp=now + 60_000))
    apns.script(alive.token_hex,
                answer(410, "Unregistered", timestamp=now - 3_600_000))
    push(api, dead, alive)
    apns.wait_token(dead.token_hex)
    apns.wait_token(alive.token_hex)

    def refused():
        reply = api.push(dead.id)
        return "push_error" in reply.json["status"][dead.id]
    wait_for(refused, 10, "the dead token to be marked")
    assert api.push(alive.id).status == 200
    apns.wait_token(alive.token_hex, count=2)
    assert api.enrollment(dead.id).json["enabled"] is True
    dead.new_token()
    assert dead.token_update().status == 200
    push(api, dead)
    apns.wait_token(dead.token_hex)


@pytest.mark.parametrize("action", ["rst", "refuse", "goaway", "close",
                                    "goaway-after", "drop"])
def test_broken_connections(action, api, apns, enroll, log):
    """Whatever breaks, the push and those that follow arrive."""
    log.expect("MDM0404", "MDM0402", "MDM0407")
    first, second = enroll(), enroll()
    apns.script(first.token_hex, answer(action=action))
    push(api, first)
    apns.wait_token(first.token_hex)
    if action != "goaway-after":
        apns.wait_token(first.token_hex, count=2, timeout=25)
    push(api, second)
    apns.wait_token(second.token_hex, timeout=20)


def test_service_away_then_back(own_server, own_apns, pki, log):
    from mdmtest.device import Device
    log.expect("MDM0402")
    server = own_server()
    device = Device(server, pki.device(), server.push.topic).enroll()
    own_apns.stop()
    command_uuid, body = command_plist("ProfileList")
    api = server.api()
    reply = api.enqueue(device.id, body)
    assert reply.status == 200, reply       # the caller need not wait for it
    line = log.require("MDM0402")
    assert "localhost" in line
    own_apns.start()
    own_apns.wait_token(device.token_hex, timeout=20)
    assert offered(device.idle()) == command_uuid
    # Later pushes go as before.
    assert api.push(device.id).status == 200
    own_apns.wait_token(device.token_hex, count=2, timeout=20)
    api.transport.close()
    device.close()


def test_one_stream_at_a_time(api, apns, enroll):
    devices = [enroll() for _ in range(12)]
    apns.set_max_streams(1)
    try:
        push(api, devices[0])               # the settings have arrived
        apns.wait_token(devices[0].token_hex)
        apns.most_streams = 0
        push(api, *devices[1:])
        for device in devices[1:]:
            apns.wait_token(device.token_hex, timeout=20)
        assert apns.most_streams <= 1
    finally:
        apns.set_max_streams(1000)


def test_many_at_once_on_one_connection(server, api, apns, enroll):
    devices = [enroll() for _ in range(30)]
    before = len(apns.handshakes)
    push(api, *devices)
    used = {apns.wait_token(d.token_hex, timeout=20)["connection"]
            for d in devices}
    assert len(used) <= 1 + len(apns.handshakes) - before
    assert len(apns.handshakes) - before <= 1


def test_ten_commands_one_push(api, apns, enroll):
    """Pushes of one device are coalesced while one is on its way."""
    device = enroll()
    apns.script(device.token_hex, answer(delay=1.5))
    for _ in range(10):
        _, body = command_plist("ProfileList")
        assert api.enqueue(device.id, body).status == 200
    apns.wait_token(device.token_hex)
    assert len(device.run_once()) == 10
    time.sleep(2.5)     # nothing to wait for: that nothing more comes
    assert len(apns.for_token(device.token_hex)) <= 2


def test_certificate_refused_suspends_the_topic(own_server, own_apns, pki,
                                                log):
    from mdmtest.device import Device
    log.expect("MDM0405", "MDM0404", "MDM0402")
    server = own_server()
    api = server.api()
    devices = [Device(server, pki.device(), server.push.topic).enroll()
               for _ in range(3)]
    own_apns.set_default(answer(403, "BadCertificate"))
    assert api.push(devices[0].id).status == 200
    own_apns.wait_token(devices[0].token_hex)
    log.require("MDM0405")
    own_apns.set_default(answer())
    number = len(own_apns.requests)
    api.push([d.id for d in devices[1:]])
    time.sleep(3)       # nothing may come while the topic is suspended
    assert len(own_apns.requests) == number
    renewed = pki.push(server.push.topic)
    assert api.put_pushcert(renewed.both_pem).status == 200
    log.require("MDM0409")
    for device in devices:
        assert own_apns.wait_token(device.token_hex, timeout=20,
                                   count=2 if device is devices[0] else 1)[
            "fingerprint"] == renewed.fingerprint
        device.close()
    api.transport.close()


def test_peer_must_be_the_named_host(own_server, own_apns, pki, log):
    """A certificate of the right CA for another host name is refused, and
    so is the right name of another CA."""
    from conftest import new_mock
    from mdmtest.device import Device
    from mdmtest.mock_apns import MockAPNs
    log.expect("MDM0402")
    wrong = pki.web_server("push.example.com")
    with MockAPNs(wrong.cert_file, wrong.key_file,
                  pki.push_ca.cert_file) as mock:
        server = own_server([("http", "PUSH_SERVER",
                              f"localhost:{mock.port}")])
        device = Device(server, pki.device(), server.push.topic).enroll()
        api = server.api()
        assert api.push(device.id).status == 200
        log.require("MDM0402")
        assert not mock.requests
    server.quit()
    with new_mock(pki) as mock:
        server.settings = [s for s in server.settings if s[1] not in
                           ("PUSH_SERVER", "PUSH_TRUSTED_CERTIFICATE")]
        server.settings += [
            ("http", "PUSH_SERVER", f"localhost:{mock.port}"),
            ("http", "PUSH_TRUSTED_CERTIFICATE", pki.other_ca.cert_file)]
        server.start()
        server.mark_log()
        api = server.api()
        assert api.push(device.id).status == 200
        log.require("MDM0402")
        assert not mock.requests
    device.close()
    api.transport.close()


def test_push_off(own_server, own_apns, pki):
    from mdmtest.device import Device
    server = own_server([("http", "PUSH", "off")])
    device = Device(server, pki.device(), server.push.topic).enroll()
    api = server.api()
    command_uuid, body = command_plist("ProfileList")
    assert api.enqueue(device.id, body).status in (200, 207, 500)
    assert offered(device.idle()) == command_uuid
    assert not own_apns.handshakes
    device.close()
    api.transport.close()


def test_push_certificate_by_directive(own_server, own_apns, pki, log):
    """From files; a reload with a wrong file keeps the last good one."""
    from mdmtest.device import Device
    push_id = pki.push()
    server = own_server([("http", "PUSH_CERTIFICATE", push_id.cert_file,
                          push_id.key_file)], push=False)
    device = Device(server, pki.device(), push_id.topic).enroll()
    api = server.api()
    assert api.push(device.id).status == 200
    got = own_apns.wait_token(device.token_hex)
    assert got["fingerprint"] == push_id.fingerprint
    assert api.get_pushcert(push_id.topic).status == 200
    # One file that holds both, of the same topic, after a reload.
    renewed = pki.push(push_id.topic, days=(-1, 380))
    server.settings = [s for s in server.settings
                       if s[1] != "PUSH_CERTIFICATE"]
    server.settings.append(("http", "PUSH_CERTIFICATE", renewed.both_file))
    server.write_configuration()
    server.reload()
    server.wait_store()

    def renewed_is_used():
        assert api.push(device.id).status == 200
        time.sleep(0.1)
        return any(r["fingerprint"] == renewed.fingerprint
                   for r in own_apns.for_token(device.token_hex))
    wait_for(renewed_is_used, 20, "a push with the renewed certificate")
    device.close()
    api.transport.close()


def test_queue_survives_without_pushes(api, apns, enroll, log):
    """A device that polls by itself needs no push to get its work."""
    log.expect("MDM0404")
    device = enroll()
    apns.script(device.token_hex, answer(action="drop"))
    (one,) = queue_commands(api, device, 1)
    assert offered(device.idle()) == one
    assert offered(device.report(one)) is None
