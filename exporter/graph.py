"""The ONNX graph of the network `gru`, built node by node from a checkpoint's arrays.

Inputs  windows float32[B, W, F] (raw values), mask float32[B, W] (rows left-aligned).
Outputs probabilities float32[B, C], embedding float32[B, E], unknown_score float32[B], attention float32[B, W].
Matrices are stored int8 with one scale per output row and widened by DequantizeLinear; the GRU computes in float, since
no runtime has an int8 GRU. The trap: torch orders the gates r, z, n and ONNX z, r, h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

OPSET = 14  # DequantizeLinear per axis needs 13, GRU's present form 14
IR_VERSION = 8  # what onnxruntime 1.19, the oldest we allow, surely reads
INT8_MAX = 127
CLIP = 4.0  # training.networks.CLIP; a test holds them equal

Arrays = Mapping[str, NDArray[np.float32]]


def build_graph(arrays: Arrays, *, window: int, int8: bool) -> ModelProto:
    """Return the checked model. `int8` chooses int8-stored matrices over float32 ones; `window` is W."""
    graph = _Graph(int8=int8)
    scaled = _add_scaling(graph, arrays)
    last_state = _add_gru(graph, arrays, scaled)
    _add_head(graph, arrays, last_state)
    _add_constant_outputs(graph)
    features, classes, embedding = arrays["mean"].size, arrays["head_b"].size, arrays["embed_b"].size
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "penstock_gru",
            inputs=[_value("windows", ["B", window, features]), _value("mask", ["B", window])],
            outputs=[
                _value("probabilities", ["B", classes]),
                _value("embedding", ["B", embedding]),
                _value("unknown_score", ["B"]),
                _value("attention", ["B", window]),
            ],
            initializer=graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="penstock-export",
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return model


def quantise_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8[R, N] and one scale float32[R] per row of float32[R, N]: symmetric, zero point 0, no clipping."""
    largest = np.abs(matrix).max(axis=1)
    scales = np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales


class _Graph:
    """Nodes and initialisers in the making."""

    def __init__(self, *, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def matrix(self, name: str, matrix: NDArray[np.float32], *, leading_axis: bool = False) -> str:
        """Store float32[R, N] (with a leading axis of 1 for the GRU) and return the name of its float value."""
        shape = (1, *matrix.shape) if leading_axis else matrix.shape
        if not self.int8:
            return self.constant(name, matrix.reshape(shape))
        values, scales = quantise_rows(matrix)
        inputs = [
            self.constant(f"{name}_int8", values.reshape(shape)),
            self.constant(f"{name}_scale", scales),
            self.constant(f"{name}_zero", np.zeros(len(scales), dtype=np.int8)),
        ]
        return self.node("DequantizeLinear", inputs, name, axis=len(shape) - 2)


def _add_scaling(graph: _Graph, arrays: Arrays) -> str:
    """sign(v) * log1p(|v| / unit), standardised, clipped, unseen columns zeroed."""
    # One multiplication instead of a division: std and keep fold into it.
    graph.node("Abs", ["windows"], "magnitude")
    graph.node("Mul", ["magnitude", graph.constant("per_unit", 1.0 / arrays["unit"])], "in_units")
    graph.node("Add", ["in_units", graph.constant("one", np.array([1.0], np.float32))], "plus_one")
    graph.node("Log", ["plus_one"], "log_magnitude")
    graph.node("Sign", ["windows"], "signs")
    graph.node("Mul", ["log_magnitude", "signs"], "signed_log")
    graph.node("Sub", ["signed_log", graph.constant("mean", arrays["mean"])], "centred")
    graph.node("Mul", ["centred", graph.constant("per_std", 1.0 / arrays["std"])], "standard")
    low, high = (
        graph.constant(f"clip_{end}", np.array(at, np.float32)) for end, at in (("low", -CLIP), ("high", CLIP))
    )
    graph.node("Clip", ["standard", low, high], "clipped")
    return graph.node("Mul", ["clipped", graph.constant("keep", arrays["keep"])], "scaled")


def _add_gru(graph: _Graph, arrays: Arrays, scaled: str) -> str:
    """Run the GRU over the real rows; return the name of its last state float32[B, H]."""
    hidden = arrays["gru_r"].shape[1]
    graph.node("ReduceSum", ["mask", graph.constant("row_axis", np.array([1], np.int64))], "rows_float", keepdims=0)
    graph.node("Cast", ["rows_float"], "rows", to=TensorProto.INT32)
    graph.node("Transpose", [scaled], "by_time", perm=[1, 0, 2])
    inputs = [
        "by_time",
        graph.matrix("gru_w", _gates_zrh(arrays["gru_w"]), leading_axis=True),
        graph.matrix("gru_r", _gates_zrh(arrays["gru_r"]), leading_axis=True),
        graph.constant("gru_b", np.concatenate([_gates_zrh(arrays["gru_bw"]), _gates_zrh(arrays["gru_br"])])[None]),
        "rows",
    ]
    gru = helper.make_node("GRU", inputs, ["", "last_states"], name="gru", hidden_size=hidden, linear_before_reset=1)
    graph.nodes.append(gru)
    direction = graph.constant("direction_axis", np.array([0], np.int64))
    return graph.node("Squeeze", ["last_states", direction], "last_state")


def _add_head(graph: _Graph, arrays: Arrays, last_state: str) -> None:
    embed = [last_state, graph.matrix("embed_w", arrays["embed_w"]), graph.constant("embed_b", arrays["embed_b"])]
    graph.node("Gemm", embed, "embed", transB=1)
    graph.node("Tanh", ["embed"], "embedding")
    head = ["embedding", graph.matrix("head_w", arrays["head_w"]), graph.constant("head_b", arrays["head_b"])]
    graph.node("Gemm", head, "logits", transB=1)
    graph.node("Softmax", ["logits"], "probabilities", axis=1)


def _add_constant_outputs(graph: _Graph) -> None:
    """Add what this network does not learn: unknown_score 0, attention spread evenly over the real rows."""
    graph.node("Mul", ["rows_float", graph.constant("nothing", np.array([0.0], np.float32))], "unknown_score")
    graph.node("Unsqueeze", ["rows_float", "row_axis"], "rows_column")
    graph.node("Div", ["mask", "rows_column"], "attention")


def _gates_zrh(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return torch's gates r, z, n in ONNX' order z, r, h."""
    reset, update, new = np.split(array, 3, axis=0)
    return np.concatenate([update, reset, new], axis=0)


def _value(name: str, shape: list[str | int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
