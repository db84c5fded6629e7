"""Push certificates from files and in the store: which one is used, what is
refused, and that the last good one stays in use."""
import os
import subprocess

import pytest
from conftest import KINDS, push_settings
from mdmtest.device import Device
from mdmtest.pki import new_topic
from mdmtest.wait import wait_for

FILE = "PUSH_CERTIFICATE"


def name_files(server, *identities):
    """The server's configuration names these from now on."""
    server.settings = [s for s in server.settings if s[1] != FILE]
    server.settings += [("http", FILE, i.both_file) for i in identities]
    server.write_configuration()


def enrolled(server, pki, topic):
    return Device(server, pki.device(), topic).enroll()


def close(*closers):
    for closer in closers:
        getattr(closer, "transport", closer).close()


def pushes_with(api, apns, device, identity):
    """The next push goes out under this certificate."""
    number = len(apns.for_token(device.token_hex))
    reply = api.push(device.id, "?wait=20s")
    assert reply.status == 200, reply
    # A worker that ends meanwhile says that the answer is to come.
    assert set(reply.json["status"][device.id]) <= {"push_result",
                                                    "push_pending"}
    last = apns.wait_token(device.token_hex, count=number + 1)
    assert last["fingerprint"] == identity.fingerprint
    assert last["headers"]["apns-topic"] == identity.topic


def spoil(what, pki, good, path):
    """A file that cannot be used."""
    other = pki.push(good.topic)
    text = {"garbage": b"garbage\n", "no-key": good.both_pem.split(
                b"-----BEGIN PRIVATE")[0],
            "foreign-key": open(good.cert_file, "rb").read()
            + open(other.key_file, "rb").read(),
            "no-topic": pki.device().both_pem,
            "not-yet": pki.push(good.topic, days=(3, 300)).both_pem,
            "missing": None}[what]
    if text is not None:
        with open(path, "wb") as f:
            f.write(text)


@pytest.mark.parametrize("what", ["garbage", "no-key", "foreign-key",
                                  "no-topic", "not-yet", "missing"])
def test_unusable_file_at_reload(what, own_server, own_apns, pki, log):
    """The configuration test says no, and so does a reload: the server goes
    on with what it has."""
    good = pki.push()
    server = own_server([("http", FILE, good.both_file)], push=False)
    device, api = enrolled(server, pki, good.topic), server.api()
    pushes_with(api, own_apns, device, good)
    server.settings = [s for s in server.settings if s[1] != FILE]
    server.settings.append(("http", FILE, server.path("bad.pem")))
    spoil(what, pki, good, server.path("bad.pem"))
    status, text = server.configtest()
    assert status != 0
    assert server.line(FILE, ["x"]).split()[0] in text, text
    assert "bad.pem" in text, text
    if server.kind == "nginx":
        log.expect(r"\[emerg\].*bad\.pem")
        server.kill(server.reload_signal)
        log.require(r"\[emerg\].*bad\.pem")
    else:       # as `apachectl graceful` does
        done = subprocess.run(server.command("-k", "graceful"),
                              env=server.environment(), timeout=60,
                              capture_output=True, check=False)
        assert done.returncode != 0
    assert server.is_running()
    pushes_with(api, own_apns, device, good)
    close(device, api)


def test_file_of_another_topic(own_server, own_apns, pki, log):
    """Refused with the number of those it would silence; the one in use
    stays in use though no file holds it any more.  Taken where the
    configuration says that it is meant, and then beside the old one."""
    good, stray = pki.push(), pki.push()
    server = own_server([("http", FILE, good.both_file)], push=False)
    devices = [enrolled(server, pki, good.topic) for _ in range(3)]
    api = server.api()
    pushes_with(api, own_apns, devices[0], good)
    name_files(server, stray)
    assert server.configtest()[0] == 0      # it knows nothing of the store
    for again in (server.reload, server.restart):
        server.mark_log()
        again()
        line = log.require("MDM0504")
        assert stray.topic in line and good.topic in line
        assert "3 use another" in line, line
        server.wait_store()
        for thing in [*devices, api]:
            thing.transport.close()
            thing.transport.port = server.port
        assert api.get_pushcert(stray.topic).status == 404
        for device in devices:
            pushes_with(api, own_apns, device, good)
        # Every worker found it, and the first one said it.
        lines = [x for x in server.log_text().splitlines() if "MDM0504" in x]
        assert len(lines) == 1, lines
    server.settings.append(("http", "PUSH_TOPIC_CHANGE", "on"))
    server.write_configuration()
    server.reload()
    wait_for(lambda: api.get_pushcert(stray.topic).status == 200, 20,
             "the certificate from the file")
    pushes_with(api, own_apns, devices[0], good)
    new = enrolled(server, pki, stray.topic)
    pushes_with(api, own_apns, new, stray)
    close(*devices, new, api)


def test_file_older_than_the_stored_one(own_server, own_apns, pki, log):
    """Renewed by the API, and the file was forgotten: the newer one stays,
    and the log says so."""
    old = pki.push(days=(-30, 100))
    server = own_server([("http", FILE, old.both_file)], push=False)
    device, api = enrolled(server, pki, old.topic), server.api()
    pushes_with(api, own_apns, device, old)
    renewed = pki.push(old.topic)
    assert api.put_pushcert(renewed.both_pem).status == 200
    pushes_with(api, own_apns, device, renewed)
    server.mark_log()
    server.reload()
    assert "older than the stored one" in log.require("MDM0504")
    server.wait_store()
    pushes_with(api, own_apns, device, renewed)
    # An older one can be meant: force by the API, then it is the file's.
    assert api.put_pushcert(old.both_pem).status == 409
    assert api.put_pushcert(old.both_pem, "?force=1").status == 200
    pushes_with(api, own_apns, device, old)
    close(device, api)


