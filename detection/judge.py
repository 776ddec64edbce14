"""A batch of windows judged as if each came alone: scores, lasting suspicion, thresholds, evidence, operator's rules.

What a benign rule answers for takes the suspicion from its device, and the next window of the same batch is then less
suspect than its average first said: behind such an answer averages begin anew, with what it left. Without a benign
rule a batch is judged in one go. The trap: an engine may fail in the middle, and another is given the same batch. So
all is done on copies, which count only once nothing can raise any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from detection.decide import Detection, Thresholds
from detection.engine import Engine, Scores
from detection.evidence import AT_ONCE as EXAMINED_AT_ONCE
from detection.evidence import Evidence, Sighting, find_evidence, sightings
from detection.rules import Rules, Suppressor
from detection.sustained import Sustained, score_alone
from flowfeatures import HomeNets, WindowBatch

AT_ONCE: Final = 64
"""Windows judged in one go under a benign rule: what is judged anew after an answer is at most so many."""


class Found(NamedTuple):
    """A detection, the records that made it, and its sightings: each as it was, and what rules left of it."""

    detection: Detection
    evidence: Evidence
    sightings: list[tuple[Sighting, Sighting | None]]


class Judged(NamedTuple):
    """What a batch was judged by, and its detections in the order of the batch."""

    scores: Scores
    found: list[Found]


class Judge:
    """One engine, the suspicion of each device, and the rules. Windows must come in order of their ticks."""

    def __init__(self, bundle: Bundle, engine: Engine, *, suppressor: Suppressor) -> None:
        self.suppressor = suppressor
        self.use(bundle, engine)

    def use(self, bundle: Bundle, engine: Engine) -> None:
        """Judge by another bundle: rules stay, suspicion begins anew."""
        self.engine = engine
        self.sustained = Sustained(
            bundle.manifest.sustained, Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
        )
        self.suppressor.use(bundle.manifest_sha256)

    def change(self, rules: Rules) -> None:
        """Go by other rules; what new ones answer for leaves no suspicion behind."""
        for _, device in rules.answered - self.suppressor.rules.answered:
            self.sustained.calm(device)
        self.suppressor.change(rules)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address (16 octets each) keep its suspicion."""
        self.sustained.moved(old, new)

    def judged(self, batch: WindowBatch, *, thresholds: Thresholds, home: HomeNets) -> Judged:
        """Return what a batch is judged by and what it shows. What raises, raises before anything changed."""
        turn = _Turn(self, batch, thresholds=thresholds, home=home)
        is_cut = turn.sustained.adds_up and bool(self.suppressor.rules.benign)
        step, at, parts = AT_ONCE if is_cut else len(batch), 0, []
        while at < len(batch):
            parts.append(turn.judged(at, min(at + step, len(batch))))
            at += len(parts[-1])
        self.sustained, self.suppressor = turn.sustained, turn.suppressor
        told = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Judged(turn.alone._replace(probabilities=told), turn.found)


class _Turn:
    """One batch on its way: copies of what it changes, and all the evidence looked for so far."""

    def __init__(self, judge: Judge, batch: WindowBatch, *, thresholds: Thresholds, home: HomeNets) -> None:
        self.alone = judge.engine.score(batch.values, batch.mask)
        self.sustained, self.suppressor = judge.sustained, judge.suppressor.copy()
        self.found: list[Found] = []
        self._engine, self._batch, self._thresholds, self._home = judge.engine, batch, thresholds, home
        self._evidence: dict[tuple[int, int], Evidence] = {}  # by row and class

    def judged(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the probabilities some windows are judged by, up to one behind which suspicion begins anew."""
        before, rows = self.sustained, slice(first, last)
        part, alone = self._batch, self.alone
        if last - first < len(part):
            part, alone = part.rows(rows), Scores(*(each[rows] for each in alone))
        self.sustained = before.copy()
        told = self.sustained.told(part, alone)
        detections = [replace(each, row=first + each.row) for each in self._thresholds.detections(told)]
        for place, detection in enumerate(detections):
            if not self._is_answered(detection, self._evidence_of(detections, place)):
                continue
            end = detection.row + 1 - first
            if end < len(part):  # windows behind this one were averaged already
                self.sustained = before.copy()
                self.sustained.told(part.rows(slice(end)), Scores(*(each[:end] for each in alone)))
            self.sustained.calm(self._batch.device[detection.row].tobytes())
            return told.probabilities[:end]
        return told.probabilities

    def _is_answered(self, detection: Detection, evidence: Evidence) -> bool:
        """Note a detection; return whether rules left nothing of it, a benign one among them."""
        own = score_alone(self.alone, detection)
        whole = sightings(self._batch, detection, evidence, home=self._home, own_score=own)
        known = self.suppressor.known_benign
        left = [self.suppressor.left_of(each) for each in whole]
        self.found.append(Found(detection, evidence, list(zip(whole, left, strict=True))))
        return self.suppressor.known_benign > known and not any(left)

    def _evidence_of(self, detections: Sequence[Detection], place: int) -> Evidence:
        """Return a detection's evidence; where it must be looked for, so is that of some behind it, at once."""
        wanted = detections[place].row, detections[place].class_index
        if wanted not in self._evidence:
            ahead = detections[place : place + EXAMINED_AT_ONCE]
            missing = [each for each in ahead if (each.row, each.class_index) not in self._evidence]
            found = find_evidence(self._engine, self._batch, missing)
            self._evidence |= {(each.row, each.class_index): it for each, it in zip(missing, found, strict=True)}
        return self._evidence[wanted]
