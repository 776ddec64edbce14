"""Whether this gateway's windows still score as they did: a status with hysteresis, never a threshold.

Watched is the share of the sample that comes near a threshold, day by day: it moves long before an incident does, and
in both directions: a gateway whose windows suddenly score far too low has gone blind, or its traffic has. The day's
share is outside when even its 95 % bound lies beyond twice, or below half, the bound of the two weeks before. HOURS_IN
such hours in a row raise the status, HOURS_OUT others clear it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from detection.rates import least, most
from detection.sample import EDGES, HourState
from detection.state import StrictState

FACTOR: Final = 2.0
HOURS_IN: Final = 3
HOURS_OUT: Final = 6
DAY_HOURS: Final = 24
MIN_BEFORE: Final = 500  # windows of the sample that tell what is usual
MIN_TODAY: Final = 50
USUAL_SHARE: Final = 0.02  # the highest edge that so many come above is watched: fewer tell too little a day

Direction = Literal["", "more", "fewer"]


class DriftState(StrictState):
    """What a restart brings back: since when the share is outside or inside, and what was said of it."""

    status: Direction = ""
    outside: Annotated[int, Field(ge=0, le=10_000)] = 0
    inside: Annotated[int, Field(ge=0, le=10_000)] = 0
    drifts: Annotated[int, Field(ge=0, le=1 << 40)] = 0


class Drift:
    """The status. Judge once an hour."""

    def __init__(self, state: DriftState | None = None) -> None:
        self._state = state or DriftState()

    @property
    def status(self) -> Direction:
        """Return `more` or `fewer` windows near a threshold than usual, or nothing."""
        return self._state.status

    @property
    def drifts(self) -> int:
        """Return how often the status was raised."""
        return self._state.drifts

    def state(self) -> DriftState:
        return self._state

    def judge(self, hours: Sequence[HourState], *, now_hour: int) -> Direction:
        """Look at the last day beside the days before it; return the status."""
        direction = outside(hours, now_hour=now_hour)
        was = self._state
        if direction:
            n_out, n_in = min(was.outside + 1, 10_000), 0
        else:
            n_out, n_in = 0, min(was.inside + 1, 10_000)
        status, drifts = was.status, was.drifts
        if direction and n_out >= HOURS_IN and status != direction:
            status, drifts = direction, drifts + 1
        elif status and n_in >= HOURS_OUT:
            status = ""
        self._state = DriftState(status=status, outside=n_out, inside=n_in, drifts=drifts)
        return status


def outside(hours: Sequence[HourState], *, now_hour: int) -> Direction:
    """Return on which side of the usual the last day's share lies beyond doubt."""
    before = [each for each in hours if each.hour <= now_hour - DAY_HOURS]
    today = [each for each in hours if now_hour - DAY_HOURS < each.hour <= now_hour]
    n_before, n_today = (sum(each.windows for each in part) for part in (before, today))
    if n_before < MIN_BEFORE or n_today < MIN_TODAY:
        return ""
    over = [sum(each.over[place] for each in before) for place in range(len(EDGES))]
    place = max((place for place, count in enumerate(over) if count >= USUAL_SHARE * n_before), default=0)
    seen = sum(each.over[place] for each in today)
    if least(seen) / n_today > FACTOR * most(over[place]) / n_before:
        return "more"
    if most(seen) / n_today < least(over[place]) / n_before / FACTOR:
        return "fewer"
    return ""
