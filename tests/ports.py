"""Ports of the loopback nobody else is given while the tests run.

The kernel hands ports of its own range to whoever asks for any, as the near end of a connection too: what was free a
moment ago is somebody's the next, and who connects to one where nobody listens may end up connected to himself. So
these lie outside that range, and each is held until the process that asked for it ends, by an abstract name that only
one process of a network namespace can have.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST, LAST = 10_000, 65_535  # below stand the well-known ones

_held: list[socket.socket] = []


def free_port() -> int:
    """Return a port of the loopback that is free, and that no other caller is given as long as this process lives."""
    low, high = map(int, RANGE.read_text().split())
    outside = [*range(FIRST, low), *range(high + 1, LAST + 1)] or range(FIRST, LAST + 1)
    for port in random.SystemRandom().sample(outside, len(outside)):
        if _is_free(port) and _is_ours(port):
            return port
    raise RuntimeError(f"no port from {FIRST} to {LAST} is free outside {low} to {high}")


def _is_ours(port: int) -> bool:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0penstock-tests-port-{port}")
    except OSError:
        name.close()
        return False
    _held.append(name)
    return True


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("", port))
    except OSError:
        return False
    return True
