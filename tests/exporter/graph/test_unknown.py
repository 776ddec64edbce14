"""The unknown score in the graph against numpy, and through the detector's thresholds."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import torch

from contracts.bundle import MODEL, Threshold, load_bundle, write_manifest
from contracts.classes import HEAD_NAMES, NAMES
from detection.decide import Thresholds
from detection.onnx_engine import OnnxEngine, import_runtime
from exporter.graph import build_graph
from flowfeatures import WINDOW_COLUMNS
from tests.detection.windows import make_manifest
from training.errors import CheckpointError
from training.networks import build
from training.unknown import KINDS, Outputs, calibrate, fit_raw, raw_scores, unknown_scores

pytestmark = pytest.mark.needs_torch
WINDOW = 16


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return build("gru", layout="windows", features=len(WINDOW_COLUMNS), classes=len(HEAD_NAMES)).eval()


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, WINDOW + 1, 300)
    mask = (np.arange(WINDOW)[None] < lengths[:, None]).astype(np.float32)
    return (rng.exponential(100, (300, WINDOW, len(WINDOW_COLUMNS))) * mask[:, :, None]).astype(np.float32), mask


@pytest.fixture(scope="module")
def outputs(network, windows):
    with torch.no_grad():
        lengths = torch.from_numpy(windows[1]).sum(dim=1).long()
        judged = network.judge(network.scale(torch.from_numpy(windows[0])), lengths)
    return Outputs(judged.logits.numpy(), judged.embedding.numpy())


def fitted(kind, outputs):
    label = np.random.default_rng(1).choice([0, 0, 1, 3], len(outputs.logits))
    arrays = fit_raw(kind, outputs, label)
    return arrays | calibrate(raw_scores(arrays, outputs), np.ones(len(label)))


def graph_scores(model, windows):
    session = import_runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["unknown_score"], {"windows": windows[0], "mask": windows[1]})[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_gives_the_score_that_was_fitted(kind, network, windows, outputs):
    arrays = fitted(kind, outputs)

    model = build_graph(network.arrays(), window=WINDOW, int8=False, unknown=arrays)

    told = graph_scores(model, windows)
    assert told.shape == (300,)
    assert told == pytest.approx(unknown_scores(arrays, outputs), abs=1e-4)
    assert told.std() > 0.01


def test_the_score_of_a_window_does_not_depend_on_its_batch(network, windows, outputs):
    model = build_graph(network.arrays(), window=WINDOW, int8=True, unknown=fitted("benign_mahalanobis", outputs))

    whole = graph_scores(model, windows)
    alone = graph_scores(model, (windows[0][7:8], windows[1][7:8]))

    assert alone[0] == pytest.approx(whole[7], abs=1e-5)


def test_arrays_that_make_no_score_are_refused(network, outputs):
    arrays = fitted("energy", outputs)
    del arrays["unknown_slopes"]

    with pytest.raises(CheckpointError, match="no nodes"):
        build_graph(network.arrays(), window=WINDOW, int8=False, unknown=arrays)


def test_the_detector_calls_unknown_what_is_over_the_manifests_threshold(network, windows, outputs, tmp_path):
    arrays = fitted("benign_mahalanobis", outputs)
    model = build_graph(network.arrays(), window=WINDOW, int8=False, unknown=arrays).SerializeToString()
    (tmp_path / MODEL).write_bytes(model)
    manifest = make_manifest(open_at=1.0, severe_at=1.0)
    thresholds = manifest.thresholds | {"unknown": Threshold(open=0.3, severe=0.9)}
    files = {MODEL: hashlib.sha256(model).hexdigest()}
    write_manifest(tmp_path, manifest.model_copy(update={"files": files, "thresholds": thresholds}))
    bundle = load_bundle(tmp_path)

    scores = OnnxEngine(bundle).score(*windows)
    detections = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score).detections(scores)

    over = np.flatnonzero(unknown_scores(arrays, outputs) > 0.3)
    assert [detection.row for detection in detections] == over.tolist()
    assert {NAMES[detection.class_index] for detection in detections} == {"unknown"}
    assert 0 < len(over) < 300
