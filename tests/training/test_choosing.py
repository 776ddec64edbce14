"""Which benign windows choose thresholds: all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, HEAD_NAMES
from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from training.captures import CapturesBySide, LabelledCapture
from training.choosing import NEVER, benign_windows, choosing
from training.stream import LabelledStream
from training.sustaining import UNCHOSEN

DEMO = Path(__file__).resolve().parents[2] / "lab" / "demo"


def truth_of(folder: Path, attack: str) -> Path:
    """Write a ground truth that calls the whole of the demo's capture something."""
    folder.mkdir(exist_ok=True)
    entry = {"file": str(DEMO / "capture.pcap"), "attack": attack, "class": "scan", "home_nets": ["172.29.251.0/24"]}
    (folder / "ground_truth.json").write_text(json.dumps([entry]))
    return folder / "ground_truth.json"


def captures_of(*names: str, truth: GroundTruth) -> CapturesBySide:
    captures = CapturesBySide()
    captures.sides["validation"] = [LabelledCapture(name, "home", "validation", truth) for name in names]
    return captures


def alike(values: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    found = np.zeros((len(values), len(HEAD_NAMES)), np.float32)
    found[:, BENIGN] = mask[:, 0]
    return found


def test_every_benign_window_is_looked_at(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "benign"))

    found = benign_windows(alike, captures_of("one", truth=truth), UNCHOSEN, demo=tmp_path / "absent.json")

    assert set(found) == {"home"}
    assert len(found["home"].probabilities) == sum(len(batch) for batch in LabelledStream(truth)) > 1000


def test_what_is_an_attack_or_comes_after_one_is_not(tmp_path: Path):
    (truth,) = load_ground_truth(DEMO / "ground_truth.json")
    benign = sum(int((batch.label == BENIGN).sum()) for batch in LabelledStream(truth))

    found = benign_windows(alike, CapturesBySide(), UNCHOSEN, demo=DEMO / "ground_truth.json")

    assert len(found["demo"].probabilities) == benign > 0


def test_an_attack_capture_chooses_nothing(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "malicious"))

    found = benign_windows(alike, captures_of("one", truth=truth), UNCHOSEN, demo=tmp_path / "absent.json")

    assert found["home"].probabilities.shape == (0, len(HEAD_NAMES))
    assert len(found["home"].averages) == 0


def suspicious(values: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    found = np.zeros((len(values), len(HEAD_NAMES)), np.float32)
    found[:, BENIGN], found[:, 1] = 0.1, 0.9
    return found


def test_averages_rise_with_the_windows_of_a_device_and_begin_anew_in_each_capture(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "benign"))

    one = benign_windows(suspicious, captures_of("a", truth=truth), UNCHOSEN, demo=tmp_path / "absent")["home"]
    both = benign_windows(suspicious, captures_of("a", "b", truth=truth), UNCHOSEN, demo=tmp_path / "absent")["home"]

    busiest = one.averages[one.device == np.bincount(one.device).argmax()]
    assert busiest[0] < 0 < busiest[-1]
    np.testing.assert_array_equal(both.averages, np.concatenate([one.averages, one.averages]))
    assert len(np.unique(both.device)) == 2 * len(np.unique(one.device))
    assert (one.captures, both.captures) == (1, 2)


def test_a_window_that_looks_benign_itself_never_tells(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "benign"))

    found = benign_windows(alike, captures_of("one", truth=truth), UNCHOSEN, demo=tmp_path / "absent.json")["home"]

    assert (found.averages == NEVER).all()


def test_variants_take_no_part(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "benign"))
    captures = captures_of("one", "one~pace-0.3", truth=truth)

    assert [source for source, _ in choosing(captures, demo=tmp_path / "absent.json")] == ["home"]
