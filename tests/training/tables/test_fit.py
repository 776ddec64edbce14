"""The fit loop for rows: it learns, stops early, and gives the same weights for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.networks import build  # noqa: E402
from training.tables.encode import fit_encoder  # noqa: E402
from training.tables.fit import RowFitSettings, fit_rows  # noqa: E402

from .rows import clouds  # noqa: E402

pytestmark = pytest.mark.needs_torch


def fitted(*, seed: int = 1, **settings: int):
    train, validation = clouds(benign=200), clouds(benign=200, seed=1)
    encoder = fit_encoder(train, scale="log")
    place = {"benign": 0, "flood": 1, "scan": 2}
    torch.manual_seed(seed)
    network = build("dnn", layout="row", features=len(encoder.names), classes=3, dense=(16,))
    labels = [np.array([place[kind] for kind in table.kind]) for table in (train, validation)]
    found = fit_rows(
        network,
        inputs=encoder.encode(train),
        label=labels[0],
        validation_inputs=encoder.encode(validation),
        validation_label=labels[1],
        settings=RowFitSettings(seed=seed, **{"steps": 500, "checks": 6, **settings}),
    )
    return found, encoder.encode(validation), labels[1]


def test_a_network_learns_clouds():
    found, inputs, label = fitted()

    assert (found.probabilities(inputs).argmax(axis=1) == label).mean() > 0.98


def test_the_same_seed_gives_the_same_probabilities_and_another_does_not():
    (first, inputs, _), (again, _, _), (other, _, _) = fitted(), fitted(), fitted(seed=2)

    told = [each.probabilities(inputs) for each in (first, again, other)]

    assert np.array_equal(told[0], told[1])
    assert not np.array_equal(told[0], told[2])


def test_what_is_kept_is_the_state_with_the_least_validation_loss():
    found, inputs, label = fitted(steps=600, checks=12)

    probabilities = found.probabilities(inputs)
    loss = -np.log(probabilities[np.arange(len(label)), label]).mean()

    assert loss == pytest.approx(min(each["validation_loss"] for each in found.history), rel=1e-3)


def test_attention_has_a_weight_for_each_column_and_sums_to_one():
    found, inputs, _ = fitted()

    assert found.attention(inputs).shape == (inputs.shape[1],)
    assert found.attention(inputs).sum() == pytest.approx(1.0, abs=1e-5)
