"""How unlike benign rows a row is: two densities learned from benign training rows alone.

Nearest neighbours (mean distance to five of some thousand benign rows) and a mixture of Gaussians, both over
standardised logarithms of the numbers and the symbols. A classifier is sure of itself where it saw nothing; these are
not. Each score becomes the rarity of such a value among benign validation rows, -log of the share that lies above, and
rarities add up (Fisher), with the network's own as one more term: no weight to choose, no attack needed.
"""

from __future__ import annotations

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
    """Fitted by `fit_density`; `scores` has a column per density, higher = less like benign."""

    encoder: Encoder
    neighbours: Any
    mixture: Any

    def scores(self, table: Table) -> Scores:
        inputs = self.encoder.encode(table)
        found = np.empty((len(table), 2))
        for start in range(0, len(table), 4096):
            part = slice(start, start + 4096)
            found[part, 0] = self.neighbours.kneighbors(inputs[part])[0].mean(axis=1)
            found[part, 1] = -self.mixture.score_samples(inputs[part])
        return found


def fit_density(train: Table, *, seed: int) -> Density:
    """Return the densities of the benign rows among these. The encoder sees all training rows."""
    from sklearn.mixture import GaussianMixture
    from sklearn.neighbors import NearestNeighbors

    encoder = fit_encoder(train, scale="log", least_share=LEAST_SHARE)
    inputs: Inputs = encoder.encode(train.take(~train.attack))
    order = np.random.default_rng(seed).permutation(len(inputs))
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(inputs)), algorithm="brute", n_jobs=1)
    neighbours.fit(inputs[order[:NEIGHBOUR_ROWS]])
    components = max(1, min(COMPONENTS, len(inputs) // 50))
    mixture = GaussianMixture(n_components=components, reg_covar=LEAST_VARIANCE, random_state=seed, max_iter=25)
    mixture.fit(inputs[order[:MIXTURE_ROWS]])
    return Density(encoder, neighbours, mixture)
