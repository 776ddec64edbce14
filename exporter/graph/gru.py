"""The body of `gru`: one GRU over the real rows, its last state embedded, beside the newest row and the largest values.

The GRU computes in float, since no runtime has an int8 one. It has no attention.
"""

from __future__ import annotations

import numpy as np

from exporter.graph.entrance import FAR_BELOW, Entrance
from exporter.graph.layers import gemm, last_joined, newest, recurrent
from exporter.graph.nodes import Arrays, Graph


def add_gru(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding`. The GRU reads no row beyond `rows`, so padding need not be zeroed."""
    by_torch = {
        "gru.weight_ih_l0": arrays["gru_w"],
        "gru.weight_hh_l0": arrays["gru_r"],
        "gru.bias_ih_l0": arrays["gru_bw"],
        "gru.bias_hh_l0": arrays["gru_br"],
    }
    by_time = graph.node("Transpose", [entrance.scaled], "by_time", perm=[1, 0, 2])
    _, last = recurrent(graph, by_torch, "GRU", ["gru"], by_time, rows=entrance.rows, name="gru")
    last = last_joined(graph, last, width=arrays["gru_r"].shape[1])
    embed = gemm(graph, last, "embed", arrays["embed_w"], arrays["embed_b"])
    if "skip_w" in arrays:
        embed = graph.node("Add", [embed, _add_skip(graph, arrays, entrance)], "embed_and_skip")
    graph.node("Tanh", [embed], "embedding")


def _add_skip(graph: Graph, arrays: Arrays, entrance: Entrance) -> str:
    """Return what the embedding reads of the newest row and of the largest value of each column."""
    recent = newest(graph, entrance.real(graph), entrance)
    low = graph.constant("lowest", np.array([-FAR_BELOW], np.float32))
    graph.node("Where", ["is_real", entrance.scaled, low], "real_or_lowest")
    graph.node("ReduceMax", ["real_or_lowest"], "largest", axes=[1], keepdims=0)
    graph.node("Concat", [recent, "largest"], "newest_and_largest", axis=1)
    return graph.node(
        "MatMul", ["newest_and_largest", graph.matrix("skip_w", arrays["skip_w"], transposed=True)], "skip"
    )
