"""A second, small socket on an interface, which hears only who is who; the ring beside it is not touched.

Its cost has a bound that the wire does not choose: so many frames a second are read, the kernel keeps a few hundred
more, and the rest is dropped and counted. The trap: who is deaf must say so, or a flood would pass for silence.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from agent.capture.bpf import NOTHING, attach
from agent.capture.errors import CaptureError
from agent.capture.interface import absent, index_of, link_type_of
from agent.capture.ring_socket import ETH_P_ALL, PACKET_STATISTICS, SOL_PACKET, let_deliveries_finish, not_allowed
from agent.devices.frame_filter import KEPT_BYTES, WHO_IS_WHO
from contracts.errors import PenstockError
from flowfeatures import UnknownLinkType

FRAMES_PER_S: Final = 200
"""20 us for one of ARP, 60 us for the worst that was made of mDNS: below 2 % of a processor, whatever comes."""
BURST_FRAMES: Final = 400
AT_ONCE: Final = 64
BUFFER_BYTES: Final = 1 << 18
LOOK_EVERY_US: Final = 1_000_000
ETHERNET: Final = 1


class DeviceListener:
    """Hear an interface; raises NeedsRoot, DataMissing and CaptureError when made, never afterwards.

    An interface without Ethernet (a tunnel) says nothing of devices: `is_mute`.
    """

    def __init__(self, interface: str, *, now_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000) -> None:
        self.interface = interface
        self.is_mute = link_type_of(interface) != ETHERNET
        self.reopened = 0
        self._now_us = now_us
        self._allowed = float(BURST_FRAMES)
        self._filled_us = self._looked_us = now_us()
        self._index: int | None = None
        self._socket: socket.socket | None = None
        if not self.is_mute:
            self._open()

    def poll(self, observe: Callable[[bytes, int], None], missed: Callable[[int, int], None]) -> int:
        """Hand over frames that stand ready, as many as are allowed, and how many were lost; return how many it was."""
        now_us = self._now_us()
        self._allowed = min(BURST_FRAMES, self._allowed + (now_us - self._filled_us) * FRAMES_PER_S / 1e6)
        self._filled_us = now_us
        if now_us - self._looked_us >= LOOK_EVERY_US and not self.is_mute:
            self._looked_us = now_us
            self._look(missed, now_us)
        count = 0
        while self._socket is not None and count < AT_ONCE and self._allowed >= 1:
            try:
                frame = self._socket.recv(KEPT_BYTES, socket.MSG_DONTWAIT)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR):
                    missed(0, now_us)  # the link was down: what was said there meanwhile is not known
                break
            observe(frame, now_us)
            self._allowed -= 1
            count += 1
        return count

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        self._index = index_of(self.interface)
        if self._index is None:
            raise absent(self.interface)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            attach(self._socket, NOTHING)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._socket.bind((self.interface, ETH_P_ALL))  # all: a DHCP server on this gateway speaks outwards
            let_deliveries_finish()
            attach(self._socket, WHO_IS_WHO)
        except PermissionError as exc:
            self.close()
            raise not_allowed(self.interface) from exc
        except OSError as exc:
            self.close()
            raise CaptureError(f"{self.interface}: devices cannot be heard: {exc.strerror}") from exc

    def _look(self, missed: Callable[[int, int], None], now_us: int) -> None:
        """Ask what was dropped; leave a socket whose interface is no more, and open one where it has come back."""
        if self._socket is not None:
            _, dropped = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            if dropped:
                missed(dropped, now_us)
            if index_of(self.interface) == self._index and self._socket.getsockname()[0]:
                return
            self.close()
        missed(0, now_us)
        if index_of(self.interface) is not None:
            with contextlib.suppress(PenstockError, UnknownLinkType, OSError):
                self._open()
                self.reopened += 1
