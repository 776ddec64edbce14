"""Thresholds that move with the place: only on evidence, only inside the interval, and never for an attacker."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest

from contracts.bundle import BenignScores, Interval, Threshold
from contracts.classes import HEAD_NAMES, NAMES
from detection.calibration import Calibrator
from detection.detector import Detector
from detection.sample import BLOCK_US
from detection.state import StateRefused
from flowfeatures import address_bytes
from tests.detection.windows import (
    CAMERA,
    ELSEWHERE,
    OUTSIDE,
    T0_US,
    LegibleEngine,
    Row,
    S,
    Window,
    batch_of,
    make_bundle,
)

SCAN = NAMES.index("scan")
DAY_S, HOUR_S = 86_400, 3600
DEVICES = [f"192.168.1.{number}" for number in range(10, 20)]


def bundle_with(**changes):
    """Return a bundle that opens at 0.5, turns severe at 0.9 and may be moved from 0.3 to 0.8."""
    bundle = make_bundle()
    manifest = bundle.manifest.model_copy(update={"interval": Interval(lo=0.3, hi=0.8), **changes})
    return dataclasses.replace(bundle, manifest=manifest)


def benign_scores(highest):
    return BenignScores(windows=9000, shares=[0.0], quantiles={name: [highest] for name in HEAD_NAMES[1:]})


class Place:
    """A gateway whose windows are made up: devices that score `usual`, and incidents where it is told so."""

    def __init__(self, bundle=None, **settings):
        self.bundle = bundle or bundle_with()
        self.calibrator = Calibrator(self.bundle, **{"windows_wanted": 100, **settings})
        self.detector = Detector(self.bundle, LegibleEngine(), calibrator=self.calibrator)
        self.at_s = 0.0
        self.flow_id = 0

    def watch(self, hours, *, usual=0.05, attacks=()):
        """Let hours pass, every device due every five minutes; `attacks` are (device, attacker, score) of each hour."""
        updates = []
        quiet = batch_of(*(Window(device, [Row(device, ELSEWHERE, {"scan": usual})]) for device in DEVICES))
        for tick in range(int(hours * 12)):
            due_us = np.full(len(DEVICES), T0_US + round(self.at_s * S))
            updates += self.detector.add(dataclasses.replace(quiet, due_us=due_us))
            if attacks and tick % 12 == 5:
                updates += self.detector.add(batch_of(*(self.attack(*each) for each in attacks)))
            self.at_s += 300
        return updates

    def attack(self, device, attacker, score):
        self.flow_id += 1
        row = Row(attacker, device, {"scan": score}, flow_id=self.flow_id, handshake=True)
        return Window(device, [row], self.at_s + 1)

    @property
    def opens_at(self):
        return float(self.calibrator.thresholds.open[SCAN])


def opened(updates):
    return [each for each in updates if each.update == 0]


def test_until_enough_windows_were_seen_the_status_is_calibrating_and_nothing_moves():
    place = Place(windows_wanted=1000)

    place.watch(8, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)])

    status = place.calibrator.facts()
    assert (status.state, status.shift, place.opens_at) == ("calibrating", 0.0, 0.5)
    assert status.windows < 1000
    assert "the shipped thresholds hold" in status.reason


def test_the_bound_on_false_positives_is_three_over_the_windows_seen():
    place = Place()

    place.watch(24)

    status = place.calibrator.facts()
    assert status.state == "calibrated"
    assert status.windows == pytest.approx(10 * 12 * 24, rel=0.02)
    assert status.false_positive_bound == pytest.approx(3 / status.windows)
    assert status.per_day_bound == pytest.approx(3.0, rel=0.01)


def test_a_device_and_hour_give_twelve_windows_however_many_it_sends():
    place = Place()

    for second in range(2 * HOUR_S):
        place.detector.add(batch_of(Window(CAMERA, [Row(CAMERA, ELSEWHERE)], second)))

    assert place.calibrator.facts().windows <= 2 * 12


def test_false_incidents_beyond_the_budget_for_many_reasons_raise_the_threshold():
    place = Place()

    place.watch(48, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)])
    later = place.watch(24, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)])

    assert 0.6 < place.opens_at <= 0.61
    assert opened(later) == []
    assert place.calibrator.facts().shift > 0


def test_one_attacker_never_raises_the_threshold_however_many_devices_and_days():
    place = Place()

    found = place.watch(96, attacks=[(device, OUTSIDE, 0.6) for device in DEVICES])

    assert place.opens_at == 0.5
    assert len(opened(found)) == 96 * len(DEVICES)


def test_one_odd_device_never_raises_the_threshold():
    place = Place()

    place.watch(96, attacks=[(CAMERA, f"203.0.113.{n}", 0.6) for n in range(4)])

    assert place.opens_at == 0.5


def test_incidents_above_the_second_threshold_raise_nothing_and_no_threshold_passes_it_or_the_interval():
    place = Place()

    place.watch(72, attacks=[(device, f"203.0.113.{n}", 0.95) for n, device in enumerate(DEVICES)])
    assert place.opens_at == 0.5

    place.watch(72, attacks=[(device, f"198.51.100.{n}", 0.79999) for n, device in enumerate(DEVICES)])
    assert 0.5 < place.opens_at <= 0.8


def test_a_raised_threshold_falls_again_when_its_reasons_are_a_week_old():
    place = Place()
    place.watch(48, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)])
    assert place.opens_at > 0.6

    place.watch(8 * 24)

    assert place.opens_at <= 0.5


def test_what_would_have_opened_incidents_keeps_the_threshold_raised():
    place = Place()

    place.watch(10 * 24, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)])

    assert place.opens_at > 0.6


def test_verdicts_take_incidents_out_of_the_budget():
    place = Place()
    found = opened(place.watch(20, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)][:3]))
    assert place.calibrator.facts().spent_today == len(found) == 60
    assert place.calibrator.facts().over_budget

    place.calibrator.judge({each.incident_id: "malicious" for each in found})

    assert place.calibrator.facts().spent_today == 0


def test_without_hold_out_scores_a_threshold_is_never_lowered():
    place = Place()

    place.watch(10 * 24)

    assert place.opens_at == 0.5


def test_a_quiet_place_lowers_thresholds_only_after_three_days_and_only_to_what_the_hold_out_reached():
    place = Place(bundle_with(benign_scores=benign_scores(0.4)))

    place.watch(48)
    assert place.opens_at == 0.5

    place.watch(5 * 24)
    assert place.opens_at == pytest.approx(0.4, abs=1e-3)


def test_windows_that_come_near_a_threshold_keep_it_from_being_lowered():
    place = Place(bundle_with(benign_scores=benign_scores(0.31)))

    place.watch(7 * 24, usual=0.45)

    assert place.opens_at >= 0.45


def test_windows_near_an_incident_are_no_sample_of_benign_ones():
    place = Place()

    place.watch(24, attacks=[(CAMERA, OUTSIDE, 0.6)])

    full_day = 10 * 12 * 24
    left_out = full_day - place.calibrator.facts().windows
    assert 24 * 4 <= left_out <= 24 * 6 + 40


def test_a_class_that_is_never_detected_stays_so():
    never = {name: Threshold(open=1.0, severe=1.0) for name in HEAD_NAMES[1:]} | {
        "scan": Threshold(open=0.5, severe=0.9)
    }
    place = Place(bundle_with(thresholds=never, benign_scores=benign_scores(0.4)))

    place.watch(7 * 24)

    assert place.opens_at == pytest.approx(0.4, abs=1e-3)
    assert place.calibrator.thresholds.open[NAMES.index("flood")] == 1.0


def test_state_goes_through_json_and_what_comes_back_says_the_same():
    place = Place()
    place.watch(48, attacks=[(device, f"203.0.113.{n}", 0.6) for n, device in enumerate(DEVICES)])
    state = json.loads(json.dumps(place.calibrator.state()))

    again = Calibrator.restored(state, place.bundle, windows_wanted=100)
    again.advance(T0_US + round(place.at_s * S))

    assert again.state() == place.calibrator.state()
    assert again.thresholds.open.tolist() == place.calibrator.thresholds.open.tolist()
    assert len(json.dumps(state)) < 1 << 20


def test_two_full_weeks_of_a_busy_place_stay_below_a_mebibyte():
    calibrator = Calibrator(bundle_with())
    sample = calibrator._sample
    devices = [bytes([10, number]) + bytes(14) for number in range(40)]
    margins = [-1.234 - number / 997 for number in range(len(devices))]
    for block in range(14 * 24 * 12 + 24):
        at_us = T0_US + block * BLOCK_US
        sample.add(at_us, devices, margins, margins)
        sample.advance(at_us)

    assert len(json.dumps(calibrator.state())) < 1 << 20
    assert sample.windows > 40 * 12 * 24 * 13


def test_another_bundles_state_begins_anew():
    place = Place()
    place.watch(12)
    other = dataclasses.replace(place.bundle, manifest_sha256="1" * 64)

    fresh = Calibrator.restored(place.calibrator.state(), other)

    assert fresh.facts().windows == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format"),
        ({"shifts": {"known": float("nan")}}, "shifts.known"),
        ({"shifts": {"known": 1e9}}, "shifts.known"),
        ({"shifts": {"all": 0.1}}, "shifts.all"),
        ({"hours": [{"hour": 1}]}, "hours.0"),
        ({"hours": "x" * 100_000}, "hours"),
        ({"more": 1}, "more"),
        ({"judged_hour": -1}, "judged_hour"),
        ({"budget": {"reasons": [{"device": "../../etc"}]}}, "budget.reasons.0"),
    ],
)
def test_a_hostile_state_is_refused_in_one_line(change, complaint):
    place = Place()
    place.watch(6)
    state = copy.deepcopy(place.calibrator.state()) | change

    with pytest.raises(StateRefused, match=complaint) as caught:
        Calibrator.restored(state, place.bundle)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_state_cannot_move_a_threshold_out_of_its_interval():
    place = Place()
    for shift in (-39.0, 39.0):
        state = place.calibrator.state() | {"shifts": {"known": shift, "unknown": shift}}

        again = Calibrator.restored(state, place.bundle)

        assert 0.5 <= again.thresholds.open[SCAN] <= 0.8


def test_a_clock_that_jumps_an_hour_either_way_loses_no_more_than_what_was_waiting():
    place = Place()
    place.watch(24)
    before = place.calibrator.facts().windows

    for jump in (HOUR_S, -HOUR_S):
        place.at_s += jump
        place.watch(1)

    assert place.calibrator.facts().windows >= before - 120
    assert place.calibrator.facts().state == "calibrated"


def test_a_clock_from_the_far_future_does_not_stop_the_sample_for_ever():
    place = Place()
    place.watch(2)
    place.at_s += 3650 * DAY_S
    place.watch(2)
    place.at_s -= 3650 * DAY_S

    place.watch(24)

    assert place.calibrator.facts().windows > 2000


def test_the_unknown_score_moves_in_an_interval_of_its_own_or_not_at_all():
    thresholds = {**make_bundle().manifest.thresholds, "unknown": Threshold(open=0.7, severe=0.95)}
    still = Calibrator(bundle_with(thresholds=thresholds))
    free = Calibrator(bundle_with(thresholds=thresholds, intervals={"unknown": Interval(lo=0.6, hi=0.9)}))

    for calibrator in (still, free):
        calibrator._set({"known": 0.0, "unknown": 5.0})

    assert still.thresholds.open[NAMES.index("unknown")] == 0.7
    assert free.thresholds.open[NAMES.index("unknown")] == pytest.approx(0.9, abs=1e-3)
    assert np.array_equal(free.thresholds.open[:11], still.thresholds.open[:11])


def test_a_device_that_moves_during_its_incident_stays_out_of_the_sample():
    place = Place()
    place.detector.add(batch_of(place.attack(CAMERA, OUTSIDE, 0.6)))

    place.detector.moved(address_bytes(CAMERA), address_bytes("192.168.1.99"))
    for n in range(8):  # five minutes of quiet and the periods near it
        place.detector.add(batch_of(Window("192.168.1.99", [Row("192.168.1.99", ELSEWHERE)], 10 + 250 * n)))
    place.detector.advance(T0_US + 3 * HOUR_S * S)

    assert 0 < place.calibrator.facts().windows <= 6
