"""Windows made up for tests: benign rows are small, attack rows many and failed."""

from __future__ import annotations

import numpy as np

from contracts.classes import NAMES
from flowfeatures import WINDOW_COLUMNS
from training.datasets import WindowSet

WINDOW = 16


def made_up_windows(count: int, *, seed: int = 0, groups: int = 4, attack: str = "scan") -> WindowSet:
    """Return windows of which every other one is an attack that shows in `failed_10s`, `ports_10s` and payload."""
    rng = np.random.default_rng(seed)
    values = np.abs(rng.normal(50, 20, (count, WINDOW, len(WINDOW_COLUMNS)))).astype(np.float32)
    lengths = rng.integers(1, WINDOW + 1, count)
    is_attack = np.arange(count) % 2 == 1
    for name, benign, hostile in (("failed_10s", 0, 30), ("ports_10s", 2, 60), ("fwd_payload_bytes", 400, 0)):
        column = WINDOW_COLUMNS.index(name)
        values[:, :, column] = np.where(is_attack, hostile, benign)[:, None] + rng.random((count, WINDOW))
    label = np.where(is_attack, NAMES.index(attack), 0)
    rows = np.arange(WINDOW)[None, :] < lengths[:, None]
    values[~rows] = 0
    return WindowSet(
        values=values,
        lengths=lengths.astype(np.int64),
        label=label.astype(np.int64),
        row_label=(label[:, None] * rows).astype(np.int8),
        is_new=rows.astype(np.uint8),
        group=rng.integers(0, groups, count).astype(np.int64),
        groups=tuple(f"capture-{number}" for number in range(groups)),
    )
