"""Sequences of the command queue that have gone wrong in other servers: what
is put off or not answered, unknown and repeated reports, clearing, priority.
The numbers are those of the failures that tests/cases names."""
import plistlib
import uuid

import pytest
from helpers import (command_plist, next_push, offered, push_now,
                     queue_commands, state_of)
from mdmtest.device import Device
from mdmtest.wait import wait_for

MINUTE = 60
HOUR = 3600


def assert_between(value, low, high):
    assert value is not None and low - 10 <= value <= high + 1, value


def queue_and_push(api, device, query="", **keys):
    command_uuid, body = command_plist("ProfileList", **keys)
    reply = api.enqueue(device.id, body, query)
    assert reply.status == 200, reply
    return command_uuid


def wait_answered(api, device):
    """Until APNs' answer to the last push is in the store."""
    wait_for(lambda: api.enrollment(device.id).json["push"]["last_status"]
             == 200, 10, "the push to be recorded")


# -- C31: NotNow or offline never retried ------------------------------------

def test_c31_put_off_is_pushed_again_slowly(own_server, own_apns, pki):
    server = own_server()
    api = server.api()
    device = Device(server, pki.device(), server.push.topic).enroll()
    other = Device(server, pki.device(), server.push.topic).enroll()
    a = queue_and_push(api, device)
    own_apns.wait_token(device.token_hex)
    pushes = 1
    for minutes in (15, 30, 60):
        assert offered(device.idle()) == a
        assert offered(device.not_now(a)) is None
        wait_answered(api, device)
        assert_between(next_push(api, device), minutes * MINUTE,
                       minutes * MINUTE * 1.25)
        # Not at once: a push to another device is sent and this one is not.
        assert api.push(other.id).status == 200
        own_apns.wait_token(other.token_hex, count=pushes)
        assert len(own_apns.for_token(device.token_hex)) == pushes
        if minutes == 30:       # it is known after a restart as well
            device.close()
            other.close()
            api.transport.close()
            server.restart()
            for channel in (device, other):
                channel.transport.port = server.port
            api = server.api()
            assert_between(next_push(api, device), 30 * MINUTE,
                           30 * MINUTE * 1.25)
        # But not never.
        push_now(server, device)
        pushes += 1
        own_apns.wait_token(device.token_hex, count=pushes)
    assert offered(device.idle()) == a
    assert offered(device.report(a)) is None
    assert next_push(api, device) is None
    for closer in (device, other, api.transport):
        closer.close()


def test_c31_silent_device_is_pushed_again(server, api, apns, enroll):
    device = enroll()
    queue_and_push(api, device)
    apns.wait_token(device.token_hex)
    wait_answered(api, device)
    assert_between(next_push(api, device), 4 * HOUR, 5 * HOUR)
    for count in (2, 3):
        push_now(server, device)
        request = apns.wait_token(device.token_hex, count=count)
        assert int(request["headers"]["apns-expiration"]) > 0
        wait_for(lambda: (next_push(api, device) or 0) > 3 * HOUR, 10,
                 "the next repetition to be planned")
    assert device.check_out().status == 200
    assert next_push(api, device) is None


def test_c31_new_life_ends_it(api, apns, enroll):
    device = enroll()
    a = queue_and_push(api, device)
    apns.wait_token(device.token_hex)
    assert offered(device.idle()) == a
    assert offered(device.not_now(a)) is None
    assert next_push(api, device) > 0
    assert device.authenticate().status == 200
    assert next_push(api, device) is None
    assert device.token_update().status == 200
    assert offered(device.idle()) is None
    assert next_push(api, device) is None


@pytest.mark.parametrize("how", ["not_now", "silent"])
def test_c31_off(how, own_server, own_apns, pki):
    server = own_server([("http", "PUSH_REPEAT", "off")])
    api = server.api()
    device = Device(server, pki.device(), server.push.topic).enroll()
    a = queue_and_push(api, device)
    own_apns.wait_token(device.token_hex)
    wait_answered(api, device)
    if how == "not_now":
        assert offered(device.idle()) == a
        assert offered(device.not_now(a)) is None
    assert next_push(api, device) is None
    device.close()
    api.transport.close()


