"""One packet socket with its ring, from open to close: a piece of a capture, as long as the interface stays the same.

Needs CAP_NET_RAW and nothing else. The socket is deaf until all is set (protocol 0), then bound; its statistics, which
the kernel sets to zero as it tells them, are added up here. `stop` ends the intake first: what then stands in the ring
can be read to the last frame, and the numbers agree to the last frame.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import select
import socket
import struct
import sys
import time
from typing import Final

from agent.capture.bpf import NOTHING, Program, attach
from agent.capture.errors import CaptureError, RingRefused
from agent.capture.interface import LOOPBACK, absent, hardware_type, index_of
from agent.capture.source import CaptureSettings, Counts
from contracts.errors import NeedsRoot, UsageError
from flowfeatures.frames import FrameBlock
from flowfeatures.ring import Ring

# <linux/if_packet.h>; Python names only some of them.
SOL_PACKET: Final = 263
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_RX_RING: Final = 5
PACKET_STATISTICS: Final = 6
PACKET_VERSION: Final = 10
PACKET_FANOUT: Final = 18
PACKET_IGNORE_OUTGOING: Final = 23  # Linux 4.20
PACKET_MR_PROMISC: Final = 1
PACKET_FANOUT_HASH: Final = 0
TPACKET_V3: Final = 2
ETH_P_ALL: Final = 3
FRAME_BYTES: Final = 2048  # only divides a block into slots the kernel does not use in version 3
MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283, "armv7l": 389, "i686": 375, "riscv64": 283}
MEMBARRIER_GLOBAL: Final = 1
DRAIN_S: Final = 1.0  # many retire timeouts; what has not come by then never will


class RingSocket:
    """A ring bound to the interface as it is now. Raises NeedsRoot, DataMissing and CaptureError."""

    def __init__(self, settings: CaptureSettings, *, program: Program, link_type: int) -> None:
        self.link_downs = 0
        self.ring_full = 0
        self.is_stopped = False
        self._settings = settings
        self._program = program
        self._seen = 0
        self._dropped = 0
        self._drain_until_s = 0.0
        self._index = index_of(settings.interface)
        if self._index is None:
            raise absent(settings.interface)
        self._is_loopback = hardware_type(settings.interface) == LOOPBACK
        self._socket = _open(settings.interface)
        try:
            self._memory = self._map()
            self._ring = Ring(
                self._memory,
                block_bytes=settings.block_bytes,
                block_count=settings.block_count,
                link_type=link_type,
                drop_outgoing=self._is_loopback and not self._ignores_outgoing(),
            )
            self._bind()
        except BaseException:
            self._socket.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    @property
    def is_bound(self) -> bool:
        """Return whether the interface of that name is still the one the socket listens on."""
        if index_of(self._settings.interface) != self._index:
            return False
        return bool(self._socket.getsockname()[0])  # the kernel unbinds a socket whose interface is deleted

    @property
    def last_us(self) -> int:
        """Return the time of the newest frame read."""
        return self._ring.last_us

    @property
    def is_drained(self) -> bool:
        """Return whether, after `stop`, all that was taken in has been read, or waiting for it has become pointless."""
        if not self.is_stopped:
            return False
        self.update()
        return self._unread() <= 0 or (not self._ring.is_ready and time.monotonic() > self._drain_until_s)

    def read_block(self, block: FrameBlock) -> int:
        """Point the block at the next frames, without waiting; what the last call gave goes back to the kernel."""
        return self._ring.read_block(block)

    @property
    def descriptor(self) -> int:
        """Return what to poll until frames stand ready."""
        return self._socket.fileno()

    def wait(self, timeout_s: float) -> None:
        """Return when frames stand ready, the link has gone down, or the time is over."""
        for _, events in self._poll.poll(max(1, round(timeout_s * 1000))):
            if events & select.POLLERR:
                self.heed_error()

    def heed_error(self) -> None:
        """Count a link that has gone down; the kernel tells it once, to whoever asks."""
        self.link_downs += self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENETDOWN

    def update(self) -> None:
        """Add up the kernel's numbers; they are 32 bits wide and must not be left alone for an hour."""
        told = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12)
        seen, dropped, ring_full = struct.unpack("=III", told)  # seen holds dropped
        self._seen += seen
        self._dropped += dropped
        self.ring_full += ring_full

    def counts(self) -> Counts:
        """Return the numbers of this socket; `standing` is counted in the ring itself, not derived."""
        self.update()
        delivered = self._seen - self._dropped
        standing = self._ring.standing
        self.update()
        return self._counts(standing=standing, meanwhile=self._seen - self._dropped - delivered)

    def stop(self) -> None:
        """Take in no further frame. On return none is on its way into the ring either."""
        if not self.is_stopped:
            attach(self._socket, NOTHING)
            let_deliveries_finish()
            self.is_stopped = True
            self._drain_until_s = time.monotonic() + DRAIN_S

    def close(self) -> Counts:
        """Unmap the ring and close the socket; return its final numbers. Blocks read from it must not be used."""
        self.stop()
        self.update()
        final = self._counts(abandoned=max(0, self._unread()))
        self._ring.close()
        self._memory.close()
        self._socket.close()
        return final

    # -- inside -------------------------------------------------------------------------------------------------

    def _unread(self) -> int:
        ring = self._ring
        return self._seen - self._dropped - ring.frames_read - ring.outgoing_dropped - ring.malformed_frames

    def _counts(self, *, standing: int = 0, meanwhile: int = 0, abandoned: int = 0) -> Counts:
        return Counts(
            seen=self._seen,
            dropped=self._dropped,
            read=self._ring.frames_read,
            outgoing=self._ring.outgoing_dropped,
            malformed=self._ring.malformed_frames,
            standing=standing,
            abandoned=abandoned,
            meanwhile=meanwhile,
        )

    def _map(self) -> mmap.mmap:
        wanted = self._settings
        size_bytes = wanted.block_bytes * wanted.block_count
        slots = size_bytes // FRAME_BYTES
        request = struct.pack(  # struct tpacket_req3
            "=7I", wanted.block_bytes, wanted.block_count, FRAME_BYTES, slots, wanted.retire_timeout_ms, 0, 0
        )
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
            return mmap.mmap(self._socket.fileno(), size_bytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as exc:
            what = f"a ring of {wanted.block_count} blocks of {wanted.block_bytes} octets"
            raise RingRefused(f"{wanted.interface}: {what} is refused: {exc.strerror}") from exc

    def _ignores_outgoing(self) -> bool:
        """Ask the kernel to leave out what a loopback interface shows twice; kernels before 4.20 cannot."""
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        except OSError as exc:
            if exc.errno != errno.ENOPROTOOPT:
                raise
            return False
        return True

    def _bind(self) -> None:
        """Begin to listen. A worker of a group stays deaf until it has joined: before, it would hear every frame."""
        settings = self._settings
        self._filter_by(self._program if settings.fanout_group is None else NOTHING)
        try:
            self._socket.bind((settings.interface, ETH_P_ALL))
            if settings.fanout_group is not None:
                joined = settings.fanout_group | PACKET_FANOUT_HASH << 16
                self._socket.setsockopt(SOL_PACKET, PACKET_FANOUT, joined)
                self._filter_by(self._program)
            if settings.promiscuous and not self._is_loopback:
                request = struct.pack("=IHH8x", self._index, PACKET_MR_PROMISC, 0)
                self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # it was down already: no link has gone down
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                raise absent(settings.interface) from exc
            group = "" if settings.fanout_group is None else f" in fanout group {settings.fanout_group}"
            raise CaptureError(f"{settings.interface}: cannot be captured{group}: {exc.strerror}") from exc

    def _filter_by(self, program: Program) -> None:
        """Attach a program. Raises UsageError where the kernel takes none such: too long, or with a loop in it."""
        try:
            attach(self._socket, program)
        except OSError as exc:
            shown = f"{self._settings.interface}: the filter, a program of {len(program):,} instructions"
            raise UsageError(f"{shown}, is refused by the kernel: {exc.strerror}") from exc


def _open(interface: str) -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError as exc:
        raise not_allowed(interface) from exc
    except OSError as exc:
        raise CaptureError(f"{interface}: the kernel has no packet sockets: {exc.strerror}") from exc


def not_allowed(interface: str) -> NeedsRoot:
    """Return the error for a process without CAP_NET_RAW, and how it may have it."""
    interpreter = os.path.realpath(sys.executable)
    return NeedsRoot(
        f"{interface}: capturing needs CAP_NET_RAW: run with sudo; or in a systemd unit, "
        f"AmbientCapabilities=CAP_NET_RAW; or, for every user of this interpreter, "
        f"sudo setcap cap_net_raw+ep {interpreter}"
    )


def let_deliveries_finish() -> None:
    """Wait until no processor is still delivering a frame under the filter that was in force before."""
    number = MEMBARRIER.get(platform.machine())
    if number is None or ctypes.CDLL(None).syscall(number, MEMBARRIER_GLOBAL, 0, 0) != 0:
        time.sleep(0.02)  # a delivery takes microseconds
