"""How fast a replay runs: as fast as it can, or a factor of the packets' own time."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.stopping import StopRequest

SLICE_S = 0.1  # how long Ctrl-C may have to wait for a sleeping replay


class Pace:
    """Keep packet time from running ahead of the clock. `factor` 2.0 is twice as fast as recorded; None never waits."""

    def __init__(
        self,
        factor: float | None,
        *,
        stop: StopRequest,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._factor = factor
        self._stop = stop
        self._now_s = now_s
        self._sleep = sleep
        self._first_us = 0
        self._began_s = 0.0

    def begin(self, first_us: int) -> None:
        """Begin a capture with the time of its first packet: what lies before it is not waited for."""
        self._first_us = first_us
        self._began_s = self._now_s()

    def wait_for(self, packet_us: int) -> None:
        """Sleep until a packet time has come, or a stop is asked for; a clock set back begins anew."""
        if self._factor is None:
            return
        if packet_us < self._first_us:
            self.begin(packet_us)
        due_s = self._began_s + (packet_us - self._first_us) / 1e6 / self._factor
        while not self._stop and (left_s := due_s - self._now_s()) > 0:
            self._sleep(min(left_s, SLICE_S))
