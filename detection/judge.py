"""A batch of windows judged as if each came alone: scores, lasting suspicion, thresholds, evidence, operator's rules.

What a benign rule answers for is as if it had never been: it leaves no suspicion behind, and takes away none of another
kind. So a device has two averages. That of all its windows says what would be told if there were no rule, and of that
rules count what they answer for, as the marked incident was counted. The other one is of the windows that no rule
answers for, be they told or not. What is told must be above both, so that no rule makes an alarm. The trap: an engine
may fail in the middle, and another is given the same batch. So all is done on copies, which count only once nothing can
raise any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from contracts.bundle import Bundle
from detection.decide import Detection, Thresholds
from detection.engine import Engine, Scores
from detection.evidence import Evidence, Sighting, find_evidence, sightings
from detection.rules import Rules, Suppressor
from detection.sustained import Sustained, less_suspect, score_alone, suspects
from flowfeatures import HomeNets, WindowBatch


class Found(NamedTuple):
    """A detection, the records that made it, and its sightings: each as it was, and what rules left of it."""

    detection: Detection
    evidence: Evidence
    sightings: list[tuple[Sighting, Sighting | None]]

    @property
    def is_silenced(self) -> bool:
        """Return whether rules left nothing of it."""
        return bool(self.sightings) and not any(left for _, left in self.sightings)

    def at(self, other: Detection) -> Found:
        """Return the same, told as surely as another detection of the window."""
        score, threshold, severe = other.score, other.threshold, other.severe

        def told(each: Sighting) -> Sighting:
            own = min(each.own_score, score)
            return replace(each, score=score, own_score=own, threshold=threshold, severe=severe)

        seen = [(told(whole), left and told(left)) for whole, left in self.sightings]
        return Found(replace(self.detection, score=score, threshold=threshold, severe=severe), self.evidence, seen)


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
        self.unanswered = self.sustained.copy()
        self.suppressor.use(bundle.manifest_sha256)

    def change(self, rules: Rules) -> None:
        """Go by other rules; where there are new ones, nothing is held against their devices that came before.

        Against a device of which no rule is left, all is held as if there had been none.
        """
        before = self.suppressor.rules
        if not before.benign:
            self.unanswered = self.sustained.copy()
        for device in {each for _, each in before.answered} - {each for _, each in rules.answered}:
            self.unanswered.take(device, self.sustained)
        for _, device in rules.answered - before.answered:
            self.unanswered.calm(device)
        self.suppressor.change(rules)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address (16 octets each) keep its suspicion."""
        self.sustained.moved(old, new)
        self.unanswered.moved(old, new)

    def judged(self, batch: WindowBatch, *, thresholds: Thresholds, home: HomeNets) -> Judged:
        """Return what a batch is judged by and what it shows. What raises, raises before anything changed."""
        turn = _Turn(self, batch, thresholds=thresholds, home=home)
        judged = turn.judged()
        self.sustained, self.unanswered, self.suppressor = turn.sustained, turn.unanswered, turn.suppressor
        return judged


class _Turn:
    """One batch on its way: copies of what it changes."""

    def __init__(self, judge: Judge, batch: WindowBatch, *, thresholds: Thresholds, home: HomeNets) -> None:
        self.alone = judge.engine.score(batch.values, batch.mask)
        self.sustained, self.unanswered = judge.sustained.copy(), judge.unanswered
        self.suppressor = judge.suppressor.copy()
        self._engine, self._batch, self._thresholds, self._home = judge.engine, batch, thresholds, home

    def judged(self) -> Judged:
        """Return what is told, and what rules kept back of it."""
        told = self.sustained.told(self._batch, self.alone)
        detections = self._thresholds.detections(told)
        if not (self.sustained.adds_up and self.suppressor.rules.benign):
            pairs = zip(detections, find_evidence(self._engine, self._batch, detections), strict=True)
            return Judged(told, [self._found(*each) for each in pairs])
        found, left_out = self._asked(detections)
        self.unanswered = self.unanswered.copy()
        told = less_suspect(told, self.unanswered.told(self._batch, self.alone, left_out=left_out))
        left = {each.row: self._at(each, found[each.row]) for each in self._thresholds.detections(told)}
        return Judged(told, [left.get(row, each) for row, each in found.items() if row in left or each.is_silenced])

    def _asked(self, detections: Sequence[Detection]) -> tuple[dict[int, Found], set[int]]:
        """Return, by row, what would be told if there were no rule, and the rows that benign rules answer for.

        All in the order of the batch: a rule answers for so many flows an hour, and then for none.
        """
        told = {each.row: each for each in detections}
        asked = [each for _, each in sorted({**self._perhaps_known(), **told}.items())]
        found, left_out = dict[int, Found](), set[int]()
        for detection, evidence in zip(asked, find_evidence(self._engine, self._batch, asked), strict=True):
            if detection.row in told:
                found[detection.row] = self._found(detection, evidence)
            # A window without new evidence owes its score to the old; who would not be told wears out no rule.
            seen = self._seen(detection, evidence) or self._seen(detection, evidence, with_old=True)
            if self.suppressor.knows(seen):
                left_out.add(detection.row)
        return found, left_out

    def _perhaps_known(self) -> dict[int, Detection]:
        """Return, by row, the windows that a benign rule may know by whose they are and what the network calls them."""
        found = suspects(self.alone, self._thresholds)
        return {each.row: each for each in found if self.suppressor.may_know(self._batch, each, home=self._home)}

    def _found(self, detection: Detection, evidence: Evidence) -> Found:
        whole = self._seen(detection, evidence)
        return Found(detection, evidence, [(each, self.suppressor.left_of(each)) for each in whole])

    def _at(self, detection: Detection, found: Found) -> Found:
        """Return what was found, told as surely as a detection; of another class it has other evidence."""
        if found.is_silenced or detection.class_index == found.detection.class_index:
            return found.at(detection)
        return self._found(detection, *find_evidence(self._engine, self._batch, [detection]))

    def _seen(self, detection: Detection, evidence: Evidence, *, with_old: bool = False) -> list[Sighting]:
        own = score_alone(self.alone, detection)
        return sightings(self._batch, detection, evidence, home=self._home, own_score=own, with_old=with_old)
