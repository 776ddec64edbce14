"""Baselines on made-up windows, and the columns ablations name."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import HEAD_NAMES
from flowfeatures import CONTEXT_COLUMNS
from tests.training.windows import made_up_windows

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from training.baselines import fit_baselines, flatten
from training.compare import ABLATIONS, _columns
from training.scaling import keep_mask, measure_scaling

pytestmark = pytest.mark.needs_torch


@pytest.fixture(scope="module")
def scaling():
    windows = made_up_windows(200)
    return measure_scaling(windows.values[:, 0], np.ones(200), keep=keep_mask())


def test_a_flattened_window_holds_newest_mean_largest_and_length(scaling):
    windows = made_up_windows(5)
    flat = flatten(windows, scaling)
    features = windows.values.shape[2]
    first = np.clip(scaling.apply(windows.values[0, : windows.lengths[0]]), -4, 4)

    assert flat.shape == (5, 3 * features + 1)
    assert np.allclose(flat[0, :features], first[-1], atol=5e-3)
    assert np.allclose(flat[0, features : 2 * features], first.mean(axis=0), atol=5e-3)
    assert np.allclose(flat[0, 2 * features : -1], first.max(axis=0), atol=5e-3)
    assert flat[0, -1] == windows.lengths[0]


def test_each_baseline_learns_and_answers_for_every_class(scaling):
    judged = made_up_windows(100, seed=5)
    for baseline in fit_baselines(made_up_windows(400), scaling, seed=1):
        found = baseline.probabilities(judged)

        assert found.shape == (100, len(HEAD_NAMES))
        assert ((found.argmax(axis=1) > 0) == (judged.label > 0)).mean() > 0.95, baseline.name


def test_every_context_column_stands_in_an_ablation():
    named = {name for prefixes in ABLATIONS.values() for name in _columns(prefixes)}

    assert set(CONTEXT_COLUMNS) - named == {"is_tcp", "is_udp", "is_icmp"}
