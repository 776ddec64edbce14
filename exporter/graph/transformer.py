"""The body of `transformer`. Opset 13 has no layer normalisation: it is spelt out."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from onnx import TensorProto

from exporter.graph.entrance import Entrance
from exporter.graph.layers import count_of, gemm, linear, masked_softmax, weighted_sum
from exporter.graph.nodes import Arrays, Graph
from training.errors import CheckpointError

LAYER_NORM_EPSILON: Final = 1e-5  # training.networks.transformer.LAYER_NORM_EPSILON; a test holds them equal


def add_transformer(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding` and `attention`. Raises CheckpointError for another window than taught."""
    if len(arrays["places"]) != entrance.window:
        taught = len(arrays["places"])
        raise CheckpointError(f"checkpoint knows windows of {taught} records, this build has {entrance.window}")
    graph.node("Unsqueeze", [entrance.mask, graph.integers(1, 2)], "mask_heads")
    x = _tokens(graph, arrays, entrance)
    for layer in range(count_of(arrays, "blocks")):
        x = _block(graph, arrays, f"blocks.{layer}", x)
    x = _layer_norm(graph, arrays, "last_norm", x)
    scores = linear(graph, x, "score", arrays["score.weight"], arrays["score.bias"])
    graph.node("Squeeze", [scores, graph.integers(2)], "scores")
    weights = masked_softmax(graph, "scores", entrance.mask, output="attention")
    summary = weighted_sum(graph, weights, x, output="summary")
    graph.node("Tanh", [gemm(graph, summary, "embed", arrays["embed.weight"], arrays["embed.bias"])], "embedding")


def _tokens(graph: Graph, arrays: Arrays, entrance: Entrance) -> str:
    """Return [B, W, M]: each record mapped, and its age, counted from the newest, told."""
    tokens = linear(graph, entrance.real(graph), "enter", arrays["enter.weight"], arrays["enter.bias"])
    places = graph.constant("places_counted", np.arange(1, entrance.window + 1, dtype=np.float32)[None])
    graph.node("Sub", [entrance.rows_column, places], "age_told")
    graph.node("Relu", ["age_told"], "age_float")
    graph.node("Cast", ["age_float"], "age", to=TensorProto.INT64)
    graph.node("Gather", [graph.constant("places", arrays["places"]), "age"], "aged", axis=0)
    return graph.node("Add", [tokens, "aged"], "tokens")


def _block(graph: Graph, arrays: Arrays, name: str, x: str) -> str:
    attended = _attended(graph, arrays, name, _layer_norm(graph, arrays, f"{name}.before_attention", x))
    mixed = linear(graph, attended, f"{name}.mix", arrays[f"{name}.mix.weight"], arrays[f"{name}.mix.bias"])
    x = graph.node("Add", [x, mixed], f"{name}.met")
    inner = _layer_norm(graph, arrays, f"{name}.before_inner", x)
    wide = linear(graph, inner, f"{name}.widen", arrays[f"{name}.widen.weight"], arrays[f"{name}.widen.bias"])
    graph.node("Relu", [wide], f"{name}.bent")
    narrow, bias = arrays[f"{name}.narrow.weight"], arrays[f"{name}.narrow.bias"]
    return graph.node("Add", [x, linear(graph, f"{name}.bent", f"{name}.narrow", narrow, bias)], f"{name}.out")


def _attended(graph: Graph, arrays: Arrays, name: str, x: str) -> str:
    heads, each, width = arrays[f"{name}.query"].shape
    turned = {}
    # Keys are turned for the product at once: [B, heads, N, W]; the others are [B, heads, W, N].
    for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        matrix = graph.matrix(f"{name}.{part}_w", arrays[f"{name}.{part}"].reshape(width, width), transposed=True)
        graph.node("MatMul", [x, matrix], f"{name}.{part}_flat")
        graph.node("Reshape", [f"{name}.{part}_flat", graph.integers(0, 0, heads, each)], f"{name}.{part}_split")
        turned[part] = graph.node("Transpose", [f"{name}.{part}_split"], f"{name}.{part}", perm=perm)
    graph.node("MatMul", [turned["query"], turned["key"]], f"{name}.products")
    per_root = graph.constant("per_root_width", np.array([1 / math.sqrt(each)], np.float32))
    graph.node("Mul", [f"{name}.products", per_root], f"{name}.scores")
    weights = masked_softmax(graph, f"{name}.scores", "mask_heads", output=f"{name}.weights")
    graph.node("MatMul", [weights, turned["value"]], f"{name}.by_head")
    graph.node("Transpose", [f"{name}.by_head"], f"{name}.by_step", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [f"{name}.by_step", graph.integers(0, 0, width)], f"{name}.attended")


def _layer_norm(graph: Graph, arrays: Arrays, name: str, x: str) -> str:
    graph.node("ReduceMean", [x], f"{name}.mean", axes=[-1], keepdims=1)
    graph.node("Sub", [x, f"{name}.mean"], f"{name}.centred")
    graph.node("Mul", [f"{name}.centred", f"{name}.centred"], f"{name}.square")
    graph.node("ReduceMean", [f"{name}.square"], f"{name}.variance", axes=[-1], keepdims=1)
    epsilon = graph.constant("layer_norm_epsilon", np.array([LAYER_NORM_EPSILON], np.float32))
    graph.node("Add", [f"{name}.variance", epsilon], f"{name}.above_zero")
    graph.node("Sqrt", [f"{name}.above_zero"], f"{name}.deviation")
    graph.node("Div", [f"{name}.centred", f"{name}.deviation"], f"{name}.standard")
    graph.node("Mul", [f"{name}.standard", graph.constant(f"{name}_weight", arrays[f"{name}.weight"])], f"{name}.sized")
    return graph.node("Add", [f"{name}.sized", graph.constant(f"{name}_bias", arrays[f"{name}.bias"])], name)
