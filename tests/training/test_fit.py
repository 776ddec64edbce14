"""Sampling, and a network that learns made-up windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contracts.classes import NAMES
from contracts.errors import DataMissing
from tests.training.windows import made_up_windows

pytest.importorskip("torch")

from training.fit import FitSettings, column_groups, fit, predict, sampling_weights
from training.teach import window_figures
from training.thresholds import choose

pytestmark = pytest.mark.needs_torch

QUICK = FitSettings(epochs=3, steps=60, batch=64, averaging=0.9)


def test_half_of_what_is_drawn_is_benign_and_captures_count_by_the_root_of_their_windows():
    windows = made_up_windows(600, groups=2)
    group = np.where(np.arange(600) < 60, 0, 1)
    windows = type(windows)(**{**windows.__dict__, "group": group})
    chances = sampling_weights(windows, benign_share=0.5)

    benign = windows.label == 0
    assert chances.sum() == pytest.approx(1.0)
    assert chances[benign].sum() == pytest.approx(0.5)
    ratio = chances[benign & (group == 1)].sum() / chances[benign & (group == 0)].sum()
    assert ratio == pytest.approx(np.sqrt(540 / 60))


@pytest.fixture(scope="module")
def fitted():
    return fit(made_up_windows(800), made_up_windows(200, seed=1), QUICK)


def test_a_network_learns_what_tells_the_attack(fitted):
    judged = made_up_windows(300, seed=2)
    found = predict(fitted.network, judged)
    told = window_figures(found, judged.label, choose({"home": found[judged.label == 0]}))

    assert told["auc"] > 0.99
    assert told["tpr"] > 0.95
    assert (found.argmax(axis=1)[judged.label > 0] == NAMES.index("scan")).mean() > 0.95


def test_the_same_seed_gives_the_same_weights(fitted):
    again = fit(made_up_windows(800), made_up_windows(200, seed=1), QUICK)

    for name, array in fitted.network.arrays().items():
        assert np.array_equal(array, again.network.arrays()[name]), name


def test_rows_beyond_a_windows_length_change_nothing(fitted):
    windows = made_up_windows(50, seed=3)
    noisy = type(windows)(**{**windows.__dict__, "values": windows.values + 7 * (1 - windows.mask[:, :, None])})

    assert np.allclose(predict(fitted.network, windows), predict(fitted.network, noisy), atol=1e-6)


def test_hidden_columns_change_nothing(fitted):
    from flowfeatures import WINDOW_COLUMNS
    from training.scaling import HIDDEN_COLUMNS

    windows = made_up_windows(50, seed=4)
    values = windows.values.copy()
    for name in HIDDEN_COLUMNS:
        values[:, :, WINDOW_COLUMNS.index(name)] += 1e6

    changed = type(windows)(**{**windows.__dict__, "values": values})
    assert np.array_equal(predict(fitted.network, windows), predict(fitted.network, changed))


def test_a_set_without_attacks_cannot_teach():
    windows = made_up_windows(40)

    with pytest.raises(DataMissing, match="no attack window"):
        fit(windows.where(windows.label == 0), windows, QUICK)


def test_every_column_group_names_columns():
    assert all(column_groups())


def test_a_pupil_learns_what_its_teachers_say_and_not_what_labels_say(fitted):
    windows, judged = made_up_windows(800), made_up_windows(300, seed=2)
    unsure = replace(QUICK, label_smoothing=0.6, heeded=1.0, seed=2)

    pupil = fit(windows, made_up_windows(200, seed=1), unsure, teachers=[fitted.network])
    alone = fit(windows, made_up_windows(200, seed=1), unsure)

    scan = NAMES.index("scan")
    said = [predict(each.network, judged)[judged.label > 0, scan].mean() for each in (fitted, pupil, alone)]
    assert said[1] == pytest.approx(said[0], abs=0.05)
    assert said[2] < said[1] - 0.2


def test_teachers_stay_as_they_are(fitted):
    before = {name: array.copy() for name, array in fitted.network.arrays().items()}

    fit(made_up_windows(800), made_up_windows(100, seed=1), QUICK, teachers=[fitted.network])

    for name, array in fitted.network.arrays().items():
        assert np.array_equal(array, before[name]), name


def test_teachers_that_scale_windows_otherwise_are_refused(fitted):
    other = made_up_windows(800, seed=5)

    with pytest.raises(ValueError, match="scale windows otherwise"):
        fit(other, other, QUICK, teachers=[fitted.network])
