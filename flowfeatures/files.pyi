import os
from collections.abc import Iterator
from types import TracebackType
from typing import Literal

from flowfeatures.frames import FrameBlock

def open_capture(path: str | os.PathLike[str]) -> Capture:
    """Open a pcap or pcapng file for `FlowMeter.read`."""

class Capture:
    """Frames of one capture file, a context manager."""

    path: str
    format: Literal["pcap", "pcapng"]
    size_bytes: int
    position_bytes: int
    frames_read: int

    def __init__(self, path: str | os.PathLike[str]) -> None: ...
    def __enter__(self) -> Capture: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...
    def read_block(self, block: FrameBlock) -> int: ...
    def blocks(self) -> Iterator[FrameBlock]: ...
