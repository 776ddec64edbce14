"""A cable with delay, jitter and a bit rate, between two interfaces of one network namespace.

Many kernels lack netem, and without any delay a whole TCP connection takes a fifth of a millisecond: a network trained
on that knows no radio and no ocean. Runs as a process of its own (`python -m lab.wire`), told its cables as JSON on
stdin. The trap: frames of one direction must never overtake each other, or TCP sees reordering that no cable makes.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

SOL_PACKET, PACKET_IGNORE_OUTGOING, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 23, 1, 1
ETH_P_ALL = 3
QUEUE_BYTES = 256 * 1024  # what a home router holds before it drops: at 20 Mbit/s some 100 ms
BATCH_FRAMES = 64


@dataclass(frozen=True)
class Cable:
    """Two interface names and what happens to a frame between them, the same in both directions."""

    end_a: str
    end_b: str
    delay_ms: float
    jitter_ms: float
    rate_mbit_per_s: float
    loss_percent: float = 0.0


class Direction:
    """One direction of a cable: when does a frame that comes in now go out?"""

    def __init__(self, cable: Cable, *, sender: socket.socket, rng: random.Random) -> None:
        self.sender = sender
        self._cable = cable
        self._rng = rng
        self._line_free_s = 0.0
        self._last_due_s = 0.0

    def due_s(self, now_s: float, *, frame_bytes: int) -> float | None:
        """Return the time at which a frame leaves, or None where it is lost or the queue is full."""
        if self._cable.loss_percent and self._rng.random() * 100 < self._cable.loss_percent:
            return None
        byte_s = 8e-6 / self._cable.rate_mbit_per_s
        start_s = max(now_s, self._line_free_s)
        if start_s - now_s > QUEUE_BYTES * byte_s:
            return None
        self._line_free_s = start_s + frame_bytes * byte_s
        jitter_s = abs(self._rng.gauss(0.0, self._cable.jitter_ms)) / 1e3
        self._last_due_s = max(self._last_due_s, self._line_free_s + self._cable.delay_ms / 1e3 + jitter_s)
        return self._last_due_s


def _tap(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
    tap.bind((interface, 0))
    index = socket.if_nametoindex(interface)
    request = index.to_bytes(4, sys.byteorder) + PACKET_MR_PROMISC.to_bytes(2, sys.byteorder) + bytes(10)
    tap.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
    tap.setblocking(False)
    return tap


def carry(cables: list[Cable], *, seed: int) -> None:
    """Carry frames over all cables until the process is ended."""
    directions: dict[int, Direction] = {}
    taps: dict[int, socket.socket] = {}
    poll = select.epoll()
    for number, cable in enumerate(cables):
        ends = (_tap(cable.end_a), _tap(cable.end_b))
        for side, (tap, other) in enumerate((ends, ends[::-1])):
            taps[tap.fileno()] = tap
            directions[tap.fileno()] = Direction(cable, sender=other, rng=random.Random(f"{seed}:{number}:{side}"))
            poll.register(tap.fileno(), select.EPOLLIN)
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    arrival = 0
    while True:
        wait_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
        for descriptor, _ in poll.poll(wait_s):
            direction = directions[descriptor]
            for _ in range(BATCH_FRAMES):
                try:
                    frame = taps[descriptor].recv(65536)
                except (BlockingIOError, OSError):
                    break
                due_s = direction.due_s(time.monotonic(), frame_bytes=len(frame))
                if due_s is not None:
                    arrival += 1
                    heapq.heappush(waiting, (due_s, arrival, direction.sender, frame))
        now_s = time.monotonic()
        while waiting and waiting[0][0] <= now_s:
            _, _, sender, frame = heapq.heappop(waiting)
            try:
                sender.send(frame)
            except OSError:  # the other end is full or gone: a cable drops
                continue


def main() -> None:
    """Read {"seed": n, "cables": [...]} from stdin, say "ready" and carry."""
    told = json.load(sys.stdin)
    print("ready", flush=True)
    carry([Cable(**cable) for cable in told["cables"]], seed=told["seed"])


if __name__ == "__main__":
    main()
