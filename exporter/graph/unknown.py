"""The unknown score as ONNX nodes: the formulas of `training.unknown`, from the arrays a checkpoint keeps.

    unknown_whitening [E, E], unknown_centres [K, E]   squared distance of the embedding to the nearest centre, or
    unknown_for [C] (optional), unknown_against [C]    logsumexp(logits + for) - logsumexp(logits + against)
    unknown_knots, unknown_slopes [K]                  a piecewise linear map of that to [0, 1]
Which of the two it is, the arrays say. Everything stays float32: a distance is a small difference of large numbers,
and these arrays are small. The trap: ReduceSum takes its axes as an input from opset 13 on, ReduceMin and
ReduceLogSumExp as an attribute until opset 17.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from exporter.graph.nodes import Arrays, Graph
from training.errors import CheckpointError

OUTPUT: Final = "unknown_score"
_CALIBRATION: Final = frozenset({"unknown_knots", "unknown_slopes"})
_DISTANCE: Final = frozenset({"unknown_whitening", "unknown_centres"})
_LOGITS: Final = frozenset({"unknown_for", "unknown_against"})


def add_unknown(graph: Graph, arrays: Arrays, embedding: str, logits: str) -> None:
    """Add the output `unknown_score` float32[B] in [0, 1].

    `embedding` float32[B, E] and `logits` float32[B, C] name what the network gives. Raises CheckpointError for arrays
    that make no score.
    """
    raw = set(arrays) - _CALIBRATION
    if not set(arrays) >= _CALIBRATION or (raw != _DISTANCE and raw not in (_LOGITS, {"unknown_against"})):
        raise CheckpointError(f"unknown score: no nodes for the arrays {', '.join(sorted(arrays))}")
    if raw == _DISTANCE:
        _add_calibration(graph, arrays, _add_distance(graph, arrays, embedding))
    else:
        _add_calibration(graph, arrays, _add_log_odds(graph, arrays, logits))


def _add_distance(graph: Graph, arrays: Arrays, embedding: str) -> str:
    """Return the name of float32[B, 1]: the squared distance to the nearest centre, in whitened space."""
    whitening = graph.constant("unknown_whitening", arrays["unknown_whitening"])
    graph.node("MatMul", [embedding, whitening], "unknown_whitened")
    graph.node("Unsqueeze", ["unknown_whitened", graph.integers(1)], "unknown_rows")
    centres = graph.constant("unknown_centres", arrays["unknown_centres"][None])
    graph.node("Sub", ["unknown_rows", centres], "unknown_apart")
    graph.node("Mul", ["unknown_apart", "unknown_apart"], "unknown_squares")
    graph.node("ReduceSum", ["unknown_squares", graph.integers(2)], "unknown_distances", keepdims=0)
    return graph.node("ReduceMin", ["unknown_distances"], "unknown_raw", axes=[1], keepdims=1)


def _add_log_odds(graph: Graph, arrays: Arrays, logits: str) -> str:
    """Return the name of float32[B, 1]: how far the logits that speak for exceed those that speak against."""
    against = _add_log_sum_exp(graph, arrays, logits, side="against")
    if "unknown_for" not in arrays:
        return graph.node("Neg", [against], "unknown_raw")
    return graph.node("Sub", [_add_log_sum_exp(graph, arrays, logits, side="for"), against], "unknown_raw")


def _add_log_sum_exp(graph: Graph, arrays: Arrays, logits: str, *, side: str) -> str:
    shift = graph.constant(f"unknown_{side}", arrays[f"unknown_{side}"])
    graph.node("Add", [logits, shift], f"unknown_logits_{side}")
    return graph.node("ReduceLogSumExp", [f"unknown_logits_{side}"], f"unknown_sum_{side}", axes=[1], keepdims=1)


def _add_calibration(graph: Graph, arrays: Arrays, raw: str) -> None:
    """clip(sum over knots of slope * max(raw - knot, 0), 0, 1), less its axis of 1."""
    graph.node("Sub", [raw, graph.constant("unknown_knots", arrays["unknown_knots"])], "unknown_beyond")
    graph.node("Relu", ["unknown_beyond"], "unknown_above")
    graph.node(
        "MatMul", ["unknown_above", graph.constant("unknown_slopes", arrays["unknown_slopes"])], "unknown_mapped"
    )
    low, high = (
        graph.constant(f"unknown_{end}", np.array(at, np.float32)) for end, at in (("low", 0.0), ("high", 1.0))
    )
    graph.node("Clip", ["unknown_mapped", low, high], OUTPUT)
