"""ONNX models written by hand, octet by octet (protobuf's wire format), so that no test needs the `onnx` package.

The graph: probabilities = softmax(sum over records of windows @ weights), embedding = that sum, unknown_score = the
mask's mean, attention = softmax(mask). Field numbers are those of onnx.proto3, IR version 8, opset 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.classes import HEAD_NAMES
from flowfeatures import WINDOW_COLUMNS

W, F, C = 16, len(WINDOW_COLUMNS), len(HEAD_NAMES)
FLOAT, INT64 = 1, 7
EXTERNAL = 1
ATTRIBUTE_INT, ATTRIBUTE_INTS = 2, 7
Dimension = int | str


def model_bytes(
    weights: NDArray[np.float32],
    *,
    window: Dimension = W,
    rename: dict[str, str] | None = None,
    last: str = "Softmax",
    weights_file: str = "",
) -> bytes:
    """Return the model with weights float32[F, C]; `rename` changes the names of inputs and outputs.

    `last` is what makes probabilities of logits; with `weights_file` the weights stand in that file, not in the model.
    """
    name = (rename or {}).get
    names = {
        each: name(each, each)
        for each in ("windows", "mask", "probabilities", "embedding", "unknown_score", "attention")
    }
    features, classes = weights.shape
    nodes = [
        _node("ReduceSum", [names["windows"], "axis"], "summed", keepdims=0),
        _node("MatMul", ["summed", "weights"], "logits"),
        _node(last, ["logits"], names["probabilities"], **({"axis": 1} if last == "Softmax" else {})),
        _node("Identity", ["summed"], names["embedding"]),
        _node("ReduceMean", [names["mask"]], names["unknown_score"], keepdims=0, axes=[1]),
        _node("Softmax", [names["mask"]], names["attention"], axis=1),
    ]
    graph = b"".join(
        [
            *(_message(1, node) for node in nodes),
            _message(2, b"by hand"),
            _message(5, _tensor("weights", weights.astype(np.float32), FLOAT, file=weights_file)),
            _message(5, _tensor("axis", np.array([1], np.int64), INT64)),
            _message(11, _value(names["windows"], ("B", window, features))),
            _message(11, _value(names["mask"], ("B", window))),
            _message(12, _value(names["probabilities"], ("B", classes))),
            _message(12, _value(names["embedding"], ("B", features))),
            _message(12, _value(names["unknown_score"], ("B",))),
            _message(12, _value(names["attention"], ("B", window))),
        ]
    )
    opset = _message(1, b"") + _number(2, 13)
    return _number(1, 8) + _message(7, graph) + _message(8, opset)


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: int | list[int]) -> bytes:
    fields = [_message(1, each.encode()) for each in inputs]
    fields += [_message(2, output.encode()), _message(4, kind.encode())]
    for name, value in attributes.items():
        is_list = isinstance(value, list)
        values = b"".join(_number(8, each) for each in value) if isinstance(value, list) else _number(3, value)
        kind_number = ATTRIBUTE_INTS if is_list else ATTRIBUTE_INT
        fields.append(_message(5, _message(1, name.encode()) + values + _number(20, kind_number)))
    return b"".join(fields)


def _tensor(name: str, values: NDArray[np.generic], kind: int, *, file: str = "") -> bytes:
    dims = b"".join(_number(1, each) for each in values.shape)
    place = _message(13, _message(1, b"location") + _message(2, file.encode())) + _number(14, EXTERNAL)
    content = place if file else _message(9, values.tobytes())
    return dims + _number(2, kind) + _message(8, name.encode()) + content


def _value(name: str, shape: Sequence[Dimension]) -> bytes:
    dims = (_number(1, each) if isinstance(each, int) else _message(2, each.encode()) for each in shape)
    tensor = _number(1, FLOAT) + _message(2, b"".join(_message(1, each) for each in dims))
    return _message(1, name.encode()) + _message(2, _message(1, tensor))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])
