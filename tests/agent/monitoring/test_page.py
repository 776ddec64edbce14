"""The local page as a client sees it: off unless asked for, known names only, read-only, and never markup of a name."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.devices import Devices
from agent.live.neighbourhood import Neighbourhood
from agent.monitoring.bounded_server import MAX_CLIENTS
from agent.monitoring.facts import HEARD, DeviceFacts, HeardDevice
from agent.monitoring.metrics import MetricsServer, MetricsSettings
from agent.monitoring.page import FILE, host_of, policy_of
from agent.monitoring.status_page import problems_of
from agent.monitoring.status_server import StatusReport, adapter
from contracts.errors import ConfigError
from flowfeatures import HomeNets
from tests.agent.monitoring.conftest import Serve
from tests.agent.monitoring.facts import full_facts
from tests.conftest import ROOT
from tests.delivery.certificates import Authority

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def serve(serve: Serve) -> Serve:
    """Give a function that serves facts and their page."""
    return partial(serve, page=True)


def said(server: MetricsServer, request: str | bytes, *, tls: ssl.SSLContext | None = None) -> tuple[int, dict, bytes]:
    """Send a request as it is and return status, headers in lower case, body."""
    octets = request if isinstance(request, bytes) else request.replace("\n", "\r\n").encode()
    with socket.create_connection(("127.0.0.1", server.listener.port), timeout=120) as plain:
        sock = plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")
        sock.sendall(octets)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def got(
    server: MetricsServer, path: str = "/", *, method: str = "GET", host: str = "localhost", more: str = ""
) -> tuple:
    return said(server, f"{method} {path} HTTP/1.1\nHost: {host}\n{more}\n")


def test_unless_it_is_asked_for_there_is_no_page(serve: Serve):
    server = serve(full_facts(), page=False)

    assert got(server)[2] == b"penstock: metrics stand at /metrics\n"
    assert got(server, "/facts.json")[0] == 404
    assert MetricsSettings().page is False
    assert AgentConfig.model_validate({"capture": {"interfaces": ["lo"]}}).metrics.page is False


def test_the_page_is_one_file_that_may_run_its_own_script_and_load_nothing(serve: Serve):
    status, headers, body = got(serve(full_facts()))

    html = body.decode()
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert (status, body) == (200, FILE.read_bytes())
    assert policy["default-src"] == "'none'"
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy_of(html).count(f"{tag}-src 'sha256-{digest}'") == 1
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'".lower()
    assert set(re.findall(r"https?://[^\s\"'%]+", html)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\son\w+=", html) == []
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_facts_are_those_of_the_status_with_what_is_wrong_and_the_last_minutes(serve: Serve):
    server = serve(full_facts())

    status, headers, body = got(server, "/facts.json")
    report = json.loads(body)

    told = adapter().validate_python(report["status"], strict=False)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert told == StatusReport(
        age_s=0.0,
        packets_per_s={"eth0": 0.0, "wlan0": 0.0},
        drops_per_s={"eth0": 0.0, "wlan0": 0.0},
        facts=full_facts(),
    )
    assert report["problems"][:2] == list(problems_of(told, now_us=report["now_us"]))[:2]
    assert set(report["history"]) == {"packets_per_s", "drops_per_s", "windows_per_s", "flows"}


def test_before_the_first_facts_it_says_that_the_pipeline_has_not_begun(serve: Serve):
    report = json.loads(got(serve(), "/facts.json")[2])

    assert report["problems"] == ["no numbers yet: the pipeline has not begun"]
    assert report["status"]["age_s"] is None


def test_a_report_is_made_once_for_the_same_facts(serve: Serve):
    server = serve(full_facts())
    first = got(server, "/facts.json")[2]
    made = server._local_page._made[2]

    again = got(server, "/facts.json")[2]

    assert again == first
    assert server._local_page._made[2] is made


# -- who may ask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9744", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("cellar.lan", 200),
        ("evil.example", 421),
        ("evil.example:9744", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("localhost, evil.example", 421),
        ("127.0.0.2", 421),
        ("0.0.0.0", 421),
        ("localhost:", 421),
        ("", 421),
        ("x" * 300, 421),
    ],
)
def test_a_name_that_somebody_pointed_here_is_not_answered(serve: Serve, host: str, status: int):
    server = serve(full_facts(), page_hosts=("Cellar.lan",))

    answers = [got(server, path, host=host) for path in ("/", "/facts.json")]

    assert [answer[0] for answer in answers] == [status, status]
    assert (b"192.168" in answers[1][2]) == (status == 200)
    assert got(server, "/metrics", host=host)[0] == 200  # no address stands there, and scrapers use any name


def test_without_a_host_or_with_two_of_them_nothing_is_shown(serve: Serve):
    server = serve(full_facts())

    none = said(server, "GET /facts.json HTTP/1.0\n\n")[0]
    two = said(server, "GET /facts.json HTTP/1.1\nHost: evil.example\nHost: localhost\n\n")[0]

    assert (none, two) == (421, 400)
    assert host_of("") == ""


def test_the_address_it_listens_on_is_a_name_of_it_and_any_address_is_none(serve: Serve):
    shut = {"username": "me", "password": "pass"}
    basic = f"Authorization: Basic {base64.b64encode(b'me:pass').decode()}\n"
    own = serve(full_facts(), listen="192.168.1.2:9744", **shut)
    wild = serve(full_facts(), listen="0.0.0.0:9744", **shut)

    assert got(own, host="192.168.1.2:9744", more=basic)[0] == 200
    assert got(wild, host="0.0.0.0:9744", more=basic)[0] == 421
    assert got(wild, host="192.168.1.2", more=basic)[0] == 421


@pytest.mark.parametrize("path", ["/", "/facts.json"])
def test_password_and_tls_of_the_metrics_hold_for_the_page(serve: Serve, path: str, tmp_path: Path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("gateway")
    server = serve(full_facts(), username="me", password="pass", cert_file=cert, key_file=key)
    tls = ssl.create_default_context(cafile=authority.ca)
    basic = f"Authorization: Basic {base64.b64encode(b'me:pass').decode()}\n"

    without = said(server, f"GET {path} HTTP/1.1\nHost: localhost\n\n", tls=tls)
    behind = said(server, f"GET {path} HTTP/1.1\nHost: localhost\n{basic}\n", tls=tls)

    assert (without[0], behind[0]) == (401, 200)
    assert b"cellar" not in without[2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/facts.json"])
def test_nothing_can_be_done_there_but_reading(serve: Serve, method: str, path: str):
    status, headers, _ = got(serve(full_facts()), path, method=method, more="Content-Length: 0\n")

    assert (status, headers["allow"]) == (405, "get, head")


@pytest.mark.parametrize("path", ["/", "/facts.json"])
def test_head_gets_the_head_of_what_get_would(serve: Serve, path: str):
    server = serve(full_facts())

    status, headers, body = got(server, path, method="HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) == len(got(server, path)[2])


@pytest.mark.parametrize(
    "path",
    [
        "/page.html",
        "/../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/page.py",
        "//facts.json",
        "/facts.json/",
        "/facts.json/..",
        "/favicon.ico",
        "/FACTS.JSON",
        "/metrics/../facts.json",
    ],
)
def test_no_path_leads_anywhere_else(serve: Serve, path: str):
    assert got(serve(full_facts()), path)[0] == 404


def test_a_query_changes_nothing(serve: Serve):
    server = serve(full_facts())

    assert got(server, "/?<script>")[2] == FILE.read_bytes()


@pytest.mark.parametrize("more", [f"X: {'x' * 9000}\n", "X: y\n" * 100, f"Cookie: {'a=b; ' * 3000}\n"])
def test_a_huge_head_is_refused(serve: Serve, more: str):
    server = serve(full_facts())

    with contextlib.suppress(ConnectionResetError):  # it does not read to the end what it refuses
        assert got(server, more=more)[0] == 400

    until(lambda: server.listener.results["malformed"] == 1)
    assert got(server)[0] == 200


def test_who_reads_slowly_keeps_nobody_out_for_long(serve: Serve):
    server = serve(full_facts())
    slow = [socket.create_connection(("127.0.0.1", server.listener.port), timeout=120) for _ in range(MAX_CLIENTS)]
    for sock in slow:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # and no end
    until(lambda: server.listener.busy == MAX_CLIENTS)
    beyond = socket.create_connection(("127.0.0.1", server.listener.port), timeout=120)
    refused = beyond.recv(100)
    until(lambda: server.listener.results["busy"] == 1)
    for sock in (*slow, beyond):
        sock.close()
    until(lambda: server.listener.busy == 0)

    assert refused == b""
    assert got(server)[0] == 200


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


# -- what devices say -----------------------------------------------------------------------------------------------


def test_what_a_device_calls_itself_is_never_in_the_file_and_stands_in_the_facts_as_a_text_of_json(serve: Serve):
    heard = (HeardDevice(mac="02:00:00:00:00:01", name=HOSTILE, addresses=("192.168.1.20",)),)
    server = serve(replace(full_facts(), devices=DeviceFacts(devices=1, heard=heard)))

    page, facts = got(server)[2].decode(), got(server, "/facts.json")

    assert HOSTILE not in page
    assert facts[1]["content-type"] == "application/json"
    assert json.loads(facts[2])["status"]["facts"]["devices"]["heard"][0]["name"] == HOSTILE


def test_of_ten_thousand_devices_the_last_ones_are_shown_in_a_report_that_stays_small(serve: Serve, tmp_path: Path):
    devices = Devices(home=HomeNets(["10.0.0.0/8"]))
    for number in range(10_000):
        devices.observe(arp_claim(number), 1_000_000 + number)
    config = AgentConfig.model_validate({"capture": {"interfaces": ["lo"]}})
    around = Neighbourhood(config, state_dir=None)
    around.devices = devices

    facts = around.facts()
    body = got(serve(replace(full_facts(), devices=facts)), "/facts.json")[2]

    assert [each.mac for each in facts.heard] == [mac_of(9_999 - n) for n in range(HEARD)]
    assert facts.heard[0].addresses == (f"10.0.{9_999 >> 8}.{9_999 & 255}",)
    assert len(body) < 32_768


def mac_of(number: int) -> str:
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def arp_claim(number: int) -> bytes:
    """Return a frame in which a device says that it has an address of its own."""
    mac = bytes.fromhex(mac_of(number).replace(":", ""))
    address = bytes([10, 0, number >> 8, number & 255])
    arp = bytes.fromhex("0001080006040001") + mac + address + bytes(6) + address
    return b"\xff" * 6 + mac + b"\x08\x06" + arp


# -- the settings ---------------------------------------------------------------------------------------------------


def metrics_of(**settings: object) -> object:
    return AgentConfig.model_validate(
        {"capture": {"interfaces": ["lo"]}, "metrics": {"page": True, **settings}}
    ).metrics


SHUT = {
    "username": "me", "password_file": "/etc/penstock/secret", "cert_file": "/etc/penstock/metrics.pem",
}  # fmt: skip


@pytest.mark.parametrize("listen", ["127.0.0.1:9744", "[::1]:9744", "127.3.2.1:80"])
def test_on_this_machine_the_page_may_do_without_a_password(listen: str):
    assert metrics_of(listen=listen).page is True


@pytest.mark.parametrize("missing", ["username", "cert_file"])
@pytest.mark.parametrize("listen", ["0.0.0.0:9744", "192.168.1.2:9744", "[::]:9744"])
def test_seen_from_elsewhere_it_wants_a_password_and_tls(listen: str, missing: str):
    less = {
        key: value for key, value in SHUT.items() if key != missing and (missing, key) != ("username", "password_file")
    }

    with pytest.raises(ValueError, match=re.escape("a username, a password_file and a cert_file")):
        metrics_of(listen=listen, **less)
    assert metrics_of(listen=listen, **SHUT).page is True


@pytest.mark.parametrize("hosts", [["a b"], ["cellar.lan:80"], ["http://cellar"], [""], "cellar", ["a", "a"]])
def test_a_host_that_is_none_is_refused(hosts: object):
    with pytest.raises((ValueError, ConfigError)):
        metrics_of(page_hosts=hosts)


def test_the_file_goes_into_the_wheel():
    assert f'agent = ["{FILE.relative_to(ROOT / "agent")}"]' in (ROOT / "pyproject.toml").read_text()
