"""A stand-in for Apple's push service, on python3-h2 (not on nghttp2).

It asks for a client certificate and verifies it against the push CA, records
every request, and answers as told: 200 by default, else what script() queued
for a token (or for "*").  In tests it runs in a thread of the process:

    with MockAPNs(cert_file, key_file, client_ca_file) as apns:
        apns.script(token_hex, answer(503, "ServiceUnavailable"), answer())
        request = apns.wait_for(lambda r: r["token"] == token_hex)

The quickstart runs it as a program that prints "listening on PORT" and adds
a JSON line per request to a file.
"""
import argparse
import asyncio
import json
import os
import signal
import ssl
import threading
import time
import uuid

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from cryptography import x509
from cryptography.x509.oid import NameOID

from .pki import fingerprint
from .wait import Timeout


def answer(status=200, reason=None, timestamp=None, delay=0, action=None,
           headers=()):
    """What to do with one request.

    action: None (respond), "drop" (never respond), "rst" (RST_STREAM),
    "refuse" (RST_STREAM REFUSED_STREAM), "goaway" (GOAWAY that says this
    stream was not processed, then close), "goaway-after" (respond, then
    GOAWAY), "close" (cut the TCP connection).
    """
    return {"status": status, "reason": reason, "timestamp": timestamp,
            "delay": delay, "action": action, "headers": list(headers)}


class Connection(asyncio.Protocol):
    """One TLS connection; runs in the event loop's thread only."""

    def __init__(self, mock, number):
        self.mock = mock
        self.number = number
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8"))
        self.streams = {}
        self.transport = None
        self.client = None

    def connection_made(self, transport):
        self.transport = transport
        tls = transport.get_extra_info("ssl_object")
        self.client = x509.load_der_x509_certificate(tls.getpeercert(True))
        self.mock.note_connection(self, tls.selected_alpn_protocol())
        if tls.selected_alpn_protocol() != "h2":
            transport.close()
            return
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS:
                    self.mock.max_streams,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 8000})
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc):
        self.mock.connections.discard(self)

    def flush(self):
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data):
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.mock.faults.append(f"protocol error of the client: {error}")
            self.flush()
            self.transport.close()
            return
        for event in events:
            self.on_event(event)
        self.flush()

    def on_event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.streams[event.stream_id] = (event.headers, bytearray())
            self.mock.open_streams(len(self.streams))
        elif isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id][1].extend(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length,
                                              event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            headers, body = self.streams[event.stream_id]
            request = self.mock.record(self, event.stream_id, headers, body)
            todo = self.mock.next_answer(request)
            if todo["delay"]:
                asyncio.get_running_loop().call_later(
                    todo["delay"], self.respond, request, todo)
            else:
                self.respond(request, todo)
        elif isinstance(event, h2.events.StreamReset):
            self.streams.pop(event.stream_id, None)
        elif isinstance(event, h2.events.PingReceived):
            self.mock.pings += 1

    def respond(self, request, todo):
        stream = request["stream"]
        action = todo["action"]
        request["answer"] = dict(todo)
        if action == "drop":
            return
        if action == "close":
            self.transport.abort()
            return
        if self.transport.is_closing() or stream not in self.streams:
            return
        try:
            if action in ("rst", "refuse"):
                code = (h2.errors.ErrorCodes.REFUSED_STREAM
                        if action == "refuse"
                        else h2.errors.ErrorCodes.INTERNAL_ERROR)
                self.h2.reset_stream(stream, code)
            elif action == "goaway":
                self.goaway(stream - 2, todo["reason"] or "Shutdown")
            else:
                self.send_answer(stream, request, todo)
                if action == "goaway-after":
                    self.goaway(stream, todo["reason"] or "Shutdown")
        except h2.exceptions.ProtocolError as error:
            self.mock.faults.append(f"could not answer: {error}")
        self.streams.pop(stream, None)
        self.flush()

    def send_answer(self, stream, request, todo):
        headers = [(":status", str(todo["status"])),
                   ("apns-id", request["answer_id"])] + todo["headers"]
        body = b""
        if todo["status"] != 200:
            document = {"reason": todo["reason"] or "InternalServerError"}
            if todo["timestamp"] is not None:
                document["timestamp"] = todo["timestamp"]
            body = json.dumps(document).encode()
            headers.append(("content-type", "application/json"))
        self.h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)

    def goaway(self, last_stream, reason):
        self.h2.close_connection(
            h2.errors.ErrorCodes.NO_ERROR,
            additional_data=json.dumps({"reason": reason}).encode(),
            last_stream_id=max(last_stream, 0))
        self.flush()
        self.transport.close()

    def change_max_streams(self, number):
        self.h2.update_settings(
            {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: number})
        self.flush()


