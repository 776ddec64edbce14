"""What the agent does now and then beside its packets: each thing at its own pace, between two turns.

Everything here runs in the pipeline's thread and must be quick; what may wait for a disk or a network is handed to a
thread of its own by `Aside`, which never runs the same thing twice at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Chores:
    """Call each thing when its time has come, by a clock nobody sets."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._due: list[tuple[float, float, Callable[[], object]]] = []  # when next, every, what
        self._next_s = float("inf")

    def every(self, period_s: float, what: Callable[[], object]) -> None:
        """Do something once in so many seconds, the first time as soon as possible."""
        self._due.append((self._now_s(), period_s, what))
        self._next_s = min(self._next_s, self._now_s())

    def turn(self) -> None:
        """Do what is due."""
        now_s = self._now_s()
        if now_s < self._next_s:
            return
        for number, (due_s, period_s, what) in enumerate(self._due):
            if due_s <= now_s:
                self._due[number] = (now_s + period_s, period_s, what)
                what()
        self._next_s = min(due_s for due_s, _, _ in self._due)


class Aside:
    """Do one thing in a thread of its own; while it is at it, a further call is left out."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None

    def do(self, what: Callable[[], object]) -> bool:
        """Begin, unless the last one is still at it; return whether it began."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=what, name=self._name, daemon=True)
        self._thread.start()
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait for what was begun."""
        if self._thread is not None:
            self._thread.join(timeout_s)
