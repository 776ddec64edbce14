"""Structured pruning: a network with fewer units, really smaller arrays, the least important units gone. Needs torch.

Importance is how much the loss on validation windows would change if a unit were not there, to first order: the sum
over its weights of weight times gradient, squared and added over batches (Molchanov et al., "Importance Estimation for
Neural Network Pruning", CVPR 2019). Every size keeps the same share of its units. The trap: what is cut is worse until
it is taught on, and a unit's arrays of the unknown score belong to the embedding that was: they are not carried over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.units import Cut, Tie, cuts_of
from training.datasets import WindowSet
from training.fit import sampling_weights
from training.networks import Network, build

BATCHES, BATCH = 24, 256

Importance = NDArray[np.float64]


def importance(network: Network, windows: WindowSet, *, seed: int = 0) -> list[Importance]:
    """Return float64[units] for each cut of `cuts_of`: what the loss on these windows owes to each unit.

    Windows are drawn as teaching draws them, so that a class with many windows does not decide alone.
    """
    rng = np.random.default_rng(seed)
    chances = sampling_weights(windows, benign_share=0.5)
    cuts = cuts_of(network.described)
    found = [np.zeros(cut.units) for cut in cuts]
    network.eval()
    for _ in range(BATCHES):
        drawn = windows.where(rng.choice(len(windows), BATCH, p=chances))
        scaled = network.scale(torch.from_numpy(drawn.values))
        logits = network.logits(scaled, torch.from_numpy(drawn.lengths))
        network.zero_grad()
        nn.functional.cross_entropy(logits, torch.from_numpy(drawn.label)).backward()
        told = {name: (weight * weight.grad).detach() for name, weight in network.named_parameters()}
        for place, cut in enumerate(cuts):
            owed = sum(_by_unit(told[tie.array], tie, cut.units) for tie in cut.ties if tie.array in told)
            found[place] += np.square(owed)
    network.zero_grad()
    return found


def prune(network: Network, found: list[Importance], *, keep: float) -> Network:
    """Return a new network with the most important share of the units of every size, at least one each."""
    kept = [_most_important(each, keep) for each in found]
    return cut_to(network, kept)


def cut_to(network: Network, kept: list[NDArray[np.intp]]) -> Network:
    """Return a new network that holds these units of each cut, in their old order and with their old weights."""
    cuts = cuts_of(network.described)
    state = dict(network.state_dict())
    # All places are told in sizes of before: collect what stays of each axis, cut once.
    stays: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for cut, units in zip(cuts, kept, strict=True):
        for tie in cut.ties:
            key = (tie.array, tie.axis)
            whole = stays.setdefault(key, np.ones(state[tie.array].shape[tie.axis], dtype=np.bool_))
            places = tie.start + np.arange(tie.blocks * cut.units).reshape(tie.blocks, cut.units)
            whole[places] = False
            whole[places[:, units]] = True
    for (name, axis), mask in stays.items():
        state[name] = state[name].index_select(axis, torch.from_numpy(np.flatnonzero(mask))).clone()
    smaller = build(network.described.name, layout=network.described.layout, **_sizes(network, cuts, kept))
    smaller.load_state_dict(state)
    smaller.eval()
    return smaller


def _sizes(network: Network, cuts: list[Cut], kept: list[NDArray[np.intp]]) -> dict[str, Any]:
    sizes: dict[str, Any] = dict(network.described.sizes)
    for cut, units in zip(cuts, kept, strict=True):
        before = sizes[cut.size]
        if isinstance(before, tuple):
            place = cut.place or 0
            sizes[cut.size] = (*before[:place], len(units), *before[place + 1 :])
        else:
            sizes[cut.size] = len(units)
    return sizes


def _by_unit(told: Tensor, tie: Tie, units: int) -> NDArray[np.float64]:
    """Return float64[units]: the sum over everything that belongs to each unit at one tie."""
    along = told.sum(dim=[axis for axis in range(told.dim()) if axis != tie.axis]) if told.dim() > 1 else told
    blocks = along[tie.start : tie.start + tie.blocks * units].reshape(tie.blocks, units)
    return np.asarray(blocks.sum(dim=0).numpy(), dtype=np.float64)


def _most_important(found: Importance, share: float) -> NDArray[np.intp]:
    count = max(1, round(share * len(found)))
    return np.sort(np.argsort(-found, kind="stable")[:count])
