"""The gate before a head is used, on the boundary; and the level of a head that learnt from benign windows."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import NAMES
from contracts.head import Head, head_of
from detection.decide import Thresholds
from federation.aggregator.release import HoldOut, refusals
from federation.aggregator.settle import SHARES, furthest, settled
from tests.detection.windows import make_manifest

THRESHOLDS = Thresholds(make_manifest(open_at=0.5).thresholds)
C = 11


def head(shift: float = 0.0) -> Head:
    """Return a head whose first number of the embedding is the logit of scan, the second that of flood."""
    weight = np.zeros((C, 2), np.float32)
    weight[NAMES.index("scan"), 0] = weight[NAMES.index("flood"), 1] = 20.0
    bias = np.full(C, -30.0, np.float32)
    bias[[NAMES.index("benign"), NAMES.index("scan"), NAMES.index("flood")]] = shift, -10.0, -10.0
    return head_of(np.concatenate([weight.ravel(), bias]))


def hold_out(*, benign_over: int = 10, scans: int = 100, floods: int = 200) -> HoldOut:
    """Return windows, of which each kind lies evenly between not at all and surely an attack."""
    rows, label = [], []
    for name, count in (("scan", scans), ("flood", floods)):
        for place in range(count):
            rows.append((0.4 + (place + 0.5) / count, 0.0) if name == "scan" else (0.0, 0.4 + (place + 0.5) / count))
            label.append(NAMES.index(name))
    rows += [(0.6, 0.0)] * benign_over + [(0.0, 0.0)] * 1000
    return HoldOut(np.array(rows, np.float32), np.array(label + [0] * (1000 + benign_over)), THRESHOLDS)


def said(*, before: float = 0.0, after: float = 0.0, shipped: float = 0.0) -> list[str]:
    return list(refusals(hold_out(), before=head(before), after=head(after), shipped=head(shipped)))


def test_the_same_head_passes():
    assert said() == []


def test_one_attack_fewer_in_all_is_one_too_many():
    found = hold_out().found(head())["attacks"][0]
    shift = next(s for s in np.arange(0.0, 1.0, 0.01) if hold_out().found(head(s))["attacks"][0] == found - 1)

    assert said(after=shift) == [f"{found - 1} of 300 windows of attacks found, before {found}"]


def test_a_round_after_a_better_one_may_not_fall_back_to_the_bundle():
    assert any("windows of attacks found" in each for each in said(before=-1.0, after=0.0))


def test_a_class_may_not_be_given_for_another():
    traded = head().flat.copy()
    traded[: C * 2].reshape(C, 2)[NAMES.index("scan"), 0] = 18.0  # scans lose
    traded[: C * 2].reshape(C, 2)[NAMES.index("flood"), 1] = 30.0  # floods gain more

    told = list(refusals(hold_out(), before=head(), after=head_of(traded), shipped=head()))

    assert len(told) == 1
    assert "windows of scan found" in told[0]


def test_small_losses_of_a_class_do_not_add_up_over_rounds():
    """Each round is held against the bundle, so a second loss of the same size is refused."""

    def scans(gain: float) -> Head:
        flat = head().flat.copy()
        flat[: C * 2].reshape(C, 2)[NAMES.index("scan"), 0] = gain
        flat[: C * 2].reshape(C, 2)[NAMES.index("flood"), 1] = 40.0
        return head_of(flat)

    first, second = scans(19.7), scans(19.0)

    assert list(refusals(hold_out(), before=head(), after=first, shipped=head())) == []
    told = list(refusals(hold_out(), before=first, after=second, shipped=head()))
    assert any("windows of scan found, the bundle finds" in each for each in told)


def test_false_alarms_may_be_as_many_as_the_bundles_sample_supports():
    def lower(count: int) -> list[str]:
        windows = hold_out(benign_over=count)
        calm = np.where(windows.embedding[:, 0] == np.float32(0.6), True, False) & (windows.label == 0)
        shipped = HoldOut(windows.embedding, windows.label, THRESHOLDS).found(head())["benign"][0]
        assert calm.sum() == count == shipped
        return list(refusals(windows, before=head(), after=head(-2.5), shipped=head()))

    # A bundle with none of 1,000: up to 3 are what it may have been.
    windows = hold_out(benign_over=0)
    more = np.concatenate([windows.embedding, np.tile(np.array([[0.45, 0.0]], np.float32), (4, 1))])
    four = HoldOut(more, np.concatenate([windows.label, np.zeros(4, np.int64)]), THRESHOLDS)
    three = HoldOut(more[:-1], np.concatenate([windows.label, np.zeros(3, np.int64)]), THRESHOLDS)

    assert lower(10) == []
    assert list(refusals(three, before=head(), after=head(-2.5), shipped=head())) == []
    assert list(refusals(four, before=head(), after=head(-2.5), shipped=head())) == [
        "4 of 1004 benign windows over threshold, the bundle has 0"
    ]


def test_a_head_that_became_timid_is_set_to_its_level_again():
    timid = head(1.0)

    level = settled(timid, hold_out(), before=head())

    assert level.bias[0] == pytest.approx(0.0, abs=0.051)
    assert np.array_equal(level.weight, timid.weight)


def test_a_head_no_level_brings_back_stays_as_it_is():
    lost = head(50.0)

    assert settled(lost, hold_out(), before=head()).sha256 == lost.sha256


def test_the_least_sure_attacks_stay_as_sure():
    """A head so little more timid that it loses none of these is set to its level all the same."""
    timid = head(0.04)
    assert hold_out().found(timid)["attacks"] == hold_out().found(head())["attacks"]

    level = settled(timid, hold_out(), before=head())

    assert level.bias[0] <= 1e-6


def test_a_step_the_gate_refuses_is_tried_in_part():
    traded = head().flat.copy()
    traded[: C * 2].reshape(C, 2)[NAMES.index("scan"), 0] = 18.0
    traded[: C * 2].reshape(C, 2)[NAMES.index("flood"), 1] = 30.0
    whole = head_of(traded)
    assert list(refusals(hold_out(), before=head(), after=whole, shipped=head()))

    passed = furthest(head(), whole, hold_out=hold_out(), teaching=None, shipped=head())

    assert passed.share in SHARES[1:]
    assert passed.why == ""
    assert list(refusals(hold_out(), before=head(), after=passed.head, shipped=head())) == []
    assert passed.head.flat == pytest.approx(head().flat + passed.share * (whole.flat - head().flat))


def test_a_step_of_which_no_part_passes_says_why_the_whole_did_not():
    passed = furthest(head(), head(60.0), hold_out=hold_out(), teaching=None, shipped=head())

    assert (passed.head, passed.share) == (None, 0.0)
    assert "0 of 300 windows of attacks found, before 270" in passed.why
