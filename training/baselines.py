"""What nine classical learners make of the same rows or windows: is the network worth its keep?

`classical` names them; over windows the two strongest kinds stand beside the networks unless others are asked for. They
see each window flattened: the newest row, the mean and the largest value of each column over its rows, and the
number of rows, all scaled as the network sees them. Same split, same sampling weights, thresholds chosen by the same
rule. Needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.classes import HEAD_NAMES
from training.datasets import WindowSet
from training.scaling import Scaling


class Classifier(Protocol):
    """A fitted baseline."""

    name: str

    def probabilities(self, windows: WindowSet) -> NDArray[np.float32]:
        """Return class probabilities float32[N, C]."""


def flatten(windows: WindowSet, scaling: Scaling) -> NDArray[np.float32]:
    """Return float32[N, 3F + 1]: newest row, mean and maximum over the rows, number of rows."""
    from training.fit import scale_all  # brings torch, which tables' classical learners do without

    scaled = scale_all(windows, scaling).astype(np.float32)
    rows = windows.lengths[:, None].astype(np.float32)
    newest = scaled[np.arange(len(scaled)), windows.lengths - 1]
    largest = np.where(windows.mask[:, :, None] > 0, scaled, -np.inf).max(axis=1)
    return np.hstack([newest, scaled.sum(axis=1) / rows, largest, rows])


FOREST: Final = "random forest"
BOOSTING: Final = "gradient boosting"
CLASSICAL: Final = (
    FOREST, "extra trees", BOOSTING, "knn", "svm", "naive bayes", "logistic regression", "decision tree", "mlp",
)  # fmt: skip
SVM_LANDMARKS = 300
# Rows a learner is given at most: a neighbour search over more takes longer than all the others together.
MOST_ROWS: Final = {"knn": 30_000, "svm": 30_000}
WITHOUT_WEIGHTS: Final = frozenset({"knn", "svm", "mlp"})  # scikit-learn takes no sample weights there


def classical(name: str, *, seed: int, threads: int = 1) -> Any:
    """Return an unfitted scikit-learn classifier, one of CLASSICAL, with `predict_proba`.

    The svm is a linear one over an approximation of the RBF kernel; its probabilities are its margins put through a
    softmax, so they rank rows and are not calibrated.
    """
    return _makers()[name](seed, threads)


def _makers() -> dict[str, Callable[[int, int], Any]]:
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    return {
        FOREST: lambda seed, threads: RandomForestClassifier(n_estimators=100, n_jobs=threads, random_state=seed),
        "extra trees": lambda seed, threads: ExtraTreesClassifier(n_estimators=100, n_jobs=threads, random_state=seed),
        BOOSTING: lambda seed, _: HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.1, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
        ),
        "knn": lambda _, threads: KNeighborsClassifier(n_neighbors=5, algorithm="brute", n_jobs=threads),
        "svm": lambda seed, _: _svm(seed),
        "naive bayes": lambda _seed, _threads: GaussianNB(var_smoothing=1e-3),
        "logistic regression": lambda seed, _: make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=200, random_state=seed)
        ),
        "decision tree": lambda seed, _: DecisionTreeClassifier(random_state=seed),
        "mlp": lambda seed, _: _mlp(seed),
    }


def _mlp(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    # Ends by itself once a tenth of its rows, held back, is told no better.
    return MLPClassifier(
        hidden_layer_sizes=(100,), early_stopping=True, n_iter_no_change=8, max_iter=200, batch_size=64,
        learning_rate_init=3e-3, random_state=seed,
    )  # fmt: skip


def _svm(seed: int) -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    features = Nystroem(n_components=SVM_LANDMARKS, gamma=0.02, random_state=seed)
    return _WithMargins(make_pipeline(StandardScaler(), features, LinearSVC(C=10.0, random_state=seed)))


class _WithMargins:
    """A classifier without probabilities: its margins through a softmax stand for them."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def classes_(self) -> NDArray[np.int64]:
        return np.asarray(self._model.classes_)

    def fit(self, inputs: NDArray[np.float32], label: NDArray[np.int64]) -> Any:
        self._model.fit(inputs, label)
        return self

    def predict_proba(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        margins = np.asarray(self._model.decision_function(inputs), dtype=np.float64)
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        raised = np.exp(margins - margins.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_baselines(
    train: WindowSet,
    scaling: Scaling,
    *,
    seed: int,
    threads: int = 1,
    names: Sequence[str] | None = None,
) -> Iterator[Classifier]:
    """Give each baseline, fitted on the training windows: a forest and boosted trees, or those of CLASSICAL named."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    from training.fit import sampling_weights

    chances = sampling_weights(train, benign_share=0.5)
    inputs, weights = flatten(train, scaling), chances * len(train)
    models: dict[str, Any]
    if names is not None:
        models = {name: classical(name, seed=seed, threads=threads) for name in names}
    else:
        models = {
            "random forest (200 trees)": RandomForestClassifier(
                200, min_samples_leaf=3, max_features="sqrt", n_jobs=threads, random_state=seed
            ),
            "gradient boosting (150 rounds)": HistGradientBoostingClassifier(
                max_iter=150, learning_rate=0.1, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
            ),
        }
    for name, model in models.items():
        yield _Fitted(name, _fit_weighted(name, model, inputs, train.label, weights, seed=seed), scaling)


def _fit_weighted(
    name: str,
    model: Any,
    inputs: NDArray[np.float32],
    label: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    seed: int,
) -> Any:
    """Fit with sample weights, or on windows drawn by them where the learner takes none."""
    if name in WITHOUT_WEIGHTS:
        count = min(len(label), MOST_ROWS.get(name, len(label)))
        drawn = np.random.default_rng(seed).choice(len(label), count, p=weights / weights.sum())
        return model.fit(inputs[drawn], label[drawn])
    if name == "logistic regression":
        return model.fit(inputs, label, logisticregression__sample_weight=weights)
    return model.fit(inputs, label, sample_weight=weights)


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
