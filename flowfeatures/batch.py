"""What leaves hop 5: windows, many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXCLUDED = -1
"""Label of a record to be left out, and of a window that holds one and no attack."""
AFTER = -2
"""Label of a window whose new records are benign while attack records still stand in it."""


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """B due windows, in order of their tick, then of the device's first new record in it.

    Rows 0 to n - 1 hold records, oldest first; the rest is zero and masked.
    """

    values: NDArray[np.float32]
    """float32[B, W, F], raw values in the order of WINDOW_COLUMNS."""
    mask: NDArray[np.float32]
    """float32[B, W], 1 where a row holds a record."""
    device: NDArray[np.uint8]
    """uint8[B, 16], the monitored device's address."""
    due_us: NDArray[np.int64]
    """int64[B], packet time at the end of the tick."""
    label: NDArray[np.int8]
    """int8[B], class of the newest attack record among the new ones; 0 benign, EXCLUDED or AFTER otherwise."""
    flows: NDArray[np.void]
    """FLOW_META[B, W], whose records they are."""
    repeats: NDArray[np.uint32]
    """uint32[B, W], records that a row stands for."""
    is_new: NDArray[np.uint8]
    """uint8[B, W], 1 where the record came in this tick."""

    def __len__(self) -> int:
        return len(self.due_us)

    def rows(self, which: slice | NDArray[np.intp]) -> WindowBatch:
        """Return some of the windows; of a slice they are views."""
        return WindowBatch(**{name: getattr(self, name)[which] for name in self.__slots__})
