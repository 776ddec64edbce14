"""Which engine `penstock run` takes, and what it says of it."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from agent.options.engine import engine_of, told
from contracts.bundle import Bundle, default_bundle
from contracts.errors import BundleCorrupt, UsageError
from detection.onnx_engine import OnnxEngine
from detection.tensorrt_client import TensorrtEngine

pytest.importorskip("onnxruntime")


@pytest.fixture
def with_float(tmp_path: Path) -> Bundle:
    """The shipped bundle with a float graph; which one does not matter here, as no worker reads it."""
    (tmp_path / "model_float.onnx").write_bytes(b"a graph")
    bundle = default_bundle()
    files = bundle.manifest.files | {"model_float.onnx": hashlib.sha256(b"a graph").hexdigest()}
    return replace(bundle, path=tmp_path, manifest=bundle.manifest.model_copy(update={"files": files}))


@pytest.fixture
def without_float() -> Bundle:
    bundle = default_bundle()
    files = {name: digest for name, digest in bundle.manifest.files.items() if name != "model_float.onnx"}
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"files": files}))


@pytest.fixture
def socket_path(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "socket"))
        yield str(tmp_path / "socket")


def test_auto_takes_tensorrt_where_a_worker_listens(with_float: Bundle, socket_path: str):
    assert isinstance(engine_of(with_float, choice="auto", socket_path=socket_path), TensorrtEngine)


def test_auto_takes_the_cpu_where_none_does(with_float: Bundle, tmp_path: Path):
    assert isinstance(engine_of(with_float, choice="auto", socket_path=str(tmp_path / "none")), OnnxEngine)


def test_auto_takes_the_cpu_where_the_bundle_has_no_float_graph(without_float: Bundle, socket_path: str):
    assert isinstance(engine_of(without_float, choice="auto", socket_path=socket_path), OnnxEngine)


def test_cpu_is_the_cpu(with_float: Bundle, socket_path: str):
    engine = engine_of(with_float, choice="cpu", socket_path=socket_path)

    assert isinstance(engine, OnnxEngine)
    assert told(engine) is None


def test_tensorrt_without_a_float_graph_is_an_error_that_names_it(without_float: Bundle, socket_path: str):
    with pytest.raises(UsageError, match=r"no model_float\.onnx"):
        engine_of(without_float, choice="tensorrt", socket_path=socket_path)


def test_a_float_graph_that_changed_since_is_corrupt(with_float: Bundle, socket_path: str):
    (with_float.path / "model_float.onnx").write_bytes(b"another graph")

    with pytest.raises(BundleCorrupt, match=r"model_float\.onnx"):
        engine_of(with_float, choice="tensorrt", socket_path=socket_path)


def test_every_fall_back_is_told(with_float: Bundle, tmp_path: Path):
    engine = engine_of(with_float, choice="tensorrt", socket_path=str(tmp_path / "none"))
    assert isinstance(engine, TensorrtEngine)
    window = engine._probe[0][:1], engine._probe[1][:1]
    for _ in range(3):
        engine.score(*window)

    assert told(engine) == (
        "TensorRT scored 0 of 3 batches and was compared in 0; on the CPU: unavailable 1, waiting 2"
    )
