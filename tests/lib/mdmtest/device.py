"""A simulated Apple device: enrols, polls, answers commands.

Speaks the protocol over TLS with an identity certificate of its own, or signs
what it sends.  The property lists are made with plistlib, the signatures with
python3-cryptography.
"""
import base64
import http.client
import os
import plistlib
import ssl
import uuid

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7

CHECKIN = "application/x-apple-aspen-mdm-checkin"
COMMAND = "application/x-apple-aspen-mdm; charset=UTF-8"

SHARED_IPAD = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"


class Reply:
    """Status, headers (names in lower case) and body of an answer."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {k.lower(): v for k, v in headers}
        self.body = body

    @property
    def plist(self):
        return plistlib.loads(self.body)

    def __repr__(self):
        return f"<Reply {self.status} {self.body[:200]!r}>"


def tls_context(ca_file, identity=None, max_version=None):
    context = ssl.create_default_context(cafile=ca_file)
    if identity is not None:
        context.load_cert_chain(identity.cert_file, identity.key_file)
    if max_version is not None:
        context.maximum_version = max_version
    return context


class Transport:
    """A keep-alive connection to the server, with or without identity."""

    def __init__(self, server, identity=None, timeout=60, max_version=None):
        self.host = server.host
        self.port = server.port
        self.timeout = timeout
        self.context = tls_context(server.ca_file, identity, max_version)
        self.connection = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def connect(self):
        self.connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=self.timeout, context=self.context)
        self.connection.connect()

    def request(self, method, path, body=None, headers=None):
        """Sends on the open connection; a server may have closed an idle
        one, so a request that got no byte of answer on a used connection is
        sent once more on a new one, as devices and browsers do."""
        used = self.connection is not None
        try:
            return self._request(method, path, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError,
                ConnectionResetError, ssl.SSLEOFError):
            self.close()
            if not used:
                raise
            return self._request(method, path, body, headers)

    def _request(self, method, path, body, headers):
        if self.connection is None:
            self.connect()
        try:
            self.connection.request(method, path, body=body,
                                    headers=headers or {})
            response = self.connection.getresponse()
            data = response.read()
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return Reply(response.status, response.getheaders(), data)


def mac_answers(device):
    """What a Mac says about itself, by query name."""
    return {
        "UDID": device.udid, "DeviceName": device.name,
        "OSVersion": "15.1", "BuildVersion": "24B83",
        "ModelName": "MacBook Pro", "Model": "Mac14,7",
        "ProductName": "Mac14,7", "SerialNumber": device.serial,
        "DeviceCapacity": 494.384795, "AvailableDeviceCapacity": 391.73,
        "IsSupervised": True, "BatteryLevel": 0.87,
        "WiFiMAC": "a4:83:e7:00:00:01", "HostName": "loft-mac.local",
        "LocalHostName": "Loft-Mac", "IsActivationLockEnabled": False,
        "OSUpdateSettings": {"CatalogURL": "", "IsDefaultCatalog": True},
    }


def signature(identity, body, digest=None):
    """Value of Mdm-Signature: a detached CMS over the body as it is."""
    cms = (pkcs7.PKCS7SignatureBuilder().set_data(body)
           .add_signer(identity.cert, identity.key, digest or hashes.SHA256())
           .sign(serialization.Encoding.DER,
                 [pkcs7.PKCS7Options.DetachedSignature,
                  pkcs7.PKCS7Options.Binary]))
    return base64.b64encode(cms).decode()


class Channel:
    """One management channel (the device's own or a user's)."""

    def __init__(self, device, keys):
        self.device = device
        self.keys = keys              # identifier keys of every message
        self.token = os.urandom(32)
        self.magic = str(uuid.uuid4()).upper()
        self.seen = []                # commands as bytes, in order

    @property
    def token_hex(self):
        return self.token.hex()

    @property
    def id(self):
        keys = self.keys
        if "UDID" in keys:
            user = keys.get("UserID")
            if user and user.upper() == SHARED_IPAD:
                user = keys["UserShortName"]
            return keys["UDID"] + (f":{user}" if user else "")
        user = keys.get("EnrollmentUserID")
        return keys["EnrollmentID"] + (f":{user}" if user else "")

    def check_in(self, message_type, **extra):
        message = {"MessageType": message_type, **self.keys, **extra}
        return self.device.put(self.device.checkin_path, CHECKIN,
                               plistlib.dumps(message))

    def token_update(self, **extra):
        return self.check_in("TokenUpdate", Topic=self.device.topic,
                             Token=self.token, PushMagic=self.magic, **extra)

    def set_bootstrap_token(self, token=None):
        """token None: the key is left out, which deletes the stored one."""
        keys = {} if token is None else {"BootstrapToken": token}
        return self.check_in("SetBootstrapToken", **keys)

    def get_bootstrap_token(self):
        return self.check_in("GetBootstrapToken")

    def new_token(self):
        self.token = os.urandom(32)
        self.magic = str(uuid.uuid4()).upper()

    def report(self, command_uuid, status="Acknowledged", **extra):
        message = {"Status": status, **self.keys, **extra}
        if command_uuid is not None:
            message["CommandUUID"] = command_uuid
        self.last_report = plistlib.dumps(message)
        reply = self.device.put(self.device.server_path, COMMAND,
                                self.last_report)
        if reply.status == 200 and reply.body:
            self.seen.append(reply.body)
        return reply

    def idle(self):
        return self.report(None, "Idle")

    def not_now(self, command_uuid):
        return self.report(command_uuid, "NotNow")

    def answer(self, command):
        """Status and extra keys for a command dictionary."""
        request = command["Command"]
        if request["RequestType"] == "DeviceInformation":
            known = mac_answers(self.device)
            wanted = request.get("Queries", sorted(known))
            return "Acknowledged", {"QueryResponses": {
                q: known[q] for q in wanted if q in known}}
        if request["RequestType"] in ("ProfileList", "CertificateList"):
            return "Acknowledged", {request["RequestType"]: []}
        if request["RequestType"] in ("DeviceLock", "RestartDevice",
                                      "InstallProfile", "RemoveProfile"):
            return "Acknowledged", {}
        return "CommandFormatError", {"ErrorChain": [{
            "ErrorCode": 12021, "ErrorDomain": "MCMDMErrorDomain",
            "LocalizedDescription": "The request type is not valid.",
            "USEnglishDescription": "The request type is not valid."}]}

    def run_once(self, not_now=False, limit=100):
        """One wake-up: polls and answers until the server has nothing more.
        Returns [(command uuid, report as sent)]."""
        reports = []
        reply = self.idle()
        while reply.status == 200 and reply.body and len(reports) < limit:
            command = reply.plist
            command_uuid = command["CommandUUID"]
            if not_now:
                reply = self.not_now(command_uuid)
            else:
                status, extra = self.answer(command)
                reply = self.report(command_uuid, status, **extra)
            reports.append((command_uuid, self.last_report))
        if reply.status != 200:
            raise AssertionError(f"poll of {self.id}: {reply}")
        return reports


class Device(Channel):
    """The device channel and the connection that all channels share.

    sign=True adds Mdm-Signature to every request, tls=False shows no client
    certificate; `headers` go with every request.
    """

    def __init__(self, server, identity, topic, udid=None, checkin="/mdm",
                 command="/mdm", enrollment_id=None, timeout=60, sign=False,
                 tls=True):
        self.udid = udid or str(uuid.uuid4()).upper()
        keys = ({"EnrollmentID": enrollment_id} if enrollment_id
                else {"UDID": self.udid})
        super().__init__(self, keys)
        self.server = server
        self.topic = topic
        self.serial = "ZX" + uuid.uuid4().hex[:8].upper()
        self.name = "Loft Mac"
        self.checkin_path = checkin
        self.server_path = command
        self.timeout = timeout
        self.sign = sign
        self.tls = tls
        self.headers = {}
        self.use_identity(identity)

    def use_identity(self, identity):
        self.identity = identity
        self.transport = Transport(self.server,
                                   identity if self.tls else None,
                                   self.timeout)

    def close(self):
        self.transport.close()

    def put(self, path, content_type, body, method="PUT"):
        headers = {"Content-Type": content_type, **self.headers}
        if self.sign:
            headers.setdefault("Mdm-Signature",
                               signature(self.identity, body))
        return self.transport.request(method, path, body, headers)

    def authenticate(self, **extra):
        message = {"Topic": self.topic, "DeviceName": self.name,
                   "Model": "Mac14,7", "ModelName": "MacBook Pro",
                   "ProductName": "Mac14,7", "OSVersion": "15.1",
                   "BuildVersion": "24B83", "SerialNumber": self.serial}
        message.update(extra)
        return self.check_in("Authenticate", **message)

    def enroll(self):
        """Authenticate and TokenUpdate, both of which must be accepted."""
        for reply in (self.authenticate(), self.token_update()):
            if reply.status != 200 or reply.body:
                raise AssertionError(f"enrolment of {self.id}: {reply}")
        return self

    def check_out(self):
        return self.check_in("CheckOut", Topic=self.topic)

    def user(self, user_id=None, short_name="robin",
             long_name="Robin Example"):
        """A user channel of a Mac, on the same connection."""
        return Channel(self, {
            "UDID": self.udid, "UserID": user_id or str(uuid.uuid4()).upper(),
            "UserShortName": short_name, "UserLongName": long_name})

    def enrollment_user(self, user_id):
        """A user channel of a Mac under User Enrollment."""
        return Channel(self, {"EnrollmentID": self.keys["EnrollmentID"],
                              "EnrollmentUserID": user_id})

    def ipad_user(self, short_name):
        return Channel(self, {"UDID": self.udid, "UserID": SHARED_IPAD,
                              "UserShortName": short_name})
