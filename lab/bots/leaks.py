"""What a taken-over device sends out: calls to a command server, names that carry data, an upload."""

from __future__ import annotations

import contextlib
import socket
import struct

from lab.bots.pace import Told


def beacon(told: Told) -> None:
    """Call a command server again and again: one small exchange per connection."""

    def call() -> None:
        with told.connect() as line:
            line.sendall(told.rng.randbytes(told.size_bytes))
            line.recv(4096)

    told.in_parallel(call)


def name_tunnel(told: Told) -> None:
    """Carry bytes out in the labels of DNS questions."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        while told.pace.turn():
            carried = [f"{told.rng.getrandbits(240):060x}" for _ in range(min(3, max(1, told.size_bytes // 60)))]
            question = b"".join(bytes([len(label)]) + label.encode() for label in (*carried, "t", "io"))
            kind = told.rng.choice([16, 16, 1, 10])
            header = struct.pack(">HHHHHH", told.rng.randrange(65536), 0x0100, 1, 0, 0, 0)
            with contextlib.suppress(OSError):
                client.sendto(header + question + struct.pack(">BHH", 0, kind, 1), (told.target, 53))
                client.recv(2048)


def upload(told: Told) -> None:
    """Send `size_bytes` in one or more connections to a server outside, at the rate in kB/s."""
    left = told.size_bytes
    block = bytes(1000)
    with told.connect() as line:
        while left > 0 and told.pace.turn():
            line.sendall(block)
            left -= len(block)
