"""The exporter's float graph behind the worker, against its int8-stored graph on the CPU: as on a gateway."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from contracts.classes import HEAD_NAMES
from detection import tensorrt_build
from detection.onnx_engine import OnnxEngine
from detection.tensorrt_client import TensorrtEngine, Tolerance, difference, probe_windows
from exporter.graph import build_graph
from flowfeatures import WINDOW_COLUMNS
from tests.detection.tensorrt_process import RELEASES, Clock, WorkerProcess, build_cudart, fake_module, until
from tests.detection.windows import make_bundle

NAMES = ("gru", "conv_bilstm", "conv_bilstm_small", "cnn_lstm_attention", "cnn_self_attention", "transformer")
W, F, C, H, E = 16, len(WINDOW_COLUMNS), len(HEAD_NAMES), 24, 16
MEDIANS = np.geomspace(1e-2, 1e7, F).astype(np.float32)


def made_up_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arrays = {
        "unit": np.where(np.arange(F) % 2, 1.0, 1000.0), "mean": rng.normal(2, 1, F), "std": rng.uniform(0.3, 3, F),
        "keep": np.ones(F), "gru_w": rng.normal(0, 0.1, (3 * H, F)), "gru_r": rng.normal(0, 0.2, (3 * H, H)),
        "gru_bw": rng.normal(0, 0.1, 3 * H), "gru_br": rng.normal(0, 0.1, 3 * H), "embed_w": rng.normal(0, 0.3, (E, H)),
        "embed_b": rng.normal(0, 0.1, E), "head_w": rng.normal(0, 1, (C, E)), "head_b": rng.normal(0, 0.1, C),
    }  # fmt: skip
    return {name: array.astype(np.float32) for name, array in arrays.items()}


ARRAYS = made_up_arrays()
FLOAT = build_graph(ARRAYS, window=W, int8=False).SerializeToString()
STORED = build_graph(ARRAYS, window=W, int8=True).SerializeToString()


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cudart(tmp_path_factory.mktemp("cudart"))


@pytest.fixture(scope="module")
def cpu() -> OnnxEngine:
    return OnnxEngine(replace(make_bundle(), path=Path("somewhere"), model=STORED))


def engine_for(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock) -> TensorrtEngine:
    probe = probe_windows(MEDIANS, window=W)
    return TensorrtEngine(cpu, FLOAT, socket_path=worker.socket_path, probe=probe, deadline_s=30.0, clock=clock)


@pytest.mark.parametrize("version", RELEASES)
def test_the_float_graph_passes_the_comparison_with_the_stored_one(
    version: str, cpu: OnnxEngine, tmp_path: Path, libraries: Path
):
    with WorkerProcess(tmp_path / "worker", libraries, version=version) as worker:
        engine = engine_for(cpu, worker, Clock())
        until(engine, lambda: engine.tally.compared > 0)
        batch = probe_windows(MEDIANS, window=W, count=300)
        until(engine, lambda: engine.tally.scored > 0)

        apart = difference(engine.score(*batch), cpu.score(*batch))
        engine.close()

    assert engine.tally.fallbacks.keys() == {"opening"}
    assert 0.0 < apart.mean() < Tolerance().typical, "it was scored in fp16, and near enough"


def test_raw_values_rounded_to_fp16_would_not_pass(cpu: OnnxEngine):
    """What the pins of the build are for: the same probe, rounded as an unpinned first layer rounds it."""
    values, mask = probe_windows(MEDIANS, window=W)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float32)

    apart = difference(cpu.score(np.minimum(rounded, 65_504.0), mask), cpu.score(values, mask))

    assert apart.mean() > Tolerance().typical


def parsed(graph: bytes, version: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Any]:
    trt = fake_module(version, monkeypatch)
    network = trt.INetworkDefinition()
    parser = trt.OnnxParser(network, trt.Logger())
    assert parser.parse(graph), [parser.get_error(index).desc() for index in range(parser.num_errors)]
    return trt, network


@pytest.mark.parametrize("version", RELEASES)
def test_every_layer_before_the_gru_is_kept_wide_and_none_behind_it(version: str, monkeypatch: pytest.MonkeyPatch):
    trt, network = parsed(FLOAT, version, monkeypatch)

    count = tensorrt_build.keep_raw_values_wide(trt, network)

    pinned = [layer for layer in network._layers if layer.precision == trt.float32]
    names = {layer.get_output(0).name for layer in pinned}
    assert len(pinned) == count
    assert {"magnitude", "in_units", "log_magnitude", "signed_log", "standard", "clipped", "scaled"} <= names
    assert not names & {"last_states", "last_state", "embed", "embedding", "logits", "probabilities"}


@pytest.mark.needs_torch
@pytest.mark.parametrize("name", NAMES)
def test_every_network_s_float_graph_is_of_what_8_2_takes_and_kept_wide(name: str, monkeypatch: pytest.MonkeyPatch):
    networks = pytest.importorskip("training.networks", reason="wants the train extra")
    network = networks.build(name, layout="windows", features=F, classes=C)
    graph = build_graph(network.arrays(), name=name, window=W, int8=False).SerializeToString()

    trt, layers = parsed(graph, "8.2.1", monkeypatch)
    tensorrt_build.keep_raw_values_wide(trt, layers)

    narrow = {layer.get_output(0).name for layer in layers._layers if layer.precision is None}
    assert not narrow & {"magnitude", "in_units", "log_magnitude", "signed_log", "standard", "clipped", "scaled"}
    assert {"head", "probabilities"} & narrow, "fp16 would have nothing to do"


def test_another_network_of_the_same_shapes_is_found_out(tmp_path: Path, libraries: Path, cpu: OnnxEngine):
    """The comparison finds it, whatever its sha256 says."""
    other = build_graph(ARRAYS | {"head_w": -ARRAYS["head_w"]}, window=W, int8=False).SerializeToString()
    with WorkerProcess(tmp_path / "worker", libraries) as worker:
        probe = probe_windows(MEDIANS, window=W)
        engine = TensorrtEngine(cpu, other, socket_path=worker.socket_path, probe=probe, deadline_s=30.0)
        until(engine, lambda: engine.tally.fallbacks["parity"] > 0)

    assert engine.tally.scored == 0
