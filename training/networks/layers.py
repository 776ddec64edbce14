"""Layers that keep padding out: convolutions, normalisation, a bidirectional LSTM, attention and read-outs.

Sequences are [B, S, N] with a mask [B, S] (1 = real step, left-aligned) or None where every step is real. Each layer
takes care that a step beyond a window's length changes nothing at a real one: convolutions look sideways, the second
half of a bidirectional LSTM begins at the end, batch statistics and softmax take in every step. Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.shapes import POOL

FAR_BELOW = 1e4  # taken off a padded step's score: exp of it is 0 in float32, and it is still a number in float16
NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.1


class Convolutions(nn.Module):
    """Convolutions over the steps, each with ReLU and, for rows, max pooling over two steps. [B, S, N] -> [B, L, M]."""

    def __init__(self, inputs: int, filters: Sequence[int], *, kernel: int, pool: bool) -> None:
        super().__init__()
        widths = [inputs, *filters]
        self.pool = pool
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, kernel, padding=kernel // 2)
            for before, after in zip(widths, filters, strict=False)
        )

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        x = values.transpose(1, 2)
        for layer in self.layers:
            x = functional.relu(layer(x))
            # Zeroed steps are what a convolution sees beyond the edges anyhow: a window ends where its rows end.
            x = x if mask is None else x * mask[:, None, :]
            if self.pool:
                x = functional.max_pool1d(x, POOL, ceil_mode=True)
        return x.transpose(1, 2)


class Norm(nn.Module):
    """Batch normalisation of the last axis over real steps; once taught, a fixed scale and shift per column."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = self._measured(x, mask)
        return (x - mean) * (self.weight * torch.rsqrt(var + NORM_EPSILON)) + self.bias

    def _measured(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        real = x.new_ones(x.shape[:-1])[..., None] if mask is None else mask[..., None]
        axes = tuple(range(x.dim() - 1))
        count = real.sum()
        mean = (x * real).sum(axes) / count
        var = ((x - mean).square() * real).sum(axes) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, NORM_MOMENTUM)
            self.running_var.lerp_(var * count / (count - 1).clamp(min=1), NORM_MOMENTUM)
        return mean, var


class BothWays(nn.Module):
    """A bidirectional LSTM whose backward half begins at a window's last real row. [B, S, N] -> [B, S, 2H].

    Two plain LSTMs: the backward one reads the real rows in reverse order, which needs no packing of lengths. States
    beyond a length are meaningless; `last` gives what both halves end with.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(inputs, hidden, batch_first=True)
        self.back = nn.LSTM(inputs, hidden, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        order = (lengths[:, None] - 1 - torch.arange(values.shape[1], device=values.device)).clamp(min=0)
        ahead, _ = self.ahead(values)
        back, _ = self.back(_reordered(values, order))
        return torch.cat([ahead, _reordered(back, order)], dim=2)

    @staticmethod
    def last(states: Tensor, lengths: Tensor) -> Tensor:
        """Return [B, 2H]: the forward half after the last real row, the backward half after the first."""
        hidden = states.shape[2] // 2
        return torch.cat([newest(states, lengths)[:, :hidden], states[:, 0, hidden:]], dim=1)


class Dense(nn.Module):
    """Fully connected layers with ReLU, dropout once before the first. [B, N] -> [B, widths[-1]]."""

    def __init__(self, inputs: int, widths: Sequence[int], dropout: nn.Module) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in zip(sizes, widths, strict=False))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers:
            x = functional.relu(layer(x))
        return x


def newest(states: Tensor, lengths: Tensor) -> Tensor:
    """Return [B, N]: the state at each window's last real step."""
    return states[torch.arange(len(states), device=states.device), lengths - 1]


def newest_and_mean(values: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Return [B, 2N]: the newest real step beside the mean of all real ones."""
    mean = (values * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return torch.cat([newest(values, lengths), mean], dim=1)


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax of [B, ..., S] over real steps; padded ones get 0."""
    if mask is None:
        return torch.softmax(scores, dim=-1)
    real = mask.reshape(len(mask), *([1] * (scores.dim() - 2)), mask.shape[1])
    return torch.softmax(scores * real + (real - 1) * FAR_BELOW, dim=-1)


def spread(weights: Tensor, columns: int, *, poolings: int) -> Tensor:
    """Return weights [B, L] of pooled steps as [B, F]: each step's weight shared by the columns it was pooled from."""
    each = POOL**poolings
    owner = torch.arange(columns, device=weights.device) // each
    return weights[:, owner] / torch.bincount(owner).to(weights.dtype)[owner]


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    return values.gather(1, order[:, :, None].expand(-1, -1, values.shape[2]))
