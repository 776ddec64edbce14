"""The networks `conv_bilstm` and `conv_bilstm_small` (paper C): convolution, BiLSTM, attention, dense layers.

The paper's order: convolution, ReLU, (pooling), batch normalisation, BiLSTM 64, batch normalisation, its 128 values
read as 128 steps of one value by a BiLSTM 128, dropout, dense 64, 32, 16. What it leaves open, and our choice:
- attention stands over the first BiLSTM's hidden states, where a weight belongs to a record (or column), and its
  context is what the second BiLSTM reads; without attention that is the first one's last states, as in the listing;
- the scoring network is one layer of as many units as the LSTM, tanh, then one number;
- 256 filters, which gives the paper's 1.6 MB; kernel "n" is all columns of a row, and 3 records of a window;
- pooling over two columns of a row, none over a window's records.
`conv_bilstm_small` has no second BiLSTM and one dense layer: it must fit into 64 KB. Needs torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.layers import BothWays, Convolutions, Dense, Norm, masked_softmax, spread
from training.networks.network import Network, Steps
from training.shapes import Described


class ConvBilstm(Network):
    """Both sizes of the paper's network."""

    def __init__(self, described: Described) -> None:
        dense = described.counts("dense")
        super().__init__(described)
        filters, hidden, second = (self.described.count(key) for key in ("filters", "hidden", "second"))
        self.convolutions = Convolutions(
            self.step_width, [filters], kernel=self.described.count("kernel"), pool=self.is_row
        )
        self.after_convolution = Norm(filters)
        self.bilstm = BothWays(filters, hidden)
        self.after_bilstm = Norm(2 * hidden)
        if described.has_attention:
            self.score_hidden = nn.Linear(2 * hidden, hidden)
            self.score = nn.Linear(hidden, 1)
        if second:
            self.second_bilstm = BothWays(1, second)
        self.dense = Dense(2 * (second or hidden), dense, self.dropout)
        self.add_head(dense[-1])

    def body(self, steps: Steps) -> tuple[Tensor, Tensor | None]:
        values = self.convolutions(steps.values, steps.mask)
        lengths = torch.full_like(steps.lengths, values.shape[1]) if steps.mask is None else steps.lengths
        states = self.bilstm(self.after_convolution(values, steps.mask), lengths)
        summary, attention = self._summary(states, steps, lengths)
        summary = self.after_bilstm(summary)
        if self.described.count("second"):
            ends = torch.full_like(lengths, summary.shape[1])
            summary = BothWays.last(self.second_bilstm(summary[:, :, None], ends), ends)
        return self.dense(summary), attention

    def _summary(self, states: Tensor, steps: Steps, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.described.has_attention:
            return BothWays.last(states, lengths), None
        scores = self.score(torch.tanh(self.score_hidden(states)))[:, :, 0]
        weights = masked_softmax(scores, steps.mask)
        context = (weights[:, :, None] * states).sum(dim=1)
        return context, spread(weights, self.described.count("features"), poolings=1) if self.is_row else weights
