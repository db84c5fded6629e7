"""The program mdmcerts: import, beside a server that runs and without one."""
import os
import pwd
import re
import shutil
import sqlite3
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mdmcerts_rig import ENV, PUSH, VENDOR, program, run, terminal, world
from mdmtest.deftable import TOP
from mdmtest.pki import key_pem
from mdmtest.servers import WORKER_USER
from mdmtest.terminal import Terminal
from mdmtest.wait import wait_for
from test_pushcert import close, enrolled, pushes_with

_ = (program, run, terminal, world)      # fixtures


@pytest.fixture
def import_to(run):
    def call(server, identity, *more, key=True):
        return run("import", "--store", f"sqlite:{server.database}",
                   "--cert", identity.cert_file,
                   *(["--key", identity.key_file] if key else []), *more)
    return call


def owners(where):
    """Names of those whose files are in a directory."""
    return {pwd.getpwuid(os.stat(os.path.join(where, n)).st_uid).pw_name
            for n in [".", *os.listdir(where)]}


def server_user():
    return WORKER_USER if os.geteuid() == 0 \
        else pwd.getpwuid(os.geteuid()).pw_name


def stored(server, topic):
    """(certificate, sealed key, fingerprint) from the database itself."""
    base = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True,
                           timeout=10)
    try:
        return base.execute("SELECT cert, key_s, fingerprint FROM pushcert "
                            "WHERE topic = ?", (topic,)).fetchone()
    finally:
        base.close()


def test_running_server_takes_it_at_once(own_server, own_apns, pki,
                                         import_to, log):
    """The first certificate: a push that waits goes out by itself.  Then a
    renewal with a new key: the next push is sent with it."""
    log.expect("MDM0205")
    server = own_server(push=False)
    first = pki.push()
    device, api = enrolled(server, pki, first.topic), server.api()
    assert api.push(device.id).status == 200
    status, out, err = import_to(server, first)
    assert status == 0, err
    assert first.topic in out and "stored" in out
    push = own_apns.wait_token(device.token_hex, timeout=5)
    assert push["fingerprint"] == first.fingerprint
    renewed = pki.push(first.topic)
    assert import_to(server, renewed)[0] == 0
    pushes_with(api, own_apns, device, renewed)
    assert owners(server.state_dir) == {server_user()}
    cert, key, _fingerprint = stored(server, first.topic)
    assert "CERTIFICATE" in cert and b"PRIVATE KEY" not in key
    status, out, _ = import_to(server, renewed)
    assert status == 0 and "in use already" in out
    close(device, api)


def test_beside_a_server_that_is_down(own_server, own_apns, pki, import_to):
    """The database's files are those of the server's user afterwards, so
    that it comes up and can write."""
    server = own_server()
    device, api = enrolled(server, pki, server.push.topic), server.api()
    close(device, api)
    server.quit()
    renewed = pki.push(server.push.topic)
    assert import_to(server, renewed)[0] == 0
    assert owners(server.state_dir) == {server_user()}
    assert all(stat.S_IMODE(os.stat(os.path.join(server.state_dir, n))
                            .st_mode) & 0o077 == 0
               for n in os.listdir(server.state_dir))
    server.start()
    for thing in (device, api):
        thing.transport.port = server.port
    pushes_with(api, own_apns, device, renewed)
    close(device, api)


def test_another_topic(own_server, own_apns, pki, import_to):
    """Refused with the number of those it would silence."""
    server = own_server()
    devices = [enrolled(server, pki, server.push.topic) for _ in range(3)]
    api = server.api()
    stray = pki.push()
    status, _, err = import_to(server, stray)
    assert status == 1 and "--force" in err
    for word in (stray.topic, server.push.topic, "3 use another"):
        assert word in err, err
    assert api.get_pushcert(stray.topic).status == 404
    assert import_to(server, stray, "--force")[0] == 0
    wait_for(lambda: api.get_pushcert(stray.topic).status == 200, 10,
             "the forced certificate")
    pushes_with(api, own_apns, devices[0], server.push)
    close(*devices, api)


