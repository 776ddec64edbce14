"""How strange a window is, whatever class it looks like: raw scores, and their calibration to a rate.

A raw score is any number that grows with strangeness. These kinds are made of what the network gives anyway, so that
the graph can give them too (exporter/graph/unknown.py holds the same formulas as ONNX nodes):
    log_odds            log of p(attack) / p(benign): logsumexp of the attack logits less the benign logit
    energy              -logsumexp of all logits: no class claims the window (Liu et al. 2020)
    mahalanobis         squared distance of the embedding to the nearest class mean, shared covariance (Lee et al. 2018)
    benign_mahalanobis  the same to the mean of benign windows alone: one class, told by one Gaussian
    benign_kmeans       squared distance of the embedding to the nearest of KMEANS centres of benign windows
`unknown_compare` sets them beside others; decision 0023 keeps one. Calibration maps a raw score to [0, 1] on benign
validation windows: a score s says that a share 10 ** (-DECADES * s) of them scored as high or higher. So a threshold
means a rate, the same for every network. The trap: beyond what the sample holds (`least_rate`) the tail is an
exponential drawn through its last windows, a belief and no measurement; and the rate is that of the devices it was
calibrated on.

N windows, C classes of the head, E numbers of the embedding, K knots. numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN

Floats = NDArray[np.float32]
Arrays = dict[str, Floats]

KINDS = ("log_odds", "energy", "mahalanobis", "benign_mahalanobis", "benign_kmeans")
DECADES = 5.0  # a score of 1 is a rate of 1e-5: about what a household's windows of a month can tell
KNOT_RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
LEFT_OUT = -1e4  # added to a logit that takes no part; exp of it is 0
RIDGE = 0.1  # of the mean variance: embeddings are nearly flat in some directions, which then outshout the others
KMEANS = 32
NEVER = 1.0  # a threshold that no score is above
TAIL_SHARE = 0.05  # of the weight, whose mean excess gives the slope beyond the sample
LEAST_WINDOWS = 100
TAIL_WINDOWS = 3.0  # fewer windows above a knot tell no rate


@dataclass(frozen=True)
class Outputs:
    """What a network says of N windows: `logits` float32[N, C], `embedding` float32[N, E]."""

    logits: Floats
    embedding: Floats

    def where(self, chosen: NDArray[Any]) -> Outputs:
        return Outputs(self.logits[chosen], self.embedding[chosen])


def fit_raw(kind: str, outputs: Outputs, label: NDArray[np.integer[Any]]) -> Arrays:
    """Return the arrays of a raw score, from training windows. Raises ValueError for a kind that there is not."""
    classes = outputs.logits.shape[1]
    takes_part = np.zeros(classes, np.float32)
    if kind == "energy":
        return {"unknown_against": takes_part}
    if kind == "log_odds":
        attacks, only_benign = takes_part.copy(), np.full(classes, LEFT_OUT, np.float32)
        attacks[BENIGN], only_benign[BENIGN] = LEFT_OUT, 0.0
        return {"unknown_for": attacks, "unknown_against": only_benign}
    if kind == "mahalanobis":
        return _gaussian(outputs.embedding, label)
    benign = outputs.embedding[label == BENIGN]
    if kind == "benign_mahalanobis":
        return _gaussian(benign, np.zeros(len(benign), np.int64))
    if kind == "benign_kmeans":
        return {"unknown_whitening": np.eye(benign.shape[1], dtype=np.float32), "unknown_centres": centres_of(benign)}
    raise ValueError(f"unknown score of kind {kind!r}, wanted one of {', '.join(KINDS)}")


def raw_scores(arrays: Mapping[str, Floats], outputs: Outputs) -> Floats:
    """Return float32[N], larger for stranger windows."""
    if "unknown_centres" in arrays:
        whitened = outputs.embedding @ arrays["unknown_whitening"]
        apart = whitened[:, None, :] - arrays["unknown_centres"][None, :, :]
        return np.asarray(np.square(apart).sum(axis=2).min(axis=1), np.float32)
    raw: Floats = -_log_sum_exp(outputs.logits + arrays["unknown_against"])
    if "unknown_for" in arrays:
        raw = raw + _log_sum_exp(outputs.logits + arrays["unknown_for"])
    return np.asarray(raw, np.float32)


def calibrate(raw: Floats, weight: NDArray[np.floating[Any]]) -> Arrays:
    """Return knots and slopes float32[K] of the map from raw scores of benign windows, each counted by its weight.

    Raises ValueError for fewer than LEAST_WINDOWS: they tell no rate worth the name.
    """
    if len(raw) < LEAST_WINDOWS:
        raise ValueError(
            f"{len(raw)} benign windows cannot calibrate an unknown score, wanted at least {LEAST_WINDOWS}"
        )
    order = np.argsort(-raw, kind="stable")
    falling, share = raw[order].astype(np.float64), np.cumsum(weight[order] / weight.sum())
    rates = [rate for rate in KNOT_RATES if np.searchsorted(share, rate) + 1 >= TAIL_WINDOWS]
    knots = np.array([falling[np.searchsorted(share, rate)] for rate in rates])
    heights = np.array([-np.log10(rate) / DECADES for rate in rates])
    keep = np.append(np.diff(knots) > 1e-6, True)  # of equal knots the rarest counts
    knots, heights = knots[keep], heights[keep]
    tail = falling[: max(np.searchsorted(share, TAIL_SHARE), int(TAIL_WINDOWS))]
    mean_excess = max(float(np.mean(tail - tail[-1])), 1e-6)
    slopes = np.append(np.diff(heights) / np.diff(knots), np.log10(np.e) / mean_excess / DECADES)
    start = knots[0] - heights[0] / slopes[0]  # below the first knot the first slope goes on down to 0
    knots, slopes = np.append(start, knots), np.append(slopes[0], slopes)
    return {
        "unknown_knots": knots.astype(np.float32),
        "unknown_slopes": np.diff(slopes, prepend=0.0).astype(np.float32),
    }


def apply_calibration(arrays: Mapping[str, Floats], raw: Floats) -> Floats:
    """Return float32[N] in [0, 1]."""
    above = np.maximum(raw[:, None] - arrays["unknown_knots"], 0.0)
    return np.asarray(np.clip(above @ arrays["unknown_slopes"], 0.0, 1.0), np.float32)


def unknown_scores(arrays: Mapping[str, Floats], outputs: Outputs) -> Floats:
    """Return the calibrated score float32[N] as the graph gives it."""
    return apply_calibration(arrays, raw_scores(arrays, outputs))


def score_of(rate: float) -> float:
    """Return the score that stands for a share of benign windows.

    >>> round(score_of(0.001), 9)
    0.6
    """
    return float(-np.log10(rate) / DECADES)


def equal_weight(group: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64[N] summing to 1 in which every group (a device, say) counts alike, whatever its windows."""
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[place] / len(count), np.float64)


