"""The drift status: beyond doubt, in both directions, with hysteresis."""

from __future__ import annotations

import pytest

from detection.drift import HOURS_IN, HOURS_OUT, Drift, DriftState, outside
from detection.sample import EDGES, HourState

PLACE = EDGES.index(-2.0)


def hour(number, *, near, windows=120):
    """Return an hour of which some windows came above a margin of -2."""
    over = [windows] * PLACE + [near] + [0] * (len(EDGES) - PLACE - 1)
    over[:PLACE] = [near] * PLACE
    return HourState(
        hour=number, watched_us=3_600_000_000, windows=windows, devices=10, known=[], unknown=[], over=over
    )


def days(shares, *, start=0):
    """Return hours, a day of them for each share of windows near a threshold."""
    return [hour(start + 24 * day + n, near=round(120 * share)) for day, share in enumerate(shares) for n in range(24)]


@pytest.mark.parametrize(
    ("today", "wanted"), [(0.05, ""), (0.075, ""), (0.09, ""), (0.2, "more"), (0.04, ""), (0.0, "fewer")]
)
def test_twice_or_half_of_the_usual_beyond_doubt_is_outside(today, wanted):
    assert outside(days([0.05] * 6 + [today]), now_hour=24 * 7 - 1) == wanted


def test_too_little_seen_before_or_today_tells_nothing():
    assert outside(days([0.5]), now_hour=23) == ""
    few_today = [*days([0.05] * 6), hour(24 * 6, near=40, windows=40)]
    assert outside(few_today, now_hour=24 * 6) == ""


def test_the_status_is_raised_after_some_hours_in_a_row_and_cleared_after_more():
    drift = Drift()
    usual, odd = days([0.05] * 7), days([0.05] * 6 + [0.3])

    raised = [drift.judge(odd, now_hour=167) for _ in range(HOURS_IN)]
    cleared = [drift.judge(usual, now_hour=167) for _ in range(HOURS_OUT)]

    assert raised == [""] * (HOURS_IN - 1) + ["more"]
    assert cleared == ["more"] * (HOURS_OUT - 1) + [""]
    assert drift.drifts == 1


def test_a_share_that_comes_and_goes_neither_raises_nor_clears():
    drift = Drift()
    usual, odd = days([0.05] * 7), days([0.05] * 6 + [0.3])

    for _ in range(10):
        drift.judge(odd, now_hour=167)
        drift.judge(odd, now_hour=167)
        drift.judge(usual, now_hour=167)

    assert (drift.status, drift.drifts) == ("", 0)


def test_the_state_brings_back_what_was_said():
    drift = Drift()
    for _ in range(HOURS_IN):
        drift.judge(days([0.05] * 6 + [0.3]), now_hour=167)

    again = Drift(DriftState.model_validate(drift.state().model_dump()))

    assert (again.status, again.drifts) == ("more", 1)
