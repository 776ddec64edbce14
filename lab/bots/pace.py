"""What bounds every attack program of ours: a count, a rate, and the hosts it was told.

The trap: a turn is a licence to do one thing once; whoever loops without taking turns is not bounded.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable

PATIENCE_S = 4.0
MOST = 20_000  # no kind does anything more often than this, whatever it was told


class Pace:
    """A clock that gives turns at a rate, shared by threads, until the count is used up."""

    def __init__(self, *, count: int, per_s: float, rng: random.Random) -> None:
        self._left = min(count, MOST)
        self._gap_s = 1.0 / per_s
        self._rng = rng
        self._due_s = time.monotonic()
        self._lock = threading.Lock()

    def turn(self) -> bool:
        """Wait for the next turn; False where none is left."""
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= 1
            self._due_s = max(self._due_s, time.monotonic() - 0.1) + self._gap_s * self._rng.uniform(0.6, 1.4)
            wait_s = self._due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        return True


class Told:
    """What the command line asked for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.target: str = arguments.target
        self.port: int = arguments.port
        self.ports: list[int] = arguments.ports or [arguments.port]
        self.parallel: int = arguments.parallel
        self.size_bytes: int = arguments.size
        self.hold_s: float = arguments.hold
        self.words: list[str] = arguments.words
        self.rng = random.Random(arguments.seed)
        self.pace = Pace(count=arguments.count, per_s=arguments.rate, rng=self.rng)

    def connect(self, port: int | None = None) -> socket.socket:
        return socket.create_connection((self.target, port or self.port), timeout=PATIENCE_S)

    def in_parallel(self, deed: Callable[[], None]) -> None:
        """Do a deed at each turn, in `parallel` threads; what the network says is not our concern."""

        def work() -> None:
            while self.pace.turn():
                with contextlib.suppress(OSError):
                    deed()

        all_at_once(work, self.parallel)


def all_at_once(work: Callable[[], None], count: int) -> None:
    """Run the same work in so many threads, to their end."""
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
