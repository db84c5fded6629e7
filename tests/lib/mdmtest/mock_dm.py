"""A stand-in for an outside server of declarative management, on Python's own
http.server.

It records every request and answers as told: 200 with `{}` by default, else
what script() queued.  With a key it signs its answers.  In tests it runs in
threads of the process:

    with MockDM(key=b"...") as mock:
        mock.script(answer(404), answer(200, b'{"a": 1}'))
        request = mock.wait(1)[0]
"""
import base64
import hashlib
import hmac
import http.server
import socket
import threading

from .wait import wait_for


def signature(key, body):
    return base64.b64encode(hmac.digest(key, body, hashlib.sha256)).decode()


def answer(status=200, body=b"{}", headers=(), sign=True, hang=False,
           length=True):
    """What to do with one request.

    sign: True (if the mock has a key), False, or a key of somebody else.
    hang: keep the request until release(), or until the mock ends.
    length: False sends the body up to the end of the connection.
    """
    return {"status": status, "body": body, "headers": list(headers),
            "sign": sign, "hang": hang, "length": length}


class Request:
    """One request: method, path as sent, headers by lower-case name, body."""

    def __init__(self, handler, body):
        self.method = handler.command
        self.path = handler.path
        self.header_list = [(k.lower(), v) for k, v in
                            handler.headers.items()]
        self.headers = dict(self.header_list)
        self.body = body
        # DER of the client's certificate, over TLS
        self.peer = (handler.connection.getpeercert(True)
                     if hasattr(handler.connection, "getpeercert") else None)

    def __repr__(self):
        return f"<{self.method} {self.path}>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle_any(self):
        mock = self.server.mock
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = mock.take(Request(self, body))
        if told["hang"]:
            mock.hold()
        # A body behind a 204 would stand in front of the next answer.
        data = b"" if told["status"] == 204 else told["body"]
        self.send_response(told["status"])
        self.send_header("Content-Type", "application/json")
        if told["sign"] is True and mock.key:
            self.send_header("X-Hmac-Signature", signature(mock.key, data))
        elif isinstance(told["sign"], bytes):
            self.send_header("X-Hmac-Signature",
                             signature(told["sign"], data))
        for name, value in told["headers"]:
            self.send_header(name, value)
        if told["length"]:
            self.send_header("Content-Length", str(len(data)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass    # the client has gone, as it may


class Threads(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class MockDM:
    def __init__(self, key=None, port=0, tls=None):
        """tls: an SSLContext to serve with."""
        self.key = key
        self.tls = tls
        self.port = port
        self.lock = threading.Lock()
        self.requests = []
        self.scripted = []
        self.usual = answer()
        self.hanging = 0
        self.freed = threading.Event()
        self.httpd = None

    @property
    def url(self):
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}/dm"

    # -- life -----------------------------------------------------------------

    def start(self):
        self.httpd = Threads(("127.0.0.1", self.port), Handler)
        self.httpd.mock = self
        if self.tls:
            self.httpd.socket = self.tls.wrap_socket(self.httpd.socket,
                                                     server_side=True)
        self.port = self.httpd.server_address[1]
        threading.Thread(target=self.httpd.serve_forever, args=(0.05,),
                         daemon=True).start()
        return self

    def stop(self):
        """Nobody listens any more; connections that are open end with their
        next request."""
        self.release()
        if self.httpd is not None:
            self.httpd.shutdown()
            self.httpd.server_close()
            self.httpd = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # -- called by the handlers' threads --------------------------------------

    def take(self, request):
        with self.lock:
            self.requests.append(request)
            return self.scripted.pop(0) if self.scripted else self.usual

    def hold(self):
        with self.lock:
            self.hanging += 1
        try:
            self.freed.wait(120)
        finally:
            with self.lock:
                self.hanging -= 1

    # -- called by tests ------------------------------------------------------

    def reset(self):
        self.release()
        with self.lock:
            self.requests = []
            self.scripted = []
            self.usual = answer()

    def script(self, *answers):
        with self.lock:
            self.scripted += answers

    def always(self, told):
        """The answer to every request for which nothing is queued."""
        if told["hang"]:
            self.freed.clear()
        with self.lock:
            self.usual = told

    def release(self):
        """Lets all go that hang, now and later."""
        self.freed.set()

    def wait(self, number, timeout=10):
        """The requests so far, once there are `number` of them."""
        wait_for(lambda: len(self.requests) >= number, timeout,
                 f"{number} requests")
        return list(self.requests)


def closed_port():
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
