"""Networks that were taught without one class of attacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from contracts.bundle import default_bundle
from contracts.classes import NAMES
from tests.training.windows import made_up_windows
from training import leave_class
from training.fit import FitSettings
from training.leave_class import leave_classes_out, write_kinds_page
from training.networks_compared import saver
from training.side_by_side import Judge
from training.unknown_compare import Sides

pytestmark = pytest.mark.needs_torch
SCAN, FLOOD = NAMES.index("scan"), NAMES.index("flood")
NO_DEMO = Path("absent.json")


def of_two_classes(count):
    """Return windows of which every second attack window is a flood; the first of these holds a record of a scan."""
    windows = made_up_windows(count)
    floods = np.flatnonzero(windows.label == SCAN)[::2]
    windows.label[floods] = FLOOD
    windows.row_label[floods] = np.where(windows.row_label[floods] == SCAN, FLOOD, windows.row_label[floods])
    windows.row_label[floods[0], 0] = SCAN
    return windows


def test_no_window_with_a_record_of_the_class_teaches_or_chooses(captures, tmp_path, monkeypatch):
    sides = Sides(of_two_classes(120), of_two_classes(60), {}, {})
    taught, really = [], leave_class.fit

    def listening(train, validation, settings):
        taught.append((train, validation))
        return really(train, validation, settings)

    monkeypatch.setattr(leave_class, "fit", listening)
    path = tmp_path / "kinds.json"
    leave_classes_out(
        sides,
        Judge(captures, default_bundle(), demo=NO_DEMO),
        FitSettings(epochs=1, steps=4, batch=16),
        seeds=[1, 2],
        classes=["scan"],
        save=saver(path, {"command": "penstock-train kinds", "commit": "0" * 40}, add=False, page=write_kinds_page),
    )
    told = json.loads(path.read_text())["models"]

    assert (sides.teaching.label == SCAN).any()
    assert len(taught) == 2
    for windows in (each for pair in taught for each in pair):
        assert SCAN not in windows.label
        assert not (windows.row_label == SCAN).any()
    assert list(told) == ["scan, seed 1", "scan, seed 2"]
    assert told["scan, seed 1"]["test"]["attacks"] == 1
    assert told["scan, seed 1"]["test"]["windows_attack"] > 0
    assert "| scan |" in path.with_suffix(".md").read_text()


def test_the_mean_over_classes_counts_those_that_a_side_has(tmp_path):
    def run(found):
        blank = {
            "windows_attack": 0,
            "tpr": None,
            "auc": None,
            "attacks": 0,
            "attacks_alerted": 0,
            "first_alert_s": None,
        }
        blank |= {"fpr": 0.0, "false_incidents": 0, "days": 1.0, "false_incidents_per_day": 0.0}
        some = blank | {"windows_attack": 9, "tpr": found, "auc": 0.9, "attacks": 1, "attacks_alerted": 1}
        return {"validation": some, "test": blank, "evaluation": blank if found > 0.5 else some}

    models = {"scan, seed 1": run(1.0), "flood, seed 1": run(0.5)}
    write_kinds_page(tmp_path / "k.json", {"runs": [], "models": models})
    parts = (tmp_path / "k.md").read_text().split("## ")

    assert "| mean over classes | | 0.750 |" in parts[1]
    assert "| mean over classes | | - |" in parts[2]
    assert "| mean over classes | | 0.500 |" in parts[3]
