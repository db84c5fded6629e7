"""mdmctl, the real program, against both servers."""
import fcntl
import hashlib
import json
import os
import pty
import re
import struct
import subprocess
import termios
import uuid

import pytest
from helpers import command_plist
from mdmtest.wait import wait_for

UUID_RE = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class Ctl:
    """Runs the program with a token file, away from the user's settings."""

    def __init__(self, build_dir, server, home, token=None):
        self.program = os.path.join(build_dir, "tools/mdmctl/mdmctl")
        self.home = home
        self.token_file = os.path.join(home, "token")
        self.write_token(token or server.api_token)
        self.options = ["--url", server.url + "/mdmapi", "--ca",
                        server.ca_file, "--token-file", self.token_file]

    def write_token(self, token, mode=0o600):
        with open(self.token_file, "w", encoding="ascii",
                  opener=lambda p, f: os.open(p, f, mode)) as f:
            f.write(token + "\n")
        os.chmod(self.token_file, mode)

    def env(self, **more):
        return {"PATH": os.environ["PATH"], "HOME": self.home,
                "LD_PRELOAD": os.environ.get("MDM_TEST_PRELOAD", ""),
                "ASAN_OPTIONS": "detect_leaks=0", "LC_ALL": "C.UTF-8",
                **more}

    def run(self, *words, status=0, stdin="", options=None, **env):
        done = subprocess.run(
            [self.program, *(self.options if options is None else options),
             *words], input=stdin, capture_output=True, text=True,
            timeout=60, check=False, env=self.env(**env))
        assert status in (None, done.returncode), (
            done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *words, status=0):
        return json.loads(self.run("--json", *words, status=status).stdout)

    def on_terminal(self, *words, columns=80):
        """What it prints on a terminal that is so wide."""
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ,
                    struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [self.program, *self.options, *words], stdin=child, stdout=child,
            stderr=child, env=self.env(), close_fds=True)
        os.close(child)
        text = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        os.close(parent)
        assert process.wait(30) == 0, text
        return text.decode()


@pytest.fixture
def ctl(build_dir, server, tmp_path):
    return Ctl(build_dir, server, str(tmp_path))


def write_command(tmp_path, request_type="DeviceInformation"):
    command_uuid, body = command_plist(request_type)
    path = tmp_path / f"{command_uuid}.plist"
    path.write_bytes(body)
    return command_uuid, str(path)


# -- the job ------------------------------------------------------------------

def test_a_command_from_queue_to_result(ctl, enroll, tmp_path):
    device = enroll()
    command_uuid, path = write_command(tmp_path)
    out = ctl.run("enqueue", device.id, path).stdout
    assert re.search(rf"{device.id} +push {UUID_RE}", out)
    assert command_uuid in ctl.run("queue", device.id).stdout
    assert " queued " in ctl.run("results", command_uuid).stdout
    device.idle()
    device.report(command_uuid, QueryResponses={"DeviceName": "X"})
    assert "acknowledged" in ctl.run("results", command_uuid).stdout
    shown = ctl.run("results", command_uuid, device.id).stdout
    assert re.search(r"QueryResponses\.DeviceName +X\n", shown)
    assert ctl.json("results", command_uuid, device.id)["Status"] == \
        "Acknowledged"
    xml = ctl.run("results", command_uuid, device.id, "--xml").stdout
    assert xml.startswith("<?xml")


def test_options_of_a_command_reach_the_server(ctl, api, enroll, tmp_path):
    device = enroll()
    command_uuid, path = write_command(tmp_path)
    ctl.run("enqueue", "--no-push", "--priority", "8", "--not-before", "1h",
            "--expires", "2h", device.id, path)
    row = api.queue(device.id).json["commands"][0]
    assert row["priority"] == 8 and row["not_before"] and row["expires"]
    assert ctl.json("queue", device.id, "cancel", command_uuid)
    assert ctl.json("queue", device.id, "--state", "active")["commands"] == []


def test_some_targets_fail(ctl, enroll, tmp_path):
    device = enroll()
    _, path = write_command(tmp_path)
    done = ctl.run("enqueue", device.id, "nobody", path, status=1)
    assert re.search(r"^nobody +no such enrolment$", done.stdout, re.M)
    assert re.search(rf"^{device.id} +push ", done.stdout, re.M)
    assert ctl.run("push", "nobody", status=1)


