"""A network taught on rows: drawn evenly enough, stopped early, the running mean of its weights kept. Needs torch.

The papers' 100 epochs in batches of 32 are hours on a processor core. `STEPS` says how many batches of 256 each network
gets instead: about as many as end within minutes, with a rate that rises and falls once. What is given up is told in
the reports. The same seed, data and torch give the same weights on one machine.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.networks import Network
from training.progress import Progress
from training.tables.encode import Inputs

# Milliseconds per batch of 256 rows of 60 columns, forward and back, on one x86 core: gru 31, conv_bilstm 650,
# conv_bilstm_small 30, cnn_lstm_attention 28, cnn_self_attention 28, transformer 150, dnn 2, rnn 12, cnn 22.
STEPS: Final[Mapping[str, int]] = {
    "gru": 4000,
    "conv_bilstm": 600,
    "conv_bilstm_small": 2500,
    "cnn_lstm_attention": 2500,
    "cnn_self_attention": 2500,
    "transformer": 700,
    "dnn": 5000,
    "rnn": 2500,
    "cnn": 2500,
}
JUDGED_ROWS = 2048  # at once


@dataclass(frozen=True)
class RowFitSettings:
    """Steps are batches; patience counts checks without a better validation loss."""

    seed: int = 1
    steps: int = 3000
    batch: int = 256
    rate: float = 4e-3
    weight_decay: float = 1e-3
    label_smoothing: float = 0.01
    averaging: float = 0.99
    checks: int = 12
    patience: int = 4
    check_rows: int = 6000
    evenness: float = 0.75  # a class of n rows is drawn as often as n to this power: 1 as found, 0 all alike
    threads: int = 1


@dataclass(frozen=True, eq=False)
class FittedRows:
    """A taught network, ready to judge, and how the teaching went."""

    network: Network
    history: list[dict[str, float]] = field(default_factory=list)

    def probabilities(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return class probabilities float64[N, C]: float32 would round the surest scores to one value."""
        return np.concatenate([torch.softmax(each.double(), dim=1).numpy() for each in self._logits(inputs)])

    def attention(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the mean attention per encoded column, float64[F]."""
        with torch.no_grad():
            judged = [self.network.judge(part).attention.sum(dim=0) for part in _parts(inputs)]
        return np.asarray(sum(judged).numpy() / len(inputs), dtype=np.float64)

    def _logits(self, inputs: Inputs) -> list[Tensor]:
        with torch.no_grad():
            return [self.network.logits(part) for part in _parts(inputs)]


def fit_rows(
    network: Network,
    *,
    inputs: Inputs,
    label: NDArray[np.int64],
    validation_inputs: Inputs,
    validation_label: NDArray[np.int64],
    settings: RowFitSettings,
    progress: Progress | None = None,
) -> FittedRows:
    """Return the network whose running mean had the least validation loss. `network` is taught in place."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    teacher = _Teacher(network, settings)
    drawer = _Drawer(label, settings, rng)
    judge = _judge(validation_inputs, validation_label, settings, rng)
    rows, labels = torch.from_numpy(inputs), torch.from_numpy(label)
    history, best_loss, best_state, waited = [], np.inf, copy.deepcopy(network.state_dict()), 0
    every = max(1, settings.steps // settings.checks)
    taught = 0.0
    for step in range(1, settings.steps + 1):
        places = drawer.draw()
        taught += teacher.step(rows[places], labels[places])
        if progress is not None:
            progress.step(note=f"loss {taught / ((step - 1) % every + 1):.4f}")
        if step % every:
            continue
        loss = judge(teacher.averaged)
        history.append({"step": step, "train_loss": taught / every, "validation_loss": loss})
        taught, waited = 0.0, waited + 1
        if loss < best_loss:
            best_loss, best_state, waited = loss, copy.deepcopy(teacher.averaged.state_dict()), 0
        if waited >= settings.patience:
            break
    network.load_state_dict(best_state)
    network.eval()
    return FittedRows(network, history)


class _Drawer:
    """Draws places of rows, rare classes more often than they come."""

    def __init__(self, label: NDArray[np.int64], settings: RowFitSettings, rng: np.random.Generator) -> None:
        counts = np.bincount(label).astype(np.float64)
        weight = np.where(counts > 0, counts, 1.0) ** (settings.evenness - 1.0)
        self._cumulative = np.cumsum(weight[label])
        self._rng, self._size = rng, settings.batch

    def draw(self) -> Tensor:
        drawn = self._rng.random(self._size) * self._cumulative[-1]
        places = np.searchsorted(self._cumulative, drawn, side="right")
        return torch.from_numpy(np.minimum(places, len(self._cumulative) - 1))


class _Teacher:
    """One network under AdamW, and the running mean of its weights."""

    def __init__(self, network: Network, settings: RowFitSettings) -> None:
        self._network, self._averaging = network, settings.averaging
        self.averaged = copy.deepcopy(network).eval()
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, max_lr=settings.rate, total_steps=settings.steps, pct_start=0.15
        )
        self._loss = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)

    def step(self, rows: Tensor, label: Tensor) -> float:
        self._network.train()
        loss: Tensor = self._loss(self._network.logits(rows), label)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        self._average()
        return float(loss.detach())

    def _average(self) -> None:
        with torch.no_grad():
            for mean, weight in zip(self.averaged.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(weight, 1 - self._averaging)
            # What batch normalisation measured is a running mean already.
            for mean, found in zip(self.averaged.buffers(), self._network.buffers(), strict=True):
                mean.copy_(found)


def _judge(inputs: Inputs, label: NDArray[np.int64], settings: RowFitSettings, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    chosen = rng.permutation(len(label))[: settings.check_rows]
    parts, labels = _parts(inputs[chosen]), torch.from_numpy(label[chosen])

    def loss(network: Network) -> float:
        with torch.no_grad():
            logits = torch.cat([network.logits(part) for part in parts])
            return float(nn.functional.cross_entropy(logits, labels))

    return loss


def _parts(inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(inputs)).split(JUDGED_ROWS))
