"""The network `gru`: a GRU over the steps, an embedding of what it ends with, a head.

The shipped kind, after paper D, whose sizes are not told: 64 hidden units and an embedding of 48 keep model.onnx below
64 KB. Beside the GRU's last state the embedding reads the newest step and the largest value of each column (`skip`,
ours: a recurrent state remembers poorly what one record says outright). It has no attention; what it returns as such is
spread evenly over the real rows. Needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.networks.layers import FAR_BELOW, newest
from training.networks.network import Network, Steps
from training.shapes import describe


class GruNetwork(Network):
    """Steps to class logits. `classes` counts the head's outputs (11), `features` the columns F."""

    state_names = {  # noqa: RUF012  # read only, as in Network
        "gru_w": "gru.weight_ih_l0", "gru_r": "gru.weight_hh_l0",
        "gru_bw": "gru.bias_ih_l0", "gru_br": "gru.bias_hh_l0",
        "embed_w": "embed.weight", "embed_b": "embed.bias", "skip_w": "skip.weight",
        "head_w": "head.weight", "head_b": "head.bias",
    }  # fmt: skip

    def __init__(self, *, features: int, classes: int, layout: str = "windows", **sizes: Any) -> None:
        described = describe("gru", layout=layout, features=features, classes=classes, **sizes)
        hidden, embedding = described.count("hidden"), described.count("embedding")
        super().__init__(described)
        self.gru = nn.GRU(self.step_width, hidden, batch_first=True)
        self.embed = nn.Linear(hidden, embedding)
        self.skip = nn.Linear(2 * self.step_width, embedding, bias=False) if described.sizes["skip"] else None
        self.add_head(embedding)

    def body(self, steps: Steps) -> tuple[Tensor, None]:
        """Return the embedding; the state after the last real row has seen no padding."""
        states, _ = self.gru(steps.values)
        embedded = self.embed(self.dropout(newest(states, steps.lengths)))
        if self.skip is not None:
            read = torch.cat([newest(steps.values, steps.lengths), _largest(steps)], dim=1)
            embedded = embedded + self.skip(self.dropout(read))
        return torch.tanh(embedded), None


def _largest(steps: Steps) -> Tensor:
    """Return [B, N]: the largest value of each column over the real steps."""
    values = steps.values
    if steps.mask is not None:
        values = torch.where(steps.mask[:, :, None] > 0, values, -FAR_BELOW)
    return values.amax(dim=1)
