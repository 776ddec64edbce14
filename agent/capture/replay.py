"""Capture files as the source of a run: read in turn, with a progress bar, at a pace, until a stop is asked for.

An error in one capture is said and remembered, and the next is read all the same: what was read is worth reporting.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.console.apart import STDIN
from agent.console.pace import Pace
from agent.console.progress import ProgressBar
from agent.stopping import StopRequest
from contracts.errors import UsageError
from contracts.terminal import complain
from flowfeatures import Capture, FlowFeaturesError, FlowMeter, open_capture


class CaptureFiles:
    """The captures of one run. `errors` holds what went wrong, `opened` how many could be opened at all.

    `begun` is called once, when the first of them could be opened. Raises UsageError where standard input, `-`, is
    named twice.
    """

    def __init__(
        self, paths: Sequence[Path], *, stop: StopRequest, pace: Pace, begun: Callable[[], None] = lambda: None
    ) -> None:
        if [str(path) for path in paths].count(STDIN) > 1:
            raise UsageError(f"{STDIN}: standard input can be read once only")
        self.errors: list[FlowFeaturesError] = []
        self.opened = 0
        self._paths = paths
        self._stop = stop
        self._pace = pace
        self._begun = begun
        self._sizes_bytes = {path: _size_bytes(path) for path in paths}
        sizes_bytes = self._sizes_bytes.values()
        self._bar = ProgressBar(sum(sizes_bytes) if all(sizes_bytes) else 0, stream=sys.stderr)
        self._done_bytes = 0

    def records(self, meter: FlowMeter) -> Iterator[NDArray[np.void]]:
        """Give what leaves the meter while it reads all captures; flows alive at the end of one go on in the next."""
        for path in self._paths:
            if self._stop:
                break
            try:
                with open_capture(path, stopped=self._stop.__bool__) as capture:
                    if self.opened == 0:
                        self._begun()
                    self.opened += 1
                    yield from self._read(capture, meter)
            except FlowFeaturesError as exc:
                self._bar.clear()
                complain(exc)
                self.errors.append(exc)
            self._done_bytes += self._sizes_bytes[path]
        self._bar.clear()

    def _read(self, capture: Capture, meter: FlowMeter) -> Iterator[NDArray[np.void]]:
        begun_us = meter.clock_us
        is_first = True
        for records in meter.read(capture):
            if is_first:
                self._pace.begin(max(begun_us, int(records["start_us"].min())))
                is_first = False
            yield records
            self._bar.show(self._done_bytes + capture.position_bytes, packets=meter.counters["packets"])
            self._pace.wait_for(meter.clock_us)
            if self._stop:
                break


def _size_bytes(path: Path) -> int:
    """Return 0 where nobody knows: a pipe, standard input, what cannot be opened (which is said when it is tried)."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
