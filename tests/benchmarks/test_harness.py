"""The harness: turns, spreads and workers that fail."""

from __future__ import annotations

import pytest

from benchmarks import harness
from benchmarks.extract import Comparison


def test_runs_take_turns_after_one_that_is_thrown_away_and_every_second_turn_goes_backwards():
    order: list[str] = []

    def side(name: str):
        def run() -> int:
            order.append(name)
            return len(order)

        return run

    samples = harness.interleave({"a": side("a"), "b": side("b")}, runs=3)

    assert "".join(order) == "abbaabba"
    assert samples == {"a": [4, 5, 8], "b": [3, 6, 7]}


def test_a_ratio_is_taken_within_a_turn_and_not_between_medians():
    ours = [{"flows": 1, "packets": 1, "cpu_s": cpu_s, "wall_s": 1.0, "peak_bytes": 1} for cpu_s in (1.0, 2.0, 4.0)]
    theirs = [
        {"flows": 1, "packets": 1, "cpu_s": cpu_s, "wall_s": 2.0, "peak_bytes": 1} for cpu_s in (40.0, 20.0, 20.0)
    ]

    comparison = Comparison.of("mixed", {"penstock": ours, "nfstream": theirs})

    assert comparison.cpu_ratio == {"penstock": harness.Spread(median=10.0, low=5.0, high=40.0, runs=3)}


def test_a_worker_that_fails_says_what_it_said():
    with pytest.raises(RuntimeError, match="No module named benchmarks"):
        harness.run_worker("benchmarks.nothing")


def test_the_fingerprint_leaves_out_packages_that_are_not_there():
    machine = harness.fingerprint(["numpy", "no-such-package"])

    assert list(machine["packages"]) == ["numpy"]
    assert machine["cores"] >= 1
