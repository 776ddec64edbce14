"""The source where there is no ring: Scapy's socket, raw octets, never dissected. Slow, and the same to the loop.

For kernels that refuse a ring: some five microseconds a packet against a fraction of one, and a small socket buffer.
The frames are laid into a ring of our own, as a kernel would, so that the walker is the same. The trap: the socket
hears every interface until it is bound to one, so it is deafened, emptied and its numbers thrown away before it counts.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final

from agent.capture.bpf import NOTHING, Program, attach, keeping
from agent.capture.errors import CaptureError
from agent.capture.interface import LOOPBACK, hardware_type, index_of, link_type_of
from agent.capture.opener import Opener, find_opener
from agent.capture.report import CaptureReport
from agent.capture.ring_socket import (
    PACKET_IGNORE_OUTGOING,
    PACKET_STATISTICS,
    SOL_PACKET,
    let_deliveries_finish,
    not_allowed,
)
from agent.capture.source import CaptureSettings, Counts
from agent.capture.watch import Watch
from contracts.errors import PenstockError
from flowfeatures import UnknownLinkType
from flowfeatures.frames import FrameBlock
from flowfeatures.packet import LINK_TYPES
from flowfeatures.ring import Ring

BATCH_FRAMES: Final = 256
BUFFER_BYTES: Final = 4 << 20  # the kernel gives as much of it as net.core.rmem_max allows
BLOCK_HEADER: Final = struct.Struct("=5I28x")  # struct tpacket_block_desc: status third, then count, first offset
FRAME_HEADER: Final = struct.Struct("=6I2H20x20x")  # struct tpacket3_hdr and struct sockaddr_ll
CLOCK_MARGIN_US: Final = 30_000
WHOLE_BYTES: Final = 0xFFFF + 14 + 8  # the largest IP packet, its Ethernet header and two tags


class PortableSource:
    """Frames of a live interface by Scapy's listening socket; see `LiveSource`.

    Raises what `RingSource` raises, and MissingExtra where Scapy is not installed.
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
        self.link_downs = 0
        self._opener = find_opener() if opener is None else opener
        self._now_us = now_us
        self._link_type = link_type_of(settings.interface)
        self._program: Program = keeping(WHOLE_BYTES)
        if settings.filter is not None:
            self._program = self._opener.compiled(settings.filter, link_type=self._link_type)
        self._shelf = _Shelf(self._link_type, frame_bytes=FRAME_HEADER.size + settings.snap_length_bytes)
        self._seen = self._dropped = self._received = 0
        self._clock_us = 0
        self._is_stopped = False
        self._index: int | None = None
        self._socket: Any = None
        self._open()
        self._watch = Watch()

    @property
    def clock_us(self) -> int:
        """Return a time before which every frame has been delivered."""
        return self._clock_us

    @property
    def is_drained(self) -> bool:
        """Return whether, after `stop()`, no frame is left to be read."""
        return self._is_stopped and (self._socket is None or not self._is_readable(0.0))

    @property
    def descriptor(self) -> int | None:
        """Return what to poll until frames stand ready, None while the interface is away."""
        return None if self._socket is None else int(self._socket.ins.fileno())

    def heed_error(self) -> None:
        """Take note of a link that has gone down."""
        if self._socket is not None:
            failed = self._socket.ins.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.link_downs += failed == errno.ENETDOWN

    def read_block(self, block: FrameBlock, timeout_s: float) -> int:
        """Point the block at the next frames, waiting for the first at most so long; return how many, 0 for none."""
        if self._watch.is_due():
            self._look_after_interface()
        asked_us = self._now_us()
        self._shelf.clear(block)
        wait_s = 0.0 if self._is_stopped else timeout_s
        if self._socket is None:
            time.sleep(wait_s)
        while self._socket is not None and self._shelf.count < BATCH_FRAMES and self._is_readable(wait_s):
            wait_s = 0.0
            if not self._receive():
                break
        count = self._shelf.deliver(block)
        self._clock_us = self._shelf.last_us if count else asked_us - CLOCK_MARGIN_US
        return count

    def stop(self) -> None:
        """Take in no further frames; what was taken in can still be read."""
        self._is_stopped = True
        if self._socket is not None:
            attach(self._socket.ins, NOTHING)
            let_deliveries_finish()

    def counts(self) -> Counts:
        """Return what was counted so far. What stands in the socket is what the kernel counted and we have not had."""
        self._update()
        unread = max(0, self._seen - self._dropped - self._received)
        is_open = self._socket is not None
        return Counts(
            seen=self._seen,
            dropped=self._dropped,
            read=self._shelf.frames_read,
            malformed=self._shelf.malformed_frames,
            standing=unread if is_open else 0,
            abandoned=0 if is_open else unread,
        )

    def report(self) -> CaptureReport:
        """Return what a person should know of this capture; the meter adds its super-frames."""
        return CaptureReport.of(
            self.settings,
            self.counts(),
            source="portable",
            opener=self._opener.name,
            link=LINK_TYPES[self._link_type],
            rebinds=self.rebinds,
            link_downs=self.link_downs,
        )

    def close(self) -> None:
        """Close the socket; frames not read are counted as abandoned."""
        if self._socket is not None:
            self.stop()
            self._update()
            self._socket.close()
            self._socket = None

    def __enter__(self) -> PortableSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        settings = self.settings
        self._index = index_of(settings.interface)
        try:
            self._socket = self._opener.listening_socket(settings.interface, promiscuous=settings.promiscuous)
            inlet = self._socket.ins
            attach(inlet, NOTHING)
            let_deliveries_finish()
            with contextlib.suppress(BlockingIOError):
                while inlet.recv(1, socket.MSG_DONTWAIT):
                    pass
            inlet.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            inlet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            if hardware_type(settings.interface) == LOOPBACK:
                inlet.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            attach(inlet, self._program)
        except PermissionError as exc:
            raise not_allowed(settings.interface) from exc
        except OSError as exc:
            raise CaptureError(f"{settings.interface}: cannot be captured: {exc.strerror}") from exc

    def _is_readable(self, timeout_s: float) -> bool:
        return bool(select.select([self._socket.ins], [], [], timeout_s)[0])

    def _receive(self) -> bool:
        """Lay one frame on the shelf; return whether there may be more."""
        try:
            _, octets, stamp_s = self._socket.recv_raw(WHOLE_BYTES)
        except OSError as exc:
            if exc.errno not in (errno.ENETDOWN, errno.EAGAIN, errno.EINTR):
                raise
            self.link_downs += exc.errno == errno.ENETDOWN
            return False
        self._received += 1
        stamp_us = self._now_us() if stamp_s is None else round(stamp_s * 1_000_000)
        self._shelf.put(octets[: self.settings.snap_length_bytes], wire_bytes=len(octets), stamp_us=stamp_us)
        return True

    def _update(self) -> None:
        if self._socket is not None:
            seen, dropped = struct.unpack("=II", self._socket.ins.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self._seen += seen
            self._dropped += dropped

    def _look_after_interface(self) -> None:
        self._update()
        index = index_of(self.settings.interface)
        if index == self._index and self._socket is not None:
            return
        if self._socket is not None:
            if self._is_readable(0.0) or self._is_stopped:
                return
            self._update()
            self._socket.close()
            self._socket = None
        if index is not None and not self._is_stopped:
            with contextlib.suppress(PenstockError, UnknownLinkType):
                link_type = link_type_of(self.settings.interface)
                if link_type != self._link_type and self.settings.filter is not None:
                    self._program = self._opener.compiled(self.settings.filter, link_type=link_type)
                self._link_type = link_type
                self._open()
                self.rebinds += 1


class _Shelf:
    """One block of a ring in our own memory, filled by us instead of by a kernel."""

    def __init__(self, link_type: int, *, frame_bytes: int) -> None:
        self._memory = bytearray((BLOCK_HEADER.size + BATCH_FRAMES * (frame_bytes + 8) + 4095) & ~4095)
        self._ring = Ring(self._memory, block_bytes=len(self._memory), block_count=1, link_type=link_type)
        self._at = BLOCK_HEADER.size
        self.count = 0

    @property
    def frames_read(self) -> int:
        return self._ring.frames_read

    @property
    def malformed_frames(self) -> int:
        return self._ring.malformed_frames

    @property
    def last_us(self) -> int:
        return self._ring.last_us

    def clear(self, block: FrameBlock) -> None:
        """Take the frames of the last delivery away from the block."""
        self._ring.read_block(block)
        self._at, self.count = BLOCK_HEADER.size, 0

    def put(self, octets: bytes, *, wire_bytes: int, stamp_us: int) -> None:
        step = (FRAME_HEADER.size + len(octets) + 7) & ~7
        seconds, us = divmod(stamp_us, 1_000_000)
        FRAME_HEADER.pack_into(
            self._memory, self._at, step, seconds, us * 1000, len(octets), wire_bytes, 0, FRAME_HEADER.size, 0
        )
        begin = self._at + FRAME_HEADER.size
        self._memory[begin : begin + len(octets)] = octets
        self._at += step
        self.count += 1

    def deliver(self, block: FrameBlock) -> int:
        """Point the block at what was put here since it was cleared."""
        if self.count:
            BLOCK_HEADER.pack_into(self._memory, 0, 3, BLOCK_HEADER.size, 1, self.count, BLOCK_HEADER.size)
        return self._ring.read_block(block)
