"""Several interfaces as one source of records: each with its ring and its flow table, read in turn.

One round reads what stands ready on every interface, moves the clock of those that are quiet, and gives what left. The
time before which all has been given is that of the slowest interface. Where the wall clock is set by more than a
minute, every flow leaves and begins anew: frames are stamped by that clock, and an hour's step would keep flows for an
hour (docs/decisions/0002).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.capture.accounting import Accounting
from agent.capture.lag import Lag
from agent.capture.report import CaptureReport
from agent.capture.source import Counts, LiveSource
from agent.capture.twins import Twins
from flowfeatures import FlowMeter
from flowfeatures.frames import FrameBlock
from flowfeatures.keep import KeptFrames

BLOCKS_A_ROUND: Final = 16  # of 4,096 frames: a flood on one interface must not keep the others waiting
ROUND_US: Final = 50_000  # shared out among interfaces: on a slow machine so many blocks would take seconds
SHED_A_ROUND: Final = 8 * BLOCKS_A_ROUND  # decoding alone is some ten times as quick
CLOCK_STEP_US: Final = 60_000_000  # as docs/decisions/0002: less than that is lateness
DRAIN_WAIT_S: Final = 0.01
BUSY_ERRORS: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL


@dataclass(eq=False, kw_only=True)
class Point:
    """An observation point: an interface's frames and the flow table they go to."""

    interface: str
    source: LiveSource
    meter: FlowMeter
    in_hand: int = 0
    lag: Lag = field(default_factory=Lag)
    left: Callable[[NDArray[np.void]], None] = lambda _: None
    """Called with all that leaves this meter, twins of other interfaces among it."""
    block: FrameBlock = field(default_factory=FrameBlock)
    kept: KeptFrames | None = None
    """Where the newest frames are copied to, if anywhere."""

    def accounting(self) -> Accounting:
        """Return the accounts of this interface as of now, windows left out."""
        return Accounting.of(self.source.counts(), self.meter.counters, in_hand=self.in_hand)

    def report(self) -> CaptureReport:
        """Return what a person should know of it, with what the meter saw of glued packets."""
        return replace(self.source.report(), super_frames=self.meter.counters["super_frames"])


class Several:
    """The interfaces of an agent. Give records with `round`; `finish` ends all of them in order."""

    def __init__(
        self,
        points: Sequence[Point],
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        steady_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self.points = tuple(points)
        self.twins = Twins()
        self.clock_steps = 0
        self._now_us = now_us
        self._steady_us = steady_us
        self._offset_us = now_us() - steady_us()

    @property
    def clock_us(self) -> int:
        """Return a time before which every interface's records have been given."""
        return min(point.source.clock_us for point in self.points)

    def round(self, wait_s: float) -> Iterator[NDArray[np.void]]:
        """Read every interface once, waiting at most so long for the first frame; give RECORD[n] as flows leave."""
        self._wait(wait_s)
        for number, point in enumerate(self.points):
            for records in self._read(point):
                yield self._own(records, number)
            for records in point.meter.advance(point.source.clock_us):
                yield self._own(records, number)

    def was_clock_set(self) -> bool:
        """Return whether the wall clock was set by more than a minute since the last look."""
        offset_us = self._now_us() - self._steady_us()
        step_us, self._offset_us = offset_us - self._offset_us, offset_us
        if abs(step_us) <= CLOCK_STEP_US:
            return False
        self.clock_steps += 1
        return True

    def begin_anew(self) -> Iterator[NDArray[np.void]]:
        """Let every flow leave; those that go on begin anew with their next packet."""
        for number, point in enumerate(self.points):
            for records in point.meter.flush():
                yield self._own(records, number)
        self.twins.forget()

    def finish(self) -> Iterator[NDArray[np.void]]:
        """Take in no further frames, read what was taken in, and let every flow leave."""
        for point in self.points:
            point.source.stop()  # all first: each may take a moment to be drained
        for number, point in enumerate(self.points):
            while point.source.read_block(point.block, DRAIN_WAIT_S) or not point.source.is_drained:
                for records in _metered(point):
                    yield self._own(records, number)
            for records in point.meter.flush():
                yield self._own(records, number)

    def close(self) -> None:
        """Give everything back to the kernel."""
        for point in self.points:
            point.source.close()

    def interface_of(self, record: np.void) -> str | None:
        """Return the interface a flow was seen on, None where it is not known any more."""
        if len(self.points) == 1:
            return self.points[0].interface
        number = self.twins.interface_of(record)
        return self.points[number].interface if number is not None and number < len(self.points) else None

    def __enter__(self) -> Several:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _wait(self, wait_s: float) -> None:
        """Return when frames stand ready somewhere, or the time is over."""
        poll, sources = select.poll(), {}
        for point in self.points:
            if (descriptor := point.source.descriptor) is not None:
                poll.register(descriptor, select.POLLIN)
                sources[descriptor] = point.source
        for descriptor, events in poll.poll(max(0, round(wait_s * 1000))):
            if events & BUSY_ERRORS:
                sources[descriptor].heed_error()

    def _read(self, point: Point) -> Iterator[NDArray[np.void]]:
        metered = shed = 0
        until_us = self._steady_us() + ROUND_US // len(self.points)
        while metered < BLOCKS_A_ROUND and shed < SHED_A_ROUND and point.source.read_block(point.block, 0.0):
            if point.lag.is_too_long(self._now_us() - point.source.clock_us):
                point.meter.shed(point.block)
                shed += 1
            else:
                yield from _metered(point)
                metered += 1
                if self._steady_us() >= until_us:
                    break

    def _own(self, records: NDArray[np.void], number: int) -> NDArray[np.void]:
        self.points[number].left(records)
        return records if len(self.points) == 1 else self.twins.kept(records, interface=number)


def _metered(point: Point) -> Iterator[NDArray[np.void]]:
    point.in_hand = point.block.count
    if point.kept is not None:
        point.kept.keep(point.block)
    yield from point.meter.add(point.block)
    point.in_hand = 0


def total(counts: Sequence[Counts]) -> Counts:
    """Return the sum over interfaces."""
    return sum(counts, Counts())
