"""A sink whose reader may be slow or away: lines wait in a bounded queue, a thread of its own carries them out.

When the queue is full the oldest line leaves it and is counted. A line that could not be sent is tried again, at
growing and spread intervals, until it is the oldest and must leave.
"""

from __future__ import annotations

from typing import Protocol

from agent.backlog import Backlog
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
        self._tally = Tally(name)
        self._messages: Backlog[bytes] = Backlog(f"penstock-{name}", self._carry, most=most_waiting, end_s=CLOSE_S)

    def write(self, alert: Alert) -> None:
        """Queue one alert."""
        self._messages.push(self._outlet.message(alert))

    def tick(self) -> None:
        """Nothing is due: the thread tries again by itself."""

    def reopen(self) -> None:
        """Nothing to open anew."""

    def facts(self) -> SinkFacts:
        """Return what was written and lost so far, and what is wrong now."""
        with self._messages.changed:
            self._tally.failed = self._messages.lost
            return self._tally.facts(waiting=len(self._messages))

    def close(self) -> None:
        """Send what waits for at most CLOSE_S; a send that hangs longer is left alone."""
        self._messages.close()

    def _carry(self) -> None:
        backoff = Backoff(most_s=MOST_PAUSE_S)
        for message in self._messages:
            if not self._is_settled(message, backoff):
                break
        self._outlet.close()

    def _is_settled(self, message: bytes, backoff: Backoff) -> bool:
        """Send a message, or lose it; return False where the sink is closing and it cannot be sent."""
        changed = self._messages.changed
        with changed:
            if self._messages.is_closing and self._tally.trouble:
                return False
        while not self._try(message):
            with changed:
                if self._messages.is_closing:
                    return False
                # While we pause the queue may fill up; then this one, the oldest, is the one to leave.
                changed.wait_for(lambda: self._messages.is_closing, backoff.next_s())
                if self._messages.is_full:
                    self._messages.lost += self._messages.done()
                    return True
        backoff.reset()
        return True

    def _try(self, message: bytes) -> bool:
        trouble = ""
        try:
            self._outlet.send(message)
        except OSError as exc:
            trouble = exc.strerror or str(exc) or type(exc).__name__
        with self._messages.changed:
            self._tally.failed = self._messages.lost
            if trouble:
                self._tally.went_wrong(trouble)
            else:
                self._tally.written += self._messages.done()  # 0: close() gave it up in the meantime
                self._tally.went_well()
        return not trouble
