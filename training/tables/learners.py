"""Everything that can be set beside each other on a table, under one name each: networks, baselines, `best`.

A fitted learner gives class probabilities. How suspicious a row is comes in several scores, all learned without a test
row: `own`, the learner's log-odds of attack; `with_density` and `with_novelty`, to whose rarity that of the row among
benign ones is added (`density` says by which measures); `novelty`, without the learner. `best` averages a few networks
over several scalings and two forests: they differ most where none was taught.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from training.baselines import CLASSICAL, MOST_ROWS, classical
from training.progress import Progress
from training.shapes import NAMES, PLAIN_NAMES
from training.tables.density import Density, Rarity
from training.tables.encode import Encoder, fit_encoder
from training.tables.sides import Sides
from training.tables.table import BENIGN, Table

BEST: Final = "best"
# Learner, scaling: the quickest network three times, and two forests, which err elsewhere.
BEST_MEMBERS: Final = (
    ("dnn", "rank"), ("dnn", "range"), ("dnn", "log"), ("random forest", "log"), ("extra trees", "log"),
)  # fmt: skip
MOST_EPOCHS: Final = 30  # a small table needs fewer batches than STEPS allows
NETWORKS: Final = (*NAMES, *PLAIN_NAMES)
NETWORK_SCALE: Final = "rank"
BASELINE_SCALE: Final = "log"
# A network reads one column after the other: symbols that fewer rows have than this share get no column of their own.
NETWORK_LEAST_SHARE: Final = 0.002
NO_ATTENTION: Final = "-no-attention"
SCORES: Final = ("own", "with_density", "with_novelty", "novelty")
TINY: Final = 1e-300

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """What is to be told apart: names, benign first, by `label` or by `kind`."""

    names: tuple[str, ...]
    by_kind: bool

    def of(self, table: Table) -> NDArray[np.int64]:
        """Return int64[N]: the place of each row's class, -1 where there is none for it."""
        own = np.where(table.label == BENIGN, BENIGN, table.kind) if self.by_kind else table.label
        place = {name: index for index, name in enumerate(self.names)}
        return np.array([place.get(each, -1) for each in own], dtype=np.int64)


def classes_of(train: Table, *, by_kind: bool) -> Classes:
    """Return the classes these training rows have."""
    found = set((train.kind if by_kind else train.label)[train.attack].tolist())
    return Classes((BENIGN, *sorted(found)), by_kind)


class Fitted(Protocol):
    """A fitted learner; `facts` says what it is: parameters, scale, steps."""

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the learner is; whoever fits it may add to it."""

    def probabilities(self, table: Table) -> Scores:
        """Return float64[N, C]."""


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network and the encoder in front of it."""

    encoder: Encoder
    rows: Any
    facts: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, table: Table) -> Scores:
        return np.asarray(self.rows.probabilities(self.encoder.encode(table)))

    def attention(self, table: Table) -> dict[str, float]:
        """Return the mean attention by encoded column."""
        return dict(zip(self.encoder.names, self.rows.attention(self.encoder.encode(table)).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class FittedBaseline:
    """A scikit-learn classifier whose columns are put at the places of the classes."""

    encoder: Encoder
    model: Any
    count: int
    facts: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, table: Table) -> Scores:
        found = np.zeros((len(table), self.count))
        inputs = self.encoder.encode(table)
        for start in range(0, len(table), 4096):
            part = slice(start, start + 4096)
            if len(inputs[part]):
                found[part, self.model.classes_] = self.model.predict_proba(inputs[part])
        return found


@dataclass(frozen=True, eq=False)
class FittedBest:
    """Several networks and forests; the mean of their probabilities."""

    members: Sequence[Fitted]
    facts: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, table: Table) -> Scores:
        return np.asarray(np.mean([member.probabilities(table) for member in self.members], axis=0))


def fit_learner(name: str, sides: Sides, classes: Classes, *, seed: int, threads: int = 1) -> Fitted:
    """Return the learner of this name, fitted. Raises KeyError for a name there is none of."""
    started = time.process_time()
    fitted: Fitted
    if name == BEST:
        fitted = _fit_best(sides, classes, seed=seed, threads=threads)
    elif name in CLASSICAL:
        fitted = _fit_baseline(name, sides, classes, seed=seed, threads=threads)
    else:
        fitted = fit_network(name, sides, classes, seed=seed, scale=NETWORK_SCALE, threads=threads)
    fitted.facts["fit_cpu_s"] = round(time.process_time() - started, 1)
    return fitted


