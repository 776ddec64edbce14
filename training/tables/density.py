"""How unlike benign rows a row is: three scores learned from benign training rows alone.

`neighbours` (mean distance to five of some thousand benign rows) and `mixture` (of Gaussians) work on standardised
logarithms. `local` is the distance to the nearest benign rows over the distance those have among themselves, on ranks
among benign rows: a short odd flow among many alike is far from them although a long flow is far from everything.
A classifier is sure of itself where it saw nothing; these
are not. Each becomes the rarity of such a value among benign validation rows, -log of the share that lies above, and
rarities add up (Fisher), with the network's own as one more term: no weight to choose, no attack needed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.tables.encode import Encoder, Inputs, fit_encoder
from training.tables.table import Table

NEIGHBOURS = 5
NEIGHBOUR_ROWS = 8000
MIXTURE_ROWS = 10_000
COMPONENTS = 15
LOCAL_ROWS = 6000
LOCAL_NEIGHBOURS = 20
LOCAL_OFFSET = 1e-3  # many benign rows are equal: a distance of nothing must not be a scale
NAMES = ("neighbours", "mixture", "local")
LEAST_VARIANCE = 1e-3  # of a component: columns that never move among benign rows must not decide alone
LEAST_SHARE = 0.001

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rarity:
    """Turns a score into -log of the share of benign rows that score as high."""

    benign: Scores

    @classmethod
    def of(cls, benign: Scores) -> Rarity:
        return cls(np.sort(np.asarray(benign, dtype=np.float64)))

    def __call__(self, scores: Scores) -> Scores:
        above = len(self.benign) - np.searchsorted(self.benign, scores, side="left")
        return np.asarray(-np.log((above + 0.5) / (len(self.benign) + 1)), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Density:
    """Fitted by `fit_density`; `scores` has a column for each of NAMES, higher = less like benign."""

    encoder: Encoder
    ranks: Encoder
    neighbours: Any
    mixture: Any
    local: Local

    def scores(self, table: Table) -> Scores:
        inputs, ranks = self.encoder.encode(table), self.ranks.encode(table)
        found = np.empty((len(table), len(NAMES)))
        for start in range(0, len(table), 4096):
            part = slice(start, start + 4096)
            if not len(inputs[part]):
                continue
            found[part, 0] = self.neighbours.kneighbors(inputs[part])[0].mean(axis=1)
            found[part, 1] = -self.mixture.score_samples(inputs[part])
            found[part, 2] = self.local(ranks[part])
        return found


@dataclass(frozen=True, eq=False)
class Local:
    """Log of a row's distance to its nearest benign rows over what those have to theirs."""

    index: Any
    own: Scores

    @classmethod
    def of(cls, benign: Inputs) -> Local:
        from sklearn.neighbors import NearestNeighbors

        apart = np.unique(benign, axis=0)
        count = max(1, min(LOCAL_NEIGHBOURS, len(apart) - 1))
        index = NearestNeighbors(n_neighbors=count, algorithm="brute", n_jobs=1).fit(apart)
        # Without a query a row is not its own neighbour.
        return cls(index, index.kneighbors()[0][:, :NEIGHBOURS].mean(axis=1))

    def __call__(self, inputs: Inputs) -> Scores:
        distance, places = self.index.kneighbors(inputs)
        near, scale = distance[:, :NEIGHBOURS].mean(axis=1), self.own[places].mean(axis=1)
        return np.asarray(np.log(near + LOCAL_OFFSET) - np.log(scale + LOCAL_OFFSET))


def fit_density(train: Table, *, seed: int) -> Density:
    """Return the scores learned from the benign rows among these. The first encoder sees all training rows."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from sklearn.neighbors import NearestNeighbors

    benign = train.take(~train.attack)
    encoder = fit_encoder(train, scale="log", least_share=LEAST_SHARE)
    ranks = fit_encoder(benign, scale="rank", least_share=LEAST_SHARE)
    inputs, ranked = encoder.encode(benign), ranks.encode(benign)
    order = np.random.default_rng(seed).permutation(len(inputs))
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(inputs)), algorithm="brute", n_jobs=1)
    neighbours.fit(inputs[order[:NEIGHBOUR_ROWS]])
    components = max(1, min(COMPONENTS, len(inputs) // 50))
    mixture = GaussianMixture(n_components=components, reg_covar=LEAST_VARIANCE, random_state=seed, max_iter=25)
    with warnings.catch_warnings():
        # A mixture that would still move a little after some rounds is as good a density.
        warnings.simplefilter("ignore", category=ConvergenceWarning)
        mixture.fit(inputs[order[:MIXTURE_ROWS]])
    return Density(encoder, ranks, neighbours, mixture, Local.of(ranked[order[:LOCAL_ROWS]]))
