"""Periodic work of a running server: old results go, with and without
pushes."""
import sqlite3
import time

import pytest
from helpers import command_plist, offered, queue_commands, table_rows
from mdmtest.device import Device
from mdmtest.wait import wait_for


def age(server, seconds):
    """Makes everything that is in the database older."""
    base = sqlite3.connect(server.database, timeout=10)
    with base:
        for table, column in (("command", "created_at"),
                              ("queue", "queued_at"),
                              ("queue", "finished_at")):
            base.execute(f"UPDATE {table} SET {column} = {column} - ?"
                         f" WHERE {column} > 0", (int(seconds * 1e6),))
    base.close()


@pytest.mark.parametrize("push", ["on", "off"])
def test_retention(push, own_server, pki):
    server = own_server([("http", "RESULT_RETENTION", "1h"),
                         ("http", "PUSH", push)])
    api = server.api()
    device = Device(server, pki.device(), server.push.topic).enroll()
    done, waits = queue_commands(api, device, 2)
    assert offered(device.idle()) == done
    assert offered(device.report(done)) == waits
    server.quit()
    age(server, 3700)
    before = table_rows(server)
    server.start()
    for closer in (device, api.transport):
        closer.close()
    device.transport.port = server.port
    api = server.api()
    wait_for(lambda: table_rows(server)["command"] == 1, 20,
             "the old command to go")
    after = table_rows(server)
    assert after["queue"] == 1
    changes = ("queue", "command", "lease", "notice")   # the last: a start
    assert {t: n for t, n in after.items() if t not in changes} == {
        t: n for t, n in before.items() if t not in changes}
    # It is forgotten: no state, no result, and a late report is ignored.
    assert api.command(done).status == 404
    assert api.result(done, device.id).status == 404
    assert offered(device.report(done)) == waits
    _, body = command_plist("ProfileList", command_uuid=done)
    assert api.enqueue(device.id, body, "?nopush=1").status == 200
    assert offered(device.report(waits)) == done
    for closer in (device, api.transport):
        closer.close()


def test_kept_for_ever(own_server, pki):
    server = own_server([("http", "RESULT_RETENTION", "off")])
    api = server.api()
    device = Device(server, pki.device(), server.push.topic).enroll()
    done, over = queue_commands(api, device, 2)
    assert offered(device.idle()) == done
    assert offered(device.report(done)) == over
    age(server, 500 * 86400)
    # The chores have been at work: another one of theirs is done.
    base = sqlite3.connect(server.database, timeout=10)
    with base:
        base.execute("UPDATE queue SET expires = ? WHERE state < 3",
                     (int(time.time() * 1e6),))
    base.close()
    wait_for(lambda: api.command(over).json["status"][device.id]["state"]
             == "expired", 20, "the other command to expire")
    assert api.command(done).status == 200
    for closer in (device, api.transport):
        closer.close()
