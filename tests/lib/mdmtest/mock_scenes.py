"""The mock push service playing the files of tests/cases/apns.

One listener plays many at a time: a connection's client certificate names
the topic, and the topic the play.  A topic without a play is served as
MockAPNs does it, with 200.

A play is a list of steps: `on` "connect", "request:N", "request:N+",
"token:bad" (its hex begins so), "token:good" or "every" (where no other step
decides), on the `conn`-th connection ("2+": from then on), `do` one of the
methods do_... below, `after_ms`.  Or it is raw bytes (.h2bin) on the first
connection: the settings when it opens, the rest when a request has come.
What no step answers on the first connection stays without an answer.
"""
import asyncio
import json
import os

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from cryptography import x509
from cryptography.x509.oid import NameOID

from .mock_apns import Connection, MockAPNs

LIMIT = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
HEADERS, SETTINGS, GOAWAY = 1, 4, 7
RAW_END = 0.5       # seconds from the last raw byte to the end


def frame_at(data, at):
    """(type, end) of the frame that begins there; None: not all there."""
    if len(data) < at + 9:
        return None
    end = at + 9 + int.from_bytes(data[at:at + 3], "big")
    return (data[at + 3], end) if end <= len(data) else None


class Play:
    """What is done on the connections of one topic, and what came."""

    def __init__(self, path):
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.raw = None
        self.script = {"steps": []}
        if path.endswith(".h2bin"):
            with open(path, "rb") as f:
                self.raw = f.read()
        else:
            with open(path, encoding="utf-8") as f:
                self.script = json.load(f)
        self.connected = []         # times
        self.before_settings = 0    # requests that did not wait for them
        self.refused = 0
        self.closing = []           # of connection 1: the client's errors

    @property
    def steps(self):
        return self.script["steps"]


class SceneConnection(Connection):
    """One connection of a play that has steps."""

    def __init__(self, mock, number, play, turn):
        super().__init__(mock, number)
        self.play = play
        self.turn = turn            # 1 for the first connection of the play
        self.requests = 0
        self.deaf = False
        self.mute_pings = False
        self.held = bool(play.script.get("no_initial_settings"))
        self.opening = False
        self.limit = None           # announced last

    def connection_made(self, transport):
        # What is said when it opens is said in one breath: a client could act
        # upon the first settings before the next ones have come.
        self.opening = True
        super().connection_made(transport)
        self.opening = False
        self.fire(lambda on: on == "connect", 0, None)
        self.flush()

    def flush(self):
        if not self.held and not self.deaf and not self.opening:
            super().flush()

    def data_received(self, data):
        if not self.deaf:
            super().data_received(data)

    def on_event(self, event):
        if isinstance(event, h2.events.StreamEnded):
            self.request(event.stream_id)
        elif isinstance(event, h2.events.PingReceived) and self.mute_pings:
            self.h2.clear_outbound_data_buffer()
        else:
            super().on_event(event)

    def request(self, stream):
        headers, body = self.streams[stream]
        request = self.mock.record(self, stream, headers, body)
        request["answer"] = "see the play"
        self.requests += 1
        if self.held:
            self.play.before_settings += 1
        if self.limit == 0:         # it did not know yet
            self.refuse(stream)
            return
        token = request["token"]
        self.fire(lambda on: self.is_meant(on, token), stream, request)

    def is_meant(self, on, token):
        if on == "every":
            return True
        kind, _, value = on.partition(":")
        if kind == "token":
            return token.startswith("bad") == (value == "bad")
        if kind != "request":
            return False
        return self.requests >= int(value[:-1]) if value.endswith("+") \
            else self.requests == int(value)

    def fire(self, is_meant, stream, request):
        """Does every step that fits; at most one of them answers."""
        def fits(step):
            turn = step.get("conn", self.turn)
            if isinstance(turn, str):
                turn = max(self.turn, int(turn[:-1]))
            return turn == self.turn and is_meant(step["on"])
        fitting = [s for s in self.play.steps if fits(s)]
        answers = [s for s in fitting if s["do"] in ("reply", "blackhole")]
        named = [s for s in answers if s["on"] != "every"]
        answers = (named or answers)[:1]
        for step in fitting:
            if step["do"] in ("reply", "blackhole") and step not in answers:
                continue
            if step.get("after_ms"):
                asyncio.get_running_loop().call_later(
                    step["after_ms"] / 1000, self.do, step, stream)
            else:
                self.do(step, stream)
        if request and not answers and self.turn > 1:
            self.do({"do": "reply", "status": 200}, stream)

    def do(self, step, stream):
        if self.deaf or self.transport.is_closing():
            return
        try:
            getattr(self, "do_" + step["do"])(step, stream)
        except h2.exceptions.ProtocolError as error:
            self.mock.faults.append(f"{self.play.name}: {error}")
        self.flush()

    def do_reply(self, step, stream):
        if stream not in self.streams:
            return
        body = step.get("body", "").encode()
        trailers = [tuple(t) for t in step.get("trailers", [])]
        end = step.get("end", True)
        if step.get("informational"):
            self.h2.send_headers(stream, [(":status",
                                           str(step["informational"]))])
        self.h2.send_headers(
            stream, [(":status", str(step["status"])),
                     ("apns-id", self.mock.id_of(self, stream))]
            + [tuple(x) for x in step.get("headers", [])],
            end_stream=end and not body and not trailers)
        if body:
            self.h2.send_data(stream, body,
                              end_stream=end and not trailers)
        if trailers:
            self.h2.send_headers(stream, trailers, end_stream=True)
        if end:
            self.streams.pop(stream)

    def do_settings(self, step, stream):
        limit = step["max_streams"]
        self.limit = limit
        self.h2.update_settings({LIMIT: limit})
        if self.held:
            self.held = False
            # Opened before anything was said: the peer may refuse them.
            for number in sorted(self.streams)[limit:]:
                self.refuse(number)

    def refuse(self, stream):
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        self.streams.pop(stream)
        self.play.refused += 1

    def do_goaway(self, step, stream):
        payload = (step["last"].to_bytes(4, "big")
                   + step["code"].to_bytes(4, "big")
                   + step["debug"].encode())
        self.flush()
        self.transport.write(len(payload).to_bytes(3, "big")
                             + bytes([GOAWAY, 0, 0, 0, 0, 0]) + payload)
        if step.get("then") == "close":
            self.transport.close()

    def do_blackhole(self, step, stream):
        self.deaf = True

    def do_ignore_pings(self, step, stream):
        self.mute_pings = True


