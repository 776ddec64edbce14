"""The speed of a replay, on a clock that only sleeping moves."""

from __future__ import annotations

import pytest

from agent.console.pace import SLICE_S, Pace
from agent.stopping import StopRequest

T0_US = 1_700_000_000_000_000


class SleepyClock:
    """A clock that stands still but for sleeping."""

    def __init__(self, stop: StopRequest | None = None, stop_after_s: float = float("inf")) -> None:
        self.s = 100.0
        self.slices: list[float] = []
        self._stop = stop
        self._stop_at_s = self.s + stop_after_s

    def sleep(self, seconds: float) -> None:
        self.s += seconds
        self.slices.append(seconds)
        if self._stop is not None and self.s >= self._stop_at_s:
            self._stop.signal_number = 2

    @property
    def slept_s(self) -> float:
        return sum(self.slices)


def pace_of(factor: float | None, clock: SleepyClock, stop: StopRequest | None = None) -> Pace:
    pace = Pace(factor, stop=StopRequest() if stop is None else stop, now_s=lambda: clock.s, sleep=clock.sleep)
    pace.begin(T0_US)
    return pace


@pytest.mark.parametrize(("factor", "expected_s"), [(1.0, 6.0), (10.0, 0.6), (0.5, 12.0)])
def test_it_takes_packet_time_over_the_factor(factor: float, expected_s: float):
    clock = SleepyClock()

    pace_of(factor, clock).wait_for(T0_US + 6_000_000)

    assert clock.slept_s == pytest.approx(expected_s)


def test_as_fast_as_it_can_never_sleeps():
    clock = SleepyClock()

    pace_of(None, clock).wait_for(T0_US + 6_000_000)

    assert clock.slices == []


def test_time_spent_working_is_not_slept_again():
    clock = SleepyClock()
    pace = pace_of(1.0, clock)
    clock.s += 4.0

    pace.wait_for(T0_US + 6_000_000)

    assert clock.slept_s == pytest.approx(2.0)


def test_the_gap_between_two_captures_is_not_waited_for():
    clock = SleepyClock()
    pace = pace_of(1.0, clock)
    pace.wait_for(T0_US + 1_000_000)

    a_week_later_us = T0_US + 7 * 86_400_000_000
    pace.begin(a_week_later_us)
    pace.wait_for(a_week_later_us + 1_000_000)

    assert clock.slept_s == pytest.approx(2.0)


def test_a_clock_set_back_begins_anew():
    clock = SleepyClock()
    pace = pace_of(1.0, clock)

    pace.wait_for(T0_US - 5_000_000)
    pace.wait_for(T0_US - 4_000_000)

    assert clock.slept_s == pytest.approx(1.0)


def test_a_stop_is_heard_within_a_slice():
    stop = StopRequest()
    clock = SleepyClock(stop, stop_after_s=3.0)

    pace_of(1.0, clock, stop).wait_for(T0_US + 3_600_000_000)

    assert clock.slept_s == pytest.approx(3.0, abs=SLICE_S * 1.01)
    assert max(clock.slices) <= SLICE_S
