"""The network `gru`: a GRU over a window's rows, an embedding, a head.

Input is the raw window; scaling is inside, so that what is exported needs no other file:
    x = sign(v) * log1p(|v| / unit);  x = clip((x - mean) / std, -CLIP, CLIP) * keep
`unit` is the size below which a column's differences mean nothing (a millisecond for times: microseconds tell the
link, not the behaviour); `keep` is 0 for a column this network must not see. Needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HIDDEN = 64
EMBEDDING = 32
CLIP = 4.0


class GruNetwork(nn.Module):
    """Windows to class logits. `classes` counts the head's outputs (11), `features` the window's columns F."""

    unit: Tensor
    mean: Tensor
    std: Tensor
    keep: Tensor

    def __init__(self, *, features: int, classes: int, hidden: int = HIDDEN, embedding: int = EMBEDDING) -> None:
        super().__init__()
        for name, value in (("unit", 1.0), ("mean", 0.0), ("std", 1.0), ("keep", 1.0)):
            self.register_buffer(name, torch.full((features,), value))
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.embed = nn.Linear(hidden, embedding)
        self.head = nn.Linear(embedding, classes)
        self.dropout = nn.Dropout(0.2)

    def scale(self, windows: Tensor) -> Tensor:
        """Return float32[B, W, F] as the GRU sees it, every value within [-CLIP, CLIP]."""
        x = torch.sign(windows) * torch.log1p(torch.abs(windows) / self.unit)
        return torch.clamp((x - self.mean) / self.std, -CLIP, CLIP) * self.keep

    def embedding(self, scaled: Tensor, lengths: Tensor) -> Tensor:
        """Return float32[B, E] of scaled windows; `lengths` int64[B] counts their rows (at least 1)."""
        states, _ = self.gru(scaled)
        # Rows are left-aligned: the state after the last real row has seen no padding.
        last = states[torch.arange(len(states)), lengths - 1]
        return torch.tanh(self.embed(self.dropout(last)))

    def logits(self, scaled: Tensor, lengths: Tensor) -> Tensor:
        """Return float32[B, C] of scaled windows."""
        return self.head(self.embedding(scaled, lengths))

    def forward(self, windows: Tensor, mask: Tensor) -> Tensor:
        """Return class probabilities float32[B, C] of raw windows float32[B, W, F] and their mask float32[B, W]."""
        lengths = mask.sum(dim=1).long().clamp(min=1)
        return torch.softmax(self.logits(self.scale(windows), lengths), dim=1)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights as `checkpoint` names them."""
        named = {
            "unit": self.unit, "mean": self.mean, "std": self.std, "keep": self.keep,
            "gru_w": self.gru.weight_ih_l0, "gru_r": self.gru.weight_hh_l0,
            "gru_bw": self.gru.bias_ih_l0, "gru_br": self.gru.bias_hh_l0,
            "embed_w": self.embed.weight, "embed_b": self.embed.bias,
            "head_w": self.head.weight, "head_b": self.head.bias,
        }  # fmt: skip
        return {name: tensor.detach().cpu().numpy().astype(np.float32).copy() for name, tensor in named.items()}


def network_of(arrays: Mapping[str, NDArray[np.float32]]) -> GruNetwork:
    """Return the network a checkpoint's arrays describe, ready to judge (dropout off)."""
    network = GruNetwork(
        features=arrays["mean"].size,
        classes=arrays["head_b"].size,
        hidden=arrays["gru_r"].shape[1],
        embedding=arrays["embed_b"].size,
    )
    network.load_state_dict(
        {
            **{name: torch.from_numpy(arrays[name]) for name in ("unit", "mean", "std", "keep")},
            "gru.weight_ih_l0": torch.from_numpy(arrays["gru_w"]),
            "gru.weight_hh_l0": torch.from_numpy(arrays["gru_r"]),
            "gru.bias_ih_l0": torch.from_numpy(arrays["gru_bw"]),
            "gru.bias_hh_l0": torch.from_numpy(arrays["gru_br"]),
            "embed.weight": torch.from_numpy(arrays["embed_w"]),
            "embed.bias": torch.from_numpy(arrays["embed_b"]),
            "head.weight": torch.from_numpy(arrays["head_w"]),
            "head.bias": torch.from_numpy(arrays["head_b"]),
        }
    )
    network.eval()
    return network
