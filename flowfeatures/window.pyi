from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_HOME_NETS: tuple[str, ...]
EXCLUDED: int
AFTER: int

@dataclass(frozen=True, slots=True)
class WindowBatch:
    """B due windows, in order of their tick, then of the device's first new record in it."""

    values: NDArray[np.float32]
    mask: NDArray[np.float32]
    device: NDArray[np.uint8]
    due_us: NDArray[np.int64]
    label: NDArray[np.int8]
    flows: NDArray[np.void]
    repeats: NDArray[np.uint32]
    is_new: NDArray[np.uint8]

    def __len__(self) -> int: ...

class DeviceWindows:
    """Windows of the devices inside `home_nets`."""

    window: int
    tick_us: int
    home_nets: tuple[str, ...]

    def __init__(
        self, home_nets: Iterable[str] = ..., *, window: int = ..., tick_us: int = ..., max_devices: int = ...
    ) -> None: ...
    def add(self, records: NDArray[np.void]) -> Iterator[WindowBatch]: ...
    def flush(self) -> Iterator[WindowBatch]: ...
    @property
    def counters(self) -> dict[str, int]: ...
