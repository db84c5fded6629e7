"""The manual keeps its word: the sample configurations start real servers,
the commands of README.md do what it says, and every directive and API call
that is named exists.

Of a sample only paths, ports, the host name and the users are replaced, and
the push service is the mock's."""
import glob
import grp
import os
import plistlib
import re
import subprocess

import pytest
from mdmtest import deftable
from mdmtest.apache import ApacheServer
from mdmtest.device import Device, Transport
from mdmtest.nginx import NginxServer
from mdmtest.pki import Identity
from mdmtest.scep_client import ScepClient
from mdmtest.servers import WORKER_USER, find_module

TOP = deftable.TOP
SAMPLES = os.path.join(TOP, "docs", "samples")
PAGES = sorted(glob.glob(os.path.join(TOP, "docs", "*.md"))) \
    + [os.path.join(TOP, "README.md")]
TABLE = deftable.directives()
NGINX_ONLY = {"mdm_thread_pool"}
MODULE = {"mdm_module"}     # LoadModule says so
PUSH_CERT = re.compile(r"^(\s*)#((?:mdm_push_certificate|"
                       r"MDMPushCertificateFile) )", re.M)
# What README.md tells to change before the first device enrols.
SCEP_PLACE = re.compile(r'^( *)#(?:location = /scep \{|<Location "/scep">)\n'
                        r"(?:\1#.*\n)+", re.M)
DEVICE_CA = re.compile(r"^ *(?:mdm_device_ca_certificate|"
                       r"MDMDeviceCACertificateFile) .*\n", re.M)
ENROLL_PLACE = re.compile(r'^(?:location = /enroll \{\n.*?^\}|'
                          r'<Location "/enroll">\n.*?^</Location>)\n',
                          re.M | re.S)
API_PLACE = "    # The administration API.\n"


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


def replace(text, changes):
    """Every change must find something to change."""
    for old, new in changes:
        assert old in text, f"the sample has no {old!r}"
        text = text.replace(old, new)
    return text


class SampleMixin:
    """A server whose configuration is the sample's."""

    mock = None
    push_file = None    # an identity: its certificate comes from files
    passwords = None    # devices enrol with this file, as README.md says

    def get_static(self, timeout=10):
        """The sample has no static files: any answer shows that it is up."""
        transport = Transport(self, timeout=timeout)
        try:
            return transport.request("GET", "/mdmapi/version")
        finally:
            transport.close()

    def changes(self):
        found = [("/etc/ssl/mdm/server.pem", self.pki.server.cert_file),
                 ("/etc/ssl/mdm/server.key", self.pki.server.key_file),
                 ("/etc/mdm/api-tokens", self.path("tokens")),
                 ("mdm.example.com", self.host),
                 ("/var/lib/mdm", self.state_dir),
                 ("api.push.apple.com:443", f"localhost:{self.mock.port}")]
        if self.passwords is None:
            found += [("/etc/mdm/device-ca.pem",
                       self.pki.device_ca.cert_file)]
        else:
            found += [("/etc/mdm/htpasswd", self.passwords)]
        if self.push_file is not None:
            found += [("/etc/mdm/push.pem", self.push_file.cert_file),
                      ("/etc/mdm/push.key", self.push_file.key_file)]
        return found

    def sample(self, name):
        text = read(SAMPLES, name)
        if self.push_file is not None:
            text, n = PUSH_CERT.subn(r"\1\2", text)
            assert n == 1
        return text if self.passwords is None else self.enrolling(text)

    def enrolling(self, text):
        """With the two locations, without an authority of the site's own."""
        text, n = SCEP_PLACE.subn(
            lambda m: re.sub(r"^( *)#", r"\1", m.group(), flags=re.M), text)
        assert n == 1
        text, n = DEVICE_CA.subn("", text)
        assert n == 1
        place, = ENROLL_PLACE.findall(
            read(SAMPLES, f"{self.kind}-enrollment.conf"))
        return replace(text, [(API_PLACE, place + API_PLACE)])


