"""Setting a new head's level: fine-tuning on benign traffic lowers all suspicion, and the bias of benign gives it back.

The bias of benign is lowered as little as lets the head find as many attacks of the aggregator's teaching windows, in
all, as the bundle's head. Whether that costs false alarms is the release gate's to say, on windows not
used here. Trap: one number moves all classes; a class that a round really unlearnt is not brought back by it, and is
left to the gate.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from contracts.classes import BENIGN
from contracts.head import Head
from federation.aggregator.release import ATTACKS, HoldOut

MOST: Final = 3.0  # in log-odds: more would be another head
STEP: Final = 0.05


def settled(head: Head, teaching: HoldOut, *, before: Head) -> Head:
    """Return the head at the level at which it finds what the head before found; as it is where no level does."""
    wanted = teaching.found(before)[ATTACKS][0]
    for shift in np.arange(0.0, MOST + STEP, STEP):
        bias = head.bias.copy()
        bias[BENIGN] -= np.float32(shift)
        lowered = Head(head.weight, bias)
        if teaching.found(lowered)[ATTACKS][0] >= wanted:
            return lowered
    return head
