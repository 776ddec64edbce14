"""Teach a network on windows: sampled evenly, augmented, stopped early. Needs torch.

Windows are drawn so that neither a class nor a capture with many windows drowns the rest: half of a batch is benign,
of the other half an attack class has a share by the square root of its captures, and within a class a capture counts
by the square root of its windows.
The same seed, data and torch give the same weights on one machine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contracts.classes import BENIGN, HEAD_NAMES
from contracts.errors import DataMissing
from flowfeatures import WINDOW_COLUMNS
from training.augment import Augmenter, AugmentSettings, Batch
from training.datasets import WindowSet
from training.networks import CLIP, Network, build
from training.progress import Progress
from training.scaling import HIDDEN_COLUMNS, Scaling, keep_mask, measure_scaling

SCALING_ROWS = 30_000


@dataclass(frozen=True)
class FitSettings:
    """How one network is taught. Steps are batches; patience counts epochs without a better validation loss."""

    network: str = "gru"
    sizes: Mapping[str, Any] = field(default_factory=dict)  # of the network, where they are not its defaults
    seed: int = 1
    epochs: int = 16
    steps: int = 200
    batch: int = 256
    rate: float = 2e-3
    weight_decay: float = 1e-3
    label_smoothing: float = 0.02
    patience: int = 8
    benign_share: float = 0.5
    averaging: float = 0.99  # of the weights over steps: what is judged and kept is the running mean
    heeded: float = 0.8  # share of the loss that is what teachers say of a window, where there are teachers
    threads: int = 1
    hidden_columns: tuple[str, ...] = HIDDEN_COLUMNS
    augment: AugmentSettings = field(default_factory=AugmentSettings)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A taught network, its scaling, what a benign record usually looks like, and how the teaching went."""

    network: Network
    scaling: Scaling
    benign_medians: NDArray[np.float32]
    history: list[dict[str, float]]
    settings: dict[str, Any]

    @property
    def validation_loss(self) -> float:
        """Return the least one of its epochs, which is that of the weights it has."""
        return min(epoch["validation_loss"] for epoch in self.history)


def fit(
    train: WindowSet,
    validation: WindowSet,
    settings: FitSettings,
    *,
    start: Network | None = None,
    teachers: Sequence[Network] = (),
) -> Fitted:
    """Return the network whose running mean had the least validation loss.

    `start` is a network to go on from, with its scaling, left as it was; without it a new one as the settings say.
    With `teachers` it learns what they say of each window on average, beside the labels (distillation, Hinton et al.
    2015): networks of different seeds err differently where nothing was taught, their mean less.
    Raises DataMissing where the training set has no benign window or no attack window, ValueError for teachers that
    scale windows otherwise.
    """
    _check_teachable(train)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    rng = np.random.default_rng(settings.seed)
    chances = sampling_weights(train, benign_share=settings.benign_share)
    scaling = _scaling_of(train, chances, settings) if start is None else _scaling_in(start)
    network = _new_network(scaling, settings) if start is None else copy.deepcopy(start)
    if not all(scaling.is_like(_scaling_in(each)) for each in teachers):
        raise ValueError("teachers scale windows otherwise: were they taught on the same ones?")
    teacher = _Teacher(network, _Sampler(train, chances, scaling, settings, rng), settings, teachers)
    judge = _Judge(validation, scaling)
    history, best_loss, best_state, waited = [], np.inf, copy.deepcopy(network.state_dict()), 0
    with Progress(f"fit {settings.network} seed {settings.seed}", settings.epochs) as progress:
        for epoch in range(settings.epochs):
            teaching_loss = teacher.epoch()
            loss = judge.loss(teacher.averaged)
            history.append({"epoch": epoch, "train_loss": teaching_loss, "validation_loss": loss})
            progress.step(note=f"loss {teaching_loss:.4f}, validation {loss:.4f}")
            waited += 1
            if loss < best_loss:
                best_loss, best_state, waited = loss, copy.deepcopy(teacher.averaged.state_dict()), 0
            if waited > settings.patience:
                break
    network.load_state_dict(best_state)
    network.eval()
    return Fitted(network, scaling, benign_medians(train), history, asdict(settings))


