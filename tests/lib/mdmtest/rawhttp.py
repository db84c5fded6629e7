"""HTTP/1 by hand over TLS: bytes out, parsed answers back.

For requests that no client library would send.  Nothing here retries, and
every wait ends: a server that keeps a client waiting is a fault.
"""
import socket
import ssl

from .device import Reply, tls_context


class Broken(AssertionError):
    """What came back is no HTTP, or nothing came in time."""


class Wire:
    """One connection.  send() what you like, then take reply() by reply()."""

    def __init__(self, server, identity=None, timeout=20):
        context = tls_context(server.ca_file, identity)
        plain = socket.create_connection((server.host, server.port), timeout)
        self.tls = context.wrap_socket(plain, server_hostname=server.host)
        self.buffer = b""
        self.ended = False
        self.interim = []       # statuses of 1xx answers

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.tls.close()

    def send(self, data):
        """False when the server has hung up before it had all."""
        try:
            self.tls.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False

    def more(self):
        """Reads what there is; False at the end of the connection."""
        if self.ended:
            return False
        try:
            part = self.tls.recv(65536)
        except (TimeoutError, socket.timeout) as error:
            raise Broken(f"no answer in time after {self.buffer[:200]!r}"
                         ) from error
        except (ConnectionResetError, ssl.SSLError):
            part = b""
        self.ended = not part
        self.buffer += part
        return bool(part)

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                raise Broken(f"cut off in {self.buffer[:200]!r}")
        text, _, self.buffer = self.buffer.partition(b"\r\n")
        return text.decode("latin-1")

    def take(self, number):
        while len(self.buffer) < number:
            if not self.more():
                raise Broken(f"cut off: {len(self.buffer)} of {number}")
        data, self.buffer = self.buffer[:number], self.buffer[number:]
        return data

    def rest(self):
        while self.more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def body(self, status, headers, method):
        named = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in (204, 304):
            return b""
        if named.get("transfer-encoding", "").lower() == "chunked":
            data = b""
            while True:
                size = int(self.line().split(";")[0], 16)
                data += self.take(size)
                self.line()
                if size == 0:
                    return data
        if "content-length" in named:
            return self.take(int(named["content-length"]))
        return self.rest()

    def reply(self, method="PUT"):
        """The next answer, None when the connection ends instead."""
        while True:
            if not self.buffer and not self.more():
                return None
            words = self.line().split(" ", 2)
            if not words[0].startswith("HTTP/1.") or not words[1].isdigit():
                raise Broken(f"no status line: {words}")
            headers = []
            while True:
                text = self.line()
                if not text:
                    break
                name, _, value = text.partition(":")
                headers.append((name, value.strip()))
            status = int(words[1])
            if status >= 200:
                return Reply(status, headers,
                             self.body(status, headers, method))
            self.interim.append(status)

    def replies(self, *methods):
        """One answer for each method, fewer if the connection ends."""
        got = []
        for method in methods:
            reply = self.reply(method)
            if reply is None:
                break
            got.append(reply)
        return got

    def until_end(self):
        """All answers until the server closes."""
        got = []
        while True:
            reply = self.reply()
            if reply is None:
                return got
            got.append(reply)
