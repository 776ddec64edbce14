"""The gate before a head is used: on the aggregator's own hold-out it finds what the head before found, and no less.

Attacks in all, and each class of at least LEAST_OF_CLASS windows by itself; benign windows over threshold may not
become more. One stolen operator's account that calls an attack benign must not blind a fleet: whatever the strategy let
through, a head that finds fewer attacks is not adopted. Trap: what the hold-out does not hold is not guarded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, NAMES
from contracts.head import Head
from detection.decide import Thresholds
from federation.verdict import is_over

LEAST_OF_CLASS: Final = 20


@dataclass(frozen=True, eq=False)
class HoldOut:
    """Windows of the aggregator as the bundle's embedding float32[N, E], and their classes int64[N]."""

    embedding: NDArray[np.float32]
    label: NDArray[np.int64]
    thresholds: Thresholds

    def found(self, head: Head) -> dict[str, tuple[int, int]]:
        """Return by class, `benign` and `attacks` in all: windows over threshold, and windows."""
        over = is_over(head, self.embedding, self.thresholds)
        kinds = {NAMES[index]: self.label == index for index in np.unique(self.label).tolist()}
        kinds["attacks"] = self.label != BENIGN
        return {name: (int(over[which].sum()), int(which.sum())) for name, which in kinds.items()}


def refusals(hold_out: HoldOut, *, before: Head, after: Head) -> Iterator[str]:
    """Give what a new head does worse than the one before, a phrase each."""
    if not np.isfinite(after.flat).all():
        yield "the new head holds what is no number"
        return
    old, new = hold_out.found(before), hold_out.found(after)
    for name, (over, windows) in new.items():
        was = old[name][0]
        if name == NAMES[BENIGN]:
            if over > was:
                yield f"{over} of {windows} benign windows over threshold, before {was}"
        elif over < was and (windows >= LEAST_OF_CLASS or name == "attacks"):
            yield f"{over} of {windows} windows of {name} found, before {was}"
