"""The threshold of `detection.sustained`: how high a device's average must be before its windows tell.

Real devices of the validation side, and the demo's, must stay below it. The lab plays a day of a household in minutes,
inventories and failed logins and all, and what looks like an attack for minutes is an incident or two; so its
recordings may raise some each. Counted are incidents, since that is what an operator sees: windows of one device above
the threshold, until it was quiet for as long as an incident stays open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import SustainedRule
from detection.decide import log_odds, probability_of
from training.choosing import BenignWindows

QUIET_US: Final = 300_000_000  # detection.Detector's incident_quiet_s
STEP: Final = 0.05  # of log-odds, between the thresholds tried
UNCHOSEN: Final = SustainedRule(weight=0.125, start=-3.0, least=-4.0, most=6.0, fades_s=300.0, open=0.6)
"""How windows are averaged; its `open` is the lowest there may be."""


@dataclass(frozen=True)
class SustainedSettings:
    """`tolerated` incidents per capture, by source; of sources not named there none. The margin is in log-odds."""

    tolerated: Mapping[str, float] = field(default_factory=lambda: {"lab": 4.0})
    margin: float = 0.05
    rule: SustainedRule = UNCHOSEN


def choose_sustained(
    benign: Mapping[str, BenignWindows], *, settings: SustainedSettings | None = None
) -> SustainedRule | None:
    """Return the rule with the least threshold that every source allows; None where none below the highest does."""
    how = settings or SustainedSettings()
    least = float(log_odds(how.rule.open))
    for source, windows in benign.items():
        least = max(least, _least(windows, how.tolerated.get(source, 0.0), lowest=least) + how.margin)
    if least >= how.rule.most:
        return None
    chosen = float(probability_of(np.array(least)))
    return how.rule.model_copy(update={"open": round(chosen, 5)})


def incidents(over: NDArray[np.bool_], windows: BenignWindows) -> int:
    """Return how many incidents windows over a threshold, bool[N], make."""
    device, due_us = windows.device[over], windows.due_us[over]
    if not len(device):
        return 0
    order = np.lexsort((due_us, device))
    is_other = np.diff(device[order]) != 0
    return 1 + int((is_other | (np.diff(due_us[order]) > QUIET_US)).sum())


def _least(windows: BenignWindows, tolerated: float, *, lowest: float) -> float:
    """Return the least threshold, from `lowest` on, above which a source's windows make no more than is tolerated."""
    if not len(windows.averages):
        return lowest
    highest = float(windows.averages.max())
    if tolerated == 0 or highest <= lowest:
        return max(lowest, highest)
    allowed = tolerated * windows.captures
    tried = np.arange(lowest, highest, STEP)
    enough = [float(each) for each in tried if incidents(windows.averages > each, windows) <= allowed]
    return min(enough, default=highest)
