"""An attacker that was there from the first hour: the lab's recording replayed hour after hour while calibrating.

Attack windows of the shipped bundle come in the midst of benign ones all the time that the thresholds are calibrated,
and are found in the first hour, and again after it. What a calibration without distrust would do stands beside it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from contracts.bundle import default_bundle
from contracts.classes import NAMES
from contracts.ground_truth import load
from detection.calibration import Calibrator
from detection.decide import Thresholds, log_odds
from detection.detector import Detector
from detection.engine import Scores
from detection.onnx_engine import OnnxEngine
from flowfeatures import DeviceWindows, FlowMeter, FlowSettings, address_text, open_capture

DEMO = Path(__file__).resolve().parents[2] / "lab" / "demo" / "ground_truth.json"
HOUR_US = 3_600_000_000
HOURS = 40
ATTACKS = {("brute_force", "172.29.251.66"), ("flood", "172.29.251.230"), ("scan", "172.29.251.210")}


class RememberingEngine:
    """Scores what it has scored before from memory: the same capture comes forty times."""

    def __init__(self, engine):
        self._engine, self._known = engine, {}
        self.name, self.provider = engine.name, engine.provider

    def score(self, windows, mask):
        key = hash((windows.tobytes(), mask.tobytes()))
        if key not in self._known:
            self._known[key] = self._engine.score(windows, mask)
        return self._known[key]


@pytest.fixture(scope="module")
def bundle():
    return default_bundle()


@pytest.fixture(scope="module")
def engine(bundle):
    return RememberingEngine(OnnxEngine(bundle))


@pytest.fixture(scope="module")
def batches():
    (truth,) = load(DEMO)
    meter, windows = FlowMeter(FlowSettings(partials=True)), DeviceWindows(truth.home_nets)
    found = []
    with open_capture(truth.path) as capture:
        for records in meter.read(capture):
            found += windows.add(records)
    for records in meter.flush():
        found += windows.add(records)
    return [*found, *windows.flush()]


def later(batch, by_us, *, flows_by):
    """Return a batch as another hour brings it: same behaviour, later, in flows of its own."""
    flows = batch.flows.copy()
    for column in ("start_us", "end_us"):
        flows[column] += by_us
    flows["flow_id"] += flows_by
    return dataclasses.replace(batch, due_us=batch.due_us + by_us, flows=flows)


def hours_of(batches, hours):
    for hour in hours:
        yield hour, [later(batch, hour * HOUR_US, flows_by=hour << 40) for batch in batches]


def found_in(updates):
    return {(each.class_name, address_text(each.device)) for each in updates if each.update == 0}


@pytest.fixture(scope="module")
def replayed(bundle, engine, batches):
    """Return the calibrator and what was found in each hour."""
    calibrator = Calibrator(bundle, windows_wanted=300)
    (truth,) = load(DEMO)
    detector = Detector(bundle, engine, home_nets=truth.home_nets, calibrator=calibrator)
    found = {}
    for hour, shifted in hours_of(batches, range(HOURS)):
        updates = []
        for batch in shifted:
            updates += detector.add(batch)
        start_us = int(shifted[-1].due_us[-1])
        for minute in range(1, 58):  # the rest of the hour is quiet
            updates += detector.advance(start_us + minute * 60_000_000)
        found[hour] = found_in(updates)
    return calibrator, found


def test_it_is_found_in_the_first_hour_while_calibrating(replayed):
    _, found = replayed

    assert found[0] >= ATTACKS


def test_it_is_found_in_every_later_hour_too_by_thresholds_that_are_calibrated(replayed):
    calibrator, found = replayed

    assert calibrator.facts().state != "calibrating"
    assert [hour for hour, each in found.items() if not each >= ATTACKS] == []


def test_its_windows_never_entered_the_sample_so_that_nothing_was_learnt_from_it(replayed, bundle):
    calibrator, found = replayed

    assert calibrator.facts().spent_today == sum(len(each) for each in list(found.values())[-24:])
    assert (
        calibrator.thresholds.open.tolist()
        == Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score).open.tolist()
    )
    assert (calibrator._sample.tail("known") > 0).sum() == 0


def test_a_quantile_of_everything_seen_would_have_been_blinded(bundle, engine, batches):
    """The control: 5-minute maxima of all windows, one false incident a day allowed, no distrust."""
    shipped = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
    highest: dict[bytes, float] = {}
    for batch in batches:
        margins = shipped.margins(engine.score(batch.values, batch.mask)).known
        for device, margin in zip(batch.device, margins.tolist(), strict=True):
            highest[bytes(device)] = max(highest.get(bytes(device), -np.inf), margin)
    seen = sorted([*highest.values()] * HOURS, reverse=True)

    naive = seen[round(HOURS / 24)]  # so many a day may lie above

    moved = shipped.moved(1 / (1 + np.exp(-(log_odds(shipped.open.clip(0.01, 0.999)) + naive))))
    missed = [
        name
        for name in ("flood", "scan", "brute_force")
        if not any(
            detection.class_index == NAMES.index(name)
            for batch in batches
            for detection in moved.detections(Scores(*engine.score(batch.values, batch.mask)))
        )
    ]
    assert len(missed) >= 2
