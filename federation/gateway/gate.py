"""The local gate: what a fine-tuned head must be before its delta may leave, on windows it did not learn from.

Compared with the head it began from, at the bundle's own thresholds: it calls no more held-out benign windows an
attack, finds no fewer of the judged attacks held out, of the incidents nobody judged and of the anchors, and does not
fit the hold-out worse. The anchors were learnt from, too: of them it is asked that none is unlearnt, no more. Written
so that a figure that is no number is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from contracts.classes import BENIGN
from contracts.head import Head
from detection.decide import Thresholds
from federation.at_thresholds import is_over
from federation.gateway.labels import Examples
from federation.gateway.learn import loss

WORSE = 1e-3  # of the hold-out's loss: rounding


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a head makes of the hold-out: windows of each kind over threshold, and the loss of the judged ones."""

    benign: int
    benign_over: int
    attacks: int
    attacks_over: int
    watched: int
    watched_over: int
    anchors: int
    anchors_over: int
    loss: float


def held(head: Head, examples: Examples, thresholds: Thresholds) -> Held:
    """Return what a head makes of the hold-out."""
    over = is_over(head, examples.embedding, thresholds)
    held_out = examples.is_held & (examples.label >= 0)
    benign, attacks = held_out & (examples.label == BENIGN), held_out & (examples.label > BENIGN)
    anchors = examples.is_anchor & (examples.label > BENIGN)
    count = int(held_out.sum())
    share = np.full(count, 1.0 / max(1, count))
    return Held(
        benign=int(benign.sum()),
        benign_over=int(over[benign].sum()),
        attacks=int(attacks.sum()),
        attacks_over=int(over[attacks].sum()),
        watched=int(examples.is_watched.sum()),
        watched_over=int(over[examples.is_watched].sum()),
        anchors=int(anchors.sum()),
        anchors_over=int(over[anchors].sum()),
        loss=loss(head, examples.embedding[held_out], examples.label[held_out], share) if count else 0.0,
    )


def refusals(*, before: Held, after: Held) -> Iterator[str]:
    """Give the rules a fine-tuned head breaks, a phrase each."""
    if not after.benign_over <= before.benign_over:
        yield f"{after.benign_over} of {after.benign} held-out benign windows found, before {before.benign_over}"
    if not after.attacks_over >= before.attacks_over:
        yield f"{after.attacks_over} of {after.attacks} held-out attack windows found, before {before.attacks_over}"
    if not after.watched_over >= before.watched_over:
        yield f"{after.watched_over} of {after.watched} windows of unjudged ones found, before {before.watched_over}"
    if not after.anchors_over >= before.anchors_over:
        yield f"{after.anchors_over} of {after.anchors} anchors found, before {before.anchors_over}"
    if not after.loss <= before.loss + WORSE:
        yield f"hold-out loss {after.loss:.4f}, before {before.loss:.4f}"
