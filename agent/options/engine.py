"""Which engine scores the windows: `--engine`, and what it says at the end.

`auto` asks the TensorRT worker where one listens and the bundle has a float graph, else the CPU; whatever the worker
does not score, the CPU scores (docs/tensorrt.md).
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from contracts.bundle import MAX_FILE_BYTES, Bundle
from contracts.errors import BundleCorrupt, UsageError
from contracts.files import open_regular
from detection.engine import Engine
from detection.onnx_engine import OnnxEngine
from detection.tensorrt_client import TensorrtEngine, probe_windows

ENGINES = ("auto", "cpu", "tensorrt")
SOCKET = "/run/penstock-tensorrt/socket"
MODEL_FLOAT = "model_float.onnx"


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--engine` and `--tensorrt-socket`; None where they are not given."""
    group = parser.add_argument_group("scoring")
    group.add_argument("--engine", choices=ENGINES, help="what scores the windows (default: auto)")
    group.add_argument("--tensorrt-socket", metavar="PATH", help=f"of the worker (default: {SOCKET})")


def engine_of(bundle: Bundle, *, choice: str, socket_path: str) -> Engine:
    """Return the engine asked for. Raises UsageError where the bundle has no float graph for TensorRT."""
    cpu = OnnxEngine(bundle)
    has_float = MODEL_FLOAT in bundle.manifest.files
    if choice == "tensorrt" and not has_float:
        raise UsageError(f"--engine tensorrt: {bundle.path} has no {MODEL_FLOAT}")
    if choice == "cpu" or not has_float or (choice == "auto" and not Path(socket_path).is_socket()):
        return cpu
    medians = np.array(bundle.manifest.benign_medians, np.float32)
    probe = probe_windows(medians, window=bundle.manifest.window)
    return TensorrtEngine(cpu, _float_model(bundle), socket_path=socket_path, probe=probe)


def told(engine: Engine) -> str | None:
    """Return what to say of TensorRT at the end, or None where it was not asked."""
    if not isinstance(engine, TensorrtEngine):
        return None
    tally = engine.tally
    reasons = ", ".join(f"{word} {count:,}" for word, count in sorted(tally.fallbacks.items()))
    text = f"TensorRT scored {tally.scored:,} of {tally.batches:,} batches and was compared in {tally.compared:,}"
    return f"{text}; on the CPU: {reasons}" if reasons else text


def _float_model(bundle: Bundle) -> bytes:
    """Return the bytes of model_float.onnx, checked: the file may have changed since the bundle was loaded."""
    with open_regular(bundle.path / MODEL_FLOAT) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if hashlib.sha256(content).hexdigest() != bundle.manifest.files[MODEL_FLOAT]:
        raise BundleCorrupt(f"{bundle.path / MODEL_FLOAT}: not the file the manifest names")
    return content
