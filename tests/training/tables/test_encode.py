"""Encoders see training rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.tables.encode import SCALES, fit_encoder

from .rows import clouds


@pytest.mark.parametrize("scale", SCALES)
def test_what_a_test_row_holds_does_not_change_how_another_is_encoded(scale: str):
    train, test = clouds(), clouds(seed=5)
    encoder = fit_encoder(train, scale=scale)

    alone = encoder.encode(test.take(np.arange(5)))
    beside = encoder.encode(replace(test, numbers=np.vstack([test.numbers[:5], test.numbers[5:] * 1e9])))[:5]

    assert np.array_equal(alone, beside)


def test_the_range_is_that_of_training_and_bounded_beyond():
    train = clouds()
    encoder = fit_encoder(train, scale="range")

    far = replace(train, numbers=np.full_like(train.numbers, 1e12))

    assert encoder.encode(train)[:, :4].min() == 0.0
    assert encoder.encode(train)[:, :4].max() == 1.0
    assert encoder.encode(far)[:, :4].max() == 2.0


def test_ranks_are_those_of_scipy():
    rankdata = pytest.importorskip("scipy.stats").rankdata
    train = clouds(benign=2000)
    encoder = fit_encoder(train, scale="rank")

    found = encoder.encode(train)[:, 0]

    wanted = 2 * (rankdata(train.numbers[:, 0]) - 1) / (len(train) - 1) - 1
    assert np.abs(found - wanted).max() < 0.02


def test_a_value_most_rows_share_gets_the_middle_of_its_ranks():
    train = clouds(benign=400, kinds={"flood": 100})
    numbers = train.numbers.copy()
    numbers[:400, 0], numbers[400:, 0] = 0.0, 1.0
    encoder = fit_encoder(replace(train, numbers=numbers), scale="rank")

    found = encoder.encode(replace(train, numbers=numbers))[:, 0]

    assert found[0] == pytest.approx(-0.2, abs=0.02)
    assert found[-1] == pytest.approx(0.8, abs=0.02)


def test_a_symbol_not_taught_or_too_rare_is_all_zeros():
    train = clouds()
    symbols = train.symbols.copy()
    symbols[0] = "icmp"
    encoder = fit_encoder(replace(train, symbols=symbols), scale="log", least_share=0.01)

    strange = replace(train, symbols=np.full_like(train.symbols, "sctp"))

    assert encoder.names[4:] == ("proto=tcp", "proto=udp")
    assert not encoder.encode(strange)[:, 4:].any()


def test_a_column_that_never_moves_in_training_is_left_out():
    train = clouds()
    numbers = train.numbers.copy()
    numbers[:, 1] = 7.0

    encoder = fit_encoder(replace(train, numbers=numbers), scale="log")

    assert encoder.number_names == ("a", "c", "d")