# -- C32: result for an unknown CommandUUID; clear, then NotNow --------------

def test_c32_unknown_report_leaves_the_queue(api, enroll):
    device = enroll()
    (a,) = queue_commands(api, device, 1)
    for odd in (str(uuid.uuid4()), "nil", a.upper() + "x", "é" * 40):
        assert offered(device.report(odd)) == a
    assert offered(device.not_now(str(uuid.uuid4()))) == a
    assert state_of(api, a, device.id) == "sent"


def test_c32_cleared_command_does_not_come_back(api, apns, enroll):
    device = enroll()
    a = queue_and_push(api, device)
    apns.wait_token(device.token_hex)
    assert offered(device.idle()) == a
    assert next_push(api, device) > 0
    reply = api.clear_queue(device.id)
    assert (reply.status, reply.json) == (200, {"cancelled": 1})
    assert next_push(api, device) is None
    assert offered(device.not_now(a)) is None
    assert state_of(api, a, device.id) == "cancelled"
    assert offered(device.idle()) is None
    assert next_push(api, device) is None
    # A late result is kept as on any cancelled command.
    assert offered(device.report(a)) is None
    assert state_of(api, a, device.id) == "acknowledged"
    assert api.result(a, device.id).body == device.last_report


# -- C33: the same status twice; the same UUID queued twice ------------------

def test_c33_same_report_twice(api, enroll):
    device = enroll()
    (a,) = queue_commands(api, device, 1)
    assert offered(device.idle()) == a
    assert offered(device.report(a)) is None
    first = device.last_report
    assert offered(device.report(a)) is None
    assert offered(device.report(a, "Error", ErrorChain=[{
        "ErrorCode": 12021, "ErrorDomain": "MCMDMErrorDomain"}])) is None
    assert state_of(api, a, device.id) == "acknowledged"
    assert api.result(a, device.id).body == first
    _, body = command_plist("ProfileList", command_uuid=a)
    reply = api.enqueue(device.id, body, "?nopush=1")
    assert reply.status == 409, reply
    assert reply.json["command_error"] and reply.json["error"]
    assert offered(device.idle()) is None


def test_c33_each_target_for_itself(api, enroll):
    one, two = enroll(), enroll()
    bad = str(uuid.uuid4()).upper()
    b, body = command_plist("ProfileList")
    reply = api.enqueue([one.id, one.id, bad, two.id], body, "?nopush=1")
    assert reply.status == 207, reply
    assert set(reply.json["status"]) == {one.id, two.id, bad}
    assert reply.json["status"][one.id] == {}
    assert reply.json["status"][two.id] == {}
    assert "no such enrolment" in reply.json["status"][bad]["command_error"]
    for device in (one, two):
        assert offered(device.idle()) == b
        assert offered(device.report(b)) is None
        assert offered(device.idle()) is None
        rows = api.queue(device.id).json["commands"]
        assert [r["command_uuid"] for r in rows] == [b]


# -- C35: an unanswered command shuts a device out ---------------------------

@pytest.mark.parametrize("answer", ["none", "NotNow", "Error"])
def test_c35_unanswered_is_offered_again(answer, server, api, apns, enroll):
    """Nothing but a final report ends a command, and there is always a time
    at which the device is woken for it; after an error the operator queues
    the next try, which nothing hinders."""
    device = enroll()
    renewal = queue_and_push(api, device)
    apns.wait_token(device.token_hex)
    assert offered(device.idle()) == renewal
    if answer == "NotNow":
        assert offered(device.not_now(renewal)) is None
        assert_between(next_push(api, device), 15 * MINUTE, 19 * MINUTE)
    elif answer == "Error":
        assert offered(device.report(renewal, "Error")) is None
        assert next_push(api, device) is None
        renewal = queue_and_push(api, device)
    else:
        assert_between(next_push(api, device), 4 * HOUR, 5 * HOUR)
    if answer != "Error":
        push_now(server, device)
    apns.wait_token(device.token_hex, count=2)
    assert offered(device.idle()) == renewal
    assert offered(device.report(renewal)) is None
    assert state_of(api, renewal, device.id) == "acknowledged"
    assert next_push(api, device) is None


