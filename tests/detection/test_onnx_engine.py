"""ONNX Runtime as an engine, with models small enough to check by numpy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.bundle import Bundle
from contracts.errors import BundleCorrupt, MissingExtra, SchemaMismatch
from detection import onnx_engine
from detection.onnx_engine import OnnxEngine
from tests.detection.onnx_model import C, F, W, model_bytes
from tests.detection.windows import make_bundle

WEIGHTS = np.random.default_rng(7).normal(size=(F, C)).astype(np.float32) / 100


def bundle_of(model: bytes) -> Bundle:
    return replace(make_bundle(), path=Path("somewhere"), model=model)


@pytest.fixture(scope="module")
def engine() -> OnnxEngine:
    pytest.importorskip("onnxruntime")
    return OnnxEngine(bundle_of(model_bytes(WEIGHTS)))


def windows(count: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(count).normal(size=(count, W, F)).astype(np.float32)
    return values, np.ones((count, W), np.float32)


def test_its_scores_are_those_numpy_computes(engine: OnnxEngine):
    values, mask = windows(5)

    scores = engine.score(values, mask)

    logits = values.sum(axis=1, dtype=np.float64) @ WEIGHTS.astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(scores.probabilities - expected).max() < 1e-5
    assert scores.unknown_score.tolist() == [1.0] * 5


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_any_number_of_windows_is_scored_in_order(engine: OnnxEngine, count: int):
    values, mask = windows(count)

    scores = engine.score(values, mask)

    assert scores.probabilities.shape == (count, C)
    assert scores.attention.shape == (count, W)
    if count:
        alone = engine.score(values[-1:], mask[-1:]).probabilities[0]
        assert np.abs(scores.probabilities[-1] - alone).max() < 1e-6


def test_the_same_batch_gives_the_same_bytes(engine: OnnxEngine):
    batch = windows(300)

    assert engine.score(*batch).probabilities.tobytes() == engine.score(*batch).probabilities.tobytes()


def test_it_names_its_runtime(engine: OnnxEngine):
    assert (engine.name, engine.provider) == ("onnxruntime", "CPUExecutionProvider")


@pytest.mark.parametrize("model", [b"", b"no model" * 40, model_bytes(WEIGHTS)[:-200]], ids=["empty", "noise", "cut"])
def test_a_model_that_is_none_is_corrupt(engine: OnnxEngine, model: bytes):
    with pytest.raises(BundleCorrupt, match=r"somewhere/model\.onnx: not a model"):
        OnnxEngine(bundle_of(model))


def test_an_output_of_another_name_is_a_mismatch_that_says_both(engine: OnnxEngine):
    with pytest.raises(SchemaMismatch, match=r"outputs are .*logit_ps.*, wanted .*probabilities"):
        OnnxEngine(bundle_of(model_bytes(WEIGHTS, rename={"probabilities": "logit_ps"})))


def test_an_input_of_another_name_is_a_mismatch(engine: OnnxEngine):
    with pytest.raises(SchemaMismatch, match=r"inputs are mask, x, wanted mask, windows"):
        OnnxEngine(bundle_of(model_bytes(WEIGHTS, rename={"windows": "x"})))


def test_other_columns_than_the_manifest_says_are_a_mismatch(engine: OnnxEngine):
    with pytest.raises(SchemaMismatch, match=rf"windows of \({W}, {F}\)"):
        OnnxEngine(bundle_of(model_bytes(WEIGHTS[:-1])))


def test_another_window_than_the_manifest_says_is_a_mismatch(engine: OnnxEngine):
    with pytest.raises(SchemaMismatch):
        OnnxEngine(bundle_of(model_bytes(WEIGHTS, window=8)))


def test_other_classes_than_the_head_has_are_a_mismatch(engine: OnnxEngine):
    with pytest.raises(SchemaMismatch, match=r"probabilities is float32\(2, 10\), wanted float32\(2, 11\)"):
        OnnxEngine(bundle_of(model_bytes(WEIGHTS[:, :-1])))


def test_a_model_that_answers_with_nan_is_a_mismatch(engine: OnnxEngine):
    with pytest.raises(SchemaMismatch, match="not finite"):
        OnnxEngine(bundle_of(model_bytes(np.full_like(WEIGHTS, np.inf))))


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0, -5.0])
def test_a_score_that_is_no_probability_is_corrupt_and_not_a_silence(value: float):
    weights = np.zeros_like(WEIGHTS)
    weights[0] = 1.0
    engine = OnnxEngine(bundle_of(model_bytes(weights, last="Identity")))
    values, mask = windows(300)
    values[:] = 0.0
    values[299, 0, 0] = value

    with pytest.raises(BundleCorrupt, match=rf"model\.onnx: gave {value:g} as probabilities, wanted"):
        engine.score(values, mask)


def test_weights_in_another_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleCorrupt, match="not a model ONNX Runtime can load"):
        OnnxEngine(bundle_of(model_bytes(WEIGHTS, weights_file="weights.bin")))


def test_without_a_runtime_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[cpu\]'"):
        OnnxEngine(bundle_of(b""))


def test_importing_the_engine_imports_no_runtime():
    assert "onnxruntime" not in vars(onnx_engine)


def test_no_windows_never_reach_the_runtime(monkeypatch: pytest.MonkeyPatch):
    engine = OnnxEngine(bundle_of(model_bytes(WEIGHTS)))
    monkeypatch.setattr(engine, "_session", None)

    scores = engine.score(*windows(0))

    assert [each.shape for each in scores] == [(0, C), (0, F), (0,), (0, W)]
