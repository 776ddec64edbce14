"""The columns that said so: each in turn set to its benign median."""

from __future__ import annotations

import numpy as np

from contracts.classes import BENIGN, NAMES
from detection.engine import Scores
from detection.explain import Explainer
from flowfeatures import WINDOW_COLUMNS
from tests.detection.windows import C, F, W

SCAN = NAMES.index("scan")


class WeightedEngine:
    """p(scan) = a weighted sum of column means over the records, so each column's fall is known by hand."""

    name = provider = "weighted"

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = np.zeros(F, np.float32)
        for column, weight in weights.items():
            self.weights[WINDOW_COLUMNS.index(column)] = weight

    def score(self, windows, mask):
        means = (windows * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        probabilities = np.zeros((len(windows), C), np.float32)
        probabilities[:, SCAN] = means @ self.weights
        probabilities[:, BENIGN] = 1 - probabilities[:, SCAN]
        return Scores(probabilities, *(np.zeros((len(windows), 1), np.float32),) * 3)


def window(records: int, value: float) -> tuple[np.ndarray, np.ndarray]:
    values, mask = np.zeros((W, F), np.float32), np.zeros(W, np.float32)
    values[:records], mask[:records] = value, 1.0
    return values, mask


def test_the_three_largest_falls_are_named_largest_first():
    weights = {"syn_packets": 0.125, "ports_10s": 0.5, "failed_60s": 0.25, "duration_us": 0.0625}
    explainer = Explainer(WeightedEngine(weights), [0.0] * F)

    top = explainer.top_columns(*window(5, 1.0), class_index=SCAN)

    assert top == (("ports_10s", 0.5), ("failed_60s", 0.25), ("syn_packets", 0.125))


def test_the_fall_is_measured_to_the_benign_median_not_to_zero():
    medians = np.zeros(F)
    medians[WINDOW_COLUMNS.index("ports_10s")] = 0.75
    explainer = Explainer(WeightedEngine({"ports_10s": 1.0}), medians.tolist())

    top = explainer.top_columns(*window(5, 1.0), class_index=SCAN)

    assert top == (("ports_10s", 0.25),)


def test_where_the_bundle_says_so_the_fall_is_of_what_is_not_benign():
    class TornEngine(WeightedEngine):
        """Half of what WeightedEngine calls a scan is called a flood."""

        def score(self, windows, mask):
            scores = super().score(windows, mask)
            scores.probabilities[:, SCAN] /= 2
            scores.probabilities[:, SCAN + 1] = scores.probabilities[:, SCAN]
            return scores

    engine, arguments = TornEngine({"ports_10s": 0.5}), window(5, 1.0)

    assert Explainer(engine, [0.0] * F).top_columns(*arguments, class_index=SCAN) == (("ports_10s", 0.25),)
    whole = Explainer(engine, [0.0] * F, score="not benign")
    assert whole.top_columns(*arguments, class_index=SCAN) == (("ports_10s", 0.5),)


def test_a_column_without_which_the_score_rises_did_not_say_so():
    explainer = Explainer(WeightedEngine({"ports_10s": -0.5}), [0.0] * F)

    assert explainer.top_columns(*window(1, 1.0), class_index=SCAN) == ()


def test_rows_without_a_record_stay_empty():
    seen = []

    class Spy(WeightedEngine):
        def score(self, windows, mask):
            seen.append((windows.copy(), mask.copy()))
            return super().score(windows, mask)

    Explainer(Spy({}), [7.0] * F).top_columns(*window(2, 1.0), class_index=SCAN)

    ((windows, mask),) = seen
    assert windows.shape == (1 + F, W, F)
    assert not windows[:, 2:].any()
    assert (mask[:, :2] == 1).all()
    assert not mask[:, 2:].any()
