"""The network `cnn_self_attention`: three convolutions, self-attention over their maps, dense layers (paper A).

Three convolutions of 64 filters with ReLU and max pooling; query, key and value by linear maps, softmax of the scaled
dot product, weighted values; two dense layers of 128. The paper tells of 3x3 kernels and 2x2 pooling; a record is a
vector, so we take one dimension: kernels of 3, pooling over 2. What it leaves open, and our choice:
- of a row all steps go into the dense layers, since a column is known by its place; of a window the newest record's
  value beside the mean of all, so that the network does not depend on W; a window's records are not pooled;
- the attention returned is how much a step was looked at, mean over the real steps that looked.
Without attention the maps themselves go on: the paper's "CNN without attention". Needs torch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.networks.layers import Convolutions, Dense, masked_softmax, newest_and_mean, spread
from training.networks.network import Network, Steps
from training.shapes import Described, pooled_steps


class CnnSelfAttention(Network):
    """The paper's network."""

    def __init__(self, described: Described) -> None:
        filters, dense = described.counts("filters"), described.counts("dense")
        super().__init__(described)
        self._poolings, width = len(filters), filters[-1]
        self.convolutions = Convolutions(
            self.step_width, filters, kernel=self.described.count("kernel"), pool=self.is_row
        )
        if described.has_attention:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        steps = pooled_steps(self.described.count("features"), len(filters)) if self.is_row else 2
        self.dense = Dense(steps * width, dense, self.dropout)
        self.add_head(dense[-1])

    def body(self, steps: Steps) -> tuple[Tensor, Tensor | None]:
        maps, attention = self.convolutions(steps.values, steps.mask), None
        if self.described.has_attention:
            maps, attention = self._attended(maps, steps.mask)
        if steps.mask is None:
            return self.dense(maps.flatten(1)), attention
        return self.dense(newest_and_mean(maps, steps.mask, steps.lengths)), attention

    def _attended(self, maps: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = self.query(maps) @ self.key(maps).transpose(1, 2) / math.sqrt(maps.shape[2])
        weights = masked_softmax(scores, mask)
        attended = weights @ self.value(maps)
        if mask is None:
            return attended, spread(weights.mean(dim=1), self.described.count("features"), poolings=self._poolings)
        share = mask / mask.sum(dim=1, keepdim=True)
        return attended, torch.bmm(share[:, None, :], weights)[:, 0]
