"""Which detections the operator has answered already: what another bundle than the one that judges says of them.

Whoever compares two bundles by what they detect asks here first, or a bundle that unlearnt what an operator called
benign would look blind. Counts of its own: nothing here wears out a rule of the detector, and what is no detection,
being below its threshold, wears out none here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detection.decide import Detection
from detection.engine import Engine, Scores
from detection.evidence import find_evidence, sightings
from detection.rules import MacOf, Rules, Suppressor
from detection.sustained import score_alone
from flowfeatures import HomeNets, WindowBatch


class Answered:
    """Ask by one bundle, of that sha256 and with its engine; `rules` and `home` give those of now."""

    def __init__(
        self,
        engine: Engine,
        *,
        manifest_sha256: str,
        rules: Callable[[], Rules],
        home: Callable[[], HomeNets],
        mac_of: MacOf,
    ) -> None:
        self._engine, self._rules, self._home = engine, rules, home
        self._suppressor = Suppressor(rules(), manifest_sha256=manifest_sha256, mac_of=mac_of)

    def rows(self, batch: WindowBatch, alone: Scores, detections: Sequence[Detection]) -> set[int]:
        """Return the rows of detections, or of mere suspects, of which rules leave nothing to tell.

        `alone` is what was scored by itself. Detections in the order of the batch.
        """
        rules = self._rules()
        if rules is not self._suppressor.rules:
            self._suppressor.change(rules)
        if not len(rules) or not detections:
            return set()
        home, rows, may_know = self._home(), set(), self._suppressor.may_know
        asked = [each for each in detections if each.score > each.threshold or may_know(batch, each, home=home)]
        found = find_evidence(self._engine, batch, asked)
        for detection, evidence in zip(asked, found, strict=True):
            own, is_told = score_alone(alone, detection), detection.score > detection.threshold
            seen = sightings(batch, detection, evidence, home=home, own_score=own)
            if is_told and not any(self._suppressor.left_of(each) is not None for each in seen):
                rows.add(detection.row)
            seen = seen or sightings(batch, detection, evidence, home=home, own_score=own, with_old=True)
            if not is_told and self._suppressor.knows(seen):
                rows.add(detection.row)
        return rows
