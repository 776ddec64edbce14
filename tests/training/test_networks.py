"""Every network in both layouts: what it returns, and that padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from training.networks import LAYOUTS, NAMES, PLAIN_NAMES, GruNetwork, build, network_of
from training.shapes import array_shapes

pytestmark = pytest.mark.needs_torch

F, C, W = 13, 4, 16
NARROW = {"conv_bilstm": {"filters": 16, "hidden": 8, "second": 8}, "transformer": {"width": 8, "heads": 2}}
PAPERS = ("conv_bilstm", "conv_bilstm_small", "cnn_lstm_attention", "cnn_self_attention")
KINDS = [(name, {}) for name in (*NAMES, *PLAIN_NAMES)] + [(name, {"attention": False}) for name in PAPERS]
torch.set_num_threads(1)  # so small that threads would wait for each other
every_kind = pytest.mark.parametrize(("name", "sizes"), KINDS, ids=lambda each: each or "" if each else "whole")
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def made(name, *, layout="windows", features=F, classes=C, seed=2, **sizes):
    """Return a network whose scaling and batch statistics are not those it is born with."""
    torch.manual_seed(seed)
    network = build(name, layout=layout, features=features, classes=classes, **NARROW.get(name, {}), **sizes)
    rng = np.random.default_rng(seed)
    for key, tensor in network.state_dict().items():
        if key.endswith(("mean", "std", "unit", "running_var")):
            tensor.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, tensor.shape)))
    return network.eval()


def windows(count=20, *, seed=0, rows=W):
    torch.manual_seed(seed)
    lengths = torch.arange(count) % rows + 1
    return 3 * torch.randn(count, rows, F), lengths


def row(count=20):
    torch.manual_seed(0)
    return 3 * torch.randn(count, F)


def judged(network, values, lengths=None):
    with torch.no_grad():
        return network.judge(values, lengths)


@every_layout
@every_kind
def test_a_network_gives_logits_an_embedding_and_attention_over_its_steps(name, sizes, layout):
    network = made(name, layout=layout, **sizes)
    values, lengths = windows() if layout == "windows" else (row(), None)

    logits, embedding, attention = judged(network, values, lengths)

    assert logits.shape == (20, C)
    assert embedding.shape == (20, network.head.in_features)
    assert attention.shape == (20, W if layout == "windows" else F)
    assert torch.allclose(attention.sum(dim=1), torch.ones(20), atol=1e-5)
    assert (attention >= 0).all()
    # with gradients other kernels are at work, which round otherwise on some processors
    torch.testing.assert_close(network.head(embedding), logits)
    torch.testing.assert_close(network.logits(values, lengths), logits)
    torch.testing.assert_close(network.embedding(values, lengths), embedding)


@every_layout
@every_kind
def test_a_networks_arrays_are_those_its_description_promises(name, sizes, layout):
    network = made(name, layout=layout, **sizes)

    assert {key: array.shape for key, array in network.arrays().items()} == array_shapes(network.described)


@every_layout
@every_kind
def test_a_network_comes_back_from_its_arrays_and_facts(name, sizes, layout):
    network = made(name, layout=layout, **sizes)
    values, lengths = windows() if layout == "windows" else (row(), None)

    back = network_of(network.arrays(), network.facts())

    assert all(
        torch.equal(*pair) for pair in zip(judged(network, values, lengths), judged(back, values, lengths), strict=True)
    )


@every_kind
@pytest.mark.parametrize("rubbish", [1e6, float("inf"), float("nan")])
def test_rows_beyond_a_windows_length_change_no_output(name, sizes, rubbish):
    network = made(name, **sizes)
    values, lengths = windows()
    is_padding = torch.arange(W)[None, :] >= lengths[:, None]

    clean = judged(network, values.masked_fill(is_padding[:, :, None], 0.0), lengths)
    dirty = judged(network, values.masked_fill(is_padding[:, :, None], rubbish), lengths)

    assert all(torch.equal(*pair) for pair in zip(clean, dirty, strict=True))
    assert not clean.attention[is_padding].any()


@every_kind
def test_rows_beyond_a_windows_length_teach_nothing(name, sizes):
    """Batch statistics are taken over real rows: outputs and gradients in training know no padding either."""
    values, lengths = windows()
    is_padding = (torch.arange(W)[None, :] >= lengths[:, None])[:, :, None]
    told = []
    for rubbish in (0.0, 1e3):
        network = made(name, **sizes).train()
        network.dropout.p = 0.0
        network.logits(values.masked_fill(is_padding, rubbish), lengths).square().sum().backward()
        told.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
        told[-1] += list(network.buffers())

    assert all(torch.equal(*pair) for pair in zip(*told, strict=True))


@every_kind
def test_a_window_is_judged_as_if_its_padding_were_cut_off(name, sizes):
    if name == "cnn_lstm_attention" and not sizes:
        pytest.skip("its weights belong to places of a whole window")
    network = made(name, **sizes)
    values, lengths = windows()

    whole = judged(network, values, lengths)
    for place, length in enumerate(lengths.tolist()):
        cut = judged(network, values[place : place + 1, :length], lengths[place : place + 1])
        assert torch.allclose(cut.logits[0], whole.logits[place], atol=1e-5)
        assert torch.allclose(cut.attention[0], whole.attention[place, :length], atol=1e-5)


@every_layout
@every_kind
def test_every_parameter_learns(name, sizes, layout):
    network = made(name, layout=layout, **sizes).train()
    values, lengths = windows() if layout == "windows" else (row(), None)

    torch.nn.functional.cross_entropy(network.logits(values, lengths), torch.arange(20) % C).backward()

    # A key's bias moves all of a query's scores alike, and softmax does not see it; so with the bias of a score.
    blind = ("key.bias", "score.bias")
    idle = [key for key, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert [key for key in idle if not key.endswith(blind)] == []


@every_layout
@every_kind
def test_a_network_learns_which_column_matters(name, sizes, layout):
    network = made(name, layout=layout, classes=2, **sizes).train()
    values, lengths = windows(64) if layout == "windows" else (row(64), None)
    label = (values[..., 5] > 0).long() if layout == "row" else (values[:, 0, 5] > 0).long()
    if layout == "windows":
        values[:, :, 5] = values[:, :1, 5]
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)

    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(network.logits(values, lengths), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    told = judged(network.eval(), values, lengths).logits.argmax(dim=1)
    assert (told == label).float().mean() > 0.9, float(loss.detach())


@pytest.mark.parametrize("name", ["gru", "cnn_lstm_attention", "conv_bilstm_small", "transformer", "rnn"])
def test_the_order_of_records_matters(name):
    network = made(name)
    values, _ = windows(4)
    full = torch.full((4,), W)

    swapped = values[:, [1, 0, *range(2, W)]]

    assert not torch.allclose(judged(network, values, full).logits, judged(network, swapped, full).logits, atol=1e-6)


def test_probabilities_are_of_raw_windows_and_of_raw_rows():
    values, lengths = windows(6)
    mask = (torch.arange(W)[None, :] < lengths[:, None]).float()
    over_windows, over_rows = made("gru"), made("gru", layout="row")

    with torch.no_grad():
        told = over_windows(values * 100, mask)
        of_rows = over_rows(row(6) * 100)

    wanted = torch.softmax(judged(over_windows, over_windows.scale(values * 100), lengths).logits, dim=1)
    assert torch.equal(told, wanted)
    assert torch.allclose(of_rows.sum(dim=1), torch.ones(6))


def test_windows_without_lengths_are_refused():
    with pytest.raises(ValueError, match="padding"):
        made("gru").judge(windows()[0])


def test_without_attention_weight_is_spread_evenly_over_real_rows():
    values, lengths = windows()

    attention = judged(made("cnn_self_attention", attention=False), values, lengths).attention

    wanted = (torch.arange(W)[None, :] < lengths[:, None]) / lengths[:, None]
    assert torch.allclose(attention, wanted)


def test_the_full_conv_bilstm_has_the_size_its_paper_tells():
    network = build("conv_bilstm", layout="windows", features=102, classes=11)

    assert sum(each.numel() for each in network.parameters()) * 4 == pytest.approx(1.6e6, rel=0.05)


def test_a_gru_of_old_has_no_facts_and_comes_back():
    torch.manual_seed(0)
    network = GruNetwork(features=F, classes=C, hidden=6, embedding=5).eval()
    values, lengths = windows()

    back = network_of(network.arrays())

    assert back.facts() == network.facts()
    assert torch.equal(judged(network, values, lengths).logits, judged(back, values, lengths).logits)


def test_the_unknown_scores_arrays_are_not_the_networks():
    network = made("gru")

    back = network_of(network.arrays() | {"unknown_mean": np.ones(3, np.float32)}, network.facts())

    assert "unknown_mean" not in back.arrays()
