"""One client's step in a round: weights in, learnt from its own rows, weights out, and how many rows it had.

`NetworkClient` teaches a network in torch (`training.finetune`: its head or all of it), `HeadClient` the head alone by
the very numpy code that runs on a gateway (`federation.gateway.learn`). Trap: clients of one fleet may share a network
object, which is filled with weights anew at every step; two of them at once must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.head import Head, head_of
from federation.gateway.learn import DEFAULTS, LearnSettings, fine_tune

if TYPE_CHECKING:
    from training.finetune import LocalSettings
    from training.networks import Network

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a client says after its step."""

    arrays: Arrays
    examples: int
    loss: float = float("nan")


class Client(Protocol):
    """Whoever takes part in rounds."""

    def step(self, arrays: Mapping[str, NDArray[np.float32]], *, turn: int) -> Learnt:
        """Return what became of the weights after learning from this client's rows; `turn` counts rounds from 0."""


@dataclass(frozen=True, eq=False)
class NetworkClient:
    """Rows [N, ...] and labels of one client, and a network to teach them to."""

    network: Network
    rows: Any
    label: Any
    settings: LocalSettings
    seed: int
    lengths: Any = field(default=None)

    def step(self, arrays: Mapping[str, NDArray[np.float32]], *, turn: int) -> Learnt:
        """Return the weights of the settings' scope after this turn's rows."""
        from training.finetune import learn, put_weights, weights

        put_weights(self.network, arrays)
        loss = learn(
            self.network, self.rows, self.label, self.settings, seed=self.seed, turn=turn, lengths=self.lengths
        )
        return Learnt(weights(self.network, scope=self.settings.scope), len(self.label), loss)


@dataclass(frozen=True, eq=False)
class HeadClient:
    """Embeddings float32[N, E] with labels and weights: what a gateway's fine-tuning learns from."""

    embedding: NDArray[np.float32]
    label: NDArray[np.int64]
    weight: NDArray[np.float64]
    settings: LearnSettings = DEFAULTS

    def step(self, arrays: Mapping[str, NDArray[np.float32]], *, turn: int) -> Learnt:
        """Return the head after fine-tuning; the same in every turn, since it sees all its rows."""
        head, _ = fine_tune(head_in(arrays), self.embedding, self.label, self.weight, settings=self.settings)
        return Learnt(head_arrays(head), len(self.label))


def head_arrays(head: Head) -> Arrays:
    """Return a head as arrays that travel."""
    return {"head_w": head.weight, "head_b": head.bias}


def head_in(arrays: Mapping[str, NDArray[np.float32]]) -> Head:
    """Return the head that arrays hold. Raises ValueError where they hold none."""
    if set(arrays) != {"head_w", "head_b"} or arrays["head_w"].shape[:1] != arrays["head_b"].shape:
        raise ValueError(f"arrays {', '.join(sorted(arrays))}: wanted head_w [C, E] and head_b [C]")
    flat = np.concatenate([arrays["head_w"].ravel(), arrays["head_b"]]).astype(np.float32)
    return head_of(flat, classes=len(arrays["head_b"]))
