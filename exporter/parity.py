"""How far two versions of one network are apart: torch against ONNX, float against int8-stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.onnx_engine import import_runtime

if TYPE_CHECKING:
    from onnx import ModelProto

Floats = NDArray[np.float32]


class Outputs(NamedTuple):
    """What a network said of N windows, as both sides name it."""

    probabilities: Floats
    embedding: Floats
    attention: Floats


@dataclass(frozen=True)
class Parity:
    """The largest difference over all windows and outputs, and how many windows changed their first class."""

    windows: int
    largest: float
    changed: int


def run_onnx(model: ModelProto | bytes, *, windows: Floats, mask: Floats) -> Outputs:
    """Return what ONNX Runtime computes on one CPU thread."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: Any = session.run(list(Outputs._fields), {"windows": windows, "mask": mask})
    return Outputs(*outputs)


def run_torch(
    arrays: Mapping[str, Floats], *, windows: Floats, mask: Floats, network: Mapping[str, Any] | None = None
) -> Outputs:
    """Return what the trained network computes; `network` is what a checkpoint's facts hold under that name."""
    import torch

    from training.networks import network_of

    taught = network_of(arrays, network)
    with torch.no_grad():
        lengths = torch.from_numpy(mask).sum(dim=1).long().clamp(min=1)
        judged = taught.judge(taught.scale(torch.from_numpy(windows)), lengths)
        probabilities = torch.softmax(judged.logits, dim=1)
    return Outputs(probabilities.numpy(), judged.embedding.numpy(), judged.attention.numpy())


def compare(one: Outputs, other: Outputs) -> Parity:
    """Return how far the outputs of two sides are apart."""
    largest = max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
    changed = int((one.probabilities.argmax(axis=1) != other.probabilities.argmax(axis=1)).sum())
    return Parity(windows=len(one.probabilities), largest=largest, changed=changed)
