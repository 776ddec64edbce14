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
from training.choosing import benign_probabilities, choosing
from training.stream import LabelledStream

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

    found = benign_probabilities(alike, captures_of("one", truth=truth), demo=tmp_path / "absent.json")

    assert set(found) == {"home"}
    assert len(found["home"]) == sum(len(batch) for batch in LabelledStream(truth)) > 1000


def test_what_is_an_attack_or_comes_after_one_is_not(tmp_path: Path):
    (truth,) = load_ground_truth(DEMO / "ground_truth.json")
    benign = sum(int((batch.label == BENIGN).sum()) for batch in LabelledStream(truth))

    found = benign_probabilities(alike, CapturesBySide(), demo=DEMO / "ground_truth.json")

    assert len(found["demo"]) == benign > 0


def test_an_attack_capture_chooses_nothing(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "malicious"))

    found = benign_probabilities(alike, captures_of("one", truth=truth), demo=tmp_path / "absent.json")

    assert found["home"].shape == (0, len(HEAD_NAMES))


def test_variants_take_no_part(tmp_path: Path):
    (truth,) = load_ground_truth(truth_of(tmp_path, "benign"))
    captures = captures_of("one", "one~pace-0.3", truth=truth)

    assert [source for source, _ in choosing(captures, demo=tmp_path / "absent.json")] == ["home"]
