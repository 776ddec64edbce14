"""The body of `gru`: one GRU over the real rows, its last state embedded.

The GRU computes in float, since no runtime has an int8 one. It has no attention.
"""

from __future__ import annotations

from exporter.graph.entrance import Entrance
from exporter.graph.layers import gemm, last_joined, recurrent
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
    graph.node("Tanh", [gemm(graph, last, "embed", arrays["embed_w"], arrays["embed_b"])], "embedding")
