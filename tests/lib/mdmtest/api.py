"""A small client of the administration API."""
import base64
import json
import plistlib
import urllib.parse
import uuid

from .device import Transport


def command_plist(request_type="DeviceInformation", command_uuid=None,
                  **keys):
    """(uuid, bytes) of a command as an operator would hand it in."""
    command_uuid = command_uuid or str(uuid.uuid4())
    return command_uuid, plistlib.dumps({
        "CommandUUID": command_uuid,
        "Command": {"RequestType": request_type, **keys}}, sort_keys=False)


def quote_id(enrolment_id):
    return urllib.parse.quote(enrolment_id, safe="")


class Api:
    """Calls below `base`; every method returns a Reply whose .json is set
    when the body is JSON."""

    def __init__(self, server, token, base="/mdmapi", user="nanomdm"):
        self.base = base
        self.transport = Transport(server)
        self.headers = {}
        if token is not None:
            pair = base64.b64encode(f"{user}:{token}".encode()).decode()
            self.headers["Authorization"] = "Basic " + pair

    def call(self, method, path, body=None, headers=None):
        reply = self.transport.request(method, self.base + path, body,
                                       {**self.headers, **(headers or {})})
        reply.json = None
        if "json" in reply.headers.get("content-type", ""):
            reply.json = json.loads(reply.body)
        return reply

    def enqueue(self, ids, body, query="", method="PUT"):
        if isinstance(ids, str):
            ids = [ids]
        path = "/v1/enqueue/" + ",".join(quote_id(i) for i in ids)
        return self.call(method, path + query, body)

    def order(self, ids, request_type, args=None, query="", **more):
        """A command of the catalogue, as JSON."""
        body = {"enrollment_ids": [ids] if isinstance(ids, str) else ids,
                "request_type": request_type, **more}
        if args is not None:
            body["args"] = args
        return self.call("POST", "/v1/commands" + query,
                         json.dumps(body).encode())

    def push(self, ids, query=""):
        if isinstance(ids, str):
            ids = [ids]
        return self.call(
            "PUT", "/v1/push/" + ",".join(quote_id(i) for i in ids) + query)

    def put_pushcert(self, pem, query=""):
        return self.call("PUT", "/v1/pushcert" + query, pem)

    def get_pushcert(self, topic):
        return self.call("GET", "/v1/pushcert?topic=" + quote_id(topic))

    def resume_pushcert(self, topic, method="POST"):
        return self.call(method, "/v1/pushcert/resume?topic="
                         + quote_id(topic))

    def status(self):
        return self.call("GET", "/v1/status")

    def enrollments(self, query=""):
        return self.call("GET", "/v1/enrollments" + query)

    def enrollment(self, enrolment_id):
        return self.call("GET", "/v1/enrollments/" + quote_id(enrolment_id))

    def queue(self, enrolment_id, query=""):
        return self.call("GET", "/v1/enrollments/" + quote_id(enrolment_id)
                         + "/commands" + query)

    def clear_queue(self, enrolment_id):
        return self.call("DELETE", "/v1/enrollments/"
                         + quote_id(enrolment_id) + "/commands")

    def cancel(self, enrolment_id, command_uuid):
        return self.call("DELETE", "/v1/enrollments/"
                         + quote_id(enrolment_id) + "/commands/"
                         + quote_id(command_uuid))

    def block(self, enrolment_id, on=True):
        return self.call("POST", f"/v1/enrollments/{quote_id(enrolment_id)}/"
                         + ("block" if on else "unblock"))

    def secret(self, enrolment_id, name):
        return self.call("GET", f"/v1/enrollments/{quote_id(enrolment_id)}"
                         f"/secrets/{name}")

    def migrate(self, message):
        return self.call("PUT", "/migration", message)

    def command(self, command_uuid, query=""):
        return self.call("GET", "/v1/commands/" + quote_id(command_uuid)
                         + query)

    def result(self, command_uuid, enrolment_id, headers=None):
        return self.call(
            "GET", f"/v1/commands/{quote_id(command_uuid)}/results/"
            + quote_id(enrolment_id), headers=headers)
