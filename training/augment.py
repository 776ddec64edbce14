"""Windows as a gateway may also meet them: short histories, lost records, other traffic in between, missing columns.

All functions work on scaled windows float32[B, W, F] with `lengths` int64[B] and keep rows left-aligned, oldest first.
The newest attack record among a window's new ones, which gives the window its label, always stays. One probe or one
flooding packet can speak for itself; one login cannot, so windows of `TOLD_BY_SEVERAL` keep some of their records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.classes import class_named

Floats = NDArray[np.float32]

TOLD_BY_SEVERAL = frozenset(
    class_named(name).index
    for name in ("brute_force", "slow_dos", "c2", "exfiltration", "protocol_abuse", "web_attack")
)
SEVERAL = 4  # as many records of one peer, port and protocol as a window holds


@dataclass(frozen=True)
class AugmentSettings:
    """How often each thing is done to a window; probabilities, and the noise's spread in standard deviations."""

    shorten: float = 0.35
    thin: float = 0.25
    alone: float = 0.10
    mingle: float = 0.25
    blind: float = 0.15
    noise: float = 0.10


@dataclass(eq=False)
class Batch:
    """B windows in the making."""

    values: Floats  # [B, W, F], scaled
    lengths: NDArray[np.int64]  # [B]
    label: NDArray[np.int64]  # [B]
    row_label: NDArray[np.int8]  # [B, W]


class Augmenter:
    """Draws variants of batches. `column_groups` are index lists that may be blinded together."""

    def __init__(
        self, settings: AugmentSettings, *, column_groups: Sequence[Sequence[int]], rng: np.random.Generator
    ) -> None:
        self._settings, self._rng = settings, rng
        self._groups = [np.array(group, dtype=np.intp) for group in column_groups]

    def apply(self, batch: Batch, *, benign: Batch) -> None:
        """Change a batch in place. `benign` holds benign windows to mingle in, as many as the batch or more."""
        chance = self._rng.random((4, len(batch.label)))
        for row in range(len(batch.label)):
            if chance[0, row] < self._settings.mingle:
                self._mingle(batch, row, benign)
            if chance[1, row] < self._settings.alone:
                self._keep_rows(batch, row, self._one_row(batch, row))
            elif chance[2, row] < self._settings.shorten:
                self._keep_rows(batch, row, self._newest_rows(batch, row))
            if chance[3, row] < self._settings.thin:
                self._keep_rows(batch, row, self._some_rows(batch, row))
        self._disturb(batch)

    def _anchor(self, batch: Batch, row: int) -> int:
        """Return the newest row that must stay: the last attack record of the window's class, else the last row."""
        last = int(batch.lengths[row]) - 1
        if batch.label[row] == 0:
            return last
        places = np.flatnonzero(batch.row_label[row, : last + 1] == batch.label[row])
        return int(places[-1]) if len(places) else last

    def _newest_rows(self, batch: Batch, row: int) -> NDArray[np.intp]:
        latest = self._anchor(batch, row)
        if int(batch.label[row]) in TOLD_BY_SEVERAL:
            latest = max(0, min(latest, int(batch.lengths[row]) - SEVERAL))
        return np.arange(self._rng.integers(0, latest + 1), batch.lengths[row])

    def _some_rows(self, batch: Batch, row: int) -> NDArray[np.intp]:
        kept = self._rng.random(int(batch.lengths[row])) > self._rng.uniform(0.1, 0.6)
        kept[self._anchor(batch, row)] = True
        if int(batch.label[row]) in TOLD_BY_SEVERAL:
            kept |= batch.row_label[row, : len(kept)] == batch.label[row]
        return np.flatnonzero(kept)

    def _one_row(self, batch: Batch, row: int) -> NDArray[np.intp]:
        """Choose any one row that can speak for itself; the window then has that record's own class.

        Where none can, the window stays as it is.
        """
        length = int(batch.lengths[row])
        own = batch.row_label[row, :length]
        places = np.flatnonzero((own >= 0) & ~np.isin(own, list(TOLD_BY_SEVERAL)))
        if not len(places):
            return np.arange(length)
        place = int(self._rng.choice(places))
        batch.label[row] = int(own[place])
        return np.array([place])

    @staticmethod
    def _keep_rows(batch: Batch, row: int, kept: NDArray[np.intp]) -> None:
        count = len(kept)
        batch.values[row, :count] = batch.values[row, kept]
        batch.row_label[row, :count] = batch.row_label[row, kept]
        batch.values[row, count:] = 0
        batch.row_label[row, count:] = 0
        batch.lengths[row] = count

    def _mingle(self, batch: Batch, row: int, benign: Batch) -> None:
        """Put some benign records of another device between the rows; the oldest rows make room."""
        width = batch.values.shape[1]
        other = int(self._rng.integers(0, len(benign.label)))
        guests = int(self._rng.integers(1, width // 2 + 1))
        guests = min(guests, int(benign.lengths[other]))
        old = int(batch.lengths[row])
        from_row = np.arange(max(0, min(self._anchor(batch, row), old + guests - width)), old)
        guests = min(guests, width - len(from_row))
        if guests <= 0:
            return
        total = len(from_row) + guests
        slots = np.zeros(total, dtype=np.bool_)
        slots[self._rng.permutation(total)[:guests]] = True
        values, labels = np.empty_like(batch.values[row, :total]), np.zeros(total, dtype=np.int8)
        values[slots] = benign.values[other, :guests]
        values[~slots], labels[~slots] = batch.values[row, from_row], batch.row_label[row, from_row]
        batch.values[row, :total], batch.row_label[row, :total] = values, labels
        batch.lengths[row] = total

    def _disturb(self, batch: Batch) -> None:
        """Add noise to every value; blind one column group of some windows (their values become the mean, 0)."""
        settings = self._settings
        shape = batch.values.shape
        batch.values += self._rng.standard_normal(shape, dtype=np.float32) * np.float32(settings.noise)
        if not self._groups:
            return
        for row in np.flatnonzero(self._rng.random(shape[0]) < settings.blind):
            batch.values[row][:, self._groups[int(self._rng.integers(0, len(self._groups)))]] = 0
