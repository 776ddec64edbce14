"""Two bundles on the same windows: what is refused, and what is left to those who know better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from agent.bundles.trial import BLIND_FROM, Answering, Served, Trial
from contracts.classes import NAMES
from detection.decide import Detection
from detection.engine import Scores
from flowfeatures import WindowBatch
from tests.detection.test_batch_cuts import EmbeddingEngine, batches_of, joined, lasting_bundle
from tests.detection.test_judge import MARKED, OTHER
from tests.detection.windows import C, Row, Window, batch_of, make_bundle

W = 16
NOTHING: Answering = lambda _batch, _alone, _detections: set()  # noqa: E731


class Says:
    """An engine that calls the first so many windows of a batch scans."""

    name = provider = "says"

    def __init__(self, *verdicts: bool) -> None:
        self.verdicts = verdicts

    def score(self, windows: np.ndarray, mask: np.ndarray) -> Scores:
        count = len(windows)
        probabilities = np.zeros((count, C), np.float32)
        probabilities[:, 0] = 1.0
        for row, verdict in enumerate(self.verdicts):
            probabilities[row, :2] = (0.0, 1.0) if verdict else (1.0, 0.0)
        nothing = np.zeros(count, np.float32)
        return Scores(probabilities, np.zeros((count, 4), np.float32), nothing, np.zeros((count, W), np.float32))


def windows(count: int, *, devices: int = 2) -> WindowBatch:
    names = [f"192.168.1.{1 + each % devices}" for each in range(count)]
    return batch_of(*[Window(name, [Row(name, "203.0.113.1")]) for name in names])


def trial_of(
    *,
    reference: int = 0,
    subject: int = 0,
    both: int = 0,
    of: int = 1000,
    devices: int = 2,
    answered: Answering = NOTHING,
) -> Trial:
    """Return a finished trial in which each said so of so many windows, `both` of them the same."""
    before = [True] * reference + [False] * (of - reference)
    after = [True] * both + [False] * (reference - both) + [True] * (subject - both)
    after += [False] * (of - len(after))
    bundle = make_bundle()
    old, new = Served(bundle, Says(*before)), Served(bundle, Says(*after))
    trial = Trial(old, new, wanted=of, answered=answered, now_s=lambda: 0.0)
    trial.see(windows(of, devices=devices))
    return trial


def test_it_is_over_when_enough_windows_were_seen():
    trial = Trial(Served(make_bundle(), Says()), Served(make_bundle(), Says()), wanted=5)

    seen = []
    for _ in range(3):
        trial.see(windows(2))
        seen.append(trial.is_over)

    assert seen == [False, False, True]


def test_two_that_agree_are_fine():
    assert trial_of(reference=40, subject=40, both=40).complaint() is None


@pytest.mark.parametrize(("reference", "most"), [(0, 10), (10, 30)])
def test_one_that_cries_wolf_is_refused(reference: int, most: int):
    fine = trial_of(reference=reference, subject=most, both=reference)
    too_many = trial_of(reference=reference, subject=most + 1, both=reference)

    assert fine.complaint() is None
    assert too_many.complaint() == f"calls {most + 1} of 1,000 windows attacks, the one before {reference}"


def test_one_that_goes_blind_is_refused():
    """Of two devices, attacked alike; what is missed most is of one of them, and the other one counts."""
    half = trial_of(reference=2 * BLIND_FROM, subject=20, both=20)
    less = trial_of(reference=2 * BLIND_FROM, subject=18, both=18)

    assert half.complaint() is None
    assert (
        less.complaint() == "sees 9 of the 20 attacks of 1,000 windows that the one before sees on all devices but one"
    )


def test_one_that_no_longer_sees_a_single_device_attacked_is_not_blind():
    """The false alarm that the old one raises there may be why there is a new one."""
    trial = trial_of(reference=500, subject=0, devices=1)

    assert trial.complaint() is None


def test_a_few_attacks_missed_elsewhere_prove_nothing():
    few = 2 * (BLIND_FROM - 1)

    assert trial_of(reference=few, subject=0).complaint() is None


def test_what_an_operator_has_answered_is_no_attack_that_one_could_miss():
    def answered(_batch: WindowBatch, _alone: Scores, found: Sequence[Detection]) -> set[int]:
        return {each.row for each in found[2:]}

    trial = trial_of(reference=200, subject=0, answered=answered)
    unanswered = trial_of(reference=200, subject=0)

    assert (trial.reference_hits, trial.complaint()) == (2, None)
    assert unanswered.complaint() is not None


def test_what_an_operator_has_answered_is_no_storm_of_a_new_one_that_says_it_too():
    def answered(_batch: WindowBatch, _alone: Scores, found: Sequence[Detection]) -> set[int]:
        return {each.row for each in found}

    of_one = trial_of(reference=50, subject=50, both=50, devices=1, answered=answered)
    elsewhere = trial_of(reference=1, subject=50, both=1, answered=answered)

    assert (of_one.reference_hits, of_one.subject_hits, of_one.complaint()) == (0, 50, None)
    assert elsewhere.complaint() == "calls 25 of 1,000 windows attacks, the one before 0"


def test_what_an_operator_has_answered_leaves_no_suspicion_with_the_old_one():
    """As with the detector: or one doubtful window behind it would be an attack that only the old one sees."""

    def answered(_batch: WindowBatch, _alone: Scores, found: Sequence[Detection]) -> set[int]:
        return {each.row for each in found if each.class_index == NAMES.index("scan")}

    hits = []
    for answering in (answered, NOTHING):
        side = Served(lasting_bundle(), EmbeddingEngine())
        trial = Trial(side, side, wanted=17, answered=answering, now_s=lambda: 0.0)
        trial.see(joined(batches_of([MARKED] * 16 + [OTHER])))
        hits.append((trial.reference_hits, trial.subject_hits))

    assert hits == [(0, 15), (15, 15)]


def test_one_device_that_only_the_new_one_calls_attacked_is_no_storm():
    """The attack that the old one misses may be why there is a new one."""
    bundle = make_bundle()
    trial = Trial(Served(bundle, Says()), Served(bundle, Says(*[True] * 50)), wanted=200, now_s=lambda: 0.0)
    attacked = [Window("192.168.1.1", [Row("192.168.1.1", "203.0.113.1")])] * 50
    others = [Window(f"192.168.1.{2 + each % 3}", [Row("192.168.1.2", "203.0.113.1")]) for each in range(150)]
    trial.see(batch_of(*attacked, *others))

    assert trial.subject_hits == 50
    assert trial.complaint() is None


@pytest.mark.parametrize(
    ("of", "subject_s", "complaint"),
    [
        (1000, 2.0, None),  # 2 ms a window: slow enough to matter only above that
        (1000, 2.1, "takes 2.1 ms a window, 21 times as long"),
        (5, 1.0, None),  # five windows: others may have had the processor
        (5, 1.1, "takes 220.0 ms a window, 11 times as long"),
    ],
)
def test_one_that_is_too_slow_for_this_machine_is_refused(of: int, subject_s: float, complaint: str | None):
    now_s = iter([0.0, subject_s, 0.0, 0.1])
    bundle = make_bundle()
    trial = Trial(Served(bundle, Says()), Served(bundle, Says()), wanted=of, now_s=lambda: next(now_s))

    trial.see(windows(of))

    assert trial.complaint() == complaint