def test_older_and_expired(own_server, pki, import_to):
    server = own_server()
    topic = server.push.topic
    old = pki.push(topic, days=(-30, 100))
    status, _, err = import_to(server, old)
    assert status == 1 and "older than the stored one" in err
    assert import_to(server, old, "--force")[0] == 0
    for days, words in (((-400, -3), "expired"), ((3, 300), "not valid")):
        odd = pki.push(topic, days=days)
        status, _, err = import_to(server, odd, "--force")
        assert status == 1 and words in err, err
    assert stored(server, topic)[2] == old.fingerprint


def test_encrypted_key(own_server, pki, import_to, terminal, tmp_path):
    server = own_server(push=False)
    push = pki.push()
    push.key_file = str(tmp_path / "sealed.key")
    with open(push.key_file, "wb") as f:
        f.write(key_pem(push.key, ENV["PP"].encode()))
    status, _, err = import_to(server, push)
    assert status == 1 and "no terminal" in err
    args = ["import", "--store", f"sqlite:{server.database}", "--cert",
            push.cert_file, "--key", push.key_file]
    with terminal(*args) as t:
        t.answer(PUSH + ": ", "guess")
        assert t.wait() == 1 and "pass" in t.text, t.text
    with terminal(*args) as t:
        t.answer(PUSH + ": ", ENV["PP"])
        assert t.wait() == 0, t.text
    push = pki.push(push.topic)
    assert import_to(server, push, "--push-password", "env:PP")[0] == 0


def test_both_in_one_file(own_server, pki, run):
    server = own_server(push=False)
    push = pki.push()
    assert run("import", "--store", "sqlite:mdm.db", "--state-dir",
               server.state_dir, "--cert", push.both_file)[0] == 0
    status, _, err = run("import", "--store", f"sqlite:{server.database}",
                         "--cert", push.cert_file)
    assert status == 1 and "key" in err


FORMS = ["C55-rc2-40-keychain.p12", "C55-modern-aes256.p12", "C55-3des.p12",
         "C55-extra-certs.p12", "C56-crlf.pem", "C56-utf8-bom.pem",
         "C56-key-first.pem", "C56-one-line-base64.pem"]


def test_forms(own_server, run):
    """Files as they come; from the second on it is the same certificate."""
    server = own_server(push=False)
    for number, name in enumerate(FORMS):
        status, out, err = run(
            "import", "--store", f"sqlite:{server.database}", "--cert",
            os.path.join(TOP, "tests", "cases", "pki", name),
            "--push-password", "env:PW", env={"PW": "secret"})
        assert status == 0 and "aaaaaaaa-bbbb-4ccc-8ddd" in out, (name, err)
        assert ("in use already" in out) == (number > 0), name
    status, _, err = run(
        "import", "--store", f"sqlite:{server.database}", "--cert",
        os.path.join(TOP, "tests", "cases", "pki", "C56-two-keys.pem"))
    assert status == 1 and "private key" in err


def test_secret_key_of_its_own(own_server, own_apns, pki, import_to, workdir,
                               tmp_path):
    name = os.path.join(workdir, "secret-" + os.urandom(4).hex())
    with open(name, "w", encoding="ascii") as f:
        f.write(os.urandom(32).hex() + "\n")
    os.chmod(name, 0o600)
    server = own_server([("http", "SECRET_KEY_FILE", name)])
    device, api = enrolled(server, pki, server.push.topic), server.api()
    renewed = pki.push(server.push.topic)
    status, _, err = import_to(server, renewed)
    assert status == 1 and "--secret-key-file" in err
    assert not os.path.exists(os.path.join(server.state_dir, "secret.key"))
    wrong = tmp_path / "wrong.key"
    wrong.write_text("00" * 32 + "\n")
    os.chmod(wrong, 0o600)
    status, _, err = import_to(server, renewed, "--secret-key-file",
                               str(wrong))
    assert status == 1 and "key" in err
    assert import_to(server, renewed, "--secret-key-file", name)[0] == 0
    pushes_with(api, own_apns, device, renewed)
    close(device, api)


