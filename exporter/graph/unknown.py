"""The unknown score's nodes. No kind of fitted arrays is known here yet: they are refused, not ignored."""

from __future__ import annotations

from exporter.graph.nodes import Arrays, Graph
from training.errors import CheckpointError


def add_unknown(graph: Graph, arrays: Arrays, embedding: str, logits: str) -> None:
    """Add the output `unknown_score`, in [0, 1], from two named tensors. Raises CheckpointError for arrays unknown."""
    raise CheckpointError(f"unknown score: no nodes for the arrays {', '.join(sorted(arrays))}")