class NginxSample(SampleMixin, NginxServer):
    def command(self, *more):
        return super().command(*(more or ["-g", "daemon off;"]))

    def configuration(self):
        text = replace(self.sample("nginx.conf"), self.changes() + [
            ("listen 443 ", f"listen 127.0.0.1:{self.port} "),
            ("/run/nginx.pid", self.pid_file),
            ("/var/log/nginx/error.log", self.error_log),
            ("/var/log/nginx/access.log", self.path("access.log")),
            ("/usr/lib/nginx/modules/ngx_http_mdm_module.so",
             find_module(self.build_dir, "ngx_http_mdm_module.so")),
            ("user www-data;", self.user_line())])
        temps = "".join(
            f"    {n}_temp_path {self.path('tmp', n)};\n" for n in
            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        trust = self.line("PUSH_TRUSTED_CERTIFICATE",
                          [self.pki.server_ca.cert_file])
        return text.replace("http {\n", f"http {{\n{temps}    {trust}\n", 1)

    def user_line(self):
        return f"user {WORKER_USER};" if os.geteuid() == 0 else ""


class ApacheSample(SampleMixin, ApacheServer):
    def configuration(self):
        """What Debian's own files say around a site, then the sample."""
        text = replace(self.sample("apache.conf"), self.changes() + [
            ("<VirtualHost *:443>", f"<VirtualHost 127.0.0.1:{self.port}>"),
            ("/usr/lib/apache2/modules/mod_mdm.so",
             find_module(self.build_dir, "mod_mdm.so"))])
        with open(self.path("mdm.conf"), "w", encoding="utf-8") as f:
            f.write(text)
        user = f"User {WORKER_USER}\nGroup {WORKER_USER}\n" \
            if os.geteuid() == 0 else ""
        loads = "".join(
            f"LoadModule {n}_module {self.module_dir}/mod_{n}.so\n" for n in
            ("mpm_event", "authn_core", "authn_file", "authz_core",
             "authz_host", "authz_user", "auth_basic", "mime", "ssl",
             "socache_shmcb", "http2", "reqtimeout"))
        return f"""\
ServerRoot {self.directory}
PidFile {self.pid_file}
DefaultRuntimeDir {self.path("tmp")}
Mutex file:{self.path("tmp")} default
{loads}{user}ServerName {self.host}
Listen 127.0.0.1:{self.port}
ErrorLog {self.error_log}
LogLevel warn
SSLSessionCache shmcb:{self.path("tmp", "ssl_scache")}(512000)
StartServers {self.workers}
TypesConfig /dev/null
<Directory />
  Require all denied
</Directory>
Include {self.path("mdm.conf")}
{self.line("PUSH_TRUSTED_CERTIFICATE", [self.pki.server_ca.cert_file])}
"""


@pytest.fixture
def start_sample(kind, pki, build_dir, own_apns, log):
    """Starts a server with its sample; gone at the end of the test."""
    made = []

    def start(push_file=None, passwords=None):
        sample = {"nginx": NginxSample, "apache": ApacheSample}[kind]
        server = sample(pki, build_dir)
        server.mock = own_apns
        server.push_file = push_file
        server.passwords = passwords
        made.append(server)
        log.watch(server)
        if os.geteuid() == 0:
            os.rmdir(server.state_dir)  # the module makes it, as at a site
        return server.start()

    yield start
    try:
        for server in made:
            server.quit()
        log.check()
        log.servers = []
    finally:
        for server in made:
            server.stop()
            if not os.environ.get("MDM_TEST_KEEP"):
                server.remove()


@pytest.mark.parametrize("way", ["api", "file"])
def test_sample_serves(start_sample, own_apns, pki, way):
    """Enrol, queue, push, fetch, answer, read."""
    push = pki.push()
    server = start_sample(push if way == "file" else None)
    api = server.api()
    if way == "api":
        assert api.put_pushcert(push.both_pem).status == 200
    mac = Device(server, pki.device(), push.topic).enroll()
    command_uuid, body = command()
    reply = api.enqueue(mac.id, body)
    assert reply.status == 200, reply
    own_apns.wait_token(mac.token_hex)
    (uuid, sent), = mac.run_once()
    assert uuid == command_uuid
    assert api.result(command_uuid, mac.id).body == sent
    assert os.stat(server.state_dir).st_mode & 0o777 == 0o700
    assert os.stat(server.database).st_mode & 0o777 == 0o600
    mac.close()
    api.transport.close()


def test_sample_is_without_warnings(start_sample):
    status, text = start_sample().configtest()
    assert status == 0 and "MDM" not in text, text


def test_sample_limits(start_sample, log, pki):
    """What the samples promise: large bodies and long URLs pass, strangers
    get no certificate trouble, the API wants its token."""
    server = start_sample()
    log.expect("MDM0204", "MDM0205", "MDM0602")
    mac = Device(server, pki.device(), pki.push().topic).enroll()
    big = mac.report("unknown", Pad="x" * (20 << 20))
    assert big.status == 200, big
    api = server.api()
    ids = [f"{i:08X}-0000-0000-0000-000000000000" for i in range(800)]
    reply = api.enqueue(ids + [mac.id], command()[1], "?nopush=1")
    assert reply.status == 207, reply
    stranger = Device(server, pki.device(ca=pki.other_ca), mac.topic)
    assert stranger.authenticate().status == 403
    nobody = Transport(server)
    assert nobody.request("GET", "/mdmapi/v1/enrollments").status == 401
    assert nobody.request(
        "PUT", "/mdm", b"<plist/>",
        {"Content-Type": "application/x-apple-aspen-mdm"}).status == 400
    for each in (nobody, api.transport, mac, stranger):
        each.close()


def command():
    body = read(SAMPLES, "device-information.plist").encode()
    return plistlib.loads(body)["CommandUUID"], body


# ---- the commands of README.md ---------------------------------------------

def readme_blocks():
    """Shell blocks by the name in their first line."""
    found = {}
    for text in re.findall(r"^```sh\n# (.*?)^```$", read(TOP, "README.md"),
                           re.M | re.S):
        name, _, script = text.partition("\n")
        found[name.split(":")[0]] = script
    return found


class Shell:
    """Runs blocks in one directory; settings come first in each."""

    def __init__(self, directory, blocks):
        self.directory = directory
        self.blocks = blocks
        self.used = set()
        self.settings = ""

    def run(self, *names, changes=()):
        self.used |= set(names)
        script = "".join(self.blocks[n] for n in names)
        script = self.settings + replace(script, changes)
        done = subprocess.run(
            ["/bin/bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
            check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def shell(workdir):
    where = os.path.join(workdir, "readme-" + os.urandom(4).hex())
    os.makedirs(where)
    os.symlink(os.path.join(TOP, "docs"), os.path.join(where, "docs"))
    return Shell(where, readme_blocks())


def test_readme_commands(shell, start_sample, own_apns, pki):
    """Types the commands of "The first device", in order."""
    inside = lambda name: os.path.join(shell.directory, name)  # noqa: E731
    shell.run("tokens", changes=[("/etc/mdm", inside("etc"))])
    assert os.stat(inside("etc/api-tokens")).st_mode & 0o777 == 0o600
    server = start_sample(passwords=inside("etc/htpasswd"))
    shell.settings = replace(shell.blocks["settings"], [
        ("https://mdm.example.com", server.url),
        ("/etc/mdm/api-tokens", server.path("tokens")),
        ("/etc/ssl/certs/ca-certificates.crt", server.ca_file)])
    shell.used.add("settings")
    push = pki.push()
    out = shell.run("push certificate", changes=[
        ("/etc/mdm/push.pem", push.cert_file),
        ("/etc/mdm/push.key", push.key_file)])
    assert push.topic in out
    group = grp.getgrgid(os.getegid()).gr_name if os.geteuid() \
        else WORKER_USER
    shell.run("enrolment password", "profile", changes=[
        ("/etc/mdm", inside("etc")), ("www-data", group)])
    assert os.stat(inside("etc/htpasswd")).st_mode & 0o777 == 0o640
    mac = mac_of(inside("mac1.mobileconfig"), server, push).enroll()
    out = shell.run("list")
    assert mac.id in out and '"enrolled"' in out
    given = [("75A6F6CB-434F-4314-84FB-21F19812C440", mac.id)]
    assert "push_result" in shell.run("queue", changes=given)
    own_apns.wait_token(mac.token_hex)
    (_, sent), = mac.run_once()
    shell.settings += f"id={mac.id}\n"
    out = shell.run("read")
    assert '"acknowledged"' in out and sent.decode() in out
    assert '"QueryResponses":{' in out
    mac.close()
    assert shell.used == set(shell.blocks)


def mac_of(path, server, push):
    """Installs a profile: a key, a certificate by SCEP, what to talk to."""
    with open(path, "rb") as f:
        parts = {p["PayloadType"]: p for p in plistlib.load(f)[
            "PayloadContent"]}
    mdm, scep = parts["com.apple.mdm"], parts["com.apple.security.scep"]
    assert mdm["Topic"] == push.topic
    assert mdm["ServerURL"] == server.url + "/mdm"
    assert mdm["IdentityCertificateUUID"] == scep["PayloadUUID"]
    inner = scep["PayloadContent"]
    assert inner["URL"] == server.url + "/scep"
    transport = Transport(server)
    _, key, cert = ScepClient(transport).enrol(inner["Challenge"])
    transport.close()
    return Device(server, Identity(os.path.dirname(path), "mac1", cert, key),
                  mdm["Topic"])


# ---- what the pages name ---------------------------------------------------

def test_readme_shows_the_samples():
    text = read(TOP, "README.md")
    for language, name in (("nginx", "nginx.conf"),
                           ("apache", "apache.conf")):
        block, = re.findall(rf"^```{language}\n(.*?)^```$", text,
                            re.M | re.S)
        assert block == read(SAMPLES, name), name


def identifiers():
    """Names of our C code: files, functions, types, library objects."""
    words = set()
    for folder in ("common", "mod_mdm", "ngx_mdm"):
        for path in glob.glob(os.path.join(TOP, folder, "*.[ch]")) \
                + glob.glob(os.path.join(TOP, folder, "*.def")):
            words.add(os.path.basename(path).rsplit(".", 1)[0])
            words |= set(re.findall(r"\bmdm_\w+", read(path)))
    return words


def metrics():
    """Names of the Prometheus text."""
    return set(re.findall(r"\bmdm_[a-z_]+\b", read(os.path.join(
        TOP, "common", "mdm_status_text.c"))))


def test_every_directive_named_exists():
    apache = {row.apache for row in TABLE.values()}
    nginx = {row.nginx for row in TABLE.values()} | NGINX_ONLY
    wrong = []
    seen = set()
    code = identifiers()
    for path in PAGES + glob.glob(os.path.join(SAMPLES, "*")):
        text = read(path)
        words = set(re.findall(r"\bMDM[A-Z][A-Za-z]+\b", text))
        seen |= words & apache
        wrong += [(path, w) for w in words - apache]
        words = set(re.findall(r"(?<![\w/.])mdm_[a-z_]+\b(?![.(/])", text))
        seen |= words & nginx
        if os.path.basename(path) == "architecture.md":
            words -= code
        if os.path.basename(path) == "api.md":
            words -= metrics()
        wrong += [(path, w) for w in words - nginx - MODULE]
    assert not wrong
    assert seen == apache | nginx


def test_lines_of_the_pages_are_configuration():
    """Each configuration line in a code block uses a name of its server."""
    lines = []
    for path in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```$|((?:^    .*\n)+)",
                                read(path), re.M | re.S):
            lines += "".join(block).splitlines()
    names = [re.match(r"\s*(mdm_\w+)\s.*?(;?)\s*(?:\(nginx\))?$", x)
             for x in lines]
    found = [m for m in names if m]
    assert found
    for match in found:
        assert match.group(1) in {r.nginx for r in TABLE.values()} \
            | NGINX_ONLY, match.group(0)
        assert match.group(2) == ";", match.group(0)


def test_every_call_is_in_the_manual():
    source = read(TOP, "common", "mdm_api.c")
    routes = set(re.findall(r'^ *\{"(v1/[^"]+)", ([A-Z |]+),', source, re.M))
    assert len(routes) >= 8
    heads = re.findall(r"^## (.*)$", read(TOP, "docs", "api.md"), re.M)
    for path, methods in routes:
        shape = re.compile(re.escape("/" + path).replace(r"\*",
                                                         r"[\w,\[\]….]+")
                           + r"(?![\w/])")
        mine = [h for h in heads if shape.search(h)]
        assert mine, path
        for method in methods.split(" | "):
            assert any(method in h for h in mine), (path, method)


def test_links_of_the_pages_lead_somewhere():
    number = 0
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(path)):
            number += 1
            where = os.path.join(os.path.dirname(path), target)
            assert os.path.exists(where), (path, target)
    assert number > 5
