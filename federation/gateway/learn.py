"""Fine-tuning of the head in numpy: what the gateway's examples say, held near where the round began.

    loss = sum_i w_i * CE(softmax(W e_i + b), y_i) / sum_i w_i  +  proximal / 2 * |theta - theta_0|^2

The weights balance: benign and attacks count the same in all, each attack class the same among attacks, but nothing
counts more than MAX_BALANCE times its share. The proximal term (FedProx, Li et al., MLSys 2020) is what keeps a gateway
that sees benign traffic alone from unlearning attacks. Plain gradient descent over all examples with momentum: the
problem is convex and has some hundred numbers, so nothing is drawn by chance and the same examples give the same head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN
from contracts.head import Head, head_of, softmax

MAX_BALANCE: Final = 10.0


@dataclass(frozen=True)
class LearnSettings:
    """How a head is fine-tuned. `stop_below`: the gradient's norm at which nothing is left to learn."""

    steps: int = 200
    rate: float = 0.5
    momentum: float = 0.9
    proximal: float = 0.02
    stop_below: float = 1e-4


DEFAULTS: Final = LearnSettings()


def fine_tune(
    head: Head,
    embedding: NDArray[np.float32],
    label: NDArray[np.int64],
    weight: NDArray[np.float64],
    *,
    settings: LearnSettings = DEFAULTS,
) -> tuple[Head, int]:
    """Return the head after learning from embeddings [N, E] with labels [N] and weights [N], and the steps it took."""
    share = balanced(label, weight, classes=len(head.bias))
    wanted = np.eye(len(head.bias))[label]
    rows = embedding.astype(np.float64)
    # In float64 and as one matrix [C, E + 1], so that a step is two products.
    with_one = np.column_stack([rows, np.ones(len(rows))])
    start = np.column_stack([head.weight, head.bias]).astype(np.float64)
    at, speed, taken = start.copy(), np.zeros_like(start), 0
    rate = settings.rate / (settings.proximal + 0.5 * _largest_curvature(with_one, share))
    while taken < settings.steps:
        gradient = _gradient(at, with_one, wanted, share) + settings.proximal * (at - start)
        if np.linalg.norm(gradient) < settings.stop_below:
            break
        speed = settings.momentum * speed - rate * gradient
        at, taken = at + speed, taken + 1
    return head_of(np.concatenate([at[:, :-1].ravel(), at[:, -1]]).astype(np.float32), classes=len(at)), taken


def balanced(label: NDArray[np.int64], weight: NDArray[np.float64], *, classes: int) -> NDArray[np.float64]:
    """Return each example's share, summing to 1: benign and attacks alike, attack classes alike, within bounds."""
    total = np.bincount(label, weights=weight, minlength=classes)
    present = np.flatnonzero(total)
    attacks = present[present != BENIGN]
    goal = np.zeros(classes)
    goal[attacks] = 1.0 / max(1, len(attacks))
    goal[BENIGN] = 1.0 if total[BENIGN] else 0.0
    goal /= goal.sum()
    own = total / total.sum()
    factor = np.divide(goal, own, out=np.zeros(classes), where=own > 0)
    share = weight * np.minimum(factor, MAX_BALANCE)[label]
    even: NDArray[np.float64] = share / share.sum()
    return even


def loss(head: Head, embedding: NDArray[np.float32], label: NDArray[np.int64], share: NDArray[np.float64]) -> float:
    """Return the cross-entropy, weighted by shares that sum to 1."""
    likely = head.probabilities(embedding)[np.arange(len(label)), label]
    return float(-(share * np.log(np.maximum(likely, 1e-12))).sum())


def _gradient(
    at: NDArray[np.float64], rows: NDArray[np.float64], wanted: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    apart = (softmax(rows @ at.T) - wanted) * share[:, None]
    gradient: NDArray[np.float64] = apart.T @ rows
    return gradient


def _largest_curvature(rows: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """Return a bound of the Hessian's largest eigenvalue (over 1/2): the step length that cannot diverge."""
    return float(np.linalg.eigvalsh((rows * share[:, None]).T @ rows)[-1])