class MockAPNs:
    """The service and its record.  Start with start() or `with`."""

    def __init__(self, cert_file, key_file, client_ca_file, port=0,
                 max_streams=1000, log_file=None):
        self.port = port
        self.max_streams = max_streams
        self.log_file = log_file
        self.requests = []
        self.handshakes = []    # one dict a connection that came through TLS
        self.accepted = 0       # connections, also those that did not
        self.faults = []        # what a correct client never causes
        self.connections = set()
        self.pings = 0
        self.most_streams = 0
        self.scripts = {}
        self.default = answer()
        self.changed = threading.Condition()
        self.loop = None
        self.thread = None
        self.server = None
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self.tls.load_cert_chain(cert_file, key_file)
        self.tls.load_verify_locations(client_ca_file)
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.set_alpn_protocols(["h2"])

    # -- life ---------------------------------------------------------------

    async def listen(self):
        self.server = await asyncio.get_running_loop().create_server(
            self.new_connection, "127.0.0.1", self.port, ssl=self.tls,
            reuse_address=True)
        self.port = self.server.sockets[0].getsockname()[1]

    def new_connection(self):
        with self.changed:
            number = len(self.handshakes) + 1
            self.accepted += 1
        return Connection(self, number)

    def start(self):
        """Runs in a thread; keeps the port over a stop() and start()."""
        ready = threading.Event()
        failed = []

        def run():
            self.loop = asyncio.new_event_loop()
            self.loop.set_exception_handler(lambda loop, context: None)
            try:
                self.loop.run_until_complete(self.listen())
            except OSError as error:
                failed.append(error)
                ready.set()
                return
            ready.set()
            self.loop.run_forever()
            self.loop.close()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        ready.wait(10)
        if failed:
            raise failed[0]
        return self

    def stop(self):
        """Closes the port and cuts every connection."""
        async def close():
            self.server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

        if self.thread is None:
            return
        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.thread = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # -- called by connections ----------------------------------------------

    def note_connection(self, connection, alpn):
        self.connections.add(connection)
        with self.changed:
            self.handshakes.append({
                "connection": connection.number, "alpn": alpn,
                "fingerprint": fingerprint(connection.client),
                "time": time.time()})
            self.changed.notify_all()

    def open_streams(self, number):
        self.most_streams = max(self.most_streams, number)

    def record(self, connection, stream, headers, body):
        pairs = [(str(k), str(v)) for k, v in headers]
        named = dict(pairs)
        path = named.get(":path", "")
        topics = connection.client.subject.get_attributes_for_oid(
            NameOID.USER_ID)
        request = {
            "time": time.time(), "connection": connection.number,
            "stream": stream, "path": path,
            "token": path.rsplit("/", 1)[-1], "headers": named,
            "header_list": pairs,
            "body": bytes(body).decode("utf-8", "replace"),
            "fingerprint": fingerprint(connection.client),
            "topic": topics[0].value if topics else None,
            "answer_id": named.get("apns-id") or str(uuid.uuid4()),
            "answer": None}
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
        if self.log_file:
            with open(self.log_file, "a", encoding="utf-8") as f:
                f.write(json.dumps(request) + "\n")
        return request

    def next_answer(self, request):
        with self.changed:
            for key in (request["token"], "*"):
                queue = self.scripts.get(key)
                if queue:
                    return queue.pop(0)
            return self.default

    # -- for tests ----------------------------------------------------------

    def script(self, token, *answers):
        """Queues answers for a token (hex) or for any ("*")."""
        with self.changed:
            self.scripts.setdefault(token, []).extend(answers)

    def set_default(self, todo):
        with self.changed:
            self.default = todo

    def reset_scripts(self):
        with self.changed:
            self.scripts.clear()
            self.default = answer()

    def set_max_streams(self, number):
        """Also tells the connections that are open."""
        def change():
            for connection in list(self.connections):
                connection.change_max_streams(number)
        self.max_streams = number
        self.loop.call_soon_threadsafe(change)

    def matching(self, predicate):
        with self.changed:
            return [r for r in self.requests if predicate(r)]

    def for_token(self, token):
        return self.matching(lambda r: r["token"] == token)

    def wait_for(self, predicate, timeout=10, count=1):
        """The count-th request that fits, waiting for it if need be."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                fitting = [r for r in self.requests if predicate(r)]
                if len(fitting) >= count:
                    return fitting[count - 1]
                left = end - time.monotonic()
                if left <= 0:
                    raise Timeout(
                        f"no push in {timeout} s: {len(fitting)} of {count} "
                        f"fit, {len(self.requests)} requests in all")
                self.changed.wait(left)

    def wait_token(self, token, timeout=10, count=1):
        return self.wait_for(lambda r: r["token"] == token, timeout, count)


def main():
    parser = argparse.ArgumentParser(description="stand-in for APNs")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--client-ca", required=True)
    parser.add_argument("--log", help="file for one JSON line a request")
    parser.add_argument("--pid-file", help="where to write the process id")
    args = parser.parse_args()
    mock = MockAPNs(args.cert, args.key, args.client_ca, port=args.port,
                    log_file=args.log)

    async def serve():
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await mock.listen()
        if args.pid_file:
            with open(args.pid_file, "w", encoding="ascii") as f:
                f.write(f"{os.getpid()}\n")
        print(f"listening on {mock.port}", flush=True)
        await stop.wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
