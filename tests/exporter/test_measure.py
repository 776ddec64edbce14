"""What the gate is given: labels kept beside a checkpoint, and benign captures held out, read through both bundles."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from contracts.bundle import load_bundle
from contracts.errors import DataMissing
from exporter.measure import accuracy, benign_of, benign_only, held_out_report, validation_labels
from tests.bundles import write_nervous_bundle, write_refusal_bundle
from tests.exporter.test_pack import one_benign_capture
from tests.training.windows import made_up_windows
from training.captures import CapturesBySide
from training.checkpoint import WINDOWS_FILE, save_parity_windows
from training.errors import CheckpointError

pytestmark = pytest.mark.needs_torch


def keep(folder, **more):
    made = made_up_windows(20)
    np.savez_compressed(folder / WINDOWS_FILE, windows=made.values, mask=made.mask, **more)
    return made


def test_classes_kept_beside_the_windows_are_read(tmp_path):
    label = made_up_windows(20).label
    keep(tmp_path, label=label.astype(np.float32))

    assert np.array_equal(validation_labels(tmp_path), label)


def test_a_checkpoint_without_classes_has_none(tmp_path):
    made = made_up_windows(20)
    save_parity_windows(tmp_path, windows=made.values, mask=made.mask)

    assert validation_labels(tmp_path) is None


@pytest.mark.parametrize("label", [np.zeros(19, np.float32), np.zeros((20, 2), np.float32), np.zeros(20, "U1")])
def test_classes_that_are_not_one_number_per_window_are_refused(tmp_path, label):
    keep(tmp_path, label=label)

    with pytest.raises(CheckpointError):
        validation_labels(tmp_path)


def test_accuracy_is_the_share_of_first_classes_that_are_right():
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)

    assert accuracy(said, np.array([0, 1, 1])) == pytest.approx(2 / 3)


def test_only_captures_in_which_nobody_attacks_are_compared(tmp_path):
    (tmp_path / "other").mkdir()
    captures = one_benign_capture(tmp_path)
    captures.sides["test"] += one_benign_capture(tmp_path / "other", attack="mixed").sides["test"]

    assert [each.truth.attack for each in captures.sides["test"]] == ["benign", "mixed"]
    assert [each.truth.attack for each in benign_only(captures).sides["test"]] == ["benign"]


def test_teaching_sides_are_not_judged_on(tmp_path):
    captures = one_benign_capture(tmp_path)
    taught = CapturesBySide()
    taught.sides["validation"] = captures.sides["test"]
    bundle = load_bundle(write_refusal_bundle(tmp_path / "bundle"))

    with pytest.raises(DataMissing, match="no capture on the sides test and evaluation"):
        held_out_report(bundle, taught)


def test_false_windows_and_incidents_are_counted_with_their_bounds(tmp_path):
    (tmp_path / "captures").mkdir()
    captures = one_benign_capture(tmp_path / "captures")
    quiet, nervous = (
        benign_of(held_out_report(load_bundle(write(tmp_path / write.__name__)), captures))["test"]
        for write in (write_refusal_bundle, write_nervous_bundle)
    )

    assert (quiet.false_windows, quiet.false_incidents) == (0, 0)
    assert quiet.fpr_bound == pytest.approx(min(1.0, 3 / quiet.windows))
    assert nervous.false_windows == nervous.windows == quiet.windows > 0
    assert nervous.days == quiet.days > 0
