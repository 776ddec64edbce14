"""The layers of `training.networks.layers` as ONNX nodes, windows only.

Each function adds nodes and returns the name of its output. The traps: torch orders the gates r, z, n (GRU) and
i, f, g, o (LSTM), ONNX z, r, h and i, o, f, c; torch's convolutions want channels before steps, ONNX' recurrent layers
want steps before windows; and ONNX Runtime's LSTM and GRU need `sequence_lens` to leave padding out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporter.graph.entrance import FAR_BELOW, Entrance
from exporter.graph.nodes import Arrays, Graph

NORM_EPSILON: Final = 1e-3  # training.networks.layers.NORM_EPSILON; a test holds them equal
GATE_ORDER: Final = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Places of torch's gates in the order ONNX wants them."""


def convolutions(graph: Graph, arrays: Arrays, entrance: Entrance) -> str:
    """Add all convolutions with ReLU, each followed by the mask; return float32[B, M, W], channels first."""
    graph.node("Unsqueeze", [entrance.mask, graph.integers(1)], "mask_channels")
    x = graph.node("Transpose", [entrance.real(graph)], "by_channel", perm=[0, 2, 1])
    for place in range(count_of(arrays, "convolutions.layers")):
        weight, bias = (arrays[f"convolutions.layers.{place}.{part}"] for part in ("weight", "bias"))
        name, margin = f"convolution_{place}", weight.shape[2] // 2
        inputs = [x, graph.matrix(f"{name}_w", weight), graph.constant(f"{name}_b", bias)]
        graph.node("Conv", inputs, name, kernel_shape=[weight.shape[2]], pads=[margin, margin])
        graph.node("Relu", [name], f"{name}_relu")
        x = graph.node("Mul", [f"{name}_relu", "mask_channels"], f"{name}_real")
    return x


