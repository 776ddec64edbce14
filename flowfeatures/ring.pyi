from mmap import mmap

from flowfeatures.frames import FrameBlock

class Ring:
    """The frames of a mapped TPACKET_V3 ring, in the order in which the kernel wrote them."""

    frames_read: int
    outgoing_dropped: int
    malformed_frames: int
    blocks_read: int
    last_us: int
    @property
    def is_ready(self) -> bool: ...
    @property
    def standing(self) -> int: ...
    def __init__(
        self, memory: mmap | bytearray | memoryview, *, block_bytes: int, block_count: int, link_type: int, drop_outgoing: bool = False
    ) -> None: ...
    def close(self) -> None: ...
    def read_block(self, block: FrameBlock) -> int: ...