def test_c35_lock_overtakes_refreshes(api, enroll):
    device = enroll()
    refreshes = queue_commands(api, device, 300, "DeviceInformation")
    lock, body = command_plist("DeviceLock")
    assert api.enqueue(device.id, body,
                       "?nopush=1&priority=9").status == 200
    assert offered(device.idle()) == lock
    assert offered(device.report(lock)) == refreshes[0]
    assert api.enrollment(device.id).json["commands"] == {
        "queued": 299, "sent": 1, "not_now": 0}
    # What nobody needs any more goes at once.
    assert api.clear_queue(device.id).json == {"cancelled": 300}
    assert offered(device.report(refreshes[0])) is None


# -- the queue's own rules ---------------------------------------------------

def test_two_put_off_never_alternate(api, enroll):
    device = enroll()
    one, two = queue_commands(api, device, 2)
    assert offered(device.idle()) == one
    assert offered(device.not_now(one)) == two
    assert offered(device.not_now(two)) is None
    for _ in range(3):
        assert offered(device.idle()) == one
        assert offered(device.not_now(one)) is None
    rows = {r["command_uuid"]: r for r in
            api.queue(device.id, "?state=not_now").json["commands"]}
    assert rows[one]["not_now_count"] == 4
    assert rows[two]["not_now_count"] == 1


def test_put_off_comes_in_queue_order_again(api, enroll):
    device = enroll()
    a, b, c = queue_commands(api, device, 3)
    assert offered(device.idle()) == a
    assert offered(device.not_now(a)) == b
    assert offered(device.report(b)) == a       # before the younger one
    assert offered(device.not_now(a)) == c
    assert offered(device.report(c)) == a
    assert offered(device.report(a)) is None


def test_lost_answer_and_lost_report(api, enroll):
    """The device comes with Idle instead of a report: the same again."""
    device = enroll()
    a, b = queue_commands(api, device, 2)
    for _ in range(3):
        assert offered(device.idle()) == a
    assert offered(device.report(a)) == b
    assert api.command(a).json["status"][device.id]["sent_count"] == 3


def test_channels_have_queues_of_their_own(api, enroll):
    device = enroll()
    user = device.user()
    assert user.token_update().status == 200
    (d,) = queue_commands(api, device, 1)
    (u,) = queue_commands(api, user, 1)
    assert offered(user.idle()) == u
    assert offered(device.report(u)) == d       # not the device's: ignored
    assert offered(user.not_now(u)) is None
    assert_between(next_push(api, user), 15 * MINUTE, 19 * MINUTE)
    assert api.clear_queue(user.id).json == {"cancelled": 1}
    assert next_push(api, user) is None
    assert offered(device.idle()) == d
    assert offered(device.report(d)) is None


# -- as NanoMDM's own tests do it --------------------------------------------

def nano_command(api, device, request_type):
    command_uuid, body = command_plist(request_type)
    reply = api.enqueue(device.id, body, "?nopush=1", method="POST")
    assert reply.status == 200, reply
    assert reply.json["command_uuid"] == command_uuid
    assert reply.json["request_type"] == request_type
    assert reply.json["no_push"] is True
    return command_uuid, request_type


def assert_offered(reply, command):
    assert reply.status == 200, reply
    if command is None:
        assert reply.body == b""
        return
    sent = plistlib.loads(reply.body)
    assert (sent["CommandUUID"], sent["Command"]["RequestType"]) == command


def test_nanomdm_queue(api, enroll):
    device = enroll()
    assert_offered(device.idle(), None)
    one = nano_command(api, device, "CMD1")
    two = nano_command(api, device, "CMD2")
    assert_offered(device.idle(), one)
    assert_offered(device.report(one[0]), two)
    assert_offered(device.report(two[0]), None)
    assert_offered(device.idle(), None)
    three = nano_command(api, device, "CMD3")
    assert_offered(device.idle(), three)
    assert_offered(device.not_now(three[0]), None)
    assert_offered(device.idle(), three)
    assert_offered(device.report(three[0]), None)
    assert_offered(device.idle(), None)
    nano_command(api, device, "CMD4")
    assert device.authenticate().status == 200
    assert device.token_update().status == 200
    assert_offered(device.idle(), None)
