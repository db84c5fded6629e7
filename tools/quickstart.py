"""The second half of tools/quickstart: from the demonstration PKI to the
stored answer.  Starts two processes (web server, stand-in for APNs), in a
temporary directory, and stops them by their process ids."""
import argparse
import json
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import tempfile

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
LIB = os.path.join(TOP, "tests", "lib")
sys.path.insert(0, LIB)

from mdmtest.api import command_plist       # noqa: E402
from mdmtest.apache import ApacheServer     # noqa: E402
from mdmtest.device import Device, Transport     # noqa: E402
from mdmtest.nginx import NginxServer       # noqa: E402
from mdmtest.pki import PKI, Identity       # noqa: E402
from mdmtest.scep_client import ScepClient, new_key   # noqa: E402
from mdmtest.wait import wait_for           # noqa: E402

ENDPOINTS = {"/enroll": "enroll", "/scep": "scep", "/mdm": "mdm",
             "/mdmapi/": "api"}
QUERIES = ["UDID", "DeviceName", "OSVersion", "BuildVersion", "ModelName",
           "SerialNumber", "IsSupervised"]

STOP = """\
#!/bin/sh
# Stops what tools/quickstart --keep left running, and removes its files.
for pid in {pids}; do
    if tr '\\0' ' ' </proc/$pid/cmdline 2>/dev/null | grep -q '{directory}'
    then
        kill $pid
        while kill -0 $pid 2>/dev/null; do sleep 0.1; done
    fi
done
rm -rf '{directory}'
echo stopped
"""


