"""How far a head goes, and its level: learning from benign traffic lowers all suspicion, the bias of benign lifts it.

The bias of benign is lowered as little as lets the head find as many attacks of the aggregator's teaching windows, in
all, as the bundle's head, and the least sure of them as surely: other windows than these lie nearer to a threshold.
Whether that costs false alarms is the release gate's to say, on windows not used here. Where the gate refuses the whole
step, half of it is tried, a quarter, an eighth: a round that loses one attack of hundreds at its end may lose none on
the way there. Trap: one number moves all classes; a class that a round really unlearnt is not brought back by it, and
is left to the gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from contracts.classes import BENIGN
from contracts.head import Head, head_of
from federation.aggregator.release import ATTACKS, HoldOut, refusals
from federation.at_thresholds import margins

MOST: Final = 3.0  # in log-odds: more would be another head
STEP: Final = 0.05
LEAST_SURE: Final = 0.05  # of the teaching attacks
SHARES: Final = (1.0, 0.5, 0.25, 0.125)  # of the way from the head before; each is one look at the hold-out


def settled(head: Head, teaching: HoldOut, *, before: Head) -> Head:
    """Return the head at the level at which it finds what the head before found, and the least sure no less surely.

    Where no level keeps both, the first that finds as many; as it is where none does.
    """
    wanted, sure = teaching.found(before)[ATTACKS][0], _least_sure(before, teaching)
    enough = None
    for shift in np.arange(0.0, MOST + STEP, STEP):
        bias = head.bias.copy()
        bias[BENIGN] -= np.float32(shift)
        lowered = Head(head.weight, bias)
        if teaching.found(lowered)[ATTACKS][0] >= wanted:
            enough = lowered if enough is None else enough
            if _least_sure(lowered, teaching) >= sure:
                return lowered
    return head if enough is None else enough


def _least_sure(head: Head, teaching: HoldOut) -> float:
    """Return the mean margin, in log-odds, of those attacks that are found least surely: the first to be lost."""
    above = np.sort(margins(head, teaching.embedding[teaching.label != BENIGN], teaching.thresholds))
    return float(above[: max(1, round(LEAST_SURE * len(above)))].mean())


@dataclass(frozen=True)
class Passed:
    """A head that may be used and the share of the way it went; or None and why not even the last share may."""

    head: Head | None
    share: float
    why: str


def furthest(base: Head, head: Head, *, hold_out: HoldOut, teaching: HoldOut | None, shipped: Head) -> Passed:
    """Return the largest step from a base towards a head that, at its level, passes the release gate."""
    why = ""
    for share in SHARES:
        part = head_of((base.flat + np.float32(share) * (head.flat - base.flat)).astype(np.float32))
        level = part if teaching is None else settled(part, teaching, before=shipped)
        broken = "; ".join(refusals(hold_out, before=base, after=level, shipped=shipped))
        if not broken:
            return Passed(level, share, "")
        why = why or broken
    return Passed(None, 0.0, why)
