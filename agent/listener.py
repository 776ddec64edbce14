"""A small HTTP/1.1 server for one page: bounded in clients, octets and time, whoever connects.

At most MAX_CLIENTS are served at once, each by a thread of its own that lives MAX_CLIENT_S at most, TLS handshake and
a client that reads slowly included; whoever comes beyond that is closed at once and counted. One request per
connection. It reads no body and hands no error to the client but a number and a line.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from contracts.errors import ListenError

MAX_CLIENTS: Final = 8
MAX_CLIENT_S: Final = 5.0
MAX_HEAD_BYTES: Final = 8192
MAX_HEADERS: Final = 64
POLL_S: Final = 0.5  # how long a stop may have to wait for the thread that accepts
BACKLOG: Final = 16
RESULTS: Final = ("served", "refused", "malformed", "slow", "busy", "failed")


@dataclass(frozen=True)
class Request:
    """What a client asked for; names of headers are in lower case, and the last of one name counts."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What it gets."""

    status: int
    content_type: str
    body: bytes
    more: tuple[tuple[str, str], ...] = ()

    @classmethod
    def text(cls, status: int, line: str, *more: tuple[str, str]) -> Answer:
        """Return an answer of one line."""
        return cls(status, "text/plain; charset=utf-8", f"{line}\n".encode(), more)

    def octets(self, *, with_body: bool) -> bytes:
        """Return it as it goes out."""
        head = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.more),
        ]
        return "\r\n".join([*head, "", ""]).encode() + (self.body if with_body else b"")


class Malformed(Exception):
    """What a client sent is no request."""


class Listener:
    """Accepts in one thread, serves in up to MAX_CLIENTS others. `results` counts connections by what came of them."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        answer: Callable[[Request], Answer],
        tls: ssl.SSLContext | None = None,
        name: str,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = host, port
        self._answer = answer
        self._tls = tls
        self._name = name
        self._now_s = now_s
        self._socket: socket.socket | None = None
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._accept_forever, name=name, daemon=True)
        self._lock = threading.Lock()
        self._results = dict.fromkeys(RESULTS, 0)

    @property
    def port(self) -> int:
        """Return the port that is listened on, which the kernel chose where 0 was asked for."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._place[1]

    @property
    def results(self) -> dict[str, int]:
        """Return how many connections came to what."""
        with self._lock:
            return dict(self._results)

    def start(self) -> None:
        """Listen. Raises ListenError where the address cannot be had."""
        host, port = self._place
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(self._place)
            sock.listen(BACKLOG)
        except OSError as exc:
            sock.close()
            raise ListenError(f"metrics: cannot listen on {host}, port {port}: {exc.strerror or exc}") from exc
        sock.settimeout(POLL_S)
        self._socket = sock
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody any more. May be called again."""
        self._is_over.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # on Linux this ends an accept that waits
        if self._thread.is_alive():
            self._thread.join(2 * POLL_S)
        if self._socket is not None:
            self._socket.close()

    def _accept_forever(self) -> None:
        assert self._socket is not None
        while not self._is_over.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # out of descriptors, or a client gone before it was taken
                if not self._is_over.is_set():
                    self._count("failed")
                    self._is_over.wait(POLL_S)
                continue
            if not self._slots.acquire(blocking=False):
                self._count("busy")
                client.close()
                continue
            self._begin(client)

    def _begin(self, client: socket.socket) -> None:
        try:
            threading.Thread(target=self._serve, args=(client,), name=f"{self._name}-client", daemon=True).start()
        except RuntimeError:  # no more threads
            self._slots.release()
            self._count("failed")
            client.close()

    def _serve(self, client: socket.socket) -> None:
        deadline_s = self._now_s() + MAX_CLIENT_S
        try:
            self._count(self._served(client, deadline_s))
        except TimeoutError:
            self._count("slow")
        except (OSError, ValueError):  # it went away, or speaks no TLS
            self._count("failed")
        finally:
            with contextlib.suppress(OSError):
                client.close()
            self._slots.release()

    def _served(self, client: socket.socket, deadline_s: float) -> str:
        self._hurry(client, deadline_s)
        stream = client if self._tls is None else self._tls.wrap_socket(client, server_side=True)
        with stream:
            try:
                request = parse(self._head(stream, deadline_s))
            except Malformed as exc:
                self._send(stream, Answer.text(400, str(exc)).octets(with_body=True), deadline_s)
                return "malformed"
            answer = self._answer(request)
            self._send(stream, answer.octets(with_body=request.method != "HEAD"), deadline_s)
        return "served" if answer.status == HTTPStatus.OK else "refused"

    def _head(self, stream: socket.socket, deadline_s: float) -> bytes:
        """Return the octets of a request up to its empty line. Raises TimeoutError, Malformed."""
        head = b""
        while b"\r\n\r\n" not in head:
            self._hurry(stream, deadline_s)
            octets = stream.recv(4096)
            head += octets
            if not octets:
                raise Malformed("a request that ends before its empty line")
            if len(head) > MAX_HEAD_BYTES:
                raise Malformed(f"a request of more than {MAX_HEAD_BYTES} octets")
        return head.partition(b"\r\n\r\n")[0]

    def _send(self, stream: socket.socket, octets: bytes, deadline_s: float) -> None:
        rest = memoryview(octets)
        while rest:
            self._hurry(stream, deadline_s)
            rest = rest[stream.send(rest) :]

    def _hurry(self, stream: socket.socket, deadline_s: float) -> None:
        """Let the next step take no longer than what is left; a timeout per step would let a trickle go on for ever."""
        if (left_s := deadline_s - self._now_s()) <= 0:
            raise TimeoutError
        stream.settimeout(left_s)

    def _count(self, result: str) -> None:
        with self._lock:
            self._results[result] += 1


def parse(head: bytes) -> Request:
    """Return the request that a head holds. Raises Malformed.

    >>> parse(b"GET /metrics?x=1 HTTP/1.1\\r\\nHost: a").path
    '/metrics'
    """
    lines = head.decode("latin-1").split("\r\n")
    first = re.fullmatch(r"([A-Z]{1,16}) (/[!-~]{0,2000}) HTTP/1\.[01]", lines[0])
    if first is None:
        raise Malformed("wanted: METHOD /path HTTP/1.1")
    if len(lines) > MAX_HEADERS:
        raise Malformed(f"more than {MAX_HEADERS} headers")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[!-9;-~]+", name):
            raise Malformed("a header without a name")
        headers[name.lower()] = value.strip()
    return Request(first[1], first[2].partition("?")[0], headers)
