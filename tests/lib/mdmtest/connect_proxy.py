"""A small HTTP proxy for CONNECT, in threads of the test's process.

Whatever host a client names, it is connected to `target`, so that a name
which does not exist proves that there is no other way:

    with ConnectProxy(mock.port, credentials="user:word") as proxy:
        proxy.mode = "502"
        ...
        proxy.wait(1)[0]["target"]      # "push.test:443"

Modes: "ok"; "407" or "502"; "close" (no answer), "garbage", "slow" (a byte now
and then, never done), "bytewise" (good, byte by byte).
"""
import base64
import re
import select
import socket
import threading

from .wait import wait_for

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
REASONS = {"407": "Proxy Authentication Required", "502": "Bad Gateway"}


class ConnectProxy:
    def __init__(self, target, credentials=None):
        self.target = target
        self.credentials = credentials      # None: everybody may
        self.mode = "ok"
        self.port = 0                       # kept over stop() and start()
        self.requests = []
        self.listener = None
        self.thread = None
        self.stopping = threading.Event()
        self.open = set()
        self.lock = threading.Lock()

    # -- life ---------------------------------------------------------------

    def start(self):
        self.stopping.clear()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """Closes the port and every tunnel."""
        if self.thread is None:
            return
        self.stopping.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.thread = None
        self.listener.close()
        with self.lock:
            for sock in self.open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # -- for tests ----------------------------------------------------------

    def url(self, userinfo=None):
        before = f"{userinfo}@" if userinfo else ""
        return f"http://{before}127.0.0.1:{self.port}"

    def wait(self, count, timeout=20):
        """The first `count` requests."""
        wait_for(lambda: len(self.requests) >= count, timeout,
                 f"{count} requests at the proxy")
        return self.requests[:count]

    # -- at work ------------------------------------------------------------

    def accept(self):
        while not self.stopping.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,),
                             daemon=True).start()

    def serve(self, client):
        with self.lock:
            self.open.add(client)
        try:
            client.settimeout(30)
            self.converse(client)
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(client)
            client.close()

    def converse(self, client):
        mode = self.mode
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65536:
            part = client.recv(4096)
            if not part:
                return
            head += part
        allowed = self.record(head)
        if mode == "close":
            return
        if mode == "slow":
            client.sendall(b"HTTP/1.1 200 OK\r\n")
            while not self.stopping.wait(0.5):
                client.sendall(b"X")
            return
        status = mode if mode in REASONS else None if allowed else "407"
        if status:
            client.sendall(f"HTTP/1.1 {status} {REASONS[status]}\r\n"
                           "Content-Length: 4\r\n\r\nbody".encode())
            client.recv(1)
            return
        if mode == "garbage":
            client.sendall(b"220 mail.example.com ESMTP\r\n")
            client.recv(1)      # until the client has seen enough
            return
        for part in ([bytes([b]) for b in ESTABLISHED]
                     if mode == "bytewise" else [ESTABLISHED]):
            client.sendall(part)
        self.tunnel(client)

    def record(self, head):
        """Notes a request; may this client pass?"""
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"CONNECT (\S+) HTTP/1\.1", lines[0])
        headers = dict(re.split(r":\s*", line, maxsplit=1)
                       for line in lines[1:] if ":" in line)
        headers = {k.lower(): v for k, v in headers.items()}
        self.requests.append({
            "line": lines[0], "target": match.group(1) if match else None,
            "headers": headers,
            "behind": head.partition(b"\r\n\r\n")[2]})
        if self.credentials is None:
            return True
        wanted = base64.b64encode(self.credentials.encode()).decode()
        return headers.get("proxy-authorization") == f"Basic {wanted}"

    def tunnel(self, client):
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            pairs = {client: server, server: client}
            while not self.stopping.is_set():
                ready, _, _ = select.select(list(pairs), [], [], 0.2)
                for sock in ready:
                    data = sock.recv(65536)
                    if not data:
                        return
                    pairs[sock].sendall(data)