def test_a_long_list_goes_out_in_several_calls(ctl, enroll):
    devices = [enroll() for _ in range(3)]
    ids = [d.id for d in devices] + [str(uuid.uuid4()) for _ in range(400)]
    done = ctl.run("push", "-", stdin="\n".join(ids) + "\n", status=1)
    assert done.stdout.endswith("3 of 403 done, 400 failed\n")
    status = json.loads(ctl.run("--json", "push", "-", stdin="\n".join(ids),
                                status=1).stdout)["status"]
    assert set(status) == set(ids)
    assert all("push_result" in status[d.id] for d in devices)


def test_a_command_is_not_cut_into_several(ctl, tmp_path):
    _, path = write_command(tmp_path)
    ids = [str(uuid.uuid4()) for _ in range(1000)]
    done = ctl.run("enqueue", *ids, path, status=1)
    assert "fit into one call" in done.stderr


def test_enrolments_page_by_page(ctl, enroll):
    marked = [enroll() for _ in range(3)]
    rows = ctl.json("enrollments", "--limit", "2")
    assert len(rows) == 2
    all_ids = [r["id"] for r in ctl.json("enrollments")]
    assert len(set(all_ids)) == len(all_ids)
    assert {d.id for d in marked} <= set(all_ids)
    one = ctl.json("enrollments", "--query", marked[0].id)
    assert [r["id"] for r in one] == [marked[0].id]
    assert marked[1].id in ctl.run("enrollments", marked[1].id).stdout
    assert "no such enrolment" in ctl.run("enrollments", "nobody",
                                          status=1).stderr


def test_block_and_unblock(ctl, api, enroll):
    device = enroll()
    ctl.run("block", device.id)
    assert api.enrollment(device.id).json["blocked"] is True
    done = ctl.run("unblock", device.id, "nobody", status=1)
    assert "nobody: no such enrolment" in done.stderr
    assert api.enrollment(device.id).json["blocked"] is False


def test_push_certificate(ctl, server, tmp_path):
    topic = server.push.topic
    assert ctl.json("pushcert", "show", topic)["topic"] == topic
    path = tmp_path / "both.pem"
    path.write_bytes(server.push.both_pem)
    assert ctl.json("pushcert", "import", str(path))["topic"] == topic
    assert ctl.json("pushcert", "resume", topic)["resumed"] is False
    path.write_text("nothing")
    assert ctl.run("pushcert", "import", str(path), status=1).stderr


def test_any_call(ctl):
    assert json.loads(ctl.run("call", "GET", "/v1/status").stdout)["version"]
    assert ctl.run("call", "GET", "/v1/nothing", status=1).stderr == \
        "mdmctl: no such call\n"


# -- what is printed ----------------------------------------------------------

def test_names_of_devices_cannot_steer_the_terminal(ctl, enroll):
    device = enroll()       # XML has no ESC, but it has other ways
    device.name = "\x9b31mMac\nSecond\u202e line"
    device.enroll()
    for out in (ctl.run("enrollments", "--query", device.id).stdout,
                ctl.run("enrollments", device.id).stdout):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out), out
        assert "Mac" in out
    table = ctl.run("enrollments", "--query", device.id).stdout
    assert len(table.splitlines()) == 2


def test_a_table_fits_the_terminal(ctl, enroll):
    device = enroll()
    device.name = "A name of a device that is long " * 4
    device.enroll()
    for columns in (60, 100):
        out = ctl.on_terminal("enrollments", "--query", device.id,
                              columns=columns)
        lines = out.replace("\r\n", "\n").splitlines()
        assert len(lines) == 2 and max(map(len, lines)) <= columns
        assert "\u2026" in lines[1]
    # Into a pipe, nothing is cut.
    assert device.id in ctl.run("enrollments", "--query", device.id).stdout


# -- settings -----------------------------------------------------------------

