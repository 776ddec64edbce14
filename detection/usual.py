"""What a device's records usually hold: a bounded sample of rows per device, and their range, column by column.

Of every window that opened nothing the newest record counts. The sample forgets slowly: a new record takes a random
place, at least one in FORGETS_AFTER, so that it speaks of the last some thousand. It explains and decides nothing:
what stands in here moves no threshold, so an attacker who fills it gains nothing but a poorer explanation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowfeatures import WindowBatch

MOST_DEVICES: Final = 256  # those heard of last; 64 rows of 102 columns are 26 KB each
ROWS: Final = 64
LEAST_ROWS: Final = 16  # below, a range would say little
FORGETS_AFTER: Final = 4096
LOW: Final = 0.05
HIGH: Final = 0.95


class UsualRange(NamedTuple):
    """float32[F] each: 5 %, 50 % and 95 % of what `records` rows held."""

    records: int
    low: NDArray[np.float32]
    middle: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(eq=False)
class _Sample:
    rows: NDArray[np.float32]
    seen: int = 0


class Usual:
    """The samples of all devices. `seed` chooses which rows are kept, so that a replay says the same twice."""

    def __init__(self, *, most_devices: int = MOST_DEVICES, seed: int = 0) -> None:
        self._most_devices = most_devices
        self._samples: OrderedDict[bytes, _Sample] = OrderedDict()
        self._random = np.random.default_rng(seed)

    def observe(self, batch: WindowBatch, *, left_out: Collection[int]) -> None:
        """Take the newest new record of every window, but of those in `left_out`."""
        is_new = (batch.is_new > 0) & (batch.mask > 0)
        places = is_new.shape[1] - 1 - is_new[:, ::-1].argmax(axis=1)
        dice = self._random.random(len(batch.due_us)).tolist()
        for row in np.flatnonzero(is_new.any(axis=1)).tolist():
            if row not in left_out:
                self._add(batch.device[row].tobytes(), batch.values[row, places[row]], dice[row])

    def of(self, device: bytes) -> UsualRange | None:
        """Return a device's usual range; None where too little was seen of it."""
        sample = self._samples.get(device)
        if sample is None or sample.seen < LEAST_ROWS:
            return None
        rows = sample.rows[: min(sample.seen, ROWS)]
        low, middle, high = np.quantile(rows, (LOW, 0.5, HIGH), axis=0).astype(np.float32)
        return UsualRange(sample.seen, low, middle, high)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address keep its sample."""
        if (sample := self._samples.pop(old, None)) is not None:
            self._samples[new] = sample

    def _add(self, device: bytes, values: NDArray[np.float32], die: float) -> None:
        sample = self._samples.get(device)
        if sample is None:
            sample = self._samples[device] = _Sample(np.zeros((ROWS, len(values)), np.float32))
            if len(self._samples) > self._most_devices:
                self._samples.popitem(last=False)
        else:
            self._samples.move_to_end(device)
        place = sample.seen
        if place >= ROWS:
            place = int(die * min(sample.seen + 1, FORGETS_AFTER))
        if place < ROWS:
            sample.rows[place] = values
        sample.seen += 1


def standing_out(
    rows: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> list[tuple[int, float]]:
    """Return the columns in which the middle of some rows, float32[k, F], lies outside a range, farthest first.

    Distances are in logarithms (of 1 + x), where a factor means the same for bytes and for microseconds.
    """
    middle = _logs(np.median(rows, axis=0))
    apart = np.maximum(_logs(low) - middle, middle - _logs(high))
    return [(place, float(apart[place])) for place in np.argsort(-apart, kind="stable").tolist() if apart[place] > 0.05]


def _logs(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
    return found
