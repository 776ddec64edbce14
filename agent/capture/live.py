"""The loop over a live source: blocks into the meter, its clock moved where the wire is quiet, an end in order.

The end is asked for by a signal or by the time: the source takes in no more, what it holds is metered, and then the
accounts must come out even.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.capture.accounting import Accounting
from agent.capture.report import CaptureReport
from agent.capture.source import Counts, LiveSource
from flowfeatures import FlowMeter
from flowfeatures.frames import FrameBlock

TICK_S: Final = 0.05  # how late a flow may leave on a quiet wire, and how long Ctrl-C may have to wait


class Stop(Protocol):
    """Anything that turns true when the capture shall end (see `agent.stopping`)."""

    def __bool__(self) -> bool: ...


class LiveCapture:
    """A live source as the source of a run (see `agent.pipeline.Source`), until `stop` or for `duration_s`.

    `show` is called with the packets metered and the kernel's counts, a few times a second.
    """

    SHOW_EVERY_S: Final = 0.25

    def __init__(
        self,
        source: LiveSource,
        *,
        stop: Stop,
        duration_s: float | None = None,
        show: Callable[[int, Counts], None] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self._stop = stop
        self._duration_s = duration_s
        self._show = show
        self._now_s = now_s
        self._shown_s = float("-inf")
        self._in_hand = 0

    def records(self, meter: FlowMeter) -> Iterator[NDArray[np.void]]:
        """Give RECORD[n] as flows leave the meter; flows alive at the end stay in it."""
        block = FrameBlock()
        began_s = self._now_s()
        while not self._stop and (self._duration_s is None or self._now_s() - began_s < self._duration_s):
            if self.source.read_block(block, TICK_S):
                yield from self._metered(meter, block)
            # On a busy wire too: what it carries may not be decoded, and only what is decoded moves the meter's clock.
            yield from meter.advance(self.source.clock_us)
            self._say(meter)
        self.source.stop()
        while self.source.read_block(block, TICK_S) or not self.source.is_drained:
            yield from self._metered(meter, block)

    def accounting(self, meter: FlowMeter, **others: int) -> Accounting:
        """Return the accounts as of now, `others` among them; called by the thread that reads."""
        return Accounting.of(self.source.counts(), meter.counters, in_hand=self._in_hand, **others)

    def report(self, meter: FlowMeter) -> CaptureReport:
        """Return what a person should know, with what the meter saw of glued packets."""
        return replace(self.source.report(), super_frames=meter.counters["super_frames"])

    def _metered(self, meter: FlowMeter, block: FrameBlock) -> Iterator[NDArray[np.void]]:
        self._in_hand = block.count
        yield from meter.add(block)
        self._in_hand = 0

    def _say(self, meter: FlowMeter) -> None:
        now_s = self._now_s()
        if self._show is not None and now_s - self._shown_s >= self.SHOW_EVERY_S:
            self._shown_s = now_s
            self._show(meter.counters["packets"], self.source.counts())
