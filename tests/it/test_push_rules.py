"""How pushes are sent: how many connections, how fast, when a topic is
suspended, what an operator sees of it, and devices that stay away."""
import os
import signal
import sqlite3
import time

import pytest
from helpers import command_plist, offered
from mdmtest.device import Device
from mdmtest.mock_apns import answer
from mdmtest.wait import wait_for

FOREIGN = answer(400, "DeviceTokenNotForTopic")


class Site:
    """A server of the test's own with its API and devices; closes them."""

    def __init__(self, server, pki):
        self.server = server
        self.pki = pki
        self.api = server.api()
        self.made = [self.api.transport]

    def device(self):
        device = Device(self.server, self.pki.device(),
                        self.server.push.topic).enroll()
        self.made.append(device)
        return device

    def users(self, device, number):
        """User channels of a Mac, each with a token of its own."""
        made = [device.user() for _ in range(number)]
        for user in made:
            assert user.token_update().status == 200
        return made

    def push(self, *channels):
        for i in range(0, len(channels), 50):   # a URL has its limits
            reply = self.api.push([c.id for c in channels[i:i + 50]])
            assert reply.status == 200, reply

    def state(self, channel):
        return self.api.enrollment(channel.id).json["push"]["state"]

    def wait_state(self, channel, *states):
        return wait_for(lambda: self.state(channel) in states, 15,
                        f"the state to be one of {states}")

    def cert(self):
        reply = self.api.get_pushcert(self.server.push.topic)
        assert reply.status == 200, reply
        return reply.json

    def sql(self, text, *values):
        base = sqlite3.connect(self.server.database, timeout=10)
        try:
            with base:
                return base.execute(text, values).fetchall()
        finally:
            base.close()

    def close(self):
        for closer in self.made:
            closer.close()


@pytest.fixture
def here(server, pki):
    """The server of the session, whose certificate has proved good."""
    one = Site(server, pki)
    yield one
    one.close()


@pytest.fixture
def site(own_server, pki):
    made = []

    def make(*settings):
        made.append(Site(own_server(list(settings)), pki))
        return made[-1]

    yield make
    for one in made:
        one.close()


# -- connections ------------------------------------------------------------


def test_burst_opens_further_connections(site, own_apns, log):
    """With one stream at a time a burst gets up to four connections, one
    after the other; what is due while they have room opens none."""
    log.expect("MDM0407")
    own_apns.max_streams = 1
    here = site()
    users = here.users(here.device(), 600)
    here.push(users[0])
    own_apns.wait_token(users[0].token_hex)
    own_apns.set_default(answer(delay=0.1))
    here.push(*users)
    wait_for(lambda: len(own_apns.handshakes) >= 2, 20,
             "a second connection")
    done = len(own_apns.requests)
    assert 5 < done < 300, done        # neither at once nor when it is over
    wait_for(lambda: len(own_apns.handshakes) >= 4, 20,
             "four connections")
    own_apns.set_default(answer())
    for user in users:
        own_apns.wait_token(user.token_hex, timeout=30)
    assert len(own_apns.handshakes) == 4
    assert {r["connection"] for r in own_apns.requests} == {1, 2, 3, 4}
    assert own_apns.most_streams == 1
    # None is given up for another: what comes later uses one that is there.
    here.push(*users[:20])
    for user in users[1:20]:
        own_apns.wait_token(user.token_hex, count=2, timeout=20)
    assert len(own_apns.handshakes) == 4


# -- suspension -------------------------------------------------------------


