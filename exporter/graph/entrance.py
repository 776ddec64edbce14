"""The first nodes of every graph: scaling, how many rows are real, and padding zeroed.

The trap: a row beyond a window's length may hold anything, and 0 times what is no number is no number; so it is
replaced, not multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from onnx import TensorProto

from exporter.graph.nodes import Arrays, Graph

CLIP: Final = 4.0  # training.networks.CLIP; a test holds them equal
FAR_BELOW: Final = 1e4  # training.networks.layers.FAR_BELOW; likewise


@dataclass(frozen=True)
class Entrance:
    """Names of what the layers read, and W. `scaled` [B, W, F], `mask` [B, W], counts of real rows in three shapes."""

    window: int
    features: int
    scaled: str = "scaled"
    mask: str = "mask"
    rows: str = "rows"  # int32[B]
    rows_float: str = "rows_float"  # float32[B]
    rows_column: str = "rows_column"  # float32[B, 1]

    def real(self, graph: Graph) -> str:
        """Return scaled windows [B, W, F] in which every row beyond the length is 0."""
        graph.node("Unsqueeze", [self.mask, graph.integers(2)], "mask_rows")
        graph.node("Cast", ["mask_rows"], "is_real", to=TensorProto.BOOL)
        return graph.node("Where", ["is_real", self.scaled, graph.constant("nothing", np.zeros(1, np.float32))], "real")


def add_entrance(graph: Graph, arrays: Arrays, *, window: int) -> Entrance:
    """Add scaling and row counts: sign(v) * log1p(|v| / unit), standardised, clipped, unseen columns zeroed."""
    # One multiplication instead of a division: std and keep fold into it.
    graph.node("Abs", ["windows"], "magnitude")
    graph.node("Mul", ["magnitude", graph.constant("per_unit", 1.0 / arrays["unit"])], "in_units")
    graph.node("Add", ["in_units", graph.constant("one", np.ones(1, np.float32))], "plus_one")
    graph.node("Log", ["plus_one"], "log_magnitude")
    graph.node("Sign", ["windows"], "signs")
    graph.node("Mul", ["log_magnitude", "signs"], "signed_log")
    graph.node("Sub", ["signed_log", graph.constant("mean", arrays["mean"])], "centred")
    graph.node("Mul", ["centred", graph.constant("per_std", 1.0 / arrays["std"])], "standard")
    low, high = (
        graph.constant(f"clip_{end}", np.array(at, np.float32)) for end, at in (("low", -CLIP), ("high", CLIP))
    )
    graph.node("Clip", ["standard", low, high], "clipped")
    entrance = Entrance(window=window, features=arrays["mean"].size)
    graph.node("Mul", ["clipped", graph.constant("keep", arrays["keep"])], entrance.scaled)
    graph.node("ReduceSum", [entrance.mask, graph.integers(1)], "rows_told", keepdims=0)
    # As in training: no window is shorter than one row, whatever its mask says.
    graph.node("Max", ["rows_told", "one"], entrance.rows_float)
    graph.node("Cast", [entrance.rows_float], entrance.rows, to=TensorProto.INT32)
    graph.node("Unsqueeze", [entrance.rows_float, graph.integers(1)], entrance.rows_column)
    return entrance