@dataclass(frozen=True)
class UnknownSettings:
    """How the threshold is chosen: `rate` of a benign device's windows, `tolerated` of the lab's, which are provoked;
    `margin` above the highest score of a benign validation window of real devices, in decades of rate."""

    kind: str = "benign_mahalanobis"
    rate: float = 1e-3
    tolerated: float = 1e-3
    margin: float = 0.3
    severe: float = 0.98


def fit_unknown(
    training: Outputs, label: NDArray[np.integer[Any]], benign: Mapping[str, Outputs], *, settings: UnknownSettings
) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of the calibrated score and what is to be told of it.

    `benign` holds validation windows of real devices by device; they calibrate, each device counting alike.
    """
    arrays = fit_raw(settings.kind, training, label)
    raw = {device: raw_scores(arrays, outputs) for device, outputs in benign.items() if len(outputs.logits)}
    whole = np.concatenate(list(raw.values())) if raw else np.zeros(0, np.float32)
    group = np.repeat(np.arange(len(raw)), [len(each) for each in raw.values()])
    arrays |= calibrate(whole, equal_weight(group))
    told = {
        "kind": settings.kind,
        "calibrated_on": {"devices": sorted(raw), "windows": len(whole)},
        "least_rate": TAIL_WINDOWS / len(whole),
        "decades": DECADES,
    }
    return arrays, told


def choose_threshold(real: Floats, lab: Floats, *, settings: UnknownSettings) -> dict[str, float]:
    """Return `open` and `severe` from calibrated scores of benign validation windows of real devices and of the lab.

    Where benign windows reach the end of the scale (calibrated on one quiet device, say, a busy home does) no threshold
    would hold, and `open` is NEVER.
    """
    reached = [score_of(settings.rate)]
    if len(real):
        reached.append(float(real.max()) + settings.margin / DECADES)
    if len(lab):
        reached.append(float(np.quantile(lab, 1 - settings.tolerated)))
    if max(reached) > settings.severe:
        return {"open": NEVER, "severe": NEVER}
    return {"open": round(max(reached), 4), "severe": settings.severe}


def _gaussian(embedding: Floats, label: NDArray[np.integer[Any]]) -> Arrays:
    """Return `unknown_whitening` [E, E] and `unknown_centres` [classes seen, E]; each class counts alike."""
    classes = np.unique(label)
    means = np.stack([embedding[label == c].mean(axis=0) for c in classes]).astype(np.float64)
    centred = [embedding[label == c] - mean for c, mean in zip(classes, means, strict=True)]
    covariance = np.mean([each.T @ each / len(each) for each in centred], axis=0)
    covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    return {
        "unknown_whitening": whitening.astype(np.float32),
        "unknown_centres": (means @ whitening).astype(np.float32),
    }


def centres_of(rows: Floats, *, count: int = KMEANS, rounds: int = 30) -> Floats:
    """Return float32[count, E]: centres of rows by Lloyd's rounds from seeds drawn far apart (k-means++)."""
    rng = np.random.default_rng(0)
    centres = rows[rng.integers(len(rows))][None]
    while len(centres) < count:
        nearest = squared_distances(rows, centres).min(axis=1)
        chance = nearest / nearest.sum() if nearest.sum() > 0 else None
        centres = np.vstack([centres, rows[rng.choice(len(rows), p=chance)]])
    for _ in range(rounds):
        own = squared_distances(rows, centres).argmin(axis=1)
        centres = np.stack([rows[own == c].mean(axis=0) if (own == c).any() else centres[c] for c in range(count)])
    return np.asarray(centres, np.float32)


def squared_distances(rows: Floats, centres: Floats) -> NDArray[np.float64]:
    """Return float64[N, K]: squared distances."""
    wide, at = rows.astype(np.float64), centres.astype(np.float64)
    apart: NDArray[np.float64] = (wide**2).sum(axis=1)[:, None] - 2 * wide @ at.T + (at**2).sum(axis=1)
    return np.maximum(apart, 0.0)


def _log_sum_exp(logits: Floats) -> Floats:
    largest = logits.max(axis=1, keepdims=True)
    return np.asarray(largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1)), np.float32)
