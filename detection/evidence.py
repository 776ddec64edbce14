"""Which records of a window made its detection, and whose they are.

A window mixes what an attacker did with what the device does all day. Each record is therefore scored alone, and
evidence is what still looks like the attack then. Only records that are new since the device's last window count:
an attack that ended goes on standing in the window, and must neither open nor prolong an incident.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, UNKNOWN
from detection.decide import Detection
from detection.engine import Engine
from detection.orientation import attackers_and_victims
from flowfeatures import HomeNets, WindowBatch

SHARE_OF_BEST: Final = 0.5
"""A record is evidence when, alone, it scores at least this much of what the best record of its window scores."""

MAX_BENIGN: Final = 0.7
"""And when, alone, it is not called benign with more than this: the best of a benign window is no evidence either.

Measured with decision 0014: false incidents fall by half, attacks found stay as many."""


AT_ONCE: Final = 16
"""Detections examined at once: each needs W windows, and 4,096 windows of 16 rows would be 27 MB."""


class Evidence(NamedTuple):
    """The records of a window that made a detection, bool[W].

    `embedding` float32[W, E] and `alone` float32[W] are what the network says of each record without the others.
    """

    made_it: NDArray[np.bool_]
    embedding: NDArray[np.float32]
    alone: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sighting:
    """New evidence of one class in one window, for one owner.

    `owner` is the device whose incident it belongs to, `device` the one whose window it is (16 address bytes).
    `records` FLOW_META[n], n >= 1, oldest first; `attackers` and `victims` are the two ends of each. `group_flows`
    uint32[n]: how many flows of that record's peer, port and protocol have passed the window so far, those included
    that were folded into one row. `embeddings` float32[n, E]: of each record, scored alone. `own_score` is what the
    window alone scores: at most `score`, which may owe some of itself to the windows before.
    """

    owner: bytes
    device: bytes
    class_index: int
    score: float
    own_score: float
    threshold: float
    severe: bool
    due_us: int
    records: NDArray[np.void]
    attackers: tuple[bytes, ...]
    victims: tuple[bytes, ...]
    group_flows: NDArray[np.uint32]
    embeddings: NDArray[np.float32]

    def only(self, kept: NDArray[np.bool_]) -> Sighting:
        """Return the sighting of some of its records, bool[n], at least one."""
        places = np.flatnonzero(kept)
        return replace(
            self,
            records=self.records[places],
            attackers=tuple(self.attackers[place] for place in places.tolist()),
            victims=tuple(self.victims[place] for place in places.tolist()),
            group_flows=self.group_flows[places],
            embeddings=self.embeddings[places],
        )


def find_evidence(engine: Engine, batch: WindowBatch, detections: Sequence[Detection]) -> list[Evidence]:
    """Return per detection the records of its window that made it."""
    found = []
    for first in range(0, len(detections), AT_ONCE):
        found += _evidence(engine, batch, detections[first : first + AT_ONCE])
    return found


def _evidence(engine: Engine, batch: WindowBatch, detections: Sequence[Detection]) -> list[Evidence]:
    """Return the evidence of each detection, by scoring windows of one record each."""
    rows = np.array([detection.row for detection in detections], dtype=np.intp)
    masks = batch.mask[rows] > 0
    which, place = np.nonzero(masks)
    alone = np.zeros((len(which), *batch.values.shape[1:]), dtype=np.float32)
    alone[:, 0] = batch.values[rows[which], place]
    alone_mask = np.zeros(alone.shape[:2], dtype=np.float32)
    alone_mask[:, 0] = 1.0
    scores = engine.score(alone, alone_mask)
    table = np.column_stack([scores.probabilities[:, :UNKNOWN], scores.unknown_score])
    is_benign = scores.probabilities[:, BENIGN] > MAX_BENIGN
    found = np.zeros(masks.shape, dtype=np.bool_)
    embedding = np.zeros((*masks.shape, scores.embedding.shape[1]), dtype=np.float32)
    embedding[which, place] = scores.embedding
    score_alone = np.zeros(masks.shape, dtype=np.float32)
    for number, detection in enumerate(detections):
        own = which == number
        score = table[own, detection.class_index]
        is_evidence = score >= SHARE_OF_BEST * score.max(initial=0.0)
        if detection.class_index != UNKNOWN:
            is_evidence &= ~is_benign[own]
        found[number, place[own]] = is_evidence
        score_alone[number, place[own]] = score
    return [Evidence(*each) for each in zip(found, embedding, score_alone, strict=True)]


def sightings(
    batch: WindowBatch,
    detection: Detection,
    evidence: Evidence,
    *,
    home: HomeNets,
    own_score: float | None = None,
    with_old: bool = False,
) -> list[Sighting]:
    """Return the new evidence of a detection, one sighting per owner; none where all evidence is old.

    `with_old`: all its evidence, old and new.

    The owner is the window's device, unless another home device made at least half of the evidence: then it is that
    device, whose window shows the same flows. Spoofed sources never reach half, so a flood does not choose an owner.
    """
    row = detection.row
    device = bytes(batch.device[row])
    attackers, victims = attackers_and_victims(batch, row, class_index=detection.class_index)
    made = Counter(attackers[place] for place in np.flatnonzero(evidence.made_it).tolist())
    owned: dict[bytes, list[int]] = {}
    for place in np.flatnonzero(evidence.made_it & (with_old | (batch.is_new[row] > 0))).tolist():
        attacker = attackers[place]
        named = 2 * made[attacker] >= made.total() and attacker in home
        owned.setdefault(attacker if named else device, []).append(place)
    group_flows = _group_flows(batch, row)
    return [
        Sighting(
            owner=owner,
            device=device,
            class_index=detection.class_index,
            score=detection.score,
            own_score=detection.score if own_score is None else min(own_score, detection.score),
            threshold=detection.threshold,
            severe=detection.severe,
            due_us=int(batch.due_us[row]),
            records=batch.flows[row][places],
            attackers=tuple(attackers[place] for place in places),
            victims=tuple(victims[place] for place in places),
            group_flows=group_flows[places],
            embeddings=evidence.embedding[places],
        )
        for owner, places in owned.items()
    ]


def owners(batch: WindowBatch, row: int, *, class_index: int, home: HomeNets) -> set[bytes]:
    """Return who may own what a window shows of a class, whatever its evidence is."""
    attackers, _ = attackers_and_victims(batch, row, class_index=class_index)
    return {bytes(batch.device[row]), *(each for each in attackers if each in home)}


def _group_flows(batch: WindowBatch, row: int) -> NDArray[np.uint32]:
    """Return uint32[W]: the sum of repeats over the rows of the same ends, port and protocol."""
    flows = batch.flows[row]
    same = (flows["proto"][:, None] == flows["proto"]) & (flows["dst_port"][:, None] == flows["dst_port"])
    for end in ("src", "dst"):
        same &= (flows[end][:, None] == flows[end]).all(axis=-1)
    total: NDArray[np.uint32] = (same * batch.repeats[row]).sum(axis=1, dtype=np.uint32)
    return total
