"""The body of `cnn_self_attention`, and of `cnn`, which is the same without attention."""

from __future__ import annotations

import math

import numpy as np

from exporter.graph.entrance import Entrance
from exporter.graph.layers import (
    convolutions,
    dense,
    even,
    linear,
    masked_softmax,
    newest_and_mean,
    weighted_sum,
)
from exporter.graph.nodes import Arrays, Graph


def add_cnn(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding` and, where it was taught, `attention`."""
    by_channel = convolutions(graph, arrays, entrance)
    maps = graph.node("Transpose", [by_channel], "maps", perm=[0, 2, 1])
    if "query.weight" in arrays:
        maps = _attended(graph, arrays, maps, entrance)
    dense(graph, arrays, newest_and_mean(graph, maps, entrance), output="embedding")


def _attended(graph: Graph, arrays: Arrays, maps: str, entrance: Entrance) -> str:
    query, key, value = (
        linear(graph, maps, part, arrays[f"{part}.weight"], arrays[f"{part}.bias"])
        for part in ("query", "key", "value")
    )
    graph.node("Transpose", [key], "key_turned", perm=[0, 2, 1])
    graph.node("MatMul", [query, "key_turned"], "products")
    width = np.array([1 / math.sqrt(len(arrays["query.weight"]))], np.float32)
    graph.node("Mul", ["products", graph.constant("per_root_width", width)], "scores")
    weights = masked_softmax(graph, "scores", "mask_channels", output="weights")
    weighted_sum(graph, even(graph, entrance, output="looking"), weights, output="attention")
    return graph.node("MatMul", [weights, value], "attended")
