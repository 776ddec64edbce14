"""What augmentation may and may not do to a window."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import NAMES
from training.augment import Augmenter, AugmentSettings, Batch

SCAN = NAMES.index("scan")
NOTHING = AugmentSettings(shorten=0, thin=0, alone=0, mingle=0, blind=0, noise=0)
WINDOW, FEATURES = 16, 6


def batch_of(rows, *, label):
    """One window whose value in every column is the row's number from 1; rows are the records' classes."""
    values = np.zeros((1, WINDOW, FEATURES), np.float32)
    values[0, : len(rows)] = np.arange(1, len(rows) + 1)[:, None]
    row_label = np.zeros((1, WINDOW), np.int8)
    row_label[0, : len(rows)] = rows
    return Batch(values, np.array([len(rows)]), np.array([label]), row_label)


def settings_with(**chances):
    return AugmentSettings(**{**NOTHING.__dict__, **chances})


def apply(batch, *, seed, **chances):
    benign = batch_of([0] * 8, label=0)
    benign.values *= -1
    rng = np.random.default_rng(seed)
    Augmenter(settings_with(**chances), column_groups=[[0, 1], [4]], rng=rng).apply(batch, benign=benign)
    return batch


@pytest.mark.parametrize("chances", [{"shorten": 1.0}, {"thin": 1.0}, {"mingle": 1.0}, {"shorten": 1.0, "mingle": 1.0}])
@pytest.mark.parametrize("seed", range(20))
def test_the_newest_attack_record_always_stays(seed, chances):
    batch = apply(batch_of([0, SCAN, SCAN, 0, 0], label=SCAN), seed=seed, **chances)

    length = int(batch.lengths[0])
    assert 3.0 in batch.values[0, :length, 0]
    assert batch.label[0] == SCAN


@pytest.mark.parametrize("seed", range(20))
def test_rows_stay_left_aligned_in_order_and_the_rest_is_empty(seed):
    batch = apply(batch_of([0, SCAN, 0, SCAN, 0, SCAN], label=SCAN), seed=seed, shorten=0.5, thin=0.5, mingle=0.5)

    length = int(batch.lengths[0])
    own = batch.values[0, :length, 0][batch.values[0, :length, 0] > 0]
    assert (np.diff(own) > 0).all()
    assert (batch.values[0, :length] != 0).all()
    assert (batch.values[0, length:] == 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_record_alone_has_its_own_class(seed):
    batch = apply(batch_of([0, SCAN, 0, SCAN], label=SCAN), seed=seed, alone=1.0)

    assert batch.lengths[0] == 1
    assert batch.label[0] == (SCAN if batch.values[0, 0, 0] in (2.0, 4.0) else 0)


def test_a_record_alone_is_never_one_that_was_left_out():
    labels = {int(apply(batch_of([-1, -1, SCAN], label=SCAN), seed=seed, alone=1.0).label[0]) for seed in range(20)}

    assert labels == {SCAN}


@pytest.mark.parametrize("chances", [{"shorten": 1.0}, {"thin": 1.0}, {"alone": 1.0}])
@pytest.mark.parametrize("seed", range(20))
def test_one_login_alone_is_never_shown_as_password_guessing(seed, chances):
    guess = NAMES.index("brute_force")
    batch = apply(batch_of([0, guess, guess, guess, 0, guess], label=guess), seed=seed, **chances)

    left = batch.row_label[0, : int(batch.lengths[0])]
    assert batch.label[0] == 0 or (left == guess).sum() >= 3


def test_blinding_takes_one_group_from_every_row():
    batch = apply(batch_of([0] * 5, label=0), seed=3, blind=1.0)

    empty = set(np.flatnonzero((batch.values[0, :5] == 0).all(axis=0)).tolist())
    assert empty in ({0, 1}, {4})


def test_without_chances_nothing_changes():
    before = batch_of([0, SCAN], label=SCAN)
    after = apply(batch_of([0, SCAN], label=SCAN), seed=0)

    assert np.array_equal(before.values, after.values)
