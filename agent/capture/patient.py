"""A source that may be opened before its interface is there: it gives nothing until it is.

A gateway starts its agent before every radio is up. An interface that vanishes later is `RingSource`'s business; this
is about one that has not been there yet, and it looks for it once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from agent.capture.interface import index_of
from agent.capture.open_live import open_live
from agent.capture.report import CaptureReport
from agent.capture.source import CaptureSettings, Counts, LiveSource
from contracts.errors import DataMissing, PenstockError
from contracts.terminal import complain
from flowfeatures import FlowFeaturesError
from flowfeatures.frames import FrameBlock

LOOK_EVERY_S: Final = 1.0
CLOCK_MARGIN_US: Final = 50_000


class PatientSource:
    """Frames of an interface from the moment it is there; see `LiveSource`. Raises what `open_live` raises else."""

    def __init__(
        self,
        settings: CaptureSettings,
        *,
        opened: Callable[[CaptureSettings], LiveSource] = open_live,
        now_s: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.settings = settings
        self._opened = opened
        self._now_s = now_s
        self._now_us = now_us
        self._look_s = now_s() + LOOK_EVERY_S
        self._clock_us = 0
        self._is_stopped = False
        self._source: LiveSource | None = None
        self._trouble = ""
        if index_of(settings.interface) is not None:
            self._source = opened(settings)

    @property
    def is_open(self) -> bool:
        """Return whether the interface has been there."""
        return self._source is not None

    @property
    def clock_us(self) -> int:
        """Return a time before which every frame has been delivered."""
        return self._clock_us if self._source is None else self._source.clock_us

    @property
    def is_drained(self) -> bool:
        """Return whether, after `stop()`, no frame is left to be read."""
        return self._is_stopped if self._source is None else self._source.is_drained

    @property
    def descriptor(self) -> int | None:
        """Return what to poll until frames stand ready, None while there is nothing to hear."""
        return None if self._source is None else self._source.descriptor

    def heed_error(self) -> None:
        """Take note of a link that has gone down."""
        if self._source is not None:
            self._source.heed_error()

    def read_block(self, block: FrameBlock, timeout_s: float) -> int:
        """Point the block at the next frames; see `LiveSource`. Without an interface it does not wait."""
        if self._source is None and not self._is_stopped and self._now_s() >= self._look_s:
            self._look_s = self._now_s() + LOOK_EVERY_S
            self._look()
        if self._source is not None:
            return self._source.read_block(block, timeout_s)
        block.clear()
        self._clock_us = self._now_us() - CLOCK_MARGIN_US
        return 0

    def stop(self) -> None:
        """Take in no further frames; what was taken in can still be read."""
        self._is_stopped = True
        if self._source is not None:
            self._source.stop()

    def counts(self) -> Counts:
        """Return what was counted so far."""
        return Counts() if self._source is None else self._source.counts()

    def report(self) -> CaptureReport:
        """Return what a person should know of this capture."""
        if self._source is not None:
            return self._source.report()
        return CaptureReport.of(self.settings, Counts(), source="none", opener="none", link="none")

    def close(self) -> None:
        """Give everything back to the kernel."""
        self._is_stopped = True
        if self._source is not None:
            self._source.close()

    def __enter__(self) -> PatientSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        if index_of(self.settings.interface) is None:
            return
        try:
            self._source = self._opened(self.settings)
        except DataMissing:
            return  # gone once more: the next look may do
        except (PenstockError, FlowFeaturesError) as exc:
            # Other interfaces are watched meanwhile; the next look may do, as when an address or a filter fits again.
            if str(exc) != self._trouble:
                complain(f"{exc}; it is looked at again")
            self._trouble = str(exc)
