"""The gate before a head is used: on the aggregator's own hold-out it finds what the head before found, and no less.

Attacks in all may not become fewer than with the head before, nor than with the bundle's own. No class of
LEAST_OF_CLASS windows may lose more than CLASS_SLACK of them, and benign windows over threshold may not exceed the 95 %
bound of what the bundle's head gave: both against the bundle, not the round before, or small losses would add up. One
stolen operator's account that calls an attack benign must not blind a fleet: whatever the strategy let through, such a
head is not adopted. Trap: what the hold-out does not hold is not guarded.
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
from detection.rates import most
from federation.at_thresholds import is_over

LEAST_OF_CLASS: Final = 20
CLASS_SLACK: Final = 0.02
ATTACKS: Final = "attacks"


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
        kinds[ATTACKS] = self.label != BENIGN
        return {name: (int(over[which].sum()), int(which.sum())) for name, which in kinds.items()}


def refusals(hold_out: HoldOut, *, before: Head, after: Head, shipped: Head) -> Iterator[str]:
    """Give what a new head does worse than the one before, or than the bundle's, a phrase each."""
    if not np.isfinite(after.flat).all():
        yield "the new head holds what is no number"
        return
    old, first, new = (hold_out.found(head) for head in (before, shipped, after))
    least_found = max(old[ATTACKS][0], first[ATTACKS][0])
    for name, (over, windows) in new.items():
        was = first[name][0]
        if name == ATTACKS and over < least_found:
            yield f"{over} of {windows} windows of attacks found, before {least_found}"
        elif name == NAMES[BENIGN] and over > most(was):
            yield f"{over} of {windows} benign windows over threshold, the bundle has {was}"
        elif name not in {ATTACKS, NAMES[BENIGN]} and windows >= LEAST_OF_CLASS and over < was - CLASS_SLACK * windows:
            yield f"{over} of {windows} windows of {name} found, the bundle finds {was}"
