"""What a forest and boosted trees make of the same windows: is the network worth its keep?

They see each window flattened: the newest row, the mean and the largest value of each column over its rows, and the
number of rows, all scaled as the network sees them. Same split, same sampling weights, thresholds chosen by the same
rule. Needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.classes import HEAD_NAMES
from training.datasets import WindowSet
from training.fit import sampling_weights, scale_all
from training.scaling import Scaling


class Classifier(Protocol):
    """A fitted baseline."""

    name: str

    def probabilities(self, windows: WindowSet) -> NDArray[np.float32]:
        """Return class probabilities float32[N, C]."""


def flatten(windows: WindowSet, scaling: Scaling) -> NDArray[np.float32]:
    """Return float32[N, 3F + 1]: newest row, mean and maximum over the rows, number of rows."""
    scaled = scale_all(windows, scaling).astype(np.float32)
    rows = windows.lengths[:, None].astype(np.float32)
    newest = scaled[np.arange(len(scaled)), windows.lengths - 1]
    largest = np.where(windows.mask[:, :, None] > 0, scaled, -np.inf).max(axis=1)
    return np.hstack([newest, scaled.sum(axis=1) / rows, largest, rows])


def fit_baselines(train: WindowSet, scaling: Scaling, *, seed: int, threads: int = 1) -> Iterator[Classifier]:
    """Give each baseline, fitted on the training windows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    chances = sampling_weights(train, benign_share=0.5)
    inputs, weights = flatten(train, scaling), chances * len(train)
    models: dict[str, Any] = {
        "random forest (200 trees)": RandomForestClassifier(
            200, min_samples_leaf=3, max_features="sqrt", n_jobs=threads, random_state=seed
        ),
        "gradient boosting (150 rounds)": HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.1, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
        ),
    }
    for name, model in models.items():
        model.fit(inputs, train.label, sample_weight=weights)
        yield _Fitted(name, model, scaling)


class _Fitted:
    """A scikit-learn model whose columns are put at the places of the head's classes."""

    def __init__(self, name: str, model: Any, scaling: Scaling) -> None:
        self.name = name
        self._model, self._scaling = model, scaling

    def probabilities(self, windows: WindowSet) -> NDArray[np.float32]:
        found = np.zeros((len(windows), len(HEAD_NAMES)), dtype=np.float32)
        if len(windows):
            found[:, self._model.classes_] = self._model.predict_proba(flatten(windows, self._scaling))
        return found
