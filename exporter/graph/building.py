"""A checkpoint's arrays -> the whole ONNX graph of its network.

Inputs  windows float32[B, W, F] (raw values), mask float32[B, W] (rows left-aligned).
Outputs probabilities float32[B, C], embedding float32[B, E], unknown_score float32[B], attention float32[B, W].
B is free, W and F are fixed. The bodies find sizes and kinds (with or without attention) in the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper

from exporter.graph.cnn_lstm_attention import add_cnn_lstm_attention
from exporter.graph.cnn_self_attention import add_cnn
from exporter.graph.conv_bilstm import add_conv_bilstm
from exporter.graph.entrance import Entrance, add_entrance
from exporter.graph.gru import add_gru
from exporter.graph.layers import even, gemm
from exporter.graph.nodes import Arrays, Graph
from exporter.graph.plain import add_dnn, add_rnn
from exporter.graph.transformer import add_transformer
from training.errors import CheckpointError

OPSET: Final = 13  # DequantizeLinear per axis needs 13; old TensorRT knows no more
IR_VERSION: Final = 8  # what onnxruntime 1.19, the oldest we allow, surely reads

_BODIES: Final[Mapping[str, Callable[[Graph, Arrays, Entrance], None]]] = {
    "gru": add_gru,
    "conv_bilstm": add_conv_bilstm,
    "conv_bilstm_small": add_conv_bilstm,
    "cnn_lstm_attention": add_cnn_lstm_attention,
    "cnn_self_attention": add_cnn,
    "transformer": add_transformer,
    "dnn": add_dnn,
    "rnn": add_rnn,
    "cnn": add_cnn,
}
_FIRST_MATRIX: Final[Mapping[str, str]] = {
    "gru": "gru_w",
    "rnn": "rnn.weight_ih_l0",
    "transformer": "enter.weight",
}
"""Where another layer than a convolution or a dense one reads the columns."""


def build_graph(
    arrays: Arrays, *, name: str = "gru", window: int, int8: bool, unknown: Arrays | None = None
) -> ModelProto:
    """Return the checked model. `int8` chooses int8-stored matrices over float32 ones; `window` is W.

    `unknown` holds the arrays of the unknown score; without them it is 0. Raises CheckpointError where the arrays are
    those of a network over rows, which no agent could feed.
    """
    _check_layout(arrays, name)
    graph = Graph(int8=int8)
    entrance = add_entrance(graph, arrays, window=window)
    _BODIES[name](graph, arrays, entrance)
    gemm(graph, "embedding", "head", arrays["head_w"], arrays["head_b"])
    graph.node("Softmax", ["head"], "probabilities", axis=1)
    _add_unknown_score(graph, unknown, entrance)
    if not any("attention" in node.output for node in graph.nodes):
        even(graph, entrance, output="attention")
    return _model(graph, arrays, name=name, entrance=entrance)


def _check_layout(arrays: Arrays, name: str) -> None:
    if name not in _BODIES:
        raise CheckpointError(f"no graph for a network {name!r}")
    first = _FIRST_MATRIX.get(name, "convolutions.layers.0.weight")
    if name == "dnn":
        fits = arrays["dense.layers.0.weight"].shape[1] == 2 * arrays["mean"].size
    else:
        fits = first in arrays and arrays[first].shape[1] == arrays["mean"].size
    if not fits:
        raise CheckpointError(f"this {name} reads rows, wanted one that reads windows")


def _add_unknown_score(graph: Graph, unknown: Arrays | None, entrance: Entrance) -> None:
    if not unknown:
        nothing = graph.constant("nothing", np.zeros(1, np.float32))
        graph.node("Mul", [entrance.rows_float, nothing], "unknown_score")
        return
    from exporter.graph.unknown import add_unknown

    add_unknown(graph, unknown, "embedding", "head")


def _model(graph: Graph, arrays: Arrays, *, name: str, entrance: Entrance) -> ModelProto:
    classes, embedding = arrays["head_w"].shape
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"penstock_{name}",
            inputs=[
                _value("windows", ["B", entrance.window, entrance.features]),
                _value("mask", ["B", entrance.window]),
            ],
            outputs=[
                _value("probabilities", ["B", classes]),
                _value("embedding", ["B", embedding]),
                _value("unknown_score", ["B"]),
                _value("attention", ["B", entrance.window]),
            ],
            initializer=graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="penstock-export",
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return model


def _value(name: str, shape: list[str | int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
