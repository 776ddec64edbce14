"""The source gateways use: an interface through a TPACKET_V3 ring, across its deletions and link flaps.

An interface deleted and made again under its name leaves a socket silent for ever, so its index is looked at four
times a second; what stands in the old ring is read before the new one is opened, and both count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from agent.capture.bpf import Program, cut_to, keeping
from agent.capture.interface import index_of, link_type_of
from agent.capture.opener import Opener, find_opener
from agent.capture.report import CaptureReport
from agent.capture.ring_socket import RingSocket
from agent.capture.source import CaptureSettings, Counts
from agent.capture.watch import Watch
from contracts.errors import DataMissing, PenstockError
from contracts.terminal import complain
from flowfeatures import UnknownLinkType
from flowfeatures.frames import FrameBlock
from flowfeatures.packet import LINK_TYPES

# What the kernel stamps a frame with, and when we find the ring empty, may lie a busy processor apart.
CLOCK_MARGIN_US: Final = 30_000


class RingSource:
    """Frames of a live interface; see `LiveSource`.

    Raises NeedsRoot without CAP_NET_RAW, DataMissing where there is no such interface, UnknownLinkType, UsageError
    (no filter), MissingExtra and MissingTool (no compiler for one), CaptureError.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        *,
        opener: Opener | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.settings = settings
        self.rebinds = 0
        self._opener = find_opener() if opener is None else opener
        self._now_us = now_us
        self._link_type = link_type_of(settings.interface)
        self._program = self._compiled(self._link_type)
        self._trouble = ""
        self._past = Counts()  # of the sockets before this one
        self._past_ring_full = 0
        self._past_link_downs = 0
        self._clock_us = 0
        self._is_stopped = False
        self._socket: RingSocket | None = self._open()
        self._watch = Watch()

    @property
    def clock_us(self) -> int:
        """Return a time before which every frame has been delivered."""
        return self._clock_us

    @property
    def is_drained(self) -> bool:
        """Return whether, after `stop()`, no frame is left to be read."""
        return self._is_stopped and (self._socket is None or self._socket.is_drained)

    @property
    def descriptor(self) -> int | None:
        """Return what to poll until frames stand ready, None while the interface is away."""
        return None if self._socket is None else self._socket.descriptor

    def heed_error(self) -> None:
        """Take note of a link that has gone down."""
        if self._socket is not None:
            self._socket.heed_error()

    def read_block(self, block: FrameBlock, timeout_s: float) -> int:
        """Point the block at the next frames, waiting for the first at most so long; return how many, 0 for none."""
        until_s = time.monotonic() + timeout_s
        while True:
            if self._watch.is_due():
                self._look_after_interface()
            if count := self._take(block):
                return count
            left_s = until_s - time.monotonic()
            if left_s <= 0 or self.is_drained:
                return 0
            if self._socket is None:
                time.sleep(min(left_s, self._watch.EVERY_S))
            else:
                self._socket.wait(min(left_s, self._watch.EVERY_S))

    def stop(self) -> None:
        """Take in no further frames; what was taken in can still be read."""
        self._is_stopped = True
        if self._socket is not None:
            self._socket.stop()

    def counts(self) -> Counts:
        """Return what was counted so far, over all sockets."""
        return self._past if self._socket is None else self._past + self._socket.counts()

    def report(self) -> CaptureReport:
        """Return what a person should know of this capture; the meter adds its super-frames."""
        counts, settings = self.counts(), self.settings  # counting also asks the kernel how often the ring was full
        ring_full, link_downs = self._past_ring_full, self._past_link_downs
        if self._socket is not None:
            ring_full, link_downs = ring_full + self._socket.ring_full, link_downs + self._socket.link_downs
        return CaptureReport.of(
            settings,
            counts,
            source="ring",
            opener=self._opener.name,
            link=LINK_TYPES[self._link_type],
            ring_bytes=settings.block_bytes * settings.block_count,
            fanout_group=settings.fanout_group,
            ring_full=ring_full,
            rebinds=self.rebinds,
            link_downs=link_downs,
        )

    def close(self) -> None:
        """Give the ring back to the kernel; frames not read are counted as abandoned."""
        self._is_stopped = True
        if self._socket is not None:
            self._retire(self._socket)

    def __enter__(self) -> RingSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _compiled(self, link_type: int) -> Program:
        settings = self.settings
        if settings.filter is None:
            return keeping(settings.snap_length_bytes)
        program = self._opener.compiled(settings.filter, link_type=link_type)
        return cut_to(program, settings.snap_length_bytes)

    def _open(self) -> RingSocket:
        return RingSocket(self.settings, program=self._program, link_type=self._link_type)

    def _take(self, block: FrameBlock) -> int:
        """Fill the block with what stands ready, and know by it how far time has been delivered."""
        asked_us = self._now_us()
        count = 0 if self._socket is None else self._socket.read_block(block)
        if count and self._socket is not None:
            self._clock_us = self._socket.last_us
        else:
            block.clear()
            self._clock_us = asked_us - self.settings.retire_timeout_ms * 1000 - CLOCK_MARGIN_US
        return count

    def _look_after_interface(self) -> None:
        """Add up the statistics; leave a socket whose interface is no more, once drained, and open a new one."""
        if self._socket is not None:
            self._socket.update()
            if self._socket.is_bound:
                return
            self._socket.stop()
            if not self._socket.is_drained:
                return
            self._retire(self._socket)
        if self._is_stopped or index_of(self.settings.interface) is None:
            return
        try:
            link_type = link_type_of(self.settings.interface)
            if link_type != self._link_type:
                self._program = self._compiled(link_type)  # before the type: a program is only right for its own
                self._link_type = link_type
            self._socket = self._open()
            self.rebinds += 1
            self._trouble = ""
        except DataMissing:
            return  # gone once more: the next look may do
        except (PenstockError, UnknownLinkType) as exc:
            # Not ready, held by another worker, or not to be captured like this: told once, tried again.
            if str(exc) != self._trouble:
                complain(f"{exc}; it is looked at again")
            self._trouble = str(exc)

    def _retire(self, socket: RingSocket) -> None:
        self._past += socket.close()
        self._past_ring_full += socket.ring_full
        self._past_link_downs += socket.link_downs
        self._socket = None