def norm(graph: Graph, arrays: Arrays, name: str, x: str, *, axes_after: int = 0) -> str:
    """Add batch normalisation as it stands after training: a scale and a shift per column of the last axis, or of the
    one before `axes_after` others."""
    weight, bias, mean, var = (arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    scale = weight / np.sqrt(var + np.float32(NORM_EPSILON))
    shape = (-1, *([1] * axes_after))
    graph.node("Mul", [x, graph.constant(f"{name}_scale", scale.reshape(shape))], f"{name}_scaled")
    return graph.node(
        "Add", [f"{name}_scaled", graph.constant(f"{name}_shift", (bias - mean * scale).reshape(shape))], name
    )


def recurrent(
    graph: Graph, arrays: Arrays, op: str, directions: Sequence[str], x: str, *, rows: str, name: str
) -> tuple[str, str]:
    """Add a recurrent layer over float32[S, B, N]; return the names of all states [S, D, B, H] and last ones [D, B, H].

    `directions` are the arrays' prefixes, one or two; `rows` the name of int32[B] counts, "" where all steps are real.
    """
    parts = [
        {
            part: onnx_gates(arrays[f"{prefix}.{part}_l0"], op)
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        for prefix in directions
    ]
    inputs = [
        x,
        graph.stacked(f"{name}_w", [each["weight_ih"] for each in parts]),
        graph.stacked(f"{name}_r", [each["weight_hh"] for each in parts]),
        graph.constant(f"{name}_b", np.stack([np.concatenate([each["bias_ih"], each["bias_hh"]]) for each in parts])),
        *([rows] if rows else []),
    ]
    graph.nodes.append(
        helper.make_node(
            op,
            inputs,
            [f"{name}_states", f"{name}_last"],
            name=name,
            hidden_size=parts[0]["weight_hh"].shape[1],
            direction="bidirectional" if len(directions) == 2 else "forward",
            **({"linear_before_reset": 1} if op == "GRU" else {}),
        )
    )
    return f"{name}_states", f"{name}_last"


def onnx_gates(array: NDArray[np.float32], op: str) -> NDArray[np.float32]:
    """Return torch's stacked gates in ONNX' order."""
    order = GATE_ORDER[op]
    gates = np.split(array, len(order), axis=0)
    return np.concatenate([gates[place] for place in order], axis=0)


def states_by_window(graph: Graph, states: str, *, width: int) -> str:
    """Return states [S, D, B, H] as [B, S, D * H]."""
    graph.node("Transpose", [states], f"{states}_by_window", perm=[2, 0, 1, 3])
    return graph.node("Reshape", [f"{states}_by_window", graph.integers(0, 0, width)], f"{states}_joined")


def last_joined(graph: Graph, last: str, *, width: int) -> str:
    """Return last states [D, B, H] as [B, D * H]."""
    graph.node("Transpose", [last], f"{last}_by_window", perm=[1, 0, 2])
    return graph.node("Reshape", [f"{last}_by_window", graph.integers(-1, width)], f"{last}_joined")


def dense(graph: Graph, arrays: Arrays, x: str, *, output: str) -> str:
    """Add the dense layers with ReLU over [B, N]; the last one's output gets the name given."""
    count = count_of(arrays, "dense.layers")
    for place in range(count):
        layer = gemm(
            graph, x, f"dense_{place}", arrays[f"dense.layers.{place}.weight"], arrays[f"dense.layers.{place}.bias"]
        )
        x = graph.node("Relu", [layer], output if place == count - 1 else f"{layer}_relu")
    return x


def gemm(graph: Graph, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    """Add a linear map of [B, N]."""
    return graph.node("Gemm", [x, graph.matrix(f"{name}_w", weight), graph.constant(f"{name}_b", bias)], name, transB=1)


def linear(graph: Graph, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    """Add a linear map of the last axis of [B, W, N]."""
    graph.node("MatMul", [x, graph.matrix(f"{name}_w", weight, transposed=True)], f"{name}_product")
    return graph.node("Add", [f"{name}_product", graph.constant(f"{name}_b", bias)], name)


def masked_softmax(graph: Graph, scores: str, mask: str, *, output: str) -> str:
    """Add the softmax over the last axis; padded steps get 0. `mask` is named in a shape that broadcasts."""
    far = f"{mask}_far"
    if not any(far in node.output for node in graph.nodes):
        graph.node("Sub", [mask, graph.constant("one", np.ones(1, np.float32))], f"{mask}_below")
        graph.node("Mul", [f"{mask}_below", graph.constant("far_below", np.array([FAR_BELOW], np.float32))], far)
    graph.node("Mul", [scores, mask], f"{output}_real")
    graph.node("Add", [f"{output}_real", far], f"{output}_scores")
    return graph.node("Softmax", [f"{output}_scores"], output, axis=-1)


def weighted_sum(graph: Graph, weights: str, values: str, *, output: str) -> str:
    """Return [B, N]: the sum of [B, W, N] weighted by [B, W]."""
    graph.node("Unsqueeze", [weights, graph.integers(1)], f"{output}_weights")
    graph.node("MatMul", [f"{output}_weights", values], f"{output}_kept")
    return graph.node("Squeeze", [f"{output}_kept", graph.integers(1)], output)


def newest_and_mean(graph: Graph, values: str, entrance: Entrance) -> str:
    """Return [B, 2N] of [B, W, N]: the newest real step beside the mean of all real ones."""
    places = graph.constant("places_counted", np.arange(1, entrance.window + 1, dtype=np.float32)[None])
    graph.node("Equal", [places, entrance.rows_column], "is_newest")
    graph.node("Cast", ["is_newest"], "newest_weight", to=TensorProto.FLOAT)
    newest = weighted_sum(graph, "newest_weight", values, output="newest")
    mean = weighted_sum(graph, even(graph, entrance, output="even"), values, output="mean_step")
    return graph.node("Concat", [newest, mean], "newest_and_mean", axis=1)


def even(graph: Graph, entrance: Entrance, *, output: str) -> str:
    """Return [B, W]: weight spread evenly over the real rows."""
    return graph.node("Div", [entrance.mask, entrance.rows_column], output)


def count_of(arrays: Arrays, prefix: str) -> int:
    """Return how many numbered layers the arrays have under a prefix."""
    return len({name[len(prefix) + 1 :].split(".")[0] for name in arrays if name.startswith(prefix + ".")})
