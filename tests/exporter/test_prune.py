"""Pruning takes units away that do not count, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from exporter.prune import cut_to, importance, prune
from exporter.units import cuts_of
from flowfeatures import WINDOW_COLUMNS
from tests.training.windows import made_up_windows
from training.errors import CheckpointError
from training.networks import build

pytestmark = pytest.mark.needs_torch

F = len(WINDOW_COLUMNS)
PRUNED = ("gru", "conv_bilstm", "conv_bilstm_small", "cnn_lstm_attention", "cnn_self_attention", "cnn", "rnn", "dnn")
SMALL = {
    "gru": {"hidden": 10, "embedding": 8},
    "conv_bilstm": {"filters": 12, "hidden": 6, "second": 4, "dense": (10, 8)},
    "conv_bilstm_small": {"filters": 12, "hidden": 6, "dense": (10,)},
    "cnn_lstm_attention": {"filters": (6, 8), "hidden": 6, "dense": (12, 8)},
    "cnn_self_attention": {"filters": (6, 8), "dense": (12, 8)},
    "cnn": {"filters": (6, 8), "dense": (12,)},
    "rnn": {"hidden": 10, "dense": (8,)},
    "dnn": {"dense": (12, 8)},
}


def network_named(name, *, layout="windows", **sizes):
    torch.manual_seed(7)
    features = F if layout == "windows" else 20
    network = build(name, layout=layout, features=features, classes=11, **(SMALL[name] | sizes)).eval()
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith("running_mean"):
                value.uniform_(-1, 1)
    return network


def given(network):
    if network.is_row:
        return torch.randn(9, 20, generator=torch.Generator().manual_seed(1)), None
    made = made_up_windows(9)
    return network.scale(torch.from_numpy(made.values)), torch.from_numpy(made.lengths)


def loss_of(network, windows):
    scaled, lengths = network.scale(torch.from_numpy(windows.values)), torch.from_numpy(windows.lengths)
    return torch.nn.functional.cross_entropy(network.logits(scaled, lengths), torch.from_numpy(windows.label))


def teach_a_little(network, windows):
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(15):
        optimiser.zero_grad()
        loss_of(network, windows).backward()
        optimiser.step()


def silence(network, kept):
    """Zero every weight of the units that are to go, read and written alike."""
    state = network.state_dict()
    for cut, units in zip(cuts_of(network.described), kept, strict=True):
        gone = np.setdiff1d(np.arange(cut.units), units)
        for tie in cut.ties:
            for block in range(tie.blocks):
                places = torch.from_numpy(tie.start + block * cut.units + gone)
                state[tie.array].index_fill_(tie.axis, places, 0.0)


def every_second(network):
    return [np.arange(0, cut.units, 2) for cut in cuts_of(network.described)]


@pytest.mark.parametrize("layout", ["windows", "row"])
@pytest.mark.parametrize("name", PRUNED)
def test_units_that_do_nothing_can_go_without_a_trace(name, layout):
    """With the units' weights at 0 the whole network says what the small one says: every tie is where it must be."""
    # A second BiLSTM reads units as steps, and a product of queries is divided by their number: neither is a slice.
    apart = {"conv_bilstm": {"second": 0}, "cnn_self_attention": {"attention": False}}
    network = network_named(name, layout=layout, **apart.get(name, {}))
    kept = every_second(network)
    silence(network, kept)

    smaller = cut_to(network, kept)

    with torch.no_grad():
        before, after = (each.logits(*given(network)) for each in (network, smaller))
    assert torch.allclose(before, after, atol=1e-5)
    assert sum(p.numel() for p in smaller.parameters()) < 0.75 * sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("layout", ["windows", "row"])
@pytest.mark.parametrize("name", PRUNED)
def test_every_size_keeps_its_share(name, layout):
    network = network_named(name, layout=layout)

    smaller = cut_to(network, every_second(network))

    for cut, now in zip(cuts_of(network.described), cuts_of(smaller.described), strict=True):
        assert now.units == -(-cut.units // 2), cut.size
    with torch.no_grad():
        assert torch.isfinite(smaller.logits(*given(network))).all()


def test_what_a_unit_of_attention_says_is_found_in_its_query_key_and_value():
    network = network_named("cnn_self_attention")
    kept = every_second(network)
    silence(network, kept)
    smaller = cut_to(network, kept)

    # The product is divided by the root of the width: eight before, four now.
    with torch.no_grad():
        smaller.query.weight *= 0.5**0.5
        smaller.query.bias *= 0.5**0.5
        assert torch.allclose(network.logits(*given(network)), smaller.logits(*given(network)), atol=1e-5)


@pytest.mark.parametrize("name", ["gru", "conv_bilstm_small", "cnn_lstm_attention"])
def test_a_unit_that_does_nothing_is_the_least_important(name):
    network = network_named(name)
    cuts = cuts_of(network.described)
    kept = [np.setdiff1d(np.arange(cut.units), [3]) for cut in cuts]
    silence(network, kept)

    found = importance(network, made_up_windows(200))

    # Others may do nothing on these windows either: a ReLU that never opens.
    assert [float(each[3]) for each in found] == [0.0] * len(cuts)
    assert all(each.max() > 0 for each in found)


def test_losing_what_counts_costs_more_than_losing_what_does_not():
    windows = made_up_windows(400)
    network = network_named("gru")
    teach_a_little(network, windows)
    found = importance(network, windows)

    def loss_without(places):
        kept = [np.setdiff1d(np.arange(len(each)), np.argsort(each)[places]) for each in found]
        return loss_of(cut_to(network, kept), windows)

    assert loss_without(slice(0, 3)) < loss_without(slice(-3, None))


def test_at_least_one_unit_of_every_size_stays():
    network = network_named("gru")

    smaller = prune(network, importance(network, made_up_windows(100)), keep=0.001)

    assert [cut.units for cut in cuts_of(smaller.described)] == [1, 1]


def test_the_scaling_is_carried_over():
    network = network_named("gru")
    network.unit.fill_(1000.0)

    assert torch.equal(cut_to(network, every_second(network)).unit, network.unit)


def test_a_network_whose_units_are_not_known_is_refused():
    network = build("transformer", layout="windows", features=F, classes=11)

    with pytest.raises(CheckpointError, match="transformer cannot be pruned, wanted one of cnn, "):
        cuts_of(network.described)
