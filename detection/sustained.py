"""Many windows that each look a little like an attack: a device's suspicion, averaged over its windows.

One window of a busy sensor may score as high as one of a patient attacker; the attacker's next fifty do so too, the
sensor's do not. So the log-odds of each window are averaged, the newest counting most (an EWMA chart), and the average
has a threshold of its own, far below that of one window. Where it is passed, the window is told as if it alone lay as
far above the threshold of its class as the average lies above its own: whatever judges scores needs to know nothing of
this, and a gateway that raises its thresholds raises both. One that lowers them lowers those of single windows alone:
what may be lowered is the distance to the benign windows of the bundle's hold-out, and the average's threshold was
chosen next to the highest of their averages already.
A window left out is as if it had never been: whoever asks the operator's rules leaves out what they answer for.
The trap: an average outlives the attack. A window that itself looks benign is never told as an attack.
"""

from __future__ import annotations

from collections.abc import Container
from math import exp
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Manifest, SustainedRule
from contracts.classes import BENIGN, UNKNOWN
from detection.decide import Detection, Thresholds, log_odds, probability_of
from detection.engine import Scores
from flowfeatures import WindowBatch

MAX_DEVICES: Final = 1024  # as many as have windows
LOOKS_BENIGN: Final = 0.5  # up to this, by itself


def quiet_below(manifest: Manifest) -> Thresholds:
    """Return the scores below which no window raises anything, however many like it there are."""
    shipped = Thresholds(manifest.thresholds, score=manifest.score)
    if manifest.sustained is None:
        return shipped
    return shipped.moved(np.minimum(shipped.open, manifest.sustained.open))


def score_alone(scores: Scores, detection: Detection) -> float:
    """Return what a detection's window scores by itself, of the scores that nothing was added to."""
    if detection.class_index == UNKNOWN:
        return float(scores.unknown_score[detection.row])
    return 1.0 - float(scores.probabilities[detection.row, BENIGN])


def suspects(scores: Scores, thresholds: Thresholds) -> list[Detection]:
    """Return the windows that themselves look rather like an attack than benign, whether or not they are told."""
    own = 1.0 - scores.probabilities[:, BENIGN].astype(np.float64)
    named, open_at = _named(scores), thresholds.open
    return [
        Detection(row, int(named[row]), float(own[row]), float(open_at[named[row]]), severe=False)
        for row in np.flatnonzero((own > LOOKS_BENIGN) & (open_at[named] < 1.0)).tolist()
    ]


def less_suspect(one: Scores, other: Scores) -> Scores:
    """Return of each window the probabilities that call it more benign."""
    is_less = one.probabilities[:, BENIGN] >= other.probabilities[:, BENIGN]
    return one._replace(probabilities=np.where(is_less[:, None], one.probabilities, other.probabilities))


def _named(scores: Scores) -> NDArray[np.intp]:
    named: NDArray[np.intp] = 1 + scores.probabilities[:, BENIGN + 1 :].argmax(axis=1)
    return named


