"""The threshold of sustained suspicion: by incidents, and by what real devices reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from contracts.classes import HEAD_NAMES
from detection.decide import log_odds
from training.choosing import NEVER, BenignWindows
from training.sustaining import UNCHOSEN, SustainedSettings, choose_sustained, incidents

S = 1_000_000
ONE_EACH = SustainedSettings(tolerated={"lab": 1.0}, margin=0.1)


def windows(averages: Sequence[float], *, device: Sequence[int] = (), at_s: Sequence[float] = (), captures: int = 1):
    count = len(averages)
    return BenignWindows(
        probabilities=np.zeros((count, len(HEAD_NAMES)), np.float32),
        averages=np.array(averages, np.float64),
        device=np.array(device or [1] * count, np.int64),
        due_us=np.array([round(each * S) for each in (at_s or range(count))], np.int64),
        captures=captures,
    )


def open_of(benign: dict[str, BenignWindows]) -> float:
    rule = choose_sustained(benign, settings=ONE_EACH)
    assert rule is not None
    return float(log_odds(rule.open))


def test_no_window_of_a_real_device_tells():
    assert open_of({"home": windows([-2.0, 1.5, 2.5, NEVER])}) == pytest.approx(2.6, abs=0.001)


def test_incidents_are_counted_by_device_and_quiet():
    every = windows([3.0] * 6, device=[1, 1, 1, 2, 2, 1], at_s=[0, 200, 400, 400, 500, 1000])

    assert incidents(every.averages > 2, every) == 3
    assert incidents(every.averages > 4, every) == 0


def test_a_source_that_plays_a_day_in_minutes_may_raise_some_incidents_a_capture():
    devices = windows([1.0, 2.0, 3.0, 4.0], device=[1, 2, 3, 4])

    assert 3.0 <= open_of({"lab": devices}) < 3.2
    twice = windows([1.0, 2.0, 3.0, 4.0], device=[1, 2, 3, 4], captures=2)
    assert 2.0 <= open_of({"lab": twice}) < 2.2


def test_the_strictest_source_decides():
    assert open_of({"lab": windows([5.0]), "home": windows([2.0])}) == pytest.approx(2.1, abs=0.001)


def test_it_never_lies_below_where_the_rule_begins():
    assert open_of({"home": windows([-3.0])}) == pytest.approx(float(log_odds(UNCHOSEN.open)) + 0.1, abs=0.001)


def test_without_any_window_the_lowest_holds():
    assert choose_sustained({}) == UNCHOSEN


def test_where_benign_devices_reach_the_highest_there_is_no_rule():
    assert choose_sustained({"home": windows([UNCHOSEN.most])}) is None
