"""One client's step in torch: what moves, what stays, and that it is the same twice."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.needs_torch

from training.finetune import LocalSettings, _batches, learn, put_weights, weights, without_dropout  # noqa: E402
from training.networks import build  # noqa: E402


def network(seed: int = 1):
    torch.manual_seed(seed)
    return without_dropout(build("dnn", layout="row", features=6, classes=2, dense=(8, 4)))


def rows(count: int = 64):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(count, 6)).astype(np.float32)
    return torch.from_numpy(values), torch.from_numpy((values[:, 0] > 0).astype(np.int64))


def test_a_step_learns_and_is_the_same_twice():
    values, label = rows()
    first, second = network(), network()
    settings = LocalSettings(rate=0.5, batch=8)

    losses = [learn(first, values, label, settings, seed=1, turn=turn) for turn in range(15)]
    for turn in range(15):
        learn(second, values, label, settings, seed=1, turn=turn)

    assert losses[-1] < 0.5 * losses[0]
    for name, array in weights(first).items():
        assert np.array_equal(array, weights(second)[name]), name


def test_with_scope_head_nothing_but_the_head_moves():
    values, label = rows()
    tuned, before = network(), weights(network())

    learn(tuned, values, label, LocalSettings(scope="head", rate=0.5), seed=1)

    moved = {name for name, array in weights(tuned).items() if not np.array_equal(array, before[name])}
    assert moved == {"head_w", "head_b"}
    assert set(weights(tuned, scope="head")) == {"head_w", "head_b"}


def test_a_proximal_term_holds_the_weights_near_where_they_began():
    values, label = rows()
    before = weights(network())
    apart = []
    for proximal in (0.0, 5.0):
        tuned = network()
        for turn in range(3):
            learn(tuned, values, label, LocalSettings(rate=0.05, proximal=proximal), seed=1, turn=turn)
        apart.append(sum(float(np.square(array - before[name]).sum()) for name, array in weights(tuned).items()))

    assert apart[1] < 0.8 * apart[0]


def test_turns_see_every_row_once_an_epoch_and_in_another_order_the_next():
    settings = LocalSettings(share=0.25, batch=3)

    epochs = [
        [
            int(place)
            for turn in range(4)
            for part in _batches(22, settings, seed=1, turn=4 * epoch + turn)
            for place in part
        ]
        for epoch in range(2)
    ]

    assert [sorted(each) for each in epochs] == [list(range(22))] * 2
    assert epochs[0] != epochs[1]


def test_weights_go_out_and_come_in_again():
    first, second = network(1), network(2)

    put_weights(second, weights(first))

    for name, array in weights(first).items():
        assert np.array_equal(array, weights(second)[name])


@pytest.mark.parametrize("arrays", [{"other": np.zeros(2, np.float32)}, {"head_b": np.zeros(3, np.float32)}])
def test_weights_of_another_network_are_refused(arrays: dict):
    with pytest.raises(ValueError, match="this network has"):
        put_weights(network(), arrays)


@pytest.mark.parametrize("wrong", [{"scope": "some"}, {"batch": 0}, {"share": 0.0}, {"rate": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"scope|need batch"):
        LocalSettings(**wrong)


def test_no_rows_are_no_step():
    with pytest.raises(ValueError, match="no rows"):
        learn(network(), torch.zeros((0, 6)), torch.zeros(0, dtype=torch.long), LocalSettings(), seed=1)