class Averages:
    """The average log-odds of each device's windows; the device silent for longest leaves first.

    An average begins at `start`, and goes back there while its device is silent: to a third of the way in `fades_s`.
    """

    def __init__(self, rule: SustainedRule) -> None:
        self._rule = rule
        self._held: dict[bytes, tuple[float, int]] = {}  # average, when
        self._new: dict[bytes, None] = {}  # whom one window alone may have brought where they are: those leave first
        self._once = rule.start + rule.weight * (rule.most - rule.start)

    def copy(self) -> Averages:
        """Return the same averages, to go on with apart from these."""
        other = Averages(self._rule)
        other._held, other._new = self._held.copy(), self._new.copy()
        return other

    def add(
        self, batch: WindowBatch, odds: NDArray[np.float64], *, left_out: Container[int] = ()
    ) -> NDArray[np.float64]:
        """Take the log-odds float64[B] of windows in order of time; return the averages, each with its window in it.

        Nothing is taken of the rows left out; they get the average that nothing was seen of.
        """
        rule, held = self._rule, self._held
        averages = np.full(len(odds), rule.start)
        clipped = np.clip(odds, rule.least, rule.most).tolist()
        for row, (own, due_us) in enumerate(zip(clipped, batch.due_us.tolist(), strict=True)):
            if row in left_out:
                continue
            device = batch.device[row].tobytes()
            average, at_us = held.get(device, (rule.start, due_us))
            if due_us > at_us:
                average = rule.start + (average - rule.start) * exp((at_us - due_us) / (rule.fades_s * 1e6))
            average += rule.weight * (own - average)
            averages[row] = average
            self._keep(device, (average, due_us))
        return averages

    def _keep(self, device: bytes, what: tuple[float, int]) -> None:
        self._forget(device)
        self._held[device] = what
        if what[0] <= self._once:
            self._new[device] = None
        if len(self._held) > MAX_DEVICES:
            self._forget(next(iter(self._new or self._held)))

    def _forget(self, device: bytes) -> None:
        self._held.pop(device, None)
        self._new.pop(device, None)

    def calm(self, device: bytes) -> None:
        """Begin anew with a device."""
        self._forget(device)

    def take(self, device: bytes, other: Averages) -> None:
        """Go on with a device from where another has it."""
        self._forget(device)
        if (held := other._held.get(device)) is not None:
            self._keep(device, held)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address keep the higher of its averages: it spoke at the new one already."""
        gone = self._held.get(old)
        self._forget(old)
        if gone is not None:
            # The higher of two averages, each with its own time.
            self._keep(new, max(gone, self._held.get(new, gone)))


class Sustained:
    """Tells windows of sustained suspicion as its bundle's `rule` wants; without a rule all stay as they are."""

    def __init__(self, rule: SustainedRule | None, thresholds: Thresholds) -> None:
        self._rule, self._open = rule, thresholds.open
        self._averages = None if rule is None else Averages(rule)

    @property
    def adds_up(self) -> bool:
        """Return whether a window's score may owe something to the windows before."""
        return self._averages is not None

    def copy(self) -> Sustained:
        """Return the same, to go on with apart from this."""
        if self._averages is None:
            return self
        other = Sustained.__new__(Sustained)
        other._rule, other._open, other._averages = self._rule, self._open, self._averages.copy()
        return other

    def told(self, batch: WindowBatch, scores: Scores, *, left_out: Container[int] = ()) -> Scores:
        """Return the scores to judge a batch by; rows left out keep theirs. Windows come in order of their ticks."""
        rule, averages = self._rule, self._averages
        if rule is None or averages is None:
            return scores
        own = 1.0 - scores.probabilities[:, BENIGN].astype(np.float64)
        beyond = averages.add(batch, log_odds(own), left_out=left_out) - log_odds(rule.open)
        open_at = self._open[_named(scores)]
        raised = probability_of(log_odds(np.minimum(open_at, 1.0)) + beyond)
        rows = np.flatnonzero((beyond > 0) & (own > LOOKS_BENIGN) & (open_at < 1.0) & (raised > own))
        if not len(rows):
            return scores
        probabilities = scores.probabilities.copy()
        probabilities[rows, BENIGN + 1 :] *= (raised[rows] / own[rows])[:, None].astype(np.float32)
        probabilities[rows, BENIGN] = 1.0 - raised[rows]
        return scores._replace(probabilities=probabilities)

    def calm(self, device: bytes) -> None:
        """Hold nothing against a device (16 octets) any more: somebody said that it was nothing."""
        if self._averages is not None:
            self._averages.calm(device)

    def take(self, device: bytes, other: Sustained) -> None:
        """Hold against a device (16 octets) what another holds."""
        if self._averages is not None and other._averages is not None:
            self._averages.take(device, other._averages)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address (16 octets each) keep what is held of it."""
        if self._averages is not None:
            self._averages.moved(old, new)
