"""A sink whose reader may be slow or away: lines wait in a bounded queue, a thread of its own carries them out.

When the queue is full the oldest line leaves it and is counted. A line that could not be sent is tried again, at
growing and spread intervals, until it is the oldest and must leave.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from agent.delivery.backoff import Backoff
from agent.delivery.sink import CLOSE_S, MOST_WAITING, Tally
from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert

MOST_PAUSE_S = 30.0


class Outlet(Protocol):
    """Where a queue empties into; used by its thread alone, but for `message`."""

    def message(self, alert: Alert) -> bytes:
        """Return an alert as it will be sent. Called where the alert is taken; must not wait."""

    def send(self, message: bytes) -> None:
        """Send one message whole; may wait some seconds. Raises OSError where it was not sent."""

    def close(self) -> None:
        """Let go of what `send` opened."""


class QueuedSink:
    """A queue before an outlet. The thread starts with the first alert."""

    def __init__(self, name: str, outlet: Outlet, *, most_waiting: int = MOST_WAITING) -> None:
        self.name = name
        self._outlet = outlet
        self._most_waiting = most_waiting
        self._tally = Tally(name)
        self._waiting: deque[bytes] = deque()
        self._taken = 0  # messages the thread has in hand, 0 or 1
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._carry, name=f"penstock-{name}", daemon=True)
        self._is_started = False

    def write(self, alert: Alert) -> None:
        """Queue one alert."""
        message = self._outlet.message(alert)
        with self._changed:
            if self._is_closing:
                self._tally.failed += 1
                return
            if len(self._waiting) >= self._most_waiting:
                self._waiting.popleft()
                self._tally.failed += 1
            self._waiting.append(message)
            if not self._is_started:
                self._is_started = True
                self._thread.start()
            self._changed.notify_all()

    def tick(self) -> None:
        """Nothing is due: the thread tries again by itself."""

    def reopen(self) -> None:
        """Nothing to open anew."""

    def facts(self) -> SinkFacts:
        """Return what was written and lost so far, and what is wrong now."""
        with self._changed:
            return self._tally.facts(waiting=len(self._waiting) + self._taken)

    def close(self) -> None:
        """Send what waits for at most CLOSE_S; a send that hangs longer is left alone."""
        with self._changed:
            was_closed, self._is_closing = self._is_closing, True
            self._changed.notify_all()
        if was_closed:
            return
        if self._is_started:
            self._thread.join(CLOSE_S)
        with self._changed:
            self._tally.failed += len(self._waiting) + self._taken
            self._waiting.clear()
            self._taken = 0

    def _carry(self) -> None:
        backoff = Backoff(most_s=MOST_PAUSE_S)
        while (message := self._take()) is not None:
            while not self._try(message):
                with self._changed:
                    if self._is_closing:
                        break
                    # While we pause the queue may fill up; then this one, the oldest, is the one to leave.
                    self._changed.wait_for(lambda: self._is_closing, backoff.next_s())
                    if len(self._waiting) >= self._most_waiting:
                        self._tally.failed += 1
                        self._taken = 0
                        break
            else:
                backoff.reset()
        self._outlet.close()

    def _take(self) -> bytes | None:
        """Return the oldest message; None once the sink is closing and nothing is left to try."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if not self._waiting or (self._is_closing and self._tally.trouble):
                return None
            self._taken = 1
            return self._waiting.popleft()

    def _try(self, message: bytes) -> bool:
        trouble = ""
        try:
            self._outlet.send(message)
        except OSError as exc:
            trouble = exc.strerror or str(exc) or type(exc).__name__
        with self._changed:
            if trouble:
                self._tally.went_wrong(trouble)
            else:
                self._tally.written += self._taken  # 0: close() gave it up in the meantime
                self._taken = 0
                self._tally.went_well()
        return not trouble