def test_first_answer_suspends_the_topic(site, own_apns, log):
    """Nothing was ever accepted under the certificate, so it is to blame:
    one alarm, pushes wait, and an operator lets them go out again."""
    log.expect("MDM0604")
    here = site()
    topic = here.server.push.topic
    first, second = here.device(), here.device()
    assert here.cert()["accepted_at"] is None
    own_apns.set_default(FOREIGN)
    here.push(first)
    own_apns.wait_token(first.token_hex)
    assert "DeviceTokenNotForTopic" in log.require("MDM0405")
    here.wait_state(first, "suspended")
    cert = here.cert()
    assert cert["suspended"] == "DeviceTokenNotForTopic"
    assert cert["suspended_at"] is not None
    here.push(second)
    time.sleep(2)       # nothing may come while the topic is suspended
    assert len(own_apns.requests) == 1
    assert here.state(second) == "suspended"
    assert here.server.log_text().count("MDM0405") == 1
    own_apns.set_default(answer())
    reply = here.api.resume_pushcert(topic)
    assert reply.status == 200, reply
    assert reply.json == {"topic": topic, "resumed": True}
    begin = time.monotonic()
    own_apns.wait_token(first.token_hex, count=2)
    own_apns.wait_token(second.token_hex)
    assert time.monotonic() - begin < 5
    log.require("MDM0409")
    here.wait_state(second, "idle")
    cert = here.cert()
    assert "suspended" not in cert and "suspended_at" not in cert
    assert cert["accepted_at"] is not None
    # Once more does nothing.
    reply = here.api.resume_pushcert(topic)
    assert reply.status == 200 and reply.json["resumed"] is False
    assert here.api.resume_pushcert(topic + "0").status == 404
    assert here.api.resume_pushcert("").status == 400
    assert here.api.resume_pushcert(topic, method="GET").status == 405


def test_one_device_does_not_stop_a_topic(here, apns, log):
    """A device names its tokens itself, and makes up users as it likes."""
    log.expect("MDM0406", "MDM0408")
    good, bad = here.device(), here.device()
    here.push(good)
    apns.wait_token(good.token_hex)
    wait_for(lambda: here.cert()["accepted_at"], 10, "the certificate's mark")
    channels = [bad] + here.users(bad, 14)
    for channel in channels:
        apns.script(channel.token_hex, FOREIGN)
    here.push(*channels)
    for channel in channels:
        here.wait_state(channel, "token_foreign")
    assert "suspended" not in here.cert()
    row = here.api.enrollment(bad.id).json
    assert row["enabled"] is True
    assert row["push"]["token"] == "foreign"
    assert row["push"]["last_reason"] == "DeviceTokenNotForTopic"
    assert "push_error" in here.api.push(bad.id).json["status"][bad.id]
    here.push(good)
    apns.wait_token(good.token_hex, count=2)
    assert len(apns.for_token(bad.token_hex)) == 1
    # A TokenUpdate ends it.
    bad.new_token()
    assert bad.token_update().status == 200
    here.push(bad)
    apns.wait_token(bad.token_hex)


def test_ten_devices_stop_a_topic(site, own_apns, log):
    """Ten different ones in a row: none of them is to blame, and all of
    them are pushed when the topic goes on."""
    log.expect("MDM0408", "MDM0604")
    here = site()
    good = here.device()
    here.push(good)
    own_apns.wait_token(good.token_hex)
    wait_for(lambda: here.cert()["accepted_at"], 10, "the certificate's mark")
    devices = [here.device() for _ in range(10)]
    own_apns.set_default(FOREIGN)
    here.push(*devices[:9])
    for device in devices[:9]:
        here.wait_state(device, "token_foreign")
    assert "suspended" not in here.cert()
    here.push(devices[9])
    log.require("MDM0405")
    for device in devices:
        here.wait_state(device, "suspended")
    assert here.cert()["suspended"] == "DeviceTokenNotForTopic"
    own_apns.set_default(answer())
    assert here.api.resume_pushcert(here.server.push.topic).status == 200
    for device in devices:
        own_apns.wait_token(device.token_hex, count=2)
    log.require("MDM0409")


# -- what an operator sees --------------------------------------------------


def test_given_up_is_seen(here, apns, log):
    log.expect("MDM0404", "MDM0406", "MDM0408")
    odd, good = here.device(), here.device()
    assert here.state(odd) == "idle"
    before = here.api.status().json["pushes"]["given_up"]
    apns.script(odd.token_hex, answer(413, "PayloadTooLarge"))
    here.push(odd, good)
    here.wait_state(odd, "given_up")
    here.wait_state(good, "idle")
    push = here.api.enrollment(odd.id).json["push"]
    assert push["given_up_at"] is not None and push["next_attempt"] is None
    assert (push["last_status"], push["last_reason"]) == (413,
                                                          "PayloadTooLarge")
    assert here.api.status().json["pushes"] == {"given_up": before + 1}

    def listed(state):
        reply = here.api.enrollments(f"?push={state}&limit=1000")
        assert reply.status == 200, reply
        return {odd.id, good.id} & {e["id"]
                                    for e in reply.json["enrollments"]}
    assert listed("given_up") == {odd.id}
    assert listed("idle") == {good.id}
    assert listed("token_dead") == set()
    assert here.api.enrollments("?push=lost").status == 400
    # It comes by itself.
    assert offered(odd.idle()) is None
    assert here.state(odd) == "idle"
    assert listed("given_up") == set()
    assert here.api.status().json["pushes"] == {"given_up": before}


