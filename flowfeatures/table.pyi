from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowfeatures.frames import FrameBlock
from flowfeatures.settings import FlowSettings

class FlowTable:
    """All live flows of one observation point."""

    clock_us: int

    def __init__(self, settings: FlowSettings, flow_id_key: bytes, hash_seed: bytes | None = ...) -> None: ...
    def add_frames(self, block: FrameBlock, start: int, labels: NDArray[np.uint8] | None = ...) -> int: ...
    def flush(self) -> bool: ...
    def take_records(self) -> NDArray[np.void]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def counters(self) -> dict[str, Any]: ...
