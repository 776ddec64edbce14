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

from lab.bots.bounds import Bounds

PATIENCE_S = 4.0
MOST = 20_000  # no kind does anything more often than this, whatever it was told


class Pace:
    """A clock that gives turns at a rate, shared by threads, until the count is used up."""

    def __init__(self, *, count: int, per_s: float, rng: random.Random, jitter: float = 0.4) -> None:
        self.left = min(count, MOST)
        self.per_s = per_s
        self._rng = rng
        self._jitter = jitter
        self._due_s = time.monotonic()
        self._lock = threading.Lock()

    def turn(self) -> bool:
        """Wait for the next turn; False where none is left."""
        with self._lock:
            if self.left <= 0:
                return False
            self.left -= 1
            self._due_s = (
                max(self._due_s, time.monotonic() - 0.1)
                + self._rng.uniform(1.0 - self._jitter, 1.0 + self._jitter) / self.per_s
            )
            wait_s = self._due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        return True


class Told:
    """What the command line asked for."""

    def __init__(self, arguments: argparse.Namespace, *, bounds: Bounds) -> None:
        self._bounds = bounds
        self.target: str = bounds.check(arguments.target)
        self.port: int = arguments.port
        self.ports: list[int] = arguments.ports or [arguments.port]
        self.parallel: int = arguments.parallel
        self.size_bytes: int = arguments.size
        self.hold_s: float = arguments.hold
        self.words: list[str] = arguments.words
        self.targets: list[str] = [bounds.check(target) for target in arguments.targets]
        self.master = self._place(arguments.master)
        self.loader = self._place(arguments.loader)
        self.file: str = arguments.file
        self.aim: str = arguments.aim
        self.domain: str = arguments.domain
        self.inner: str = arguments.inner
        self.password: str = arguments.password
        self.record_type: str = arguments.record_type
        self.jitter: float = arguments.jitter
        self.rng = random.Random(arguments.seed)
        self.pace = Pace(count=arguments.count, per_s=arguments.rate, rng=self.rng, jitter=self.jitter)

    def connect(self, port: int | None = None) -> socket.socket:
        return self.connect_to(self.target, port or self.port)

    def connect_to(self, address: str, port: int, *, patience_s: float = PATIENCE_S) -> socket.socket:
        """Open a TCP connection to a host of the lab."""
        return socket.create_connection((self._bounds.check(address), port), timeout=patience_s)

    def _place(self, text: str) -> tuple[str, int]:
        """Return the address and the port of `address:port`; an empty text is nowhere."""
        address, _, port = text.partition(":")
        return (self._bounds.check(address), int(port)) if text else ("", 0)

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
