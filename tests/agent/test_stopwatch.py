"""Seconds by stage, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from agent.stopwatch import Stopwatch, TimedEngine
from tests.detection.windows import CAMERA, OUTSIDE, LegibleEngine, Row, Window, batch_of


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def test_a_stage_inside_another_pauses_it():
    clock = Clock()
    watch = Stopwatch(clock)

    with watch.stage("decisions"):
        clock.pass_s(1)
        with watch.stage("inference"):
            clock.pass_s(2)
        clock.pass_s(4)
    clock.pass_s(8)

    assert watch.seconds == {"decisions": 5.0, "inference": 2.0, "total": 15.0}


def test_making_items_counts_and_using_them_does_not():
    clock = Clock()
    watch = Stopwatch(clock)

    def slow_items() -> Iterator[int]:
        for item in range(3):
            clock.pass_s(1)
            yield item

    for _ in watch.each("flows", slow_items()):
        clock.pass_s(10)

    assert watch.seconds == {"flows": 3.0, "total": 33.0}


def test_a_stage_that_fails_is_counted_and_over():
    clock = Clock()
    watch = Stopwatch(clock)

    with suppress(ZeroDivisionError), watch.stage("flows"):
        clock.pass_s(1)
        raise ZeroDivisionError
    with watch.stage("delivery"):
        clock.pass_s(2)

    assert watch.seconds == {"flows": 1.0, "delivery": 2.0, "total": 3.0}


def test_a_timed_engine_scores_as_the_engine_does():
    watch = Stopwatch()
    batch = batch_of(Window(CAMERA, [Row(OUTSIDE, CAMERA, {"scan": 0.5})]))

    scores = TimedEngine(LegibleEngine(), watch).score(batch.values, batch.mask)

    assert scores.probabilities.tolist() == LegibleEngine().score(batch.values, batch.mask).probabilities.tolist()
    assert "inference" in watch.seconds
