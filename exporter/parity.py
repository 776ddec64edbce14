"""How far two versions of one network are apart: torch against ONNX, float against int8-stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from detection.onnx_engine import import_runtime

FLOAT_TOLERANCE = 1e-5  # torch and ONNX Runtime order their sums differently; measured below 2e-6 on x86-64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """The largest difference over all windows and outputs, and how many windows changed their first class."""

    windows: int
    largest: float
    changed: int


def run_onnx(model: ModelProto | bytes, *, windows: Floats, mask: Floats) -> tuple[Floats, Floats]:
    """Return (probabilities, embedding) as ONNX Runtime computes them on one CPU thread."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: Any = session.run(["probabilities", "embedding"], {"windows": windows, "mask": mask})
    return outputs[0], outputs[1]


def run_torch(arrays: dict[str, Floats], *, windows: Floats, mask: Floats) -> tuple[Floats, Floats]:
    """Return (probabilities, embedding) as the trained network computes them."""
    import torch

    from training.networks import network_of

    network = network_of(arrays)
    with torch.no_grad():
        scaled = network.scale(torch.from_numpy(windows))
        lengths = torch.from_numpy(mask).sum(dim=1).long().clamp(min=1)
        probabilities = torch.softmax(network.logits(scaled, lengths), dim=1)
        return probabilities.numpy(), network.embedding(scaled, lengths).numpy()


def compare(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> Parity:
    """Return how far two (probabilities, embedding) pairs are apart."""
    largest = max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
    changed = int((one[0].argmax(axis=1) != other[0].argmax(axis=1)).sum())
    return Parity(windows=len(one[0]), largest=largest, changed=changed)
