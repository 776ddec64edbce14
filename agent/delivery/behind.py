"""A sink whose disk may hang, behind a thread of its own: a frozen file system must not hold packets.

Alerts wait in a bounded queue; beyond it the oldest leaves and is counted. The sink itself is used by its thread alone.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from agent.delivery.sink import CLOSE_S, MOST_WAITING, Sink
from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert


class Behind:
    """The sink `inner`, none of whose calls wait. The thread starts with the first of them."""

    def __init__(self, inner: Sink, *, most_waiting: int = MOST_WAITING) -> None:
        self.name = inner.name
        self._inner = inner
        self._most_waiting = most_waiting
        self._failed = 0
        self._changed = threading.Condition()
        self._waiting: deque[Alert] = deque()
        self._in_hand = 0
        self._wants_tick = self._wants_reopen = self._is_closing = False
        self._thread = threading.Thread(target=self._carry, name=f"penstock-{self.name}", daemon=True)
        self._is_started = False

    def write(self, alert: Alert) -> None:
        """Queue one alert."""
        with self._changed:
            if self._is_closing:
                self._failed += 1
                return
            if len(self._waiting) >= self._most_waiting:
                self._waiting.popleft()
                self._failed += 1
            self._waiting.append(alert)
            self._wake()

    def tick(self) -> None:
        """Let the sink do what is due."""
        with self._changed:
            self._wants_tick = True
            self._wake()

    def reopen(self) -> None:
        """Let the sink open anew what may have been moved."""
        with self._changed:
            self._wants_reopen = True
            self._wake()

    def facts(self) -> SinkFacts:
        """Return what was written and lost so far, and what is wrong now."""
        facts = self._inner.facts()
        with self._changed:
            waiting = facts.waiting + len(self._waiting) + self._in_hand
            return replace(facts, failed=facts.failed + self._failed, waiting=waiting)

    def close(self) -> None:
        """Write what waits for at most CLOSE_S; a disk that hangs longer is left alone."""
        with self._changed:
            was_closed, self._is_closing = self._is_closing, True
            self._changed.notify_all()
        if was_closed:
            return
        if not self._is_started:
            self._inner.close()
            return
        self._thread.join(CLOSE_S)
        with self._changed:
            self._failed += len(self._waiting) + self._in_hand
            self._waiting.clear()
            self._in_hand = 0

    def _wake(self) -> None:
        if not self._is_started and not self._is_closing:
            self._is_started = True
            self._thread.start()
        self._changed.notify_all()

    def _carry(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                tick, reopen = self._wants_tick, self._wants_reopen
                self._wants_tick = self._wants_reopen = False
                alert = self._waiting.popleft() if self._waiting else None
                self._in_hand = int(alert is not None)
                is_last = alert is None and self._is_closing
            if reopen:
                self._inner.reopen()
            if is_last:
                self._inner.close()
                return
            if alert is not None:
                self._inner.write(alert)
                with self._changed:
                    self._in_hand = 0
            if tick:
                self._inner.tick()

    def _has_work(self) -> bool:
        return bool(self._waiting or self._wants_tick or self._wants_reopen or self._is_closing)
