"""The network `transformer`: a tiny one, for comparison; no paper of ours has it.

Two blocks of self-attention (four heads) and a layer of 64, width 32, normalised before each, and a learnt score that
says how much a step counts in the summary: that is the attention returned. A window's record becomes a token by one
linear map and knows its age, counted from the newest; a row's value becomes a token by a vector of its own column.
Needs torch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.layers import masked_softmax
from training.networks.network import Network, Steps
from training.shapes import Described

SPREAD = 0.02  # of places at the start, as is usual for transformers
LAYER_NORM_EPSILON = 1e-5


class Block(nn.Module):
    """One layer: attention between the steps, then a small network at each. Query, key, value float32[heads, N, M]."""

    def __init__(self, width: int, *, heads: int, inner: int, dropout: nn.Module) -> None:
        super().__init__()
        shape = heads, width // heads, width
        self.query, self.key, self.value = (nn.Parameter(torch.randn(shape) / math.sqrt(width)) for _ in range(3))
        self.mix = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.before_attention = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.before_inner = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.mix(self._attended(self.before_attention(x), mask)))
        return x + self.dropout(self.narrow(functional.relu(self.widen(self.before_inner(x)))))

    def _attended(self, x: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (torch.einsum("bsn,hmn->bhsm", x, matrix) for matrix in (self.query, self.key, self.value))
        weights = masked_softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), mask)
        return (weights @ value).transpose(1, 2).flatten(2)


class Transformer(Network):
    """Blocks over the steps, and a weighted mean of what they leave."""

    def __init__(self, described: Described) -> None:
        super().__init__(described)
        width, heads, inner = (self.described.count(key) for key in ("width", "heads", "inner"))
        tokens = self.described.count("features") if self.is_row else self.described.count("window")
        self.places = nn.Parameter(torch.randn(tokens, width) * SPREAD)
        if self.is_row:
            self.values = nn.Parameter(torch.randn(tokens, width) / math.sqrt(width))
        else:
            self.enter = nn.Linear(self.step_width, width)
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, inner=inner, dropout=self.dropout) for _ in range(self.described.count("layers"))
        )
        self.last_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.score = nn.Linear(width, 1)
        self.embed = nn.Linear(width, self.described.count("embedding"))
        self.add_head(described.count("embedding"))

    def body(self, steps: Steps) -> tuple[Tensor, Tensor]:
        x = self._tokens(steps)
        for block in self.blocks:
            x = block(x, steps.mask)
        x = self.last_norm(x)
        weights = masked_softmax(self.score(x)[:, :, 0], steps.mask)
        return torch.tanh(self.embed(self.dropout((weights[:, :, None] * x).sum(dim=1)))), weights

    def _tokens(self, steps: Steps) -> Tensor:
        if self.is_row:
            return steps.values * self.values + self.places
        age = steps.lengths[:, None] - 1 - torch.arange(steps.values.shape[1], device=steps.values.device)
        return self.enter(steps.values) + self.places[age.clamp(min=0)]