class Demo:
    def __init__(self, options):
        self.options = options
        self.step = 2
        self.directory = tempfile.mkdtemp(prefix="mdm-quickstart-")
        os.chmod(self.directory, 0o755)
        self.apns = None
        self.server = None
        self.api = None
        self.mac = None

    def say(self, text):
        self.step += 1
        print(f"{self.step} of {self.options.steps}  {text}", flush=True)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    # -- the steps ----------------------------------------------------------

    def make_pki(self):
        self.say("certificates: a demonstration PKI in "
                 + self.path("pki"))
        self.pki = PKI(self.path("pki"))
        self.push = self.pki.push()

    def start_apns(self):
        self.say("push service: a stand-in for APNs that asks for the push "
                 "certificate")
        log = open(self.path("apns.err"), "wb")
        self.apns = subprocess.Popen(
            [sys.executable, "-m", "mdmtest.mock_apns",
             "--cert", self.pki.server.cert_file,
             "--key", self.pki.server.key_file,
             "--client-ca", self.pki.push_ca.cert_file,
             "--log", self.path("apns.log"),
             "--pid-file", self.path("apns.pid")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            env={**os.environ, "PYTHONPATH": LIB}, start_new_session=True)
        log.close()
        words = self.apns.stdout.readline().split()
        if len(words) != 3:
            raise RuntimeError("the stand-in for APNs did not start")
        self.apns_port = int(words[2])

    def start_server(self):
        kind = {"nginx": NginxServer, "apache": ApacheServer}[
            self.options.server]
        settings = [
            ("http", "PUSH_SERVER", f"localhost:{self.apns_port}"),
            ("http", "PUSH_TRUSTED_CERTIFICATE",
             self.pki.server_ca.cert_file),
            # The module has an authority of its own.
            ("server", "DEVICE_CA_CERTIFICATE", None),
            ("server", "PROFILE_ORGANIZATION", "Quickstart"),
            ("/enroll", "ENROLLMENT_FLOW", "download")]
        self.server = kind(self.pki, self.options.build_dir, settings,
                           directory=self.path(self.options.server),
                           endpoints=ENDPOINTS)
        self.server.start()
        self.api = self.server.api()
        version = self.api.call("GET", "/version").json["version"]
        self.say(f"web server: {self.options.server} with the module "
                 f"(version {version}) on {self.server.url}")

    def import_certificate(self):
        reply = self.api.put_pushcert(self.push.both_pem)
        expect(reply, "the push certificate was not taken")
        self.say(f"push certificate: imported by the API, topic "
                 f"{reply.json['topic']}, valid until "
                 f"{reply.json['not_after']}")

    def fetch_profile(self):
        transport = Transport(self.server)
        reply = transport.request("GET", "/enroll")
        transport.close()
        expect(reply, "there is no enrolment profile")
        profile = plistlib.loads(reply.body)
        payloads = {p["PayloadType"]: p for p in profile["PayloadContent"]}
        self.scep = payloads["com.apple.security.scep"]["PayloadContent"]
        self.management = payloads["com.apple.mdm"]
        if self.management["Topic"] != self.push.topic:
            raise RuntimeError("the profile names another topic")
        self.say(f"profile: the Mac got \"{profile['PayloadDisplayName']}\" "
                 f"of {profile['PayloadOrganization']} with a challenge of "
                 "its own")

    def path_of(self, url):
        """What the Mac asks for; the profile has to name this server."""
        if not url.startswith(self.server.url + "/"):
            raise RuntimeError(f"the profile names another server: {url}")
        return url[len(self.server.url):]

    def get_identity(self):
        transport = Transport(self.server)
        client = ScepClient(transport, self.path_of(self.scep["URL"]))
        names = dict(pair for rdn in self.scep["Subject"] for pair in rdn)
        answer, key, cert = client.enrol(
            self.scep["Challenge"], names["CN"],
            key=new_key(self.scep["Keysize"]))
        transport.close()
        if cert is None:
            raise RuntimeError("the built-in authority issued nothing: "
                               f"{answer.fail}")
        self.identity = Identity(self.path("pki"), "mac", cert, key)
        self.say(f"identity: a key made by the Mac, certified by "
                 f"{cert.issuer.rfc4514_string()} over SCEP")

    def enroll(self):
        url = self.management["ServerURL"]
        self.mac = Device(
            self.server, self.identity, self.management["Topic"],
            checkin=self.path_of(self.management.get("CheckInURL", url)),
            command=self.path_of(url))
        self.mac.enroll()
        row = self.api.enrollment(self.mac.id)
        expect(row, "the Mac is not in the inventory")
        self.say(f"enrolment: a simulated Mac, serial number "
                 f"{row.json['serial_number']}, UDID {self.mac.udid}")

    def queue(self):
        self.command_uuid, self.command = command_plist(Queries=QUERIES)
        reply = self.api.enqueue(self.mac.id, self.command)
        expect(reply, "the command was not taken")
        push = wait_for(self.arrived, 20, "the push at the stand-in for APNs")
        if json.loads(push["body"]) != {"mdm": self.mac.magic} \
                or push["topic"] != self.push.topic:
            raise RuntimeError(f"another push than expected: {push}")
        self.say(f"command: DeviceInformation queued by the API; the push "
                 f"{push['headers']['apns-id']} arrived at the push service")

    def arrived(self):
        try:
            with open(self.path("apns.log"), encoding="utf-8") as f:
                pushes = [json.loads(line) for line in f]
        except (FileNotFoundError, ValueError):
            return None
        return next((p for p in pushes if p["token"] == self.mac.token_hex),
                    None)

    def answer(self):
        reports = self.mac.run_once()
        if [u for u, _ in reports] != [self.command_uuid] \
                or self.mac.seen != [self.command]:
            raise RuntimeError("the Mac was given another command")
        stored = self.api.result(self.command_uuid, self.mac.id)
        expect(stored, "no answer is stored")
        if stored.body != reports[0][1]:
            raise RuntimeError("the stored answer is not what the Mac sent")
        self.say("answer: the Mac fetched the command, and what it answered "
                 "is stored:")
        answers = plistlib.loads(stored.body)["QueryResponses"]
        for name, value in answers.items():
            print(f"          {name:14} {value}")

    def run(self):
        for step in (self.make_pki, self.start_apns, self.start_server,
                     self.import_certificate, self.fetch_profile,
                     self.get_identity, self.enroll, self.queue,
                     self.answer):
            self.doing = step.__name__.replace("_", " ")
            step()

    # -- the end ------------------------------------------------------------

    def stop(self):
        for client in (self.mac, self.api and self.api.transport):
            if client is not None:
                client.close()
        if self.server is not None:
            self.server.quit()
            self.server = None
        if self.apns is not None:
            self.apns.terminate()
            self.apns.wait(10)
            self.apns.stdout.close()
            self.apns = None

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def leave(self):
        """Prints what somebody who wants to look around needs."""
        server = self.server
        pids = f"{server.process.pid} {self.apns.pid}"
        stop = self.path("stop")
        with open(stop, "w", encoding="utf-8") as f:
            f.write(STOP.format(pids=pids, directory=self.directory))
        os.chmod(stop, 0o755)
        print(f"""
Everything is left running:
  MDM URL          {server.url}/mdm
  profiles         {server.url}/enroll
  API              {server.url}/mdmapi/v1/
  API token file   {server.path("tokens")}  (name:token)
  configuration    {server.conf_file}
  state            {server.state_dir}
  error log        {server.error_log}
  pushes arrived   {self.path("apns.log")}
  the Mac          {self.identity.cert_file}, {self.identity.key_file}
Look around, for example:
  curl --cacert {server.ca_file} \\
    -u "$(cat {server.path("tokens")})" \\
    {server.url}/mdmapi/v1/enrollments
Stop it and remove its files:
  {stop}""")


def expect(reply, fault):
    if reply.status != 200:
        raise RuntimeError(f"{fault}: {reply}")


def tail(path, number=15):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-number:])
    except OSError:
        return ""


def failed(demo, error):
    """Says what went wrong and where to read more; nothing keeps running."""
    print(f"quickstart: failed at \"{demo.doing}\": {error}",
          file=sys.stderr)
    where = [demo.path(demo.options.server, "error.log"),
             demo.path("apns.err")]
    try:
        demo.stop()
    except Exception as later:      # noqa: BLE001: the first one counts
        print(f"quickstart: and while stopping: {later}", file=sys.stderr)
    for path in where:
        text = tail(path)
        if text:
            print(f"--- the end of {path}\n{text}", file=sys.stderr, end="")
    print(f"The files are kept for you to look at: {demo.directory}",
          file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", choices=["nginx", "apache"],
                        default="nginx")
    parser.add_argument("--build-dir", required=True)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--keep", action="store_true")
    demo = Demo(parser.parse_args())

    def interrupted(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    try:
        demo.run()
        if demo.options.keep:
            demo.mac.close()
            demo.leave()
            return 0
        demo.stop()
    except KeyboardInterrupt:
        demo.stop()
        demo.remove()
        print("quickstart: interrupted; everything is stopped",
              file=sys.stderr)
        return 130
    except Exception as error:      # noqa: BLE001: shown with its logs
        failed(demo, error)
        return 1
    demo.remove()
    print("Done: the stored answer is what the Mac sent. Everything is "
          "stopped and removed (--keep leaves it running).")
    return 0


sys.exit(main())
