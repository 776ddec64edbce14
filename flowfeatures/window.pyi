from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from flowfeatures.batch import WindowBatch

class DeviceWindows:
    """Windows of the devices inside `home_nets`."""

    window: int
    tick_us: int
    home_nets: tuple[str, ...]

    def __init__(
        self, home_nets: Iterable[str] = ..., *, window: int = ..., tick_us: int = ..., max_devices: int = ...
    ) -> None: ...
    def add(self, records: NDArray[np.void]) -> Iterator[WindowBatch]: ...
    def advance(self, now_us: int) -> Iterator[WindowBatch]: ...
    def flush(self) -> Iterator[WindowBatch]: ...
    @property
    def counters(self) -> dict[str, int]: ...
