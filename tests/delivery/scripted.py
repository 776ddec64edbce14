"""A broker that does what a test says, to the letter: withholds a PUBACK, knows no MQTT 5, hangs up.

Only what the sender needs is spoken: CONNECT, PUBLISH at QoS 1, DISCONNECT. What arrives is kept as it came.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

VERSION_5, VERSION_311 = 5, 4
HANG_UP = "hang up"


@dataclass
class Heard:
    """One PUBLISH."""

    topic: str
    payload: bytes
    number: int
    is_retained: bool
    session: Session


@dataclass
class Session:
    """One connection that sent CONNECT."""

    version: int
    link: socket.socket = field(repr=False)
    connect: bytes = field(default=b"", repr=False)
    subscribes: int = 0

    def acknowledge(self, number: int, code: int = 0) -> None:
        """Send a PUBACK."""
        body = struct.pack("!H", number) + (bytes([code, 0]) if code else b"")
        with contextlib.suppress(OSError):  # who asked may have left
            self.link.sendall(bytes([0x40, len(body)]) + body)

    def hang_up(self) -> None:
        """End the connection without a word."""
        self.link.shutdown(socket.SHUT_RDWR)


class ScriptedBroker:
    """Listens on the loopback while the context lasts.

    `greet` answers a CONNECT of a version with a code of CONNACK or HANG_UP; `acknowledge` says what PUBACK a PUBLISH
    gets, None for none.
    """

    def __init__(
        self,
        *,
        greet: Callable[[int], int | str] = lambda _version: 0,
        acknowledge: Callable[[Heard], int | None] = lambda _heard: 0,
        receive_maximum: int = 65_535,
    ) -> None:
        self.heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self.sessions: list[Session] = []
        self._greet = greet
        self._acknowledge = acknowledge
        self._receive_maximum = receive_maximum
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> ScriptedBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def next(self, *, alerts: bool = True) -> Heard:
        """Return the next alert, or the next message on availability. Raises queue.Empty where none comes."""
        while True:
            heard = self.heard.get(timeout=120)
            if ("/alert/" in heard.topic) == alerts:
                return heard

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(link,), daemon=True).start()

    def _converse(self, link: socket.socket) -> None:
        with link, link.makefile("rb") as stream:
            session = None
            while (packet := _read_packet(stream)) is not None:
                kind, body = packet
                if kind >> 4 == 1:
                    session = Session(body[6], link, body)
                    self.sessions.append(session)
                    if not self._answer(session):
                        return
                elif kind >> 4 == 3 and session is not None:
                    heard = _publish(kind, body, session)
                    self.heard.put(heard)
                    code = self._acknowledge(heard)
                    if code is not None:
                        session.acknowledge(heard.number, code)
                elif kind >> 4 == 8 and session is not None:
                    session.subscribes += 1
                elif kind >> 4 == 14:
                    return

    def _answer(self, session: Session) -> bool:
        code = self._greet(session.version)
        if isinstance(code, str):
            return False
        properties = (
            b"\x03\x21" + struct.pack("!H", self._receive_maximum)
            if session.version == VERSION_5 and code != 1
            else b""
        )
        session.link.sendall(bytes([0x20, 2 + len(properties), 0, code]) + properties)
        return code == 0


def _read_packet(stream) -> tuple[int, bytes] | None:
    try:
        first = stream.read(1)
        if not first:
            return None
        length, shift = 0, 0
        while True:
            byte = stream.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return first[0], stream.read(length)
    except (OSError, IndexError):
        return None


def _publish(kind: int, body: bytes, session: Session) -> Heard:
    (size,) = struct.unpack_from("!H", body)
    (number,) = struct.unpack_from("!H", body, 2 + size)
    rest = body[4 + size :]
    if session.version == VERSION_5:
        length, place, shift = 0, 0, 0
        while True:
            length |= (rest[place] & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if not rest[place - 1] & 0x80:
                break
        rest = rest[place + length :]
    return Heard(body[2 : 2 + size].decode(), rest, number, bool(kind & 1), session)
