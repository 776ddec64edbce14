"""What a gateway's windows are taken for: an operator's verdict first, age and distance from the threshold second.

    verdict benign      windows of that incident are benign
    verdict malicious   they are of the class the incident was called
    pseudo-label        benign: outside incidents, a day old at least, FAR below the threshold, and no incident of the
                        device within NEAR_US (before or after)
    anchors             the aggregator's, of the class it says (`contracts.anchors`)
    watched             windows of incidents nobody judged: never learnt from, but the gate sees that they stay found

Two kinds are kept apart as *hold-out*, never learnt from: a device's whole hours, and the end of each judged incident.
Trap: verdicts are an operator's word, and an operator's account may be stolen; this module believes it, so the gate,
the clip, the strategy and the release gate must not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.anchors import Anchors
from contracts.classes import BENIGN, UNKNOWN
from contracts.samples import DAY_US, HOUR_US, Sample, SampleBook, padded
from detection.engine import Engine
from detection.rules import Verdict

AGED_US: Final = DAY_US
NEAR_US: Final = HOUR_US
FAR: Final = 2.0  # log-odds below the threshold: a score of a seventh of the odds at which an incident opens
MAX_EXAMPLES: Final = 2000  # windows a fine-tuning scores; bounds its time and memory
MAX_JUDGED: Final = 1000
BATCH: Final = 128
HOLD_OUT_SHARE: Final = 5  # one hour in so many, one window in so many of a judged incident
LEAST_TO_SPLIT: Final = 5
WEIGHT: Final = {"verdict": 1.0, "pseudo": 0.25, "anchor": 1.0}


@dataclass(frozen=True, eq=False)
class Examples:
    """What there is to learn from, as the network's embedding sees it.

    `embedding` float32[N, E]; `label` int64[N], -1 where nobody judged; `weight` float64[N]; `is_held` bool[N] of the
    hold-out. `verdicts` counts incidents, `pseudo` windows.
    """

    embedding: NDArray[np.float32]
    label: NDArray[np.int64]
    weight: NDArray[np.float64]
    is_held: NDArray[np.bool_]
    is_verdict: NDArray[np.bool_]
    is_anchor: NDArray[np.bool_]
    verdicts: int
    pseudo: int

    @property
    def is_learnt(self) -> NDArray[np.bool_]:
        """Return bool[N]: which are learnt from."""
        return (self.label >= 0) & ~self.is_held

    @property
    def is_watched(self) -> NDArray[np.bool_]:
        """Return bool[N]: which are of incidents that nobody judged."""
        return self.label < 0


@dataclass(frozen=True)
class _Taken:
    sample: Sample
    label: int
    kind: str
    is_held: bool


def gather(
    book: SampleBook,
    verdicts: Mapping[str, Verdict],
    engine: Engine,
    *,
    window: int,
    now_us: int,
    anchors: Anchors | None = None,
) -> Examples:
    """Return the examples of a gateway, at most MAX_EXAMPLES, judged ones first."""
    taken = _incidents(book, verdicts, now_us=now_us)
    taken += _pseudo(book, now_us=now_us, most=MAX_EXAMPLES - len(taken))
    own = _embeddings([each.sample for each in taken], engine, window=window)
    kinds = [each.kind for each in taken]
    labels, held = [each.label for each in taken], [each.is_held for each in taken]
    if anchors is not None and len(own):
        count = len(anchors.label)
        own = np.concatenate([own, anchors.embedding])
        kinds, labels, held = kinds + ["anchor"] * count, labels + anchors.label.tolist(), held + [False] * count
    return Examples(
        embedding=own,
        label=np.array(labels, np.int64),
        weight=np.array([WEIGHT.get(kind, 0.0) for kind in kinds]),
        is_held=np.array(held, np.bool_),
        is_verdict=np.array([kind == "verdict" for kind in kinds], np.bool_),
        is_anchor=np.array([kind == "anchor" for kind in kinds], np.bool_),
        verdicts=len({each.sample.incident_id for each in taken if each.kind == "verdict"}),
        pseudo=sum(each.kind == "pseudo" for each in taken),
    )


def _incidents(book: SampleBook, verdicts: Mapping[str, Verdict], *, now_us: int) -> list[_Taken]:
    found: dict[str, list[Sample]] = {}
    for sample in book.read(pinned=True, before_us=now_us, limit=MAX_JUDGED):
        found.setdefault(str(sample.incident_id), []).append(sample)
    taken = []
    for incident_id, samples in found.items():
        verdict = verdicts.get(incident_id)
        label = BENIGN if verdict == "benign" else samples[0].class_index
        is_judged = verdict is not None and label < UNKNOWN  # the head has no output for `unknown`
        held = len(samples) // HOLD_OUT_SHARE if len(samples) >= LEAST_TO_SPLIT else 0
        for place, sample in enumerate(samples):  # the newest first
            if is_judged:
                taken.append(_Taken(sample, label, "verdict", place < held))
            else:
                taken.append(_Taken(sample, -1, "watched", is_held=True))
    return taken


def _pseudo(book: SampleBook, *, now_us: int, most: int) -> list[_Taken]:
    near: dict[bytes, NDArray[np.int64]] = {}
    for device, due_us in book.times_of_incidents():
        near[device] = np.append(near.get(device, np.zeros(0, np.int64)), due_us)
    taken: list[_Taken] = []
    for sample in book.read(pinned=False, before_us=now_us - AGED_US, limit=4 * MAX_EXAMPLES):
        if len(taken) >= most:
            break
        times = near.get(sample.device)
        is_near = times is not None and bool((np.abs(times - sample.due_us) <= NEAR_US).any())
        if sample.margin <= -FAR and not is_near:
            taken.append(_Taken(sample, BENIGN, "pseudo", _is_held_hour(sample)))
    return taken


def _is_held_hour(sample: Sample) -> bool:
    """Return whether a device's hour is held out, as a whole: windows of an hour resemble each other."""
    told = sample.device + (sample.due_us // HOUR_US).to_bytes(8, "big")
    return hashlib.sha256(told).digest()[0] % HOLD_OUT_SHARE == 0


def _embeddings(samples: list[Sample], engine: Engine, *, window: int) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(samples), BATCH):  # a window has 6.5 KB: never all of them at once
        parts.append(engine.score(*padded(samples[start : start + BATCH], window=window)).embedding)
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
