"""The lab's own servers answer what a real one would, and hold out against what attackers send them."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from types import SimpleNamespace

import pytest

from lab import small_servers, toy_servers
from lab.plan import PASSWORD, USER, Service
from tests.ports import free_port


@pytest.fixture
def serve():
    """Start a server of the lab on loopback, at a free port; stop all at the end."""
    stop, threads = threading.Event(), []

    def thread(_host, target, *, name):
        threads.append(threading.Thread(target=target, name=name, daemon=True))
        threads[-1].start()

    def start(server, **settings):
        port = free_port()
        network = SimpleNamespace(thread=thread)
        server(SimpleNamespace(network=network, host="toy", stop=stop, service=Service("toy", port, settings)))
        for _ in range(12_000):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.01)
        raise AssertionError("nobody listens")

    yield start
    stop.set()
    for each in threads:
        each.join(timeout=120)


def page(port, verb, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(verb, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_the_toy_site_lets_in_who_knows_the_password_and_nobody_else(serve):
    port = serve(toy_servers.toy_site)
    right, _ = page(port, "POST", "/login", f"user={USER}&pass={PASSWORD}")
    cookie = right.getheader("Set-Cookie").partition(";")[0]

    assert right.status == 302
    assert page(port, "GET", "/admin/", Cookie=cookie)[0].status == 200
    assert page(port, "GET", "/admin/")[0].status == 403
    assert "login incorrect" in page(port, "POST", "/login", "user=admin&pass=x")[1]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/items?id=3", 200, "item"),
        ("/items?id=1%27%20OR%201=1", 500, "SQL syntax"),
        ("/search?q=%3Cscript%3E", 200, "&lt;script&gt;"),
        ("/.env", 404, "not here"),
        ("/search?" + "&".join(f"a{n}=1" for n in range(200)), 400, "bad request"),
    ],
)
def test_the_toy_site_answers_attacks_without_interpreting_them(serve, path, status, text):
    answer, said = page(serve(toy_servers.toy_site), "GET", path)

    assert answer.status == status
    assert text in said


def test_the_toy_site_survives_what_is_no_request(serve):
    port = serve(toy_servers.toy_site)
    for rubbish in (b"\x00" * 500, b"GET / HTTP/9.9\r\nContent-Length: -5\r\n\r\n", b"POST / HTTP/1.0\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
            line.sendall(rubbish)

    assert page(port, "GET", "/")[0].status == 200


def test_a_master_gives_one_order_per_connection_after_so_many_pings(serve):
    port = serve(toy_servers.botmaster, orders=["udp", "get"], after=2)
    heard = []
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=120) as line, line.makefile("rb") as answers:
            for text in (b"HELLO x\n", b"PING\n", b"PING\n", b"PING\n"):
                line.sendall(text)
                heard.append(answers.readline())

    assert heard == [b"OK\n", b"WAIT\n", b"ORDER udp\n", b"WAIT\n", b"OK\n", b"WAIT\n", b"ORDER get\n", b"WAIT\n"]


@pytest.mark.parametrize(
    ("request_body", "answer"),
    [
        (struct.pack(">BBHH", 1, 3, 0, 2), bytes([1, 3, 4]) + bytes(4)),
        (struct.pack(">BBHH", 1, 6, 9, 77), struct.pack(">BBHH", 1, 6, 9, 77)),
        (struct.pack(">BBHH", 1, 90, 0, 0), bytes([1, 0xDA, 1])),
    ],
)
def test_modbus_reads_confirms_writes_and_refuses_the_rest(serve, request_body, answer):
    port = serve(small_servers.modbus)
    with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
        line.sendall(struct.pack(">HHH", 5, 0, len(request_body)) + request_body)
        seen = line.recv(260)

    assert seen == struct.pack(">HHH", 5, 0, len(answer)) + answer