def test_no_store(run, pki, tmp_path):
    """Nothing is made where nothing is."""
    push = pki.push()
    status, _, err = run("import", "--store", f"sqlite:{tmp_path}/mdm.db",
                         "--cert", push.both_file)
    assert status == 1 and "no database" in err and "server" in err
    assert list(tmp_path.iterdir()) == []
    status, _, err = run("import", "--store", "sqlite:mdm.db", "--cert",
                         push.both_file)
    assert status == 2 and "absolute path" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="root changes the user")
def test_somebody_else(own_server, pki, program):
    """Another user than root and the owner is told whom it takes."""
    server = own_server(push=False)
    push = pki.push()
    os.chmod(push.both_file, 0o644)
    os.chmod(server.state_dir, 0o755)

    def as_nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    done = subprocess.run(
        [program, "import", "--store", f"sqlite:{server.database}", "--cert",
         push.both_file], env=ENV, cwd="/", capture_output=True,
        preexec_fn=as_nobody, timeout=60, check=False)
    os.chmod(server.state_dir, 0o700)
    assert done.returncode == 1
    assert WORKER_USER.encode() in done.stderr and b"root" in done.stderr
    assert owners(server.state_dir) == {server_user()}


def test_damaged_store(own_server, pki, import_to, log):
    server = own_server(push=False)
    server.quit()
    with open(server.database, "r+b") as f:
        f.write(b"not a database!!" * 16)
    for name in ("mdm.db-wal", "mdm.db-shm"):
        path = os.path.join(server.state_dir, name)
        if os.path.exists(path):
            os.unlink(path)
    status, _, err = import_to(server, pki.push())
    assert status == 1 and "database" in err


# ---- README.md --------------------------------------------------------------

def readme_commands():
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as f:
        return dict(re.findall(r"^```bash\n# (.*?)\n(.*?)^```$", f.read(),
                               re.M | re.S))


def test_readme_commands(own_server, own_apns, pki, program, world, tmp_path):
    """Types "Get a push certificate", with a stand-in for Apple's root, and
    plays Apple in between."""
    server = own_server(push=False)
    where = tmp_path / "mdmcerts"
    commands = readme_commands()

    def type_in(name, *answers):
        text = commands.pop(name)
        text = re.sub(r"(?<!/)mdmcerts ", program + " ", text)
        for old, new in (("/root/mdmcerts", str(where)),
                         ("/var/lib/mdm/mdm.db", server.database),
                         ("--fetch ", f"--root {world.root_file} "),
                         ("--renew ", f"--renew --root {world.root_file} ")):
            text = text.replace(old, new)
        with Terminal(["/bin/bash", "-ec", text], env=ENV,
                      cwd=tmp_path) as t:
            for prompt, answer in answers:
                t.answer(prompt, answer)
            assert t.wait() == 0, t.text
            return t.text

    new = lambda what: [(what + ": ", "a secret"),          # noqa: E731
                        (what + " (again): ", "a secret")]
    type_in("vendor request", *new(VENDOR))
    world.equip(where)
    type_in("push request", (VENDOR + ": ", "a secret"), *new(PUSH))
    push = pki.push(key=load_pem_private_key(
        (where / "push.key").read_bytes(), b"a secret"))
    shutil.copy(push.cert_file, tmp_path / "MDM_Example_Certificate.pem")
    assert push.topic in type_in("check", (PUSH + ": ", "a secret"))
    type_in("import", (PUSH + ": ", "a secret"))
    device, api = enrolled(server, pki, push.topic), server.api()
    pushes_with(api, own_apns, device, push)
    type_in("renewal", (VENDOR + ": ", "a secret"), (PUSH + ": ", "a secret"))
    assert not commands
    close(device, api)
