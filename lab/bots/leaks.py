"""What a taken-over device sends out: calls to a command server, names that carry data, uploads fast and slow."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import time

from lab.bots.pace import Told
from lab.tools import find

TUNNEL_PATIENCE_S = 12.0  # iodine tries raw UDP, then record types, then sizes before the tunnel stands


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


def slow_leak(told: Told) -> None:
    """Give away `size_bytes`, more or less, in a connection of its own each time."""

    def leak() -> None:
        with told.connect() as line:
            line.sendall(told.rng.randbytes(int(told.size_bytes * told.rng.uniform(0.3, 1.0))))
            line.recv(4096)

    told.in_parallel(leak)


def jittered_beacon(told: Told) -> None:
    """Say hello to a master and ping it at every turn, `hold_s` times per connection; its orders are not followed."""
    with contextlib.suppress(OSError):
        while told.pace.turn():
            with told.connect() as line:
                line.sendall(b"HELLO " + told.rng.randbytes(told.size_bytes // 2).hex().encode() + b"\n")
                line.recv(256)
                for _ in range(max(1, int(told.hold_s))):
                    line.sendall(b"PING\n")
                    line.recv(256)
                    if not told.pace.turn():
                        return


def web_beacon(told: Told) -> None:
    """Ask a web server for something small, with what is to be told in the path."""

    def call() -> None:
        path = told.rng.randbytes(max(4, told.size_bytes // 2)).hex()
        with told.connect() as line:
            line.sendall(f"GET /{path} HTTP/1.0\r\nHost: {told.target}\r\nUser-Agent: Mozilla/5.0\r\n\r\n".encode())
            while line.recv(4096):
                pass

    told.in_parallel(call)


def iodine_tunnel(told: Told) -> None:
    """Let iodine carry datagrams through DNS to the far end's own network; it ends with this program's namespace."""
    options = ("-f", "-r", "-T", told.record_type, "-P", told.password, "-I", "1")
    # The lab ends this program at its limit, and what it started must end with it.
    process = subprocess.Popen(
        [find("setpriv"), "--pdeathsig", "TERM", find("iodine"), *options, told.target, told.domain],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end_s = time.monotonic() + TUNNEL_PATIENCE_S
    while time.monotonic() < end_s and process.poll() is None and not _is_routed(told.inner):
        time.sleep(0.2)
    is_up = process.poll() is None and _is_routed(told.inner)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        while is_up and process.poll() is None and told.pace.turn():
            with contextlib.suppress(OSError):
                client.sendto(told.rng.randbytes(told.size_bytes), (told.inner, 9))
    process.terminate()
    process.wait()


def _is_routed(address: str) -> bool:
    """Does a tunnel of this host lead to the address?"""
    asked = [find("ip"), "-o", "route", "get", address]
    return " dev dns" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout
