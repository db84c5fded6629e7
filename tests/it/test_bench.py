"""The load generators count and judge answers rightly, and the comparisons of
tests/bench/run and run_push work; how fast anything is, is not tested here."""
import os
import shutil
import subprocess
import uuid

import pytest
from helpers import enrolled_ids, queue_commands

TOP = os.path.join(os.path.dirname(__file__), "..", "..")


@pytest.fixture(scope="session")
def programs(build_dir):
    done = subprocess.run(["make", "-s", "-C", build_dir, "bench-programs"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.path.join(build_dir, "tests", "bench")


@pytest.fixture(scope="session")
def mdmload(programs):
    program = os.path.join(programs, "mdmload")

    def call(*args):
        """(exit status, report as a dictionary, standard error)."""
        ended = subprocess.run([program, *map(str, args)], timeout=60,
                               capture_output=True, text=True, check=False)
        report = dict(x.split(": ") for x in ended.stdout.splitlines()
                      if ": " in x)
        return ended.returncode, report, ended.stderr
    return call


@pytest.fixture
def load(mdmload, server):
    """mdmload on the session's server: load(path, options...)."""
    def call(path, *args):
        return mdmload("-a", server.ca_file, "-s", "0.3", *args,
                       f"https://localhost:{server.port}{path}")
    return call


@pytest.fixture
def devices(pki, tmp_path):
    """Makes the file for --devices; ids are made up if not given."""
    def make(number, ids=()):
        path = tmp_path / "devices"
        rows = ["# certificate key id"]
        for i in range(number):
            one = pki.device()
            rows.append(f"{one.cert_file} {one.key_file} "
                        + (ids[i] if ids else ""))
        path.write_text("\n".join(rows) + "\n", encoding="ascii")
        return path
    return make


def new_ids(number):
    return [str(uuid.uuid4()).upper() for _ in range(number)]


def test_enrols_and_polls(load, server, devices):
    before = set(enrolled_ids(server))
    code, report, errors = load("/mdm", "-d", devices(3), "-e", "-T",
                                server.push.topic, "-c", 5, "-t", 2)
    assert (code, errors) == (0, "")
    assert len(set(enrolled_ids(server)) - before) == 3
    assert int(report["requests"]) > 5
    assert report["status 200"] == report["requests"]
    assert (report["unexpected"], report["faults"]) == ("0", "0")
    assert 0 < float(report["median ms"]) <= float(report["p99 ms"])


def test_enrols_by_another_url_and_then_polls(load, server, devices):
    ids = new_ids(3)
    file = devices(3, ids)
    code, report, errors = load("/server", "-d", file, "-e", "-T",
                                server.push.topic, "-u", "/checkin", "-s", 0)
    assert (code, report, errors) == (0, {}, "")
    assert set(ids) <= set(enrolled_ids(server))
    # One connection is one device after the other.
    code, report, errors = load("/server", "-d", file, "-c", 1, "-r", 2)
    assert (code, errors) == (0, "")
    assert int(report["requests"]) > 0
    assert (report["reconnects"], report["faults"]) == ("0", "0")


def test_strangers_are_counted(load, devices, log):
    log.expect("MDM0204")
    file = devices(2)
    code, report, errors = load("/mdm", "-d", file)
    assert code == 1
    assert report["status 403"] == report["unexpected"] != "0"
    assert "of status 403" in errors
    code, report, errors = load("/mdm", "-d", file, "-x", 403)
    assert (code, report["unexpected"], errors) == (0, "0", "")


def test_refused_enrolment_ends_it(load, pki, server, tmp_path, log):
    log.expect("MDM0204")
    one = pki.device(ca=pki.other_ca)
    file = tmp_path / "foreign"
    file.write_text(f"{one.cert_file} {one.key_file}\n", encoding="ascii")
    code, report, errors = load("/mdm", "-d", file, "-e", "-T",
                                server.push.topic)
    assert (code, report) == (1, {})
    assert "enrolment" in errors


def test_a_command_is_no_idle_answer(load, api, enroll, tmp_path):
    device = enroll()
    file = tmp_path / "one"
    file.write_text(f"{device.identity.cert_file} "
                    f"{device.identity.key_file} {device.id}\n",
                    encoding="ascii")
    assert load("/mdm", "-d", file)[0] == 0
    queue_commands(api, device, 1)
    code, report, errors = load("/mdm", "-d", file, "-c", 2)
    assert code == 1 and "unexpected answers" in errors
    assert report["status 200"] == report["unexpected"]
    code, report, errors = load("/mdm", "-d", file, "-b", "-c", 2)
    assert (code, report["unexpected"], errors) == (0, "0", "")


def test_get(load, mdmload, server, pki, log):
    code, report, errors = load("/static/64k.bin", "-g", "-w", "0.1")
    assert (code, report["unexpected"], errors) == (0, "0", "")
    # nginx says in its error log that there is no such file.
    log.expect(r"\(2: No such file or directory\)")
    code, report, errors = load("/static/none", "-g")
    assert code == 1 and "status 404" in errors
    # A server of another authority is not talked to.
    code, report, errors = mdmload(
        "-a", pki.push_ca.cert_file, "-g", "-s", 1,
        f"https://localhost:{server.port}/static/hello.txt")
    assert code == 1 and "certificate" in errors
    code, report, errors = mdmload(
        "-k", "-g", "-s", "0.2",
        f"https://127.0.0.1:{server.port}/static/hello.txt")
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("args", [
    [], ["http://localhost/"], ["https://localhost"], ["https:///x"],
    ["https://localhost:0/"], ["-c", "0", "-g", "https://localhost/"],
    ["-s", "-1", "-g", "https://localhost/"], ["https://localhost/mdm"],
    ["-d", "/nonexistent", "https://localhost/mdm"],
    ["-d", "/dev/null", "https://localhost/mdm"],
    ["-d", "/dev/null", "-e", "https://localhost/mdm"],
    ["-g", "-x", "99", "https://localhost/"], ["--unknown"],
    ["-g", "https://127.0.0.1:1/"]], ids=" ".join)
def test_usage(mdmload, args):
    code, report, errors = mdmload(*args)
    assert (code, report) == (2, {})
    assert errors.startswith("mdmload: ") or "unrecognized" in errors


def test_comparison(kind, build_dir):
    done = subprocess.run(
        [os.path.join(TOP, "tests", "bench", "run"), "--server", kind,
         "--seconds", "0.5", "--rounds", "1", "--connections", "4"],
        env={**os.environ, "MDM_BUILD_DIR": build_dir}, timeout=120,
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [x.split() for x in done.stdout.splitlines()
            if x.startswith(kind)]
    assert [r[1] for r in rows][::2] == ["Idle", "ratio"]
    assert all(float(r[3]) > 0 for r in rows)
    assert done.stdout.count("/mdmload -a ") == 2


def run(*command):
    return subprocess.run([*map(str, command)], timeout=60,
                          capture_output=True, text=True, check=False)


@pytest.fixture
def answerer(programs, pki):
    """(program, its port): a push service that accepts everything."""
    process = subprocess.Popen(
        [os.path.join(programs, "h2answer"), "-c", pki.server.cert_file,
         "-k", pki.server.key_file, "-m", "7", "-d", "20"],
        stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().split()[1]
    process.kill()
    process.communicate()


def test_pushes_are_counted(programs, pki, answerer, tmp_path):
    pushload = os.path.join(programs, "pushload")
    process, port = answerer
    push = pki.push(key_kind="shared")
    assert run(pushload, "fill", "-D", tmp_path, "-T", push.topic,
               "-n", 20).returncode == 0
    # One more than there are.
    done = run(pushload, "run", "-D", tmp_path, "-n", 21, "-p", port, "-a",
               pki.server_ca.cert_file, "-k", push.both_file)
    assert done.returncode == 1
    assert done.stdout.startswith("pushes: 20\n")
    assert "21 pushes, 20 were accepted" in done.stderr
    # What does not look like a push is refused, and counted.
    done = run("curl", "-s", "--http2", "--cacert", pki.server_ca.cert_file,
               "-w", "%{http_code}", f"https://localhost:{port}/3/device/0a")
    assert (done.returncode, done.stdout) == (0, "404")
    process.terminate()
    text = process.communicate(timeout=20)[0].splitlines()
    assert process.returncode == 1
    assert text[0].startswith("connection: 20 requests in ")
    assert text[0].endswith(", 0 wrong, 7 at once, with certificate")
    assert text[1].endswith(", 1 wrong, 1 at once, without certificate")
    assert text[2:5] == ["connections: 2", "requests: 21", "wrong: 1"]


@pytest.mark.parametrize("args", [
    ["h2answer"], ["h2answer", "-c", "/nonexistent", "-k", "/nonexistent"],
    ["pushload"], ["pushload", "fill"], ["pushload", "run", "-D", "/x"],
    ["pushload", "fill", "-D", "relative", "-T", "t", "-n", "1"],
    ["pushload", "fill", "-D", "/x", "-T", "t", "-n", "many"]], ids=" ".join)
def test_usage_of_the_push_programs(programs, args):
    done = run(os.path.join(programs, args[0]), *args[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith((f"{args[0]}: ", f"usage: {args[0]} "))


def test_push_comparison(kind, build_dir):
    done = subprocess.run(
        [os.path.join(TOP, "tests", "bench", "run_push"), "--server", kind,
         "--pushes", "300", "--rounds", "1", "--delay", "5", "--streams",
         "20", "--backlog", "400", "--server-pushes", "250"],
        env={**os.environ, "MDM_BUILD_DIR": build_dir}, timeout=120,
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [x.split() for x in done.stdout.splitlines()
            if x.startswith("5 ms")]
    names = [r[2] for r in rows if r[2] not in ("h2load", "ratio")]
    assert names == ["dispatcher", "400", kind]
    assert all(float(r[3]) > 0 for r in rows if r[2] != "400")
    assert ("h2load" in [r[2] for r in rows]) \
        == (shutil.which("h2load") is not None)
    assert done.stdout.count("/pushload run ") == 2