def sampling_weights(windows: WindowSet, *, benign_share: float) -> NDArray[np.float64]:
    """Return the chance of each window to be drawn, float64[N], summing to 1."""
    present = [label for label in np.unique(windows.label) if label != BENIGN]
    captures = {label: len(np.unique(windows.group[windows.label == label])) for label in present}
    roots = sum(np.sqrt(count) for count in captures.values())
    chances = np.zeros(len(windows))
    for label in [BENIGN, *present]:
        share = benign_share if label == BENIGN else (1 - benign_share) * np.sqrt(captures[label]) / roots
        of_class = windows.label == label
        groups, counts = np.unique(windows.group[of_class], return_counts=True)
        root = dict(zip(groups.tolist(), np.sqrt(counts).tolist(), strict=True))
        total = sum(root.values())
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            chances[of_class & (windows.group == group)] = share * root[group] / total / count
    return np.asarray(chances / chances.sum(), dtype=np.float64)


def benign_medians(windows: WindowSet) -> NDArray[np.float32]:
    """Return float32[F]: the raw median of each column over the newest records of benign windows."""
    benign = windows.where(windows.label == BENIGN)
    newest = benign.values[np.arange(len(benign)), benign.lengths - 1]
    return np.asarray(np.median(newest, axis=0), dtype=np.float32)


def column_groups() -> list[list[int]]:
    """Return the columns that tell the same thing, as indices: blinded together, so that no one of them is needed."""
    told: list[Callable[[str], bool]] = [
        lambda name: "iat" in name or "spell" in name or name == "duration_us",
        lambda name: name.endswith("_per_s"),
        lambda name: "payload" in name or "bulk" in name or "subflow_bytes" in name,
        lambda name: name.endswith("_10s"),
        lambda name: name.endswith("_60s"),
        lambda name: name.startswith("port_"),
        lambda name: name in ("repeats", "log_gap"),
        lambda name: name in ("device_initiated", "peer_is_home"),
        lambda name: name.startswith("bwd_") or name == "down_up_ratio",
    ]
    return [[place for place, name in enumerate(WINDOW_COLUMNS) if tells(name)] for tells in told]


class _Sampler:
    """Draws augmented batches of scaled windows."""

    def __init__(
        self,
        windows: WindowSet,
        chances: NDArray[np.float64],
        scaling: Scaling,
        settings: FitSettings,
        rng: np.random.Generator,
    ) -> None:
        self._windows, self._rng, self._size = windows, rng, settings.batch
        self._scaled = scale_all(windows, scaling)
        self._cumulative = np.cumsum(chances)
        self._benign_cumulative = np.cumsum(np.where(windows.label == BENIGN, chances, 0.0))
        self._augmenter = Augmenter(settings.augment, column_groups=column_groups(), rng=rng)
        self._keep = scaling.keep

    def draw(self) -> Batch:
        batch = self._take(self._places(self._cumulative))
        self._augmenter.apply(batch, benign=self._take(self._places(self._benign_cumulative)))
        np.clip(batch.values, -CLIP, CLIP, out=batch.values)
        batch.values *= self._keep
        return batch

    def _places(self, cumulative: NDArray[np.float64]) -> NDArray[np.intp]:
        drawn = self._rng.random(self._size) * cumulative[-1]
        places = np.searchsorted(cumulative, drawn, side="right")
        return np.asarray(np.minimum(places, len(cumulative) - 1), dtype=np.intp)

    def _take(self, places: NDArray[np.intp]) -> Batch:
        windows = self._windows
        return Batch(
            values=self._scaled[places].astype(np.float32),
            lengths=windows.lengths[places].copy(),
            label=windows.label[places].copy(),
            row_label=windows.row_label[places].copy(),
        )


class _Teacher:
    """One network under Adam, and the running mean of its weights."""

    def __init__(self, network: Network, sampler: _Sampler, settings: FitSettings, teachers: Sequence[Network]) -> None:
        self._network, self._sampler, self._settings = network, sampler, settings
        self._teachers = teachers
        self.averaged = copy.deepcopy(network).eval()
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, max_lr=settings.rate, total_steps=settings.epochs * settings.steps, pct_start=0.1
        )
        self._loss = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)

    def epoch(self) -> float:
        """Take all steps of one epoch; return their mean loss."""
        self._network.train()
        total = 0.0
        for _ in range(self._settings.steps):
            batch = self._sampler.draw()
            loss = self._loss_of(torch.from_numpy(batch.values), torch.from_numpy(batch.lengths), batch.label)
            self._optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            self._optimiser.step()
            self._schedule.step()
            self._average()
            total += float(loss.detach())
        return total / self._settings.steps

    def _loss_of(self, values: Tensor, lengths: Tensor, label: NDArray[np.int64]) -> Tensor:
        logits = self._network.logits(values, lengths)
        loss: Tensor = self._loss(logits, torch.from_numpy(label))
        if not self._teachers:
            return loss
        with torch.no_grad():
            said = torch.stack([each.logits(values, lengths).log_softmax(dim=1) for each in self._teachers])
        heeded = self._settings.heeded
        return (1 - heeded) * loss + heeded * nn.functional.cross_entropy(logits, said.mean(dim=0).softmax(dim=1))

    def _average(self) -> None:
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self._network.parameters(), strict=True)
            for mean, weight in pairs:
                mean.lerp_(weight, 1 - self._settings.averaging)
            # Batch statistics are running means themselves.
            for kept, measured in zip(self.averaged.buffers(), self._network.buffers(), strict=True):
                kept.copy_(measured)


