"""The inference benchmark scores what the agent would, and says so of the bundle it was given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import harness, inference, scoring
from benchmarks.inference import Inference
from tests.bundles import write_refusal_bundle
from tests.detection.windows import F, W

SAMPLE = {
    "alone_p50_us": 100.0, "alone_p99_us": 250.0, "alone_cpu_p50_us": 90.0, "alone_cpu_p99_us": 110.0,
    "windows_per_s": 60_000.0, "windows_per_cpu_s": 65_000.0,
}  # fmt: skip


class CountingEngine:
    """Notes how many windows each call had."""

    name = provider = "counting"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score(self, windows, mask):
        self.calls.append(len(windows))


def test_a_window_is_scored_alone_and_batches_are_full():
    engine = CountingEngine()

    scoring.measure(
        engine, np.zeros((600, W, F), np.float32), np.ones((600, W), np.float32), alone=30, batches=5
    )  # fmt: skip

    assert engine.calls[: scoring.WARM_UP + 30] == [1] * (scoring.WARM_UP + 30)
    assert set(engine.calls[scoring.WARM_UP + 30 :]) == {scoring.BATCH}


def test_on_the_mark_is_met_and_beyond_it_is_not():
    assert [each.met for each in Inference.of([SAMPLE]).marked()] == [True, True]

    slow = SAMPLE | {"alone_p99_us": 251.0, "windows_per_s": 59_999.0}
    assert [each.met for each in Inference.of([slow]).marked()] == [False, False]


def test_the_benchmark_tells_what_it_measured_and_of_which_bundle(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    bundle = write_refusal_bundle(tmp_path / "bundle", release=7)

    code = inference.main(["--json", "--runs", "1", "--packets", "20000", "--bundle", str(bundle)])

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (told["bundle"]["release"], told["bundle"]["unsigned"]) == (7, True)
    assert told["inference"]["alone_p99_ms"]["median"] >= told["inference"]["alone_p50_ms"]["median"] > 0
    assert (tmp_path / "results" / "inference.local.json").exists()


def test_a_bundle_that_cannot_run_is_one_line(tmp_path, capsys):
    pytest.importorskip("onnxruntime")

    assert inference.main(["--bundle", str(tmp_path)]) == 78
    assert capsys.readouterr().err.count("\n") == 1
