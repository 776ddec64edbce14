"""The body of `cnn_lstm_attention`; what is in the arrays is in the graph."""

from __future__ import annotations

from exporter.graph.entrance import Entrance
from exporter.graph.layers import convolutions, dense, gemm, last_joined, masked_softmax, recurrent, weighted_sum
from exporter.graph.nodes import Arrays, Graph
from training.errors import CheckpointError


def add_cnn_lstm_attention(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding` and, where it was taught, `attention`. Raises CheckpointError for another window than taught."""
    by_channel = convolutions(graph, arrays, entrance)
    by_time = graph.node("Transpose", [by_channel], "by_time", perm=[2, 0, 1])
    _, last = recurrent(graph, arrays, "LSTM", ["lstm"], by_time, rows=entrance.rows, name="lstm")
    hidden = last_joined(graph, last, width=arrays["lstm.weight_hh_l0"].shape[1])
    if "weigh.weight" in arrays:
        if len(arrays["weigh.weight"]) != entrance.window:
            taught = len(arrays["weigh.weight"])
            raise CheckpointError(f"checkpoint weighs windows of {taught} records, this build has {entrance.window}")
        scores = gemm(graph, hidden, "weigh", arrays["weigh.weight"], arrays["weigh.bias"])
        weights = masked_softmax(graph, scores, entrance.mask, output="attention")
        features = graph.node("Transpose", [by_channel], "features", perm=[0, 2, 1])
        context = weighted_sum(graph, weights, features, output="context")
        hidden = graph.node("Concat", [hidden, context], "hidden_and_context", axis=1)
    dense(graph, arrays, hidden, output="embedding")
