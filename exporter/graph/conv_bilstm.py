"""The body of `conv_bilstm` and `conv_bilstm_small`; what is in the arrays is in the graph."""

from __future__ import annotations

from exporter.graph.entrance import Entrance
from exporter.graph.layers import (
    convolutions,
    dense,
    last_joined,
    linear,
    masked_softmax,
    norm,
    recurrent,
    states_by_window,
    weighted_sum,
)
from exporter.graph.nodes import Arrays, Graph


def add_conv_bilstm(graph: Graph, arrays: Arrays, entrance: Entrance) -> None:
    """Add `embedding` and, where it was taught, `attention`."""
    x = norm(graph, arrays, "after_convolution", convolutions(graph, arrays, entrance), axes_after=1)
    by_time = graph.node("Transpose", [x], "by_time", perm=[2, 0, 1])
    directions = ["bilstm.ahead", "bilstm.back"]
    states, last = recurrent(graph, arrays, "LSTM", directions, by_time, rows=entrance.rows, name="bilstm")
    width = arrays["after_bilstm.weight"].size
    if "score.weight" in arrays:
        states = states_by_window(graph, states, width=width)
        attention = _attention(graph, arrays, states, entrance)
        summary = weighted_sum(graph, attention, states, output="context")
    else:
        summary = last_joined(graph, last, width=width)
    summary = norm(graph, arrays, "after_bilstm", summary)
    if "second_bilstm.ahead.weight_hh_l0" in arrays:
        summary = _second(graph, arrays, summary)
    dense(graph, arrays, summary, output="embedding")


def _attention(graph: Graph, arrays: Arrays, states: str, entrance: Entrance) -> str:
    weight, bias = arrays["score_hidden.weight"], arrays["score_hidden.bias"]
    hidden = graph.node("Tanh", [linear(graph, states, "score_hidden", weight, bias)], "score_tanh")
    scores = linear(graph, hidden, "score", arrays["score.weight"], arrays["score.bias"])
    graph.node("Squeeze", [scores, graph.integers(2)], "scores")
    return masked_softmax(graph, "scores", entrance.mask, output="attention")


def _second(graph: Graph, arrays: Arrays, summary: str) -> str:
    """Read the summary's values as steps of one value, as the paper's listing does."""
    graph.node("Transpose", [summary], "summary_by_step", perm=[1, 0])
    steps = graph.node("Unsqueeze", ["summary_by_step", graph.integers(2)], "summary_steps")
    directions = ["second_bilstm.ahead", "second_bilstm.back"]
    _, last = recurrent(graph, arrays, "LSTM", directions, steps, rows="", name="second_bilstm")
    return last_joined(graph, last, width=2 * arrays["second_bilstm.ahead.weight_hh_l0"].shape[1])
