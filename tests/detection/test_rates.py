"""Bounds of rates, held against exact ones."""

from __future__ import annotations

from math import exp, factorial

import pytest

from detection.rates import least, most, share_bound


def at_most(seen: int, mean: float) -> float:
    """Return the chance of at most so many, by the definition of Poisson's distribution."""
    return sum(exp(-mean) * mean**k / factorial(k) for k in range(seen + 1))


@pytest.mark.parametrize("seen", [0, 1, 2, 5, 10, 40])
def test_so_few_are_seen_in_one_of_twenty_cases_at_the_upper_bound(seen):
    assert at_most(seen, most(seen)) == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("seen", [2, 5, 10, 40])
def test_so_many_are_seen_in_one_of_twenty_cases_at_the_lower_bound(seen):
    assert 1 - at_most(seen - 1, least(seen)) == pytest.approx(0.05, abs=0.006)


def test_nothing_seen_tells_no_lower_bound_and_three_over_n_as_the_upper_one():
    assert least(0) == 0.0
    assert share_bound(0, 30_000) == pytest.approx(1e-4)
    assert share_bound(0, 2) == 1.0
    assert share_bound(0, 0) is None
