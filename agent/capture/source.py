"""What a live source of frames gives to the loop that reads it, and what it is told before it is opened.

The loop asks for blocks; where none comes in time it moves the flow clock to `clock_us`. At the end it says `stop()`,
reads on until `is_drained`, then closes: only then is every frame the kernel counted accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from agent.capture.report import CaptureReport
from flowfeatures.frames import FrameBlock

ETHERNET_BYTES: Final = 14
MAX_RING_BYTES: Final = 1 << 30
"""A kernel refuses no ring for its size: one beyond the memory there is makes it kill processes, ours or others'."""


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """How an interface is captured. Raises ValueError where a ring of such a shape cannot be."""

    interface: str
    filter: str | None = None
    """A pcap filter; None takes every frame."""
    snap_length_bytes: int = 512
    """Octets kept of each frame: headers, with room for a chain of IPv6 extension headers."""
    block_bytes: int = 1 << 18
    """A block is handed over after `retire_timeout_ms`, be there one frame in it: many small ones last longer."""
    block_count: int = 128
    """32 MB held 453,000 packets a second without loss while the reader slept for up to two seconds."""
    retire_timeout_ms: int = 20
    """A block that is not full is handed over this long after its first frame."""
    promiscuous: bool = True
    fanout_group: int | None = None
    """Workers that name the same group (0 to 65535) share the interface's frames, each flow's going to one of them."""

    def __post_init__(self) -> None:
        if not ETHERNET_BYTES <= self.snap_length_bytes <= 65535:
            raise ValueError(f"snap_length_bytes: {self.snap_length_bytes}, wanted {ETHERNET_BYTES} to 65535")
        if self.block_bytes % 4096 or not 1 << 16 <= self.block_bytes <= 1 << 24:
            raise ValueError(f"block_bytes: {self.block_bytes}, wanted a multiple of 4096 from 65536 to 16777216")
        if not 2 <= self.block_count <= 4096:
            raise ValueError(f"block_count: {self.block_count}, wanted 2 to 4096")
        if self.block_count > (most := MAX_RING_BYTES // self.block_bytes):
            raise ValueError(
                f"block_count: {self.block_count}, wanted at most {most} of {self.block_bytes} octets each"
            )
        if not 1 <= self.retire_timeout_ms <= 1000:
            raise ValueError(f"retire_timeout_ms: {self.retire_timeout_ms}, wanted 1 to 1000")
        if self.fanout_group is not None and not 0 <= self.fanout_group <= 65535:
            raise ValueError(f"fanout_group: {self.fanout_group}, wanted 0 to 65535")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Frames, from the kernel's first look to our hands; sums over all sockets the source has had.

    Every frame that was seen was read, dropped, left out as `outgoing`, found `malformed`, `abandoned` in a ring that
    was closed before it was drained, or is `standing` in the ring. `meanwhile` frames came between the first and the
    last of the kernel's numbers: none while the wire is quiet or after `stop()`.
    """

    seen: int = 0
    dropped: int = 0
    read: int = 0
    outgoing: int = 0
    malformed: int = 0
    standing: int = 0
    abandoned: int = 0
    meanwhile: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})


class LiveSource(Protocol):
    """Frames of one interface. A context manager that closes itself."""

    @property
    def clock_us(self) -> int:
        """Return a time before which every frame has been delivered, microseconds since the epoch."""

    @property
    def is_drained(self) -> bool:
        """Return whether, after `stop()`, no frame is left to be read."""

    @property
    def descriptor(self) -> int | None:
        """Return what to poll until frames stand ready, None where nothing is open now."""

    def heed_error(self) -> None:
        """Take note of what made `descriptor` report an error, so that it reports it once."""

    def read_block(self, block: FrameBlock, timeout_s: float) -> int:
        """Point the block at the next frames, waiting for the first at most so long; return how many, 0 for none.

        The frames of the call before are gone with it.
        """

    def stop(self) -> None:
        """Take in no further frames; what was taken in can still be read."""

    def counts(self) -> Counts:
        """Return what was counted so far, as of now."""

    def report(self) -> CaptureReport:
        """Return what a person should know of this capture."""

    def close(self) -> None:
        """Give everything back to the kernel; frames not read are counted as abandoned."""

    def __enter__(self) -> LiveSource: ...

    def __exit__(self, *_: object) -> None: ...
