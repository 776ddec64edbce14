"""Layers that keep padding out, beside torch's own that do not."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from training.networks.layers import NORM_EPSILON, NORM_MOMENTUM, BothWays, Convolutions, Norm, masked_softmax, spread

pytestmark = pytest.mark.needs_torch

LENGTHS = torch.tensor([1, 4, 7, 3])
MASK = (torch.arange(7)[None, :] < LENGTHS[:, None]).float()


def values(width):
    torch.manual_seed(1)
    return torch.randn(4, 7, width)


def test_both_ways_is_torchs_bidirectional_lstm_over_packed_lengths():
    torch.manual_seed(3)
    ours, theirs = BothWays(5, 6), nn.LSTM(5, 6, batch_first=True, bidirectional=True)
    state = {f"{key}": each for key, each in ours.ahead.state_dict().items()}
    state |= {f"{key}_reverse": each for key, each in ours.back.state_dict().items()}
    theirs.load_state_dict(state)

    packed, (last, _) = theirs(pack_padded_sequence(values(5), LENGTHS, batch_first=True, enforce_sorted=False))
    wanted, _ = pad_packed_sequence(packed, batch_first=True)
    states = ours(values(5), LENGTHS)

    assert torch.allclose(states * MASK[:, :, None], wanted, atol=1e-6)
    assert torch.allclose(BothWays.last(states, LENGTHS), torch.cat([last[0], last[1]], dim=1), atol=1e-6)


def test_norm_is_torchs_batch_normalisation_of_the_real_rows_alone():
    ours, theirs = Norm(5), nn.BatchNorm1d(5, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
    real = MASK.bool()

    taught = ours(values(5), MASK)[real], theirs(values(5)[real])
    judged = ours.eval()(values(5), MASK)[real], theirs.eval()(values(5)[real])

    assert torch.allclose(*taught, atol=1e-5)
    assert torch.allclose(*judged, atol=1e-5)
    assert torch.allclose(ours.running_var, theirs.running_var)
    assert torch.allclose(ours.running_mean, theirs.running_mean)


def test_norm_over_a_single_row_is_still_a_number():
    ours = Norm(3)

    assert torch.isfinite(ours(torch.ones(1, 3))).all()
    assert torch.isfinite(ours.running_var).all()


def test_convolutions_end_where_a_window_ends():
    torch.manual_seed(2)
    layers = Convolutions(3, [4, 5], kernel=3, pool=False)
    padded = values(3) * MASK[:, :, None]

    whole = layers(padded, MASK)

    for place, length in enumerate(LENGTHS.tolist()):
        alone = layers(padded[place : place + 1, :length], None)[0]
        assert torch.allclose(whole[place, :length], alone, atol=1e-6)
        assert not whole[place, length:].any()


def test_pooling_halves_the_steps_and_keeps_the_odd_one():
    layers = Convolutions(1, [4, 5], kernel=3, pool=True)

    assert layers(torch.randn(2, 13, 1), None).shape == (2, 4, 5)  # 13 -> 7 -> 4


def test_softmax_over_real_steps_gives_padding_nothing():
    scores = values(1)[:, :, 0] * 50

    weights = masked_softmax(scores, MASK)

    assert not weights[MASK == 0].any()
    for place, length in enumerate(LENGTHS.tolist()):
        assert torch.allclose(weights[place, :length], torch.softmax(scores[place, :length], dim=0), atol=1e-6)


def test_a_pooled_steps_weight_is_shared_by_its_columns():
    # Two poolings: a step stands for four columns, the last one for what is left of five.
    weights = spread(torch.tensor([[0.8, 0.2]]), 5, poolings=2)

    assert torch.allclose(weights, torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.2]]))
