"""A sink whose disk may hang, behind a thread of its own: a frozen file system must not hold packets.

Alerts wait in a bounded queue; beyond it the oldest leaves and is counted. The sink itself is used by its thread alone.
"""

from __future__ import annotations

from dataclasses import replace

from agent.backlog import Backlog
from agent.delivery.sink import CLOSE_S, MOST_WAITING, Sink
from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert


class Behind:
    """The sink `inner`, none of whose calls wait. The thread starts with the first of them."""

    def __init__(self, inner: Sink, *, most_waiting: int = MOST_WAITING) -> None:
        self.name = inner.name
        self._inner = inner
        self._wants_tick = self._wants_reopen = False
        self._alerts: Backlog[Alert] = Backlog(f"penstock-{self.name}", self._carry, most=most_waiting, end_s=CLOSE_S)

    def write(self, alert: Alert) -> None:
        """Queue one alert."""
        self._alerts.push(alert)

    def tick(self) -> None:
        """Let the sink do what is due."""
        with self._alerts.changed:
            self._wants_tick = True
            self._alerts.begin()

    def reopen(self) -> None:
        """Let the sink open anew what may have been moved."""
        with self._alerts.changed:
            self._wants_reopen = True
            self._alerts.begin()

    def facts(self) -> SinkFacts:
        """Return what was written and lost so far, and what is wrong now."""
        facts = self._inner.facts()
        with self._alerts.changed:
            return replace(facts, failed=facts.failed + self._alerts.lost, waiting=facts.waiting + len(self._alerts))

    def close(self) -> None:
        """Write what waits for at most CLOSE_S; a disk that hangs longer is left alone."""
        if not self._alerts.close():
            self._inner.close()

    def _carry(self) -> None:
        while True:
            with self._alerts.changed:
                self._alerts.changed.wait_for(self._has_work)
                tick, reopen = self._wants_tick, self._wants_reopen
                self._wants_tick = self._wants_reopen = False
                alert = self._alerts.take()
                is_last = alert is None and self._alerts.is_closing
            if reopen:
                self._inner.reopen()
            if is_last:
                self._inner.close()
                return
            if alert is not None:
                self._inner.write(alert)
                self._alerts.done()
            if tick:
                self._inner.tick()

    def _has_work(self) -> bool:
        return bool(len(self._alerts) or self._wants_tick or self._wants_reopen or self._alerts.is_closing)
