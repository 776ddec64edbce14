"""The networks `dnn`, `rnn` and `cnn`: one kind of layer only, the papers' ablations (paper B's baselines).

`dnn` dense 256, 128, 64 over all columns of a row, or over a window's newest record beside the mean of its records;
`rnn` a plain recurrent layer (tanh, 64 units) whose last state goes into a dense layer of 64; `cnn` the convolutions of
`cnn_lstm_attention` without LSTM and attention, read out as `cnn_self_attention` does. The paper tells no more of them
than their names. None has attention. Needs torch.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.networks.layers import Convolutions, Dense, newest, newest_and_mean
from training.networks.network import Network, Steps
from training.shapes import Described, pooled_steps


class Dnn(Network):
    """Dense layers only."""

    def __init__(self, described: Described) -> None:
        widths = described.counts("dense")
        super().__init__(described)
        inputs = described.count("features") * (1 if self.is_row else 2)
        self.dense = Dense(inputs, widths, nn.Identity())  # raw columns are not dropped
        self.add_head(widths[-1])

    def body(self, steps: Steps) -> tuple[Tensor, None]:
        if steps.mask is None:
            return self.dense(steps.values[:, :, 0]), None
        return self.dense(newest_and_mean(steps.values, steps.mask, steps.lengths)), None


class Rnn(Network):
    """One recurrent layer and one dense layer."""

    def __init__(self, described: Described) -> None:
        widths = described.counts("dense")
        super().__init__(described)
        self.rnn = nn.RNN(self.step_width, self.described.count("hidden"), batch_first=True)
        self.dense = Dense(self.described.count("hidden"), widths, self.dropout)
        self.add_head(widths[-1])

    def body(self, steps: Steps) -> tuple[Tensor, None]:
        return self.dense(newest(self.rnn(steps.values)[0], steps.lengths)), None


class Cnn(Network):
    """Convolutions and dense layers."""

    def __init__(self, described: Described) -> None:
        filters, widths = described.counts("filters"), described.counts("dense")
        super().__init__(described)
        self.convolutions = Convolutions(
            self.step_width, filters, kernel=self.described.count("kernel"), pool=self.is_row
        )
        steps = pooled_steps(self.described.count("features"), len(filters)) if self.is_row else 2
        self.dense = Dense(steps * filters[-1], widths, self.dropout)
        self.add_head(widths[-1])

    def body(self, steps: Steps) -> tuple[Tensor, None]:
        maps = self.convolutions(steps.values, steps.mask)
        if steps.mask is None:
            return self.dense(maps.flatten(1)), None
        return self.dense(newest_and_mean(maps, steps.mask, steps.lengths)), None
