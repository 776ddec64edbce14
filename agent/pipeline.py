"""One packet, wire to alert: the loop over all hops, top to bottom. No arithmetic, no format and no socket in here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.alerts import AlertWriter
from agent.stopwatch import Stopwatch
from contracts.alert import Alert
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from flowfeatures import DeviceWindows, FlowMeter, WindowBatch


class Source(Protocol):
    """Where packets come from."""

    def records(self, meter: FlowMeter) -> Iterator[NDArray[np.void]]:
        """Let the meter read all there is; give RECORD[n] as flows leave it."""


class Pipeline:
    """Carry what a source gives through meter, windows and detector to `publish`; nothing is shed.

    `wait_for` is called with the packet time of a message before it goes out (see `pace`), `told` with the message.
    """

    def __init__(
        self,
        *,
        meter: FlowMeter,
        windows: DeviceWindows,
        detector: Detector,
        alerts: AlertWriter,
        publish: Callable[[Alert], None],
        stopwatch: Stopwatch,
        wait_for: Callable[[int], None],
        told: Callable[[IncidentUpdate], None] = lambda _: None,
    ) -> None:
        self.meter = meter
        self.windows = windows
        self.detector = detector
        self.alerts = alerts
        self.publish = publish
        self.stopwatch = stopwatch
        self.wait_for = wait_for
        self._told = told
        self.alerts_made = 0

    def run(self, source: Source) -> None:
        """Carry all there is; then every live flow leaves, every window is scored and every incident closes."""
        for records in self.stopwatch.each("flows", source.records(self.meter)):  # hops 1 to 4
            self._window(records)
        for records in self.stopwatch.each("flows", self.meter.flush()):
            self._window(records)
        for batch in self.stopwatch.each("windows", self.windows.flush()):
            self._judge(batch)
        self._deliver(self.detector.close())

    def advance(self, now_us: int) -> None:
        """Live: every record due before now_us has been carried, so windows and messages due by then go out."""
        for batch in self.stopwatch.each("windows", self.windows.advance(now_us)):
            self._judge(batch)
        self._deliver(self.detector.advance(now_us))

    def _window(self, records: NDArray[np.void]) -> None:
        for batch in self.stopwatch.each("windows", self.windows.add(records)):  # hop 5
            self._judge(batch)

    def _judge(self, batch: WindowBatch) -> None:
        with self.stopwatch.stage("decisions"):
            updates = self.detector.add(batch)  # hops 6 and 7
        self._deliver(updates)

    def _deliver(self, updates: Iterable[IncidentUpdate]) -> None:
        for update in updates:
            self.wait_for(update.at_us)
            self._told(update)
            with self.stopwatch.stage("delivery"):
                self.publish(self.alerts.alert(update))  # hop 8
                self.alerts_made += 1