def test_settings_file_and_environment(ctl, server, tmp_path):
    wrong = {"options": [], "status": 1}
    assert "where is the server?" in ctl.run("version", **wrong).stderr
    assert "no token" in ctl.run("version", MDMCTL_URL=server.url,
                                 **wrong).stderr
    assert ctl.run("version", options=[], MDMCTL_URL=server.url + "/mdmapi/",
                   MDMCTL_TOKEN=server.api_token, MDMCTL_CA=server.ca_file)
    config = tmp_path / ".config"
    config.mkdir()
    path = config / "mdmctl"
    path.write_text(f"# mine\nurl = {server.url}/mdmapi\n\n"
                    f"token_file={ctl.token_file}\nca = {server.ca_file}\n")
    assert ctl.run("status", options=[])
    path.write_text(f"url = {server.url}\ncolour = red\n")
    assert '"colour" is not a setting' in ctl.run("status", **wrong).stderr


def test_a_token_that_others_can_read(ctl, server, log):
    log.expect("MDM0602")
    ctl.write_token(server.api_token, 0o644)
    assert "chmod 600" in ctl.run("status", status=1).stderr
    ctl.write_token("wrong")
    assert ctl.run("status", status=1).stderr.startswith("mdmctl: ")
    ctl.write_token("name:" + server.api_token)
    assert ctl.run("status")


@pytest.mark.parametrize("url", ["http://mdm.example.com/api",
                                 "http://127.0.0.1.example.com/",
                                 "http://localhost.example/", "ftp://x/",
                                 "file:///etc/passwd", "mdm.example.com"])
def test_a_token_does_not_travel_in_clear(ctl, url):
    done = ctl.run("--url", url, "--token-file", ctl.token_file, "version",
                   options=[], status=1)
    assert "https://" in done.stderr


def test_a_server_of_somebody_else(ctl, server, pki):
    done = ctl.run("--url", server.url + "/mdmapi", "--token-file",
                   ctl.token_file, "--ca", pki.device_ca.cert_file, "version",
                   options=[], status=1)
    assert "certificate" in done.stderr


def test_usage(ctl):
    assert "usage:" in ctl.run("--help").stdout
    assert "usage: mdmctl queue" in ctl.run("queue", "--help").stdout
    for words in ([], ["bogus"], ["queue"], ["version", "more"],
                  ["version", "--force"], ["--nothing"]):
        assert "usage:" in ctl.run(*words, status=2).stderr


# -- without a server ---------------------------------------------------------

def test_new_token(ctl):
    done = ctl.run("token", "new", "ops", "read,command", options=[])
    name, scopes, kind, digest = done.stdout.strip().split(":")
    token = done.stderr.strip().splitlines()[-1]
    assert (name, scopes, kind) == ("ops", "read,command", "sha256")
    assert hashlib.sha256(token.encode()).hexdigest() == digest
    both = json.loads(ctl.run("--json", "token", "new", "x",
                              options=[]).stdout)
    assert both["line"] == "x:read:sha256:" + hashlib.sha256(
        both["token"].encode()).hexdigest()
    for words in (["new", "a:b"], ["new", "a", "root"], ["old", "a"]):
        assert ctl.run("token", *words, options=[], status=1).stderr


def test_a_new_token_opens_the_server(ctl, server, log):
    log.expect("MDM0602", "AH01882")
    made = json.loads(ctl.run("--json", "token", "new", "ops", "read",
                              options=[]).stdout)
    with open(server.path("tokens"), "a", encoding="ascii") as f:
        f.write(made["line"] + "\n")
    server.reload()
    ctl.write_token(made["token"])
    # Workers of before the reload may still answer.
    wait_for(lambda: ctl.run("status", status=None).returncode == 0, 20,
             "the new token is taken")
    assert "scope" in ctl.run("push", "x", status=1).stderr


def test_completion(ctl):
    script = ctl.run("completion", "bash", options=[]).stdout
    asked = script + ("COMP_WORDS=(mdmctl --ca f enq); COMP_CWORD=3; _mdmctl; "
                      "echo ${COMPREPLY[@]}; COMP_WORDS=(mdmctl queue --st); "
                      "COMP_CWORD=2; _mdmctl; echo ${COMPREPLY[@]}\n")
    done = subprocess.run(["bash", "-c", asked], capture_output=True,
                          text=True, timeout=30, check=True)
    assert done.stdout == "enqueue\n--state\n"
    assert "#compdef mdmctl" in ctl.run("completion", "zsh",
                                        options=[]).stdout
    assert ctl.run("completion", "fish", options=[], status=1)