def test_expired_file_does_not_replace_a_good_one(own_server, own_apns, pki,
                                                  log):
    """A warning when it is read; the good one of the store stays."""
    good = pki.push()
    server = own_server([("http", FILE, good.both_file)], push=False)
    device, api = enrolled(server, pki, good.topic), server.api()
    pushes_with(api, own_apns, device, good)
    expired = pki.push(good.topic, days=(-400, -3))
    name_files(server, expired)
    status, text = server.configtest()
    assert status == 0 and "MDM0502" in text and "expired" in text, text
    server.reload()
    log.require("MDM0502")
    log.require("MDM0504")
    server.wait_store()
    pushes_with(api, own_apns, device, good)
    close(device, api)


def test_topics_from_files_and_by_api_side_by_side(own_server, own_apns, pki,
                                                   log):
    """One connection each; each is renewed without the others noticing."""
    one, two, three = pki.push(), pki.push(), pki.push()
    server = own_server([("http", FILE, one.both_file),
                         ("http", FILE, two.cert_file, two.key_file)],
                        push=False)
    api = server.api()
    assert api.put_pushcert(three.both_pem).status == 200
    devices = [enrolled(server, pki, i.topic) for i in (one, two, three)]
    for device, identity in zip(devices, (one, two, three)):
        pushes_with(api, own_apns, device, identity)
    assert len(own_apns.handshakes) == 3
    assert {h["fingerprint"] for h in own_apns.handshakes} \
        == {i.fingerprint for i in (one, two, three)}
    second = pki.push(two.topic)
    assert api.put_pushcert(second.both_pem).status == 200
    for device, identity in zip(devices, (one, second, three)):
        pushes_with(api, own_apns, device, identity)
    assert len(own_apns.handshakes) == 4
    # By file: at reload, with new processes and so new connections.
    first = pki.push(one.topic)
    name_files(server, first, second)
    server.reload()
    server.wait_store()
    wait_for(lambda: sum("MDM0503" in line and one.topic in line for line in
                         server.log_text().splitlines()) == 2, 20,
             "the renewed certificate of the file")
    for device, identity in zip(devices, (first, second, three)):
        pushes_with(api, own_apns, device, identity)
    close(*devices, api)


def test_renewal_ends_the_back_off(own_server, own_apns, pki, log):
    """With the old certificate no connection comes about, and the pauses
    grow; the renewed one is tried at once."""
    log.expect("MDM0402")
    server = own_server()
    device, api = enrolled(server, pki, server.push.topic), server.api()
    stranger = pki.other_ca.issue(
        "stranger", server.push.cert.subject, None, kind=type(server.push),
        key_kind="rsa")
    stranger.topic = server.push.topic
    assert api.put_pushcert(stranger.both_pem, "?force=1").status == 200
    _ = api.push(device.id)
    # After that many failures the pause is 16 seconds at least.
    wait_for(lambda: own_apns.accepted - len(own_apns.handshakes) >= 5, 40,
             "connections that fail")
    renewed = pki.push(server.push.topic)
    assert api.put_pushcert(renewed.both_pem).status == 200
    push = own_apns.wait_token(device.token_hex, timeout=5)
    assert push["fingerprint"] == renewed.fingerprint
    close(device, api)


def test_two_servers_share_one_state_directory(pki, build_dir, own_apns,
                                               log):
    """Apache and nginx on one store: whoever leads sends the pushes of
    both, with the certificate that either of them was given."""
    log.expect("MDM0407", "MDM0504")
    topic = new_topic()
    old, new = pki.push(topic, days=(-9, 300)), pki.push(topic)
    apache, nginx = (KINDS[k](pki, build_dir, push_settings(pki, own_apns))
                     for k in ("apache", "nginx"))
    nginx.settings.append(("http", "STATE_DIR", apache.state_dir))
    # Each names another file of the topic: the newer one is used.
    name_files(apache, new)
    name_files(nginx, old)
    closers = []
    try:
        for server in (apache, nginx):
            log.watch(server)
            server.start()
        assert "older than the stored one" in log.require("MDM0504")
        apis = [apache.api(), nginx.api()]
        devices = [enrolled(s, pki, topic) for s in (apache, nginx)]
        closers += [*apis, *devices]
        for api in apis:
            for device in devices:
                pushes_with(api, own_apns, device, new)
        assert len(own_apns.handshakes) == 1
        renewed = pki.push(topic)
        assert apis[1].put_pushcert(renewed.both_pem).status == 200
        for api in apis:
            for device in devices:
                pushes_with(api, own_apns, device, renewed)
        # Whichever led: the other one goes on.
        for server, api in ((apache, apis[1]), (nginx, apis[0])):
            close(*closers)
            server.quit()
            for device in devices:
                device.transport.port = api.transport.port
                pushes_with(api, own_apns, device, renewed)
            server.start()
            for thing in closers:
                if thing.transport.port not in (apache.port, nginx.port):
                    thing.transport.port = server.port
    finally:
        close(*closers)
        for server in (apache, nginx):
            server.quit()
        log.check()
        log.servers = []
        for server in (apache, nginx):
            server.stop()
            if not os.environ.get("MDM_TEST_KEEP"):
                server.remove()