class RawConnection(asyncio.Protocol):
    """The first connection of a play of raw bytes."""

    PREFACE = 24

    def __init__(self, mock, play):
        self.mock = mock
        self.play = play
        self.data = b""
        self.at = self.PREFACE
        self.rest = b""

    def connection_made(self, transport):
        self.transport = transport
        raw, cut = self.play.raw, 0
        for _ in range(2):
            frame = frame_at(raw, cut)
            if frame and frame[0] == SETTINGS:
                cut = frame[1]
        self.rest = raw[cut:]
        transport.write(raw[:cut])
        if not cut:                 # not even HTTP/2
            self.finish()

    def data_received(self, data):
        self.data += data
        frame = frame_at(self.data, self.at)
        while frame:
            if frame[0] == HEADERS:
                self.finish()
            elif frame[0] == GOAWAY:
                self.play.closing.append(self.data[self.at + 9:frame[1]])
            self.at = frame[1]
            frame = frame_at(self.data, self.at)

    def finish(self):
        if self.rest is not None and not self.transport.is_closing():
            self.transport.write(self.rest)
            self.rest = None
            asyncio.get_running_loop().call_later(RAW_END,
                                                  self.transport.close)


class Switch(asyncio.Protocol):
    """Finds out whose connection it is, then hands everything over."""

    def __init__(self, mock):
        self.mock = mock
        self.inner = None

    def connection_made(self, transport):
        tls = transport.get_extra_info("ssl_object")
        cert = x509.load_der_x509_certificate(tls.getpeercert(True))
        topic = cert.subject.get_attributes_for_oid(NameOID.USER_ID)[0].value
        self.inner = self.mock.connection_of(topic)
        self.inner.connection_made(transport)

    def data_received(self, data):
        self.inner.data_received(data)

    def connection_lost(self, exc):
        if self.inner is not None:
            self.inner.connection_lost(exc)


class SceneAPNs(MockAPNs):
    """Set plays[topic] before the topic is pushed to."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.plays = {}

    def new_connection(self):
        with self.changed:
            self.accepted += 1
        return Switch(self)

    def connection_of(self, topic):
        with self.changed:
            number = len(self.handshakes) + 1
            play = self.plays.get(topic)
            if play is None:
                return Connection(self, number)
            play.connected.append(asyncio.get_running_loop().time())
            turn = len(play.connected)
        if play.raw is None:
            return SceneConnection(self, number, play, turn)
        return RawConnection(self, play) if turn == 1 \
            else Connection(self, number)

    def id_of(self, connection, stream):
        with self.changed:
            for request in reversed(self.requests):
                if (request["connection"], request["stream"]) \
                        == (connection.number, stream):
                    return request["answer_id"]
        raise KeyError(stream)
