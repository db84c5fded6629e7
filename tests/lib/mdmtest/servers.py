"""Starts and steers real web servers with the module, each in a directory of
its own.  What both have in common is here; nginx.py and apache.py write the
configuration and know the signals.

Settings are lists of (scope, id, argument, ...) where scope is "http",
"server" or a path ("/mdm"), and id is that of mdm_directives.def, so that one
list serves both servers: ("http", "PUSH_SERVER", "localhost:2197").
"""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import deftable
from .api import Api
from .device import Transport
from .wait import Timeout, wait_for

ENDPOINTS = {"/mdm": "mdm", "/checkin": "checkin", "/server": "server",
             "/mdmapi/": "api"}
WORKER_USER = "www-data"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def find_module(build_dir, name):
    """The newest name.so below the build tree."""
    found = []
    for where, _, files in os.walk(build_dir):
        if name in files and os.path.basename(where) != "_inst":
            found.append(os.path.join(where, name))
    if not found:
        raise FileNotFoundError(f"no {name} below {build_dir}: build first")
    return os.path.realpath(max(found, key=os.path.getmtime))


class StartFailed(Exception):
    """The server did not come up; the text holds its own words."""


class Server:
    """One web server.  After start(): host, port, ca_file for clients."""

    kind = ""
    module_file = ""
    reload_signal = signal.SIGHUP
    quit_signal = signal.SIGQUIT
    table = deftable.directives()

    def __init__(self, pki, build_dir, settings=(), workers=2, tokens=None,
                 endpoints=None, raw=(), directory=None, keep=False,
                 mpm="event"):
        self.pki = pki
        self.host = "localhost"
        self.port = None
        self.ca_file = pki.server_ca.cert_file
        self.build_dir = build_dir
        self.settings = list(settings)
        self.raw = list(raw)          # [(scope, line in the server's syntax)]
        self.workers = workers
        self.mpm = mpm
        self.endpoints = dict(ENDPOINTS if endpoints is None else endpoints)
        self.keep = keep
        self.directory = directory or tempfile.mkdtemp(
            prefix=f"mdm-{self.kind}-")
        os.makedirs(self.directory, exist_ok=True)
        os.chmod(self.directory, 0o755)
        self.process = None
        self.log_mark = 0
        self.api_token = "it-" + os.urandom(12).hex()
        self.make_files(tokens)

    # -- files --------------------------------------------------------------

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    @property
    def state_dir(self):
        return self.path("state")

    @property
    def database(self):
        return self.path("state", "mdm.db")

    @property
    def error_log(self):
        return self.path("error.log")

    @property
    def conf_file(self):
        return self.path(f"{self.kind}.conf")

    @property
    def pid_file(self):
        return self.path(f"{self.kind}.pid")

    def make_files(self, tokens):
        for name in ("state", "tmp", "htdocs", "htdocs/static"):
            os.makedirs(self.path(name), exist_ok=True)
        os.chmod(self.state_dir, 0o700)
        self.own(self.state_dir)
        self.own(self.path("tmp"))
        for name, size in (("hello.txt", 0), ("64k.bin", 65536)):
            with open(self.path("htdocs", "static", name), "wb") as f:
                f.write(b"hello\n" if not size else b"x" * size)
        with open(self.path("tokens"), "w", encoding="ascii") as f:
            f.write(tokens if tokens is not None
                    else f"it:{self.api_token}\n")
        os.chmod(self.path("tokens"), 0o600)

    def own(self, path):
        """Hands a path to the workers' user."""
        if os.geteuid() == 0:
            user = pwd.getpwnam(WORKER_USER)
            os.chown(path, user.pw_uid, user.pw_gid)

    def default_settings(self):
        return [
            ("http", "STATE_DIR", self.state_dir),
            ("server", "DEVICE_CA_CERTIFICATE",
             self.pki.device_ca.cert_file),
            ("/mdmapi/", "API_TOKEN_FILE", self.path("tokens")),
        ]

    def scope_lines(self, scope):
        """Our directives for one scope; a setting of the test replaces the
        default of the same scope and id, an id with None takes it away."""
        given = {(s[0], s[1]) for s in self.settings}
        lines = [self.line(s[1], s[2:]) for s in self.default_settings()
                 if s[0] == scope and (s[0], s[1]) not in given]
        lines += [self.line(s[1], s[2:]) for s in self.settings
                  if s[0] == scope and s[2] is not None]
        lines += [text for where, text in self.raw if where == scope]
        return lines

    def line(self, directive, args):
        raise NotImplementedError

    def configuration(self):
        raise NotImplementedError

    def write_configuration(self):
        with open(self.conf_file, "w", encoding="utf-8") as f:
            f.write(self.configuration())

    # -- life ---------------------------------------------------------------

    def command(self, *more):
        raise NotImplementedError

    def environment(self):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
               "LANG": "C.UTF-8"}
        preload = os.environ.get("MDM_TEST_PRELOAD")
        if preload:
            env["LD_PRELOAD"] = preload
            env["ASAN_OPTIONS"] = ("detect_leaks=0:abort_on_error=1:"
                                   "detect_odr_violation=0")
            env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
        return env

    def start(self, wait_store=True, timeout=30):
        for attempt in range(3):
            if self.port is None or attempt:
                self.port = free_port()
            self.write_configuration()
            with open(self.error_log, "ab") as log:
                self.process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, env=self.environment(),
                    cwd=self.directory, start_new_session=True)
            try:
                self.wait_up(timeout)
                break
            except StartFailed as failure:
                self.process = None
                if "ddress already in use" not in str(failure) \
                        or attempt == 2:
                    raise
                self.truncate_log()
        if wait_store and "/mdmapi/" in self.endpoints:
            self.wait_store(timeout)
        return self

    def truncate_log(self):
        with open(self.error_log, "w", encoding="utf-8"):
            pass
        self.log_mark = 0

    def wait_up(self, timeout):
        end = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise StartFailed(f"{self.kind} ended with "
                                  f"{self.process.returncode}:\n"
                                  + self.log_since(0))
            try:
                if self.get_static().status == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                raise StartFailed(f"{self.kind} does not answer:\n"
                                  + self.log_since(0))
            time.sleep(0.02)

    def wait_store(self, timeout=30):
        """Until every worker has its store open: on `workers` times six
        connections in a row the API answers."""
        api = self.api()
        wanted = 6 * self.workers

        def good():
            for _ in range(wanted):
                api.transport.close()
                reply = api.enrollments("?limit=1")
                if reply.status == 503:
                    return False
                if reply.status != 200:
                    raise StartFailed(f"API: {reply}\n" + self.log_since(0))
            return True

        try:
            wait_for(good, timeout, "store open in every worker", 0.05)
        except Timeout as late:
            raise StartFailed(f"{late}\n{self.log_since(0)}") from late
        finally:
            api.transport.close()

    def wait_idle(self, timeout=10):
        """Until the server has let go of every connection of a client."""
        end = f":{self.port:04X}"

        def idle():
            with open("/proc/net/tcp", encoding="ascii") as f:
                rows = [line.split() for line in f.readlines()[1:]]
            # state 0A listens; inode 0: nobody holds the socket any more
            return not [r for r in rows if r[1].endswith(end)
                        and r[3] != "0A" and r[9] != "0"]
        wait_for(idle, timeout, "the end of every connection", 0.05)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, number):
        os.kill(self.process.pid, number)

    def reload(self, wait=True):
        """Graceful restart; waits until all workers are new ones."""
        before = set(self.worker_pids())
        self.kill(self.reload_signal)
        if wait:
            wait_for(lambda: set(self.worker_pids()) - before, 20,
                     "new workers after a reload")

    def stop(self, number=signal.SIGTERM, timeout=30):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.kill(number)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill_group()
                raise
        self.process = None

    def kill_group(self):
        """Last resort: the master and its workers, which share a session
        that this object made."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)

    def quit(self, timeout=30):
        self.stop(self.quit_signal, timeout)

    def restart(self):
        self.quit()
        self.start()

    def remove(self):
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def worker_pids(self):
        """Children of the master that serve requests."""
        if not self.is_running():
            return []
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        try:
            with open(path, encoding="ascii") as f:
                return [int(p) for p in f.read().split()]
        except FileNotFoundError:
            return []

    def configtest(self):
        """(exit status, everything it printed)."""
        if self.port is None:
            self.port = free_port()
        self.write_configuration()
        done = subprocess.run(self.command("-t"), env=self.environment(),
                              cwd=self.directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60,
                              check=False)
        return done.returncode, done.stdout.decode("utf-8", "replace")

    # -- log ----------------------------------------------------------------

    def log_since(self, mark):
        try:
            with open(self.error_log, "rb") as f:
                f.seek(mark)
                return f.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def mark_log(self):
        try:
            self.log_mark = os.path.getsize(self.error_log)
        except FileNotFoundError:
            self.log_mark = 0

    def log_text(self):
        """What was logged since mark_log()."""
        return self.log_since(self.log_mark)

    # -- clients ------------------------------------------------------------

    @property
    def url(self):
        return f"https://{self.host}:{self.port}"

    def get_static(self, timeout=10):
        transport = Transport(self, timeout=timeout)
        try:
            return transport.request("GET", "/static/hello.txt")
        finally:
            transport.close()

    def api(self, token=None):
        return Api(self, self.api_token if token is None else token)