class _Judge:
    """Validation loss in which every class, and every capture within it, counts alike."""

    def __init__(self, windows: WindowSet, scaling: Scaling) -> None:
        self._scaled = torch.from_numpy(
            np.clip(scale_all(windows, scaling).astype(np.float32), -CLIP, CLIP) * scaling.keep
        )
        self._lengths = torch.from_numpy(windows.lengths)
        self._label = torch.from_numpy(windows.label)
        self._weight = torch.from_numpy(sampling_weights(windows, benign_share=0.5)).float()

    def loss(self, network: Network) -> float:
        with torch.no_grad():
            losses = [
                nn.functional.cross_entropy(network.logits(scaled, lengths), label, reduction="none")
                for scaled, lengths, label in zip(
                    self._scaled.split(2048), self._lengths.split(2048), self._label.split(2048), strict=True
                )
            ]
        return float((torch.cat(losses) * self._weight).sum())


def scale_all(windows: WindowSet, scaling: Scaling) -> NDArray[np.float16]:
    """Return all windows scaled, float16[N, W, F] (rows beyond a window's length are 0), a chunk at a time."""
    scaled = np.zeros(windows.values.shape, dtype=np.float16)
    mask = windows.mask[:, :, None]
    for start in range(0, len(windows), 4096):
        part = slice(start, start + 4096)
        scaled[part] = np.clip(scaling.apply(windows.values[part]), -CLIP, CLIP) * mask[part]
    return scaled


def teaching_scaling(train: WindowSet, settings: FitSettings) -> Scaling:
    """Return the scaling a network taught on these windows gets."""
    return _scaling_of(train, sampling_weights(train, benign_share=settings.benign_share), settings)


def _scaling_of(train: WindowSet, chances: NDArray[np.float64], settings: FitSettings) -> Scaling:
    """Measure on rows drawn as training draws them: their plain mean is the weighted one, in little memory.

    The draw is every seed's, so that networks taught on the same windows scale alike.
    """
    drawn = np.random.default_rng(0).choice(len(train), SCALING_ROWS, p=chances)
    newest = train.values[drawn, train.lengths[drawn] - 1]
    return measure_scaling(newest, np.ones(len(newest)), keep=keep_mask(settings.hidden_columns))


def _scaling_in(network: Network) -> Scaling:
    unit, mean, std, keep = (
        each.detach().numpy().copy() for each in (network.unit, network.mean, network.std, network.keep)
    )
    return Scaling(unit=unit, mean=mean, std=std, keep=keep)


def _new_network(scaling: Scaling, settings: FitSettings) -> Network:
    columns, classes = len(WINDOW_COLUMNS), len(HEAD_NAMES)
    network = build(settings.network, layout="windows", features=columns, classes=classes, **settings.sizes)
    for name in ("unit", "mean", "std", "keep"):
        getattr(network, name).copy_(torch.from_numpy(getattr(scaling, name)))
    return network


def _check_teachable(train: WindowSet) -> None:
    for wanted, found in (("benign", (train.label == BENIGN).any()), ("attack", (train.label != BENIGN).any())):
        if not found:
            raise DataMissing(f"training set of {len(train)} windows holds no {wanted} window")


def predict(network: Network, windows: WindowSet) -> NDArray[np.float32]:
    """Return class probabilities float32[N, C] of raw windows."""
    found = np.zeros((len(windows), len(HEAD_NAMES)), np.float32)
    mask = windows.mask
    for start in range(0, len(windows), 2048):
        part = slice(start, start + 2048)
        found[part] = probabilities_of(network, windows.values[part], mask[part])
    return found


def probabilities_of(network: Network, values: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return class probabilities float32[B, C] of raw windows float32[B, W, F] with their mask."""
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(values), torch.from_numpy(mask)).numpy(), np.float32)
