"""What a detector had before it when an incident opened: the window, what the network made of it, what is usual.

Made once per incident and given out with its first message; nobody keeps it but who wants to explain it later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.usual import UsualRange


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A window of n records, oldest first; `device` is whose window it is, not always whose incident.

    `values` float32[n, F] raw; `attention` float32[n], None where the network has none; `alone` float32[n], the score
    of each record without the others, `made_it` bool[n] whether it is evidence; `flows` FLOW_META[n]. `medians`
    float32[F] are those of benign windows everywhere (the bundle's), `usual` this device's own range.
    """

    device: bytes
    due_us: int
    bundle: str
    values: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    alone: NDArray[np.float32]
    made_it: NDArray[np.bool_]
    is_new: NDArray[np.bool_]
    repeats: NDArray[np.uint32]
    flows: NDArray[np.void]
    medians: NDArray[np.float32]
    usual: UsualRange | None
