"""How a network sees the window's columns: units, mean and spread, and which columns it must not see.

F columns. The unit is fixed by a column's name, mean and spread are measured on training windows, `keep` is policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowfeatures import WINDOW_COLUMNS

MILLISECOND_US = 1000.0
# Below it a difference in time tells the link (virtual cables answer within 50 us), not the behaviour.

HIDDEN_COLUMNS: tuple[str, ...] = (
    # They name the host's TCP stack, and so the capture: which machine the attacker happened to be.
    "fwd_init_window_bytes",
    "bwd_init_window_bytes",
    "fwd_header_bytes_min",
    "fwd_header_bytes",
    "bwd_header_bytes",
)

LEAST_SPREAD = 0.25
# Of log values: a column that hardly moves in training must not shout when it moves in the field.

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scaling:
    """`unit`, `mean`, `std`, `keep`: float32[F] each, as `networks` uses them."""

    unit: Floats
    mean: Floats
    std: Floats
    keep: Floats

    def apply(self, values: Floats) -> Floats:
        """Return float32[..., F] as the network sees it, before clipping."""
        x = np.sign(values) * np.log1p(np.abs(values) / self.unit)
        return np.asarray((x - self.mean) / self.std * self.keep, dtype=np.float32)

    def is_like(self, other: Scaling) -> bool:
        """Return whether another scaling shows a network the same."""
        own, others = (np.stack([each.unit, each.mean, each.std, each.keep]) for each in (self, other))
        return np.array_equal(own, others)


def column_units() -> Floats:
    """Return float32[F]: the size below which a column's differences mean nothing."""
    return np.array([MILLISECOND_US if name.endswith("_us") else 1.0 for name in WINDOW_COLUMNS], dtype=np.float32)


def keep_mask(hidden: tuple[str, ...] = HIDDEN_COLUMNS) -> Floats:
    """Return float32[F]: 0 for hidden columns, else 1. Raises ValueError for a name that is no column."""
    if unknown := sorted(set(hidden) - set(WINDOW_COLUMNS)):
        raise ValueError(f"no such column: {', '.join(unknown)}")
    return np.array([name not in hidden for name in WINDOW_COLUMNS], dtype=np.float32)


def measure_scaling(rows: Floats, weights: NDArray[np.float64], *, keep: Floats) -> Scaling:
    """Return the scaling of rows float32[N, F] (raw), each counted by its weight float64[N]."""
    unit = column_units()
    x = np.sign(rows) * np.log1p(np.abs(rows.astype(np.float64)) / unit)
    share = (weights / weights.sum())[:, None]
    mean = (x * share).sum(axis=0)
    std = np.sqrt((np.square(x - mean) * share).sum(axis=0))
    return Scaling(
        unit=unit,
        mean=mean.astype(np.float32),
        std=np.maximum(std, LEAST_SPREAD).astype(np.float32),
        keep=keep,
    )
