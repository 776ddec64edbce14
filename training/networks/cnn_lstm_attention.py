"""The network `cnn_lstm_attention`: convolutions, an LSTM that weighs their features, dense layers (paper B).

Convolutions of 32, 64 and 128 filters, each with ReLU and max pooling; an LSTM over the result, whose hidden state
gives by one dense layer and softmax one weight per feature of the convolutions; c = sum of the weighted features,
[h; c] goes into dense layers 256, 128, 64. What the paper leaves open, and our choice:
- a feature f_i is the vector the convolutions leave at step i, so that a weight belongs to a record (or to the eight
  columns it was pooled from);
- the dense layers read the last step's [h; c], so the weights of other steps are not computed;
- the LSTM has 64 units, kernels cover 3 steps; a window's records are not pooled: three halvings leave two steps.
Without attention the dense layers read h alone. Needs torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.layers import Convolutions, Dense, masked_softmax, newest, spread
from training.networks.network import Network, Steps
from training.shapes import Described, pooled_steps


class CnnLstmAttention(Network):
    """The paper's network. In `windows` it reads at most `window` records, since each place has its own weights."""

    def __init__(self, described: Described) -> None:
        filters, dense = described.counts("filters"), described.counts("dense")
        super().__init__(described)
        self._poolings = len(filters) if self.is_row else 0
        hidden, context = self.described.count("hidden"), 0
        self.convolutions = Convolutions(
            self.step_width, filters, kernel=self.described.count("kernel"), pool=self.is_row
        )
        self.lstm = nn.LSTM(filters[-1], hidden, batch_first=True)
        if described.has_attention:
            places = (
                pooled_steps(self.described.count("features"), len(filters))
                if self.is_row
                else self.described.count("window")
            )
            self.weigh = nn.Linear(hidden, places)
            context = filters[-1]
        self.dense = Dense(hidden + context, dense, self.dropout)
        self.add_head(dense[-1])

    def body(self, steps: Steps) -> tuple[Tensor, Tensor | None]:
        features = self.convolutions(steps.values, steps.mask)
        lengths = torch.full_like(steps.lengths, features.shape[1]) if steps.mask is None else steps.lengths
        hidden = newest(self.lstm(features)[0], lengths)
        if not self.described.has_attention:
            return self.dense(hidden), None
        weights = masked_softmax(self.weigh(hidden), steps.mask)
        context = (weights[:, :, None] * features).sum(dim=1)
        embedding = self.dense(torch.cat([hidden, context], dim=1))
        if self.is_row:
            weights = spread(weights, self.described.count("features"), poolings=self._poolings)
        return embedding, weights
