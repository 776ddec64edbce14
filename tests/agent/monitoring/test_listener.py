"""A listener that nobody can stall: slow, many, silent, rude and absent clients."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.monitoring import bounded_server as module
from agent.monitoring.bounded_server import MAX_CLIENTS
from agent.monitoring.listener import MAX_HEAD_BYTES, Answer, Listener, Malformed, Request, parse

GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def listening() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def listening_(answer: Callable[[Request], Answer] = lambda _: Answer.text(200, "here")) -> Listener:
        made.append(Listener("127.0.0.1", 0, answer=answer, name="test"))
        made[-1].start()
        return made[-1]

    yield listening_
    for each in made:
        each.stop()


def connected(listener: Listener) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", listener.port), timeout=120)
    sock.settimeout(120)
    return sock


def answered(listener: Listener, octets: bytes) -> bytes:
    with connected(listener) as sock:
        sock.sendall(octets)
        found = b""
        with contextlib.suppress(ConnectionResetError):  # it does not read to the end what it refuses
            while more := sock.recv(65536):
                found += more
        return found


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_request_gets_its_answer_and_the_connection_ends(listening):
    listener = listening()

    answer = answered(listener, GET)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhere\n")


def test_a_request_in_single_octets_is_a_request(listening):
    with connected(listening()) as sock:
        for octet in GET:
            sock.send(bytes([octet]))

        assert sock.recv(100).startswith(b"HTTP/1.1 200")


def test_head_gets_no_body(listening):
    assert answered(listening(), GET.replace(b"GET", b"HEAD")).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100 + b"\r\n",
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=lambda octets: repr(octets[:24]),
)
def test_what_is_no_request_is_told_so(listening, octets: bytes):
    listener = listening()

    answer = answered(listener, octets)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    until(lambda: listener.results["malformed"] == 1)


def test_noise_makes_a_request_or_malformed_and_nothing_else():
    chance = random.Random(9)
    for _ in range(3000):
        octets = bytearray(b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi")
        for _ in range(chance.randrange(6)):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        try:
            parse(bytes(octets))
        except Malformed:
            continue


def test_a_client_that_leaves_before_the_end_costs_nothing(listening):
    listener = listening()

    for number in range(30):
        with connected(listener) as sock:
            sock.send(b"GET /metr")
        until(lambda: sum(listener.results.values()) > number and listener.busy == 0)  # noqa: B023

    assert answered(listener, GET).startswith(b"HTTP/1.1 200")


def test_silent_and_trickling_clients_are_ended_after_their_time(listening, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CLIENT_S", 0.3)
    listener = listening()
    silent, trickling = connected(listener), connected(listener)
    is_over = threading.Event()

    def trickle() -> None:
        while not is_over.wait(0.05):
            try:
                trickling.send(b"x")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    until(lambda: listener.results["slow"] == 2)
    is_over.set()
    thread.join()

    until(lambda: listener.busy == 0)
    silent.close()
    trickling.close()


def test_a_client_that_reads_nothing_is_ended_too(listening, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CLIENT_S", 0.3)
    listener = listening(lambda _: Answer(200, "text/plain", bytes(64 << 20)))

    with connected(listener) as sock:
        sock.sendall(GET)
        until(lambda: listener.results["slow"] == 1)

    until(lambda: listener.busy == 0)


def test_more_clients_than_places_are_closed_at_once_and_the_others_served(listening):
    listener = listening()
    holding = [connected(listener) for _ in range(MAX_CLIENTS)]
    until(lambda: listener.busy == MAX_CLIENTS)

    with connected(listener) as one_more:
        assert one_more.recv(1) == b""
    until(lambda: listener.results["busy"] == 1)
    for sock in holding:
        sock.sendall(GET)

    assert all(sock.recv(100).startswith(b"HTTP/1.1 200") for sock in holding)
    for sock in holding:
        sock.close()


def test_ending_does_not_wait_for_a_client(listening):
    listener = listening()
    with connected(listener):
        until(lambda: listener.busy == 1)

        listener.stop()

        assert not listener._thread.is_alive()
