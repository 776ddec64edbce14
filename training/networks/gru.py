"""The network `gru`: a GRU over the steps, an embedding of its last state, a head.

The shipped kind, after paper D, whose sizes are not told: 64 hidden units and an embedding of 32 keep model.onnx below
64 KB. It has no attention; what it returns as such is spread evenly over the real rows. Needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.networks.layers import newest
from training.networks.network import Network, Steps
from training.shapes import describe


class GruNetwork(Network):
    """Steps to class logits. `classes` counts the head's outputs (11), `features` the columns F."""

    state_names = {  # noqa: RUF012  # read only, as in Network
        "gru_w": "gru.weight_ih_l0", "gru_r": "gru.weight_hh_l0",
        "gru_bw": "gru.bias_ih_l0", "gru_br": "gru.bias_hh_l0",
        "embed_w": "embed.weight", "embed_b": "embed.bias", "head_w": "head.weight", "head_b": "head.bias",
    }  # fmt: skip

    def __init__(self, *, features: int, classes: int, layout: str = "windows", **sizes: Any) -> None:
        described = describe("gru", layout=layout, features=features, classes=classes, **sizes)
        hidden, embedding = described.count("hidden"), described.count("embedding")
        super().__init__(described)
        self.gru = nn.GRU(self.step_width, hidden, batch_first=True)
        self.embed = nn.Linear(hidden, embedding)
        self.add_head(embedding)

    def body(self, steps: Steps) -> tuple[Tensor, None]:
        """Return the embedding; the state after the last real row has seen no padding."""
        states, _ = self.gru(steps.values)
        return torch.tanh(self.embed(self.dropout(newest(states, steps.lengths)))), None
