"""A few passes of a network over its own rows, from weights that came to weights that go: federated learning's step.

`scope = "head"` moves the last layer alone, `"all"` every learnt number. The loss may hold the weights near where they
began (FedProx, Li et al., MLSys 2020). Plain SGD by default, as the papers have it: it keeps nothing between rounds, so
a client that was away begins like any other. Rows come scaled. On a gateway the head is learnt in numpy
(`federation.gateway.learn`); this is for those who have torch, simulation and benchmarks. Needs torch.
The trap: dropout draws from torch's generator; for the same figures twice seed it, or take it out (`without_dropout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.networks import Network
from training.shapes import SCALING_ARRAYS, UNKNOWN_PREFIX

SCOPES: Final = ("head", "all")
HEAD_ARRAYS: Final = ("head_w", "head_b")

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LocalSettings:
    """How a client learns between two rounds. `share` of its rows are seen in each, in turn: 1.0 is an epoch."""

    scope: str = "all"
    rate: float = 0.01
    batch: int = 32
    share: float = 1.0
    proximal: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ValueError(f"no scope {self.scope!r}, there are {', '.join(SCOPES)}")
        if self.batch < 1 or not 0.0 < self.share <= 1.0 or not self.rate > 0.0:
            raise ValueError(f"need batch >= 1, 0 < share <= 1 and rate > 0, got {self}")


def weights(network: Network, *, scope: str = "all") -> Arrays:
    """Return what travels of a network under a scope: learnt numbers, and what batch normalisation measured."""
    kept = HEAD_ARRAYS if scope == "head" else None
    return {
        name: array
        for name, array in network.arrays().items()
        if (name in kept if kept else name not in SCALING_ARRAYS and not name.startswith(UNKNOWN_PREFIX))
    }


def put_weights(network: Network, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put weights into a network, the others stay. Raises ValueError for a name or a shape it does not have."""
    own = network.arrays()
    for name, array in arrays.items():
        if name not in own or own[name].shape != array.shape:
            raise ValueError(f"array {name!r} of {array.shape}: this network has {own.get(name, np.zeros(0)).shape}")
    network.load({**own, **{name: np.asarray(array, np.float32) for name, array in arrays.items()}})


def learn(
    network: Network,
    rows: Tensor,
    label: Tensor,
    settings: LocalSettings,
    *,
    seed: int,
    turn: int = 0,
    lengths: Tensor | None = None,
) -> float:
    """Teach a network in place for one round; return its mean loss. `turn` counts rounds and says whose turn it is.

    The order of the rows follows from seed and turn alone.
    """
    if not len(rows):
        raise ValueError("no rows to learn from")
    moved = list(_moved(network, settings.scope))
    start = [each.detach().clone() for each in moved] if settings.proximal else []
    optimiser = torch.optim.SGD(moved, lr=settings.rate, momentum=settings.momentum)
    network.train()
    total, seen = 0.0, 0
    for places in _batches(len(rows), settings, seed=seed, turn=turn):
        own = None if lengths is None else lengths[places]
        loss: Tensor = nn.functional.cross_entropy(network.logits(rows[places], own), label[places])
        total, seen = total + float(loss.detach()) * len(places), seen + len(places)
        for parameter, begun in zip(moved, start, strict=False):
            loss = loss + settings.proximal / 2 * (parameter - begun).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    return total / seen


def without_dropout(network: Network) -> Network:
    """Return the network with dropout off for good: the papers that tell of none."""
    network.dropout.p = 0.0
    return network


def _moved(network: Network, scope: str) -> Iterator[nn.Parameter]:
    yield from (network.head if scope == "head" else network).parameters()


def _batches(count: int, settings: LocalSettings, *, seed: int, turn: int) -> tuple[Tensor, ...]:
    """Return the places of this turn's rows: an epoch is divided into as many turns as its share says."""
    turns = max(1, round(1.0 / settings.share))
    epoch, part = divmod(turn, turns)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    own = order[part * count // turns : (part + 1) * count // turns]
    return tuple(torch.from_numpy(own if len(own) else order[:1]).split(settings.batch))
