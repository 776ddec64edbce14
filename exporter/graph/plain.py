"""The bodies of `dnn` and `rnn`; that of `cnn` stands in `cnn_self_attention`."""

from __future__ import annotations

from exporter.graph.entrance import Entrance
from exporter.graph.layers import dense, last_joined, newest_and_mean, recurrent
from exporter.graph.nodes import Arrays, Graph


def add_dnn(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding`: dense layers over the newest record and the mean of all."""
    dense(graph, arrays, newest_and_mean(graph, entrance.real(graph), entrance), output="embedding")


def add_rnn(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding`: a plain recurrent layer's last state, and a dense layer."""
    by_time = graph.node("Transpose", [entrance.scaled], "by_time", perm=[1, 0, 2])
    _, last = recurrent(graph, arrays, "RNN", ["rnn"], by_time, rows=entrance.rows, name="rnn")
    dense(graph, arrays, last_joined(graph, last, width=arrays["rnn.weight_hh_l0"].shape[1]), output="embedding")
