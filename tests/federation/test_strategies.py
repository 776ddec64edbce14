"""Strategies against plain Python, and what one liar can do to each."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from federation.aggregator.strategies import STRATEGIES, likeness, unusual

EXAMPLES = np.array([100, 200, 300, 200, 200])


def honest() -> np.ndarray:
    return np.random.default_rng(0).normal(0.1, 0.02, (5, 40))


def by_hand(name: str, values: np.ndarray) -> list[float]:
    columns = values.T.tolist()
    if name == "fedavg":
        return [sum(value * n for value, n in zip(column, EXAMPLES, strict=True)) / 1000 for column in columns]
    if name == "fedmedian":
        return [statistics.median(column) for column in columns]
    return [statistics.mean(sorted(column)[1:-1]) for column in columns]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_gives_what_its_definition_gives(name: str):
    assert STRATEGIES[name](honest(), EXAMPLES) == pytest.approx(by_hand(name, honest()))


@pytest.mark.parametrize(("name", "most"), [("fedmedian", 0.3), ("fedtrimmedavg", 0.3)])
def test_one_liar_of_five_moves_a_robust_strategy_little(name: str, most: float):
    values = honest()
    values[2] *= -20

    moved = STRATEGIES[name](values, EXAMPLES)

    truth = honest().mean(axis=0)
    assert np.linalg.norm(moved - truth) / np.linalg.norm(truth) < most
    mean = STRATEGIES["fedavg"](values, EXAMPLES)
    assert np.linalg.norm(mean - truth) / np.linalg.norm(truth) > 3


def test_claimed_examples_are_believed_up_to_four_times_the_median():
    values = np.zeros((5, 1))
    values[0] = 1.0
    boast = np.array([1_000_000, 100, 100, 100, 100])

    assert STRATEGIES["fedavg"](values, boast)[0] == pytest.approx(0.5)


def test_who_points_elsewhere_is_told():
    values = honest()
    values[4] = -values[4]

    told = likeness(values, values[:4].mean(axis=0))

    assert min(told[:4]) > 0.9
    assert told[4] < -0.9
    assert likeness(np.zeros((1, 3)), np.ones(3)) == [0.0]


def test_who_is_far_longer_or_points_against_the_delta_is_unusual():
    norms = {"attic": 0.5, "barn": 0.4, "cellar": 1.6, "dairy": 0.5}

    assert unusual(norms, {"attic": 0.9, "barn": -0.1, "cellar": 0.8, "dairy": 0.9}) == ["barn", "cellar"]
    assert unusual({}, {}) == []
