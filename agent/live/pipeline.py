"""The live path, wire to alert: `pipeline.py`'s hops over several interfaces, with windows that may wait or be shed.

A turn reads what stands ready, lets windows become due, scores what is full or in time, and delivers. Whoever calls
`turn` has the process to himself between two of them: bundles, settings and states change there and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.alerts import AlertWriter
from agent.capture.several import Several
from agent.live.overload import WaitingWindows
from agent.stopwatch import Stopwatch
from contracts.alert import Alert
from contracts.errors import BundleError
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from flowfeatures import DeviceWindows, WindowBatch

TICK_S: Final = 0.05  # how late a flow may leave on a quiet wire, and how long a signal may have to wait
SCORING_S: Final = 0.05  # of one turn: meanwhile frames stand in the ring, which holds seconds of them


class Watcher(Protocol):
    """Who looks on while batches are judged, and helps where a bundle fails (see `agent.bundles.swap`)."""

    def judged(self, batch: WindowBatch) -> None:
        """Take note of a batch that was judged."""

    def failed(self, error: BundleError) -> None:
        """Let another bundle serve. Raises the error where there is none."""


class LivePipeline:
    """Carry what interfaces give through windows and detector to `publish`.

    `new_windows` makes the device windows, anew where the clock was set. `told` is called with each message before it
    goes out, `between` with the time of the packets when no window is being filled. windows due = scored + shed +
    waiting, after every turn.
    """

    def __init__(
        self,
        *,
        interfaces: Several,
        new_windows: Callable[[], DeviceWindows],
        waiting: WaitingWindows,
        detector: Detector,
        alerts: AlertWriter,
        publish: Callable[[Alert], None],
        stopwatch: Stopwatch,
        watcher: Watcher,
        told: Callable[[IncidentUpdate], None] = lambda _: None,
        between: Callable[[int], None] = lambda _: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interfaces = interfaces
        self.windows = new_windows()
        self.waiting = waiting
        self.detector = detector
        self.alerts = alerts
        self.publish = publish
        self.stopwatch = stopwatch
        self.watcher = watcher
        self.alerts_made = 0
        self._new_windows = new_windows
        self._told = told
        self._between = between
        self._now_s = now_s
        self._past_windows = 0
        self._past_evicted = 0

    @property
    def windows_due(self) -> int:
        """Return how many windows became due, counted where they are made."""
        counts = self.windows.counters
        return self._past_windows + int(counts["windows"]) + int(counts["evicted_windows"])

    @property
    def windows_shed(self) -> int:
        """Return how many windows nobody will score: of devices that had to leave, and while scoring was behind."""
        return self._past_evicted + int(self.windows.counters["evicted_windows"]) + self.waiting.shed

    def turn(self) -> None:
        """Carry on what has come meanwhile, waiting a tick at most for it."""
        if self.interfaces.was_clock_set():
            self.begin_anew()
        wait_s = self.waiting.wait_s
        round_ = self.interfaces.round(TICK_S if wait_s is None else min(TICK_S, wait_s))
        for records in self.stopwatch.each("flows", round_):  # hops 1 to 4
            self._window(records)
        clock_us = self.interfaces.clock_us
        for batch in self.stopwatch.each("windows", self.windows.advance(clock_us)):
            self.waiting.add(batch)
        self._between(clock_us)
        self._score(until_s=self._now_s() + SCORING_S)
        oldest_us = self.waiting.oldest_due_us
        self._deliver(self.detector.advance(clock_us if oldest_us is None else min(clock_us, oldest_us)))

    def finish(self) -> None:
        """End: what the interfaces hold is read, every flow leaves, every window is scored, every incident closes."""
        self._carry(self.interfaces.finish())
        self._deliver(self.detector.close())

    def begin_anew(self) -> None:
        """The clock was set, or home is elsewhere: what is open is carried to its end, and the windows begin empty."""
        self._carry(self.interfaces.begin_anew())
        self._past_windows = self.windows_due
        self._past_evicted += int(self.windows.counters["evicted_windows"])
        self.windows = self._new_windows()

    def _carry(self, records_left: Iterable[NDArray[np.void]]) -> None:
        for records in self.stopwatch.each("flows", records_left):
            self._window(records)
            self._score(until_s=self._now_s() + SCORING_S)
        for batch in self.stopwatch.each("windows", self.windows.flush()):
            self.waiting.add(batch)
        self._score(until_s=float("inf"), at_once=True)

    def _window(self, records: NDArray[np.void]) -> None:
        for batch in self.stopwatch.each("windows", self.windows.add(records)):  # hop 5
            self.waiting.add(batch)

    def _score(self, *, until_s: float, at_once: bool = False) -> None:
        """Score what is full or in time, until it is done or the time is over."""
        while (batch := self.waiting.take(at_once=at_once)) is not None:
            self._judge(batch)
            if self._now_s() >= until_s:
                break

    def _judge(self, batch: WindowBatch) -> None:
        with self.stopwatch.stage("decisions"):
            try:
                updates = self.detector.add(batch)  # hops 6 and 7
            except BundleError as exc:
                self.watcher.failed(exc)
                updates = self.detector.add(batch)  # by the bundle that serves now
        self._deliver(updates)
        self.watcher.judged(batch)

    def _deliver(self, updates: Iterable[IncidentUpdate]) -> None:
        for update in updates:
            self._told(update)
            with self.stopwatch.stage("delivery"):
                self.publish(self.alerts.alert(update))  # hop 8
                self.alerts_made += 1
