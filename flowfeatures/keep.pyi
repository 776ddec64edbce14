from collections.abc import Iterable

from flowfeatures.frames import FrameBlock

class KeptFrames:
    """The newest frames of an interface, in bounded memory."""

    size_bytes: int
    frames: int
    left_out: int

    def __init__(self, size_bytes: int) -> None: ...
    @property
    def oldest_us(self) -> int | None: ...
    def clear(self) -> None: ...
    def keep(self, block: FrameBlock) -> None: ...
    def pcap_of(self, device: bytes, peers: Iterable[bytes], *, most_frames: int) -> bytes: ...
