"""A small HTTP/1.1 server for one page: one request per connection, in a bounded head, without a body.

TLS handshake and slow readers fall under the deadline of `bounded_server`. It hands no error to the client but a number
and a line.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from agent.monitoring.bounded_server import BACKLOG, BoundedServer
from contracts.errors import ListenError

MAX_HEAD_BYTES: Final = 8192
MAX_HEADERS: Final = 64


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


class Listener(BoundedServer):
    """Serves one request per connection with what `answer` makes of it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        answer: Callable[[Request], Answer],
        tls: ssl.SSLContext | None = None,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self._place = host, port
        self._answer = answer
        self._tls = tls

    @property
    def port(self) -> int:
        """Return the port that is listened on, which the kernel chose where 0 was asked for."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._place[1]

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
        self.accept_on(sock)

    def serve(self, client: socket.socket, deadline_s: float) -> str:
        """Read a request, answer it, close."""
        self.hurry(client, deadline_s)
        stream = client if self._tls is None else self._tls.wrap_socket(client, server_side=True)
        with stream:
            try:
                request = parse(self._head(stream, deadline_s))
            except Malformed as exc:
                self.send(stream, Answer.text(400, str(exc)).octets(with_body=True), deadline_s)
                return "malformed"
            answer = self._answer(request)
            self.send(stream, answer.octets(with_body=request.method != "HEAD"), deadline_s)
        return "served" if answer.status == HTTPStatus.OK else "refused"

    def _head(self, stream: socket.socket, deadline_s: float) -> bytes:
        """Return the octets of a request up to its empty line. Raises TimeoutError, Malformed."""
        head = b""
        while b"\r\n\r\n" not in head:
            self.hurry(stream, deadline_s)
            octets = stream.recv(4096)
            head += octets
            if not octets:
                raise Malformed("a request that ends before its empty line")
            if len(head) > MAX_HEAD_BYTES:
                raise Malformed(f"a request of more than {MAX_HEAD_BYTES} octets")
        return head.partition(b"\r\n\r\n")[0]


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
        if name.lower() == "host" and "host" in headers:
            raise Malformed("two Host headers")
        headers[name.lower()] = value.strip()
    return Request(first[1], first[2].partition("?")[0], headers)
