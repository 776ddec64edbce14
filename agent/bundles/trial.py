"""Two bundles on the same windows: the one that serves, or served, and the one that would, or does.

What a new network must not do on a gateway is to cry wolf, to go blind, or to be too slow for it. Nobody knows here
which of two different verdicts is right; so the limits are wide, and only a plain break with what was is refused. What
an operator has answered (`detection.answered`) is no attack that the old one sees: a fleet unlearns false alarms, and
who has most of them must be able to take what it learnt.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from detection.decide import Detection, Thresholds
from detection.engine import Engine, Scores
from detection.sustained import Sustained, less_suspect, suspects
from flowfeatures import WindowBatch

STORM_SHARE: Final = 0.01
"""Of all windows: what the new one may find beyond twice what the old one finds."""
STORM_DEVICES: Final = 0.25
"""Of all devices: a storm is broad. One device that the new one alone calls attacked may be why there is a new one."""
BLIND_FROM: Final = 20
"""Windows the old one calls attacks, before it counts that the new one does not."""
BLIND_SHARE: Final = 0.5
"""Of what the old one sees, less the device of which the new one misses most: blindness is broad too, and one device
that the old one alone calls attacked may be why there is a new one, since elsewhere its like was called benign."""
SLOWER: Final = 5.0
SLOW_S: Final = 0.002
"""A window. Below this, slower does not matter."""
SLOW_LEAST_S: Final = 1.0
"""Of all windows: in a short trial less than this may be a moment in which others had the processor."""


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle and what computes it."""

    bundle: Bundle
    engine: Engine


Answering = Callable[[WindowBatch, Scores, Sequence[Detection]], set[int]]
"""Which rows of detections and suspects the operator has answered (`detection.answered.Answered.rows`)."""


@dataclass(eq=False)
class Trial:
    """Compare `subject` with `reference` over `wanted` windows."""

    reference: Served
    subject: Served
    wanted: int
    answered: Answering = lambda _batch, _alone, _detections: set()
    """By the reference."""
    now_s: Callable[[], float] = time.perf_counter
    windows: int = 0
    reference_hits: int = 0
    subject_hits: int = 0
    devices: set[bytes] = field(default_factory=set)
    new_devices: set[bytes] = field(default_factory=set)
    """Those of which the subject alone says that something is wrong."""
    seen: Counter[bytes] = field(default_factory=Counter)
    """By device: attacks that the reference sees, and nobody has answered."""
    missed: Counter[bytes] = field(default_factory=Counter)
    """Of these, those that the subject does not see."""
    called: Counter[bytes] = field(default_factory=Counter)
    """By device: what the subject calls attacks."""
    answered_on: set[bytes] = field(default_factory=set)
    """Devices with something answered: an alarm of these is no news, from whichever bundle."""
    spent_s: dict[str, float] = field(default_factory=lambda: {"reference": 0.0, "subject": 0.0})
    _sustained: dict[str, Sustained] = field(init=False)
    _unanswered: Sustained = field(init=False)
    """The reference's, of what nobody has answered."""

    def __post_init__(self) -> None:
        sides = {"reference": self.reference, "subject": self.subject}
        self._sustained = {
            name: Sustained(side.bundle.manifest.sustained, _thresholds(side)) for name, side in sides.items()
        }
        self._unanswered = self._sustained["reference"].copy()

    @property
    def is_over(self) -> bool:
        """Return whether enough was seen."""
        return self.windows >= self.wanted

    def see(self, batch: WindowBatch) -> None:
        """Let both score a batch. Raises what the subject's engine raises."""
        subject = self._hits(self.subject, batch, "subject")
        reference = self._hits(self.reference, batch, "reference", answered=self.answered)
        self.windows += len(batch)
        self.reference_hits += int(reference.sum())
        self.subject_hits += int(subject.sum())
        self.devices.update(map(bytes, batch.device))
        self.called.update(map(bytes, batch.device[subject]))
        self.new_devices.update(map(bytes, batch.device[subject & ~reference]))
        self.seen.update(map(bytes, batch.device[reference]))
        self.missed.update(map(bytes, batch.device[reference & ~subject]))

    def complaint(self) -> str | None:
        """Return what speaks against the subject, None where nothing does."""
        allowed = 2 * self.reference_hits + max(3, round(STORM_SHARE * self.windows))
        seen = f"of {self.windows:,} windows"
        is_broad = len(self.new_devices - self.answered_on) > STORM_DEVICES * len(self.devices)
        news = self.called.total() - sum(self.called[each] for each in self.answered_on)
        if news > allowed and is_broad:
            return f"calls {news:,} {seen} attacks, the one before {self.reference_hits:,}"
        worst = max(self.missed, key=self.missed.__getitem__, default=b"")
        others = self.reference_hits - self.seen[worst]
        both = others - (self.missed.total() - self.missed[worst])
        if others >= BLIND_FROM and both < BLIND_SHARE * others:
            return f"sees {both:,} of the {others:,} attacks {seen} that the one before sees on all devices but one"
        spent_s = self.spent_s["subject"]
        if spent_s > SLOWER * self.spent_s["reference"] and spent_s > max(SLOW_LEAST_S, SLOW_S * self.windows):
            each_ms = 1000 * spent_s / max(1, self.windows)
            return (
                f"takes {each_ms:.1f} ms a window, {spent_s / max(1e-9, self.spent_s['reference']):.0f} times as long"
            )
        return None

    def _hits(
        self, side: Served, batch: WindowBatch, name: str, *, answered: Answering | None = None
    ) -> NDArray[np.bool_]:
        began_s = self.now_s()
        scores = side.engine.score(batch.values, batch.mask)
        self.spent_s[name] += self.now_s() - began_s
        thresholds = _thresholds(side)
        told = self._sustained[name].told(batch, scores)
        detections = thresholds.detections(told)
        hits = np.zeros(len(batch), np.bool_)
        if answered is not None:  # as detection.judge does
            asked = {each.row: each for each in [*suspects(scores, thresholds), *detections]}
            rows = answered(batch, scores, [asked[row] for row in sorted(asked)])
            self.answered_on.update(batch.device[row].tobytes() for row in rows)
            told = less_suspect(told, self._unanswered.told(batch, scores, left_out=rows))
            detections = [each for each in thresholds.detections(told) if each.row not in rows]
        hits[[each.row for each in detections]] = True
        return hits


def _thresholds(side: Served) -> Thresholds:
    return Thresholds(side.bundle.manifest.thresholds, score=side.bundle.manifest.score)