def _fit_best(sides: Sides, classes: Classes, *, seed: int, threads: int) -> FittedBest:
    members: list[Fitted] = []
    for place, (name, scale) in enumerate(BEST_MEMBERS):
        own_seed = seed * 100 + place
        if name in CLASSICAL:
            members.append(_fit_baseline(name, sides, classes, seed=own_seed, threads=threads))
        else:
            members.append(fit_network(name, sides, classes, seed=own_seed, scale=scale, threads=threads))
    return FittedBest(members, {"members": [list(each) for each in BEST_MEMBERS]})


def fit_network(name: str, sides: Sides, classes: Classes, *, seed: int, scale: str, threads: int = 1) -> FittedNetwork:
    """Return a network taught on the training side and stopped by the validation side. Needs torch."""
    import torch

    from training.networks import build
    from training.tables.fit import STEPS, RowFitSettings, fit_rows

    encoder = fit_encoder(sides.train, scale=scale, least_share=NETWORK_LEAST_SHARE)
    base = name.removesuffix(NO_ATTENTION)
    sizes = {"attention": False} if base != name else {}
    torch.manual_seed(seed)
    network = build(base, layout="row", features=len(encoder.names), classes=len(classes.names), **sizes)
    enough = MOST_EPOCHS * len(sides.train) // RowFitSettings.batch
    settings = RowFitSettings(seed=seed, steps=max(200, min(STEPS[base], enough)), threads=threads)
    with Progress(f"{name} seed {seed}", settings.steps) as progress:
        rows = fit_rows(
            network,
            inputs=encoder.encode(sides.train),
            label=classes.of(sides.train),
            validation_inputs=encoder.encode(sides.validation),
            validation_label=classes.of(sides.validation),
            settings=settings,
            progress=progress,
        )
    facts = {
        "parameters": sum(each.numel() for each in network.parameters()),
        "scale": scale,
        "columns": len(encoder.names),
        "steps": rows.history[-1]["step"] if rows.history else 0,
        "batch": settings.batch,
        "rows_seen_per_row": round(settings.batch * settings.steps / len(sides.train), 1),
        "history": rows.history,
    }
    return FittedNetwork(encoder, rows, facts)


def _fit_baseline(name: str, sides: Sides, classes: Classes, *, seed: int, threads: int) -> FittedBaseline:
    encoder = fit_encoder(sides.train, scale=BASELINE_SCALE, least_share=NETWORK_LEAST_SHARE)
    inputs, label = encoder.encode(sides.train), classes.of(sides.train)
    limit = MOST_ROWS.get(name, len(label))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(label))[:limit])
    model = classical(name, seed=seed, threads=threads).fit(inputs[drawn], label[drawn])
    return FittedBaseline(encoder, model, len(classes.names), {"scale": BASELINE_SCALE, "rows_taught": len(drawn)})


def log_odds(probabilities: Scores) -> Scores:
    """Return the log-odds of attack, with what a sum near 1 would round away kept.

    >>> log_odds(np.array([[0.5, 0.25, 0.25]])).tolist()
    [0.0]
    """
    attack, benign = probabilities[:, 1:].sum(axis=1), probabilities[:, 0]
    return np.asarray(np.log(np.maximum(attack, TINY)) - np.log(np.maximum(benign, TINY)))


@dataclass(frozen=True, eq=False)
class Suspicion:
    """The scores of a fitted learner; rarities are counted among benign validation rows."""

    density: Density
    own: Rarity
    parts: tuple[Rarity, ...]

    @classmethod
    def of(cls, density: Density, validation: Table, probabilities: Scores) -> Suspicion:
        benign = ~validation.attack
        unlike = density.scores(validation.take(benign))
        parts = tuple(Rarity.of(unlike[:, column]) for column in range(unlike.shape[1]))
        return cls(density, Rarity.of(log_odds(probabilities[benign])), parts)

    def scores(self, table: Table, probabilities: Scores) -> dict[str, Scores]:
        """Return SCORES, float64[N] each, rising with suspicion."""
        own, unlike = log_odds(probabilities), self.density.scores(table)
        neighbours, mixture, local = (part(unlike[:, column]) for column, part in enumerate(self.parts))
        rare = self.own(own)
        return {
            "own": own,
            "with_density": rare + neighbours + mixture,
            "with_novelty": rare + local,
            "novelty": local,
        }
