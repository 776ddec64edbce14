"""Columns to what a learner reads, fitted on training rows alone: a test row changes nothing here.

Numbers become one of `SCALES`: "range" is min-max to [0, 1] as in the papers, "log" is log1p and standardised, "rank"
the share of training rows that lie below, as -1 .. 1, which neither a new maximum nor a heavy tail can move. Symbols
become one column per value that enough training rows have; a value not among them is all zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.tables.table import Table

SCALES = ("range", "log", "rank")
RANKS = 128  # support points of the rank transform
CLIP = 4.0
RANGE_LIMIT = 2.0  # a test value may lie above the training maximum, but not carry a network away

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoder:
    """Fitted by `fit_encoder`; `names` are those of the encoded columns."""

    scale: str
    number_names: tuple[str, ...]
    low: Floats
    high: Floats
    points: Floats
    values: tuple[tuple[str, ...], ...]
    symbol_names: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        pairs = zip(self.symbol_names, self.values, strict=True)
        return (*self.number_names, *(f"{name}={value}" for name, values in pairs for value in values))

    def encode(self, table: Table) -> Inputs:
        """Return float32[N, F]: numbers in the order of the table, then the symbols' values."""
        places = [table.number_names.index(name) for name in self.number_names]
        numbers = table.numbers[:, places]
        if self.scale == "rank":
            scaled = self._ranked(numbers)
        else:
            spread = np.where(self.high > 0, self.high, 1.0)
            values = signed_log(numbers) if self.scale == "log" else numbers
            bounds = (-CLIP, CLIP) if self.scale == "log" else (-1.0, RANGE_LIMIT)
            scaled = np.clip((values - self.low) / spread, *bounds)
        hot = [
            (table.symbols[:, table.symbol_names.index(name)][:, None] == np.array(values, dtype=object)[None, :])
            for name, values in zip(self.symbol_names, self.values, strict=True)
        ]
        return np.hstack([scaled, *hot]).astype(np.float32)

    def _ranked(self, numbers: Floats) -> Floats:
        """Interpolate between support points; of equal points (a value many rows share) take the middle rank."""
        found = np.empty_like(numbers)
        grid = np.linspace(-1.0, 1.0, self.points.shape[0])
        for column in range(numbers.shape[1]):
            points = self.points[:, column]
            upward = np.interp(numbers[:, column], points, grid)
            downward = -np.interp(-numbers[:, column], -points[::-1], grid)
            found[:, column] = (upward + downward) / 2
        return found


def fit_encoder(train: Table, *, scale: str, least_share: float = 0.0) -> Encoder:
    """Return the encoder of these training rows; a symbol's value needs at least this share of them.

    Columns that never change in training are left out: they carry nothing, and would in a test file.
    """
    if scale not in SCALES:
        raise ValueError(f"no scale {scale!r}, there are {', '.join(SCALES)}")
    moving = np.flatnonzero(train.numbers.max(axis=0) > train.numbers.min(axis=0))
    numbers = train.numbers[:, moving]
    logs = signed_log(numbers)
    if scale == "log":
        low, high = logs.mean(axis=0), logs.std(axis=0)
    else:
        low, high = numbers.min(axis=0), numbers.max(axis=0) - numbers.min(axis=0)
    values = []
    for column in range(len(train.symbol_names)):
        found, counts = np.unique(train.symbols[:, column].astype(str), return_counts=True)
        values.append(tuple(found[counts >= max(1, least_share * len(train))].tolist()))
    return Encoder(
        scale=scale,
        number_names=tuple(train.number_names[place] for place in moving),
        low=low,
        high=high,
        points=np.quantile(numbers, np.linspace(0, 1, RANKS), axis=0),
        values=tuple(values),
        symbol_names=train.symbol_names,
    )


def signed_log(numbers: Floats) -> Floats:
    return np.asarray(np.sign(numbers) * np.log1p(np.abs(numbers)))
