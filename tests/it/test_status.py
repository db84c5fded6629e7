"""The role `status`, the alarms about certificates that end, and the feed of
events."""
import contextlib
import datetime
import hashlib
import html.parser
import json
import os
import re
import signal
import sqlite3

import pytest
from mdmtest.device import Transport
from mdmtest.mock_apns import answer
from mdmtest.wait import wait_for

PLACE = "/mdmstatus"
ENDPOINTS = {"/mdm": "mdm", "/mdmapi/": "api", PLACE: "status"}


class Page:
    def __init__(self, server):
        self.transport = Transport(server)

    def get(self, query="", method="GET"):
        return self.transport.request(method, PLACE + query)

    def json(self):
        return json.loads(self.get("?format=json").body)

    def metrics(self):
        """{metric line without its value: value}"""
        reply = self.get("?format=prometheus")
        assert reply.status == 200, reply
        assert reply.headers["content-type"].startswith("text/plain")
        found = {}
        for line in reply.body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found


class Reader(html.parser.HTMLParser):
    """Text of the cells, and every tag and attribute."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def status_server(own_server):
    def make(*settings, **more):
        return own_server(settings, endpoints=ENDPOINTS, **more)
    return make


def days(number):
    return datetime.timedelta(days=number).total_seconds()


def test_three_forms(status_server):
    server = status_server()
    page = Page(server)
    topic = server.push.topic
    reply = page.get()
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    seen = Reader(reply.body.decode())
    assert topic in seen.text and "good" in seen.text
    assert "script" not in seen.tags and "link" not in seen.tags
    assert not [a for a in seen.attributes if a[0] in ("src", "href")]
    status = page.json()
    cert, = status["push_certificates"]
    assert cert["topic"] == topic and cert["state"] == "good"
    assert cert["source"] == "store" and cert["days_left"] in (364, 365)
    ca, = status["device_cas"]
    assert "CN=" in ca["subject"] and ca["state"] == "good"
    assert status["store_up"] is True and status["secret_key"]["id"]
    api = server.api().status().json
    for known in (api, status):
        known.pop("time")
    assert api == status
    metrics = page.metrics()
    assert metrics["mdm_store_up"] == 1
    label = f'{{topic="{topic}",sha256="{cert["sha256"]}"}}'
    left = metrics["mdm_push_certificate_expiry_seconds" + label]
    assert days(364) - 60 < left < days(365)
    label = f'{{subject="{ca["subject"]}",sha256="{ca["sha256"]}"}}'
    assert metrics["mdm_device_ca_expiry_seconds" + label] > days(30)
    assert metrics[f'mdm_push_certificate_suspended{{topic="{topic}"}}'] == 0


def test_methods_and_formats(status_server):
    page = Page(status_server())
    reply = page.get(method="POST")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    reply = page.get(method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert page.get("?format=xml").status == 400
    assert page.get("?format=html").status == 200


def test_prometheus_text_is_well_formed(status_server):
    text = Page(status_server()).get("?format=prometheus").body.decode()
    typed = set(re.findall(r"^# TYPE (\S+) gauge$", text, re.M))
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.M))
    names = set(re.findall(r"^(\w+)[{ ]", text, re.M))
    assert names and names <= typed == helped
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(
            r'\w+(\{\w+="[^"\n]*"(,\w+="[^"\n]*")*\})? -?\d+', line), line


def test_names_are_escaped(status_server, pki):
    """A hostile subject is text on the page, and a label."""
    subject = 'x"<script>alert(1)</script>&\'\\y'
    page = Page(status_server(("server", "DEVICE_CA_CERTIFICATE",
                               pki.ca(subject).cert_file)))
    body = page.get().body.decode()
    assert "<script" not in body
    name = page.json()["device_cas"][0]["subject"]
    assert name in Reader(body).text
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    assert any(m.startswith("mdm_device_ca_expiry_seconds"
                            f'{{subject="{escaped}"')
               for m in page.metrics())


def test_a_certificate_that_ends_soon(status_server, pki, log):
    log.expect("MDM0501")
    server = status_server(push=False)
    push = pki.push(days=(-1, 10))
    assert server.api().put_pushcert(push.both_pem).status == 200
    page = Page(server)
    cert, = page.json()["push_certificates"]
    assert (cert["state"], cert["days_left"]) == ("soon", 9)
    assert "soon" in Reader(page.get().body.decode()).text


def test_enrolments_of_a_topic(status_server, enroll, pki):
    server = status_server()
    other = pki.push()
    assert server.api().put_pushcert(other.both_pem,
                                     "?force=1").status == 200
    page = Page(server)

    def users():
        return {c["topic"]: c["enrollments"]
                for c in page.json()["push_certificates"]}
    assert users() == {server.push.topic: 0, other.topic: 0}
    for _ in range(2):
        enroll(server)
    assert users() == {server.push.topic: 2, other.topic: 0}
    rows = page.get().body.decode().split("<tr>")
    row, = [r for r in rows if server.push.topic in r]
    assert 'data-name="Enrolments" class="number">2</td>' in row


def second_site(server, ca_file):
    """Another site of the same server, for devices of the same authority."""
    ca, endpoint, proof = [
        server.line(*x) for x in (
            ("DEVICE_CA_CERTIFICATE", [ca_file]), ("ENDPOINT", ["mdm"]),
            ("DEVICE_IDENTITY", ["signature"]))]
    if server.kind == "apache":
        return (f"<VirtualHost 127.0.0.1:1>\n{ca}\n{proof}\n"
                f"LimitRequestBody 33554432\n"
                f"<Location /mdm>\n{endpoint}\n</Location>\n</VirtualHost>")
    return (f"server {{ listen unix:{server.path('other.sock')}; {ca} {proof} "
            f"location = /mdm {{ {endpoint} }} }}")


def test_an_authority_is_there_once(status_server, pki, tmp_path, log):
    """Whichever files hold it, and however often: Prometheus takes no series
    twice."""
    log.expect("MDM0505")
    ca = pki.ca("Twice", days=(-30, 10))
    twice = tmp_path / "twice.pem"
    tmp_path.chmod(0o755)
    with open(ca.cert_file, "rb") as f:
        twice.write_bytes(2 * f.read())
    server = status_server(("server", "DEVICE_CA_CERTIFICATE", str(twice)),
                           start=False)
    server.raw.append(("http", second_site(server, ca.cert_file)))
    status, text = server.configtest()
    assert status == 0, text
    assert text.count("MDM0505") == 1, text
    server.start()
    page = Page(server)
    lines = page.get("?format=prometheus").body.decode().splitlines()
    assert len(lines) == len({x.rsplit(" ", 1)[0] for x in lines})
    cert, = page.json()["device_cas"]
    assert (cert["state"], cert["days_left"]) == ("soon", 9)
    assert page.get().body.decode().count("CN=Twice") == 1
    log.require("MDM0505", 30)


def test_a_suspended_topic(status_server, enroll, own_apns, log):
    log.expect("MDM0405")
    server = status_server()
    device = enroll(server)
    own_apns.script("*", answer(403, "BadCertificate"))
    server.api().push(device.id)
    page = Page(server)
    wait_for(lambda: page.json()["push_certificates"][0]["state"]
             == "suspended", 15, "the page knows that it is suspended")
    text = "".join(Reader(page.get().body.decode()).text)
    assert "Apple says BadCertificate" in text
    assert page.metrics()["mdm_push_certificate_suspended"
                          f'{{topic="{server.push.topic}"}}'] == 1


def test_without_store(status_server, pki, log):
    """What the configuration knows is shown, as 503."""
    log.expect("MDM0101")
    push = pki.push()
    server = status_server(
        ("http", "STORE", "sqlite:/nowhere/mdm.db"),
        ("http", "PUSH_CERTIFICATE", push.cert_file, push.key_file),
        wait_store=False)
    page = Page(server)
    reply = page.get()
    assert reply.status == 503 and reply.headers["retry-after"]
    text = "".join(Reader(reply.body.decode()).text)
    assert "store does not answer" in text and push.topic in text
    reply = page.get("?format=json")
    assert reply.status == 503
    status = json.loads(reply.body)
    assert status["store_up"] is False
    assert status["push_certificates"][0]["topic"] == push.topic
    metrics = page.metrics()
    assert metrics["mdm_store_up"] == 0
    assert any(m.startswith("mdm_push_certificate_expiry_seconds")
               for m in metrics)


def test_file_and_store(status_server, pki):
    push = pki.push()
    server = status_server(("http", "PUSH_CERTIFICATE", push.cert_file,
                            push.key_file), push=False)
    page = Page(server)

    def sources():
        return {c["topic"]: c["source"]
                for c in page.json()["push_certificates"]}
    wait_for(lambda: sources() == {push.topic: "file"}, 15,
             "the file's certificate is stored")
    other = pki.push()
    assert server.api().put_pushcert(other.both_pem,
                                     "?force=1").status == 200
    assert sources() == {push.topic: "file", other.topic: "store"}


# -- alarms -------------------------------------------------------------------

def sql(server, text, *args):
    with contextlib.closing(sqlite3.connect(server.database,
                                            timeout=20)) as db:
        with db:
            return db.execute(text, args).fetchall()


def wait_looked(server):
    """Until the first look at all certificates since the start is over; the
    next one is an hour away."""
    wait_for(lambda: sql(server, "SELECT 1 FROM notice WHERE subject ="
                                 " 'start'"), 30, "the first look")


def test_said_once_and_as_an_event(status_server, pki, log):
    """By one process of all, and not again after a reload."""
    server = status_server(workers=3, push=False)
    wait_looked(server)
    topic = pki.push(days=(-1, 10))
    assert server.api().put_pushcert(topic.both_pem).status == 200
    server.reload()
    log.require("MDM0501", 30)
    server.wait_store()
    feed = server.api()

    def events(topic="server.PushCertificateEnds"):
        reply = feed.call("GET", "/v1/events")
        assert reply.status == 200, reply
        return [e for e in reply.json["events"] if e["topic"] == topic]
    event, = wait_for(events, 15, "an event")
    assert event["enrollment_id"] is None
    assert event["certificate_event"]["push_topic"] == topic.topic
    assert event["certificate_event"]["days_left"] == 9
    assert server.log_text().count("MDM0501") == 1
    # At the next start it is warned of, as it is soon; no second event.
    before = server.log_text().count("MDM0501")
    server.reload()
    wait_for(lambda: server.log_text().count("MDM0501") == before + 1, 30,
             "a warning at the start")
    assert len(events()) == 1
    stored, = events("server.PushCertificateStored")
    assert stored["id"] < event["id"]
    assert stored["certificate_event"] == {
        "push_topic": topic.topic, "sha256": topic.fingerprint,
        "not_after": event["certificate_event"]["not_after"],
        "source": "import", "replaces": None}


def test_another_leader_says_nothing_again(status_server, pki, log):
    """A worker that dies and is made anew is no start."""
    log.expect(r"exited on signal 9", r"exit signal Killed \(9\)",
               "AH00051", "AH00052", "recovered|MDM0103")
    server = status_server(("http", "LEASE_TIME", "1s"), push=False)
    wait_looked(server)
    certs = [pki.push(days=(-1, 10)) for _ in range(2)]
    for cert in certs:
        assert server.api().put_pushcert(cert.both_pem,
                                         "?force=1").status == 200
    server.reload()
    log.expect("MDM0501")

    def told():
        lines = [x for x in server.log_text().splitlines() if "MDM0501" in x]
        return [sum(c.topic in x for x in lines) for c in certs]
    wait_for(lambda: told() == [1, 1], 30, "both are told of")
    (holder,), = sql(server, "SELECT holder FROM lease WHERE name = 'push'")
    pid = int(holder.split()[-2])
    assert pid in server.worker_pids()
    # What the next leader has to say shows that it has looked.
    sql(server, "DELETE FROM notice WHERE subject = ?",
        "push:" + certs[1].topic)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: told()[1] == 2, 30, "the next leader looks")
    assert told() == [1, 2]


@pytest.mark.parametrize("left", [10, -1])
def test_device_ca_at_configtest(own_server, pki, left):
    ca = pki.ca("An old authority", days=(-30, left))
    server = own_server([("server", "DEVICE_CA_CERTIFICATE", ca.cert_file)],
                        start=False)
    status, text = server.configtest()
    assert status == 0, text
    assert ("MDM0505" if left > 0 else "MDM0506") in text
    assert "An old authority" in text


def test_built_in_authority(own_server, pki):
    """The one that the SCEP server made is shown, one from files is warned of
    while the configuration is read."""
    server = own_server(endpoints={**ENDPOINTS, "/scep": "scep"})
    page = Page(server)
    assert page.transport.request("GET",
                                  "/scep?operation=GetCACert").status == 200
    made, = [c for c in page.json()["device_cas"] if c["source"] == "store"]
    assert made["state"] == "good" and made["days_left"] > 3000
    assert [m for m in page.metrics() if m.startswith(
        "mdm_device_ca_expiry_seconds") and made["sha256"] in m]
    ca = pki.ca("An issuer", days=(-30, 10), key_kind="rsa")
    server = own_server([("http", "SCEP_CERTIFICATE", ca.cert_file),
                         ("http", "SCEP_CERTIFICATE_KEY", ca.key_file)],
                        start=False)
    status, text = server.configtest()
    assert (status, text.count("MDM0505")) == (0, 1), text


# -- the feed -----------------------------------------------------------------

def test_feed_parameters(server):
    api = server.api()
    for query in ("?after=-1", "?after=x", "?limit=0", "?limit=1001"):
        assert api.call("GET", "/v1/events" + query).status == 400, query
    reply = api.call("GET", "/v1/events?after=999999999")
    assert reply.json == {"events": [], "last": 999999999}
    assert api.call("POST", "/v1/events").status == 405


def test_feed_needs_a_scope(own_server):
    token = "a token of sixteen and more"
    digest = hashlib.sha256(token.encode()).hexdigest()
    server = own_server(tokens=f"r:read,command:sha256:{digest}\n",
                        wait_store=False)
    api = server.api(token)
    wait_for(lambda: api.call("GET", "/v1/status").status == 200, 15,
             "the store is open")
    assert api.call("GET", "/v1/events").status == 403