def test_states_on_the_way(here, apns, log):
    log.expect("MDM0407")
    device = here.device()
    apns.script(device.token_hex, answer(delay=2),
                    answer(503, "ServiceUnavailable"), answer())
    here.push(device)
    here.wait_state(device, "in_flight")
    here.wait_state(device, "idle")
    here.push(device)
    here.wait_state(device, "retrying")
    apns.wait_token(device.token_hex, count=3)
    here.wait_state(device, "idle")
    # A command that waits is pushed again by itself, hours later.
    _, body = command_plist("ProfileList")
    assert here.api.enqueue(device.id, body).status == 200
    here.wait_state(device, "planned")
    assert device.check_out().status == 200
    assert here.state(device) == "no_token"


# -- speed and silence ------------------------------------------------------


def test_rate_and_silence(site, own_apns):
    """A second's worth of pushes at once, the rest at the rate.  A device
    that has not come for long is pushed without a command; not one that
    came, nor one whose token is dead."""
    here = site(("http", "PUSH_RATE", "10"), ("http", "PUSH_SILENT", "1h"))
    device = here.device()
    users = here.users(device, 40)
    here.push(*users)
    times = sorted(own_apns.wait_token(u.token_hex, timeout=20)["time"]
                   for u in users)
    assert times[9] - times[0] < 1
    assert 2 < times[-1] - times[0] < 8
    # No second of it has more than twice the rate.
    assert all(times[i + 20] - times[i] > 0.8
               for i in range(len(times) - 20))
    away, dead = here.device(), here.device()
    here.server.quit()      # so that nobody writes when they were last seen
    here.sql("UPDATE enrollment SET last_seen = ?, silent_at = 1,"
             " token_state = CASE id WHEN ? THEN 2 ELSE token_state END"
             " WHERE id IN (?, ?)", int((time.time() - 7200) * 1e6),
             dead.id, away.id, dead.id)
    here.server.start()
    own_apns.wait_token(away.token_hex, timeout=20)
    (at,), = here.sql("SELECT silent_at FROM enrollment WHERE id = ?",
                      away.id)
    assert 3500 < at / 1e6 - time.time() < 3600 * 1.25
    assert not own_apns.for_token(device.token_hex)
    assert not own_apns.for_token(dead.token_hex)
    # An hour later again.
    here.sql("UPDATE enrollment SET silent_at = 1 WHERE id = ?", away.id)
    own_apns.wait_token(away.token_hex, count=2, timeout=20)


# -- leaders ----------------------------------------------------------------


def test_leader_killed_with_pushes_in_flight(site, own_apns, log):
    """The process that sends is killed while answers are outstanding:
    another one takes over within the lease time and repeats them."""
    log.expect(r"exited on signal 9", r"exit signal Killed \(9\)",
               "MDM0402", "MDM0407", "AH00051", "AH00052",
               "recovered|MDM0103")
    here = site()
    device = here.device()
    users = here.users(device, 5)
    for user in users:
        own_apns.script(user.token_hex, answer(action="drop"))
    here.push(*users)
    for user in users:
        own_apns.wait_token(user.token_hex)
    (holder,), = here.sql("SELECT holder FROM lease WHERE name = 'push'")
    pid = int(holder.split()[-2])
    assert pid in here.server.worker_pids()
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    for user in users:
        again = own_apns.wait_token(user.token_hex, count=2, timeout=5 + 5)
        assert again["time"] - killed < 5 + 3       # the lease time is 5 s
        assert again["headers"]["apns-id"] == own_apns.for_token(
            user.token_hex)[0]["headers"]["apns-id"]
    for user in users:
        here.wait_state(user, "idle")
