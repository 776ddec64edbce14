"""Many updates, one delta: strategies by name, each from float64[n, k] (a row per gateway) to float64[k].

    fedavg          mean weighted by examples (McMahan et al., AISTATS 2017), weights capped at CAP times the median
                    one: examples are a gateway's word
    fedmedian       the median of each number (Yin et al., ICML 2018)
    fedtrimmedavg   the mean of each number without its TRIMMED share at either end (likewise)
These three are computed here where Flower is not installed, and by Flower where it is; `fedprox`, `fedadam`, `krum` and
`bulyan` are Flower's alone (`flower.py`). All gateways of a round send the same places, so numbers of one column mean
the same. Trap: under strong heterogeneity the median forgets what few gateways know; the trimmed mean is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.aggregator import flower

Floats = NDArray[np.float64]
TRIMMED: Final = 0.2
CAP: Final = 4.0
DEFAULT: Final = "fedtrimmedavg"
FAR_LONGER: Final = 3.0  # than the median norm: worth a look


def fedavg(values: Floats, examples: NDArray[np.int64]) -> Floats:
    """Return the mean, weighted by examples as far as they are believed."""
    weight = believed(examples).astype(np.float64)
    mean: Floats = (values * weight[:, None]).sum(axis=0) / weight.sum()
    return mean


def fedmedian(values: Floats, examples: NDArray[np.int64]) -> Floats:
    """Return the median of every number; examples do not count."""
    middle: Floats = np.median(values, axis=0)
    return middle


def fedtrimmedavg(values: Floats, examples: NDArray[np.int64]) -> Floats:
    """Return the mean of every number without the least and most; of three and more at least one goes at either end."""
    cut = trimmed(len(values))
    mean: Floats = np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)
    return mean


def trimmed(count: int) -> int:
    """Return how many of so many are left out at either end."""
    return max(int(TRIMMED * count), 1 if count >= 3 else 0)


def believed(examples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the examples as far as they are believed: up to CAP times the median."""
    return np.minimum(examples, np.ceil(CAP * np.median(examples))).astype(np.int64)


STRATEGIES: Final[Mapping[str, Callable[[Floats, NDArray[np.int64]], Floats]]] = {
    "fedavg": fedavg,
    "fedmedian": fedmedian,
    "fedtrimmedavg": fedtrimmedavg,
}


class Merged(NamedTuple):
    """What became of a round's updates: the delta float64[k], what the strategy remembers, and who computed it."""

    delta: Floats
    memory: flower.Memory
    by: str


def merge(
    name: str, values: Floats, examples: NDArray[np.int64], *, round_number: int, memory: flower.Memory
) -> Merged:
    """Return what a strategy makes of updates. Raises MissingExtra for one that wants Flower where it is not there."""
    if name in STRATEGIES and not flower.is_installed():
        return Merged(STRATEGIES[name](values, examples), {}, "penstock")
    delta, remembered = flower.aggregate(
        name, values, believed(examples), round_number=round_number, memory=memory, trimmed=trimmed(len(values))
    )
    return Merged(delta, remembered, "flwr")


def unusual(norms: Mapping[str, float], alike: Mapping[str, float]) -> list[str]:
    """Return the gateways whose update is far longer than the median one, or points against the delta."""
    middle = float(np.median(list(norms.values()))) if norms else 0.0
    return sorted(name for name in norms if norms[name] > FAR_LONGER * middle or alike[name] < 0.0)


def likeness(values: Floats, delta: Floats) -> list[float]:
    """Return each row's cosine with the delta, 0 where either is zero: who points elsewhere is worth a look."""
    lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(delta)
    cosines = np.divide(values @ delta, lengths, out=np.zeros(len(values)), where=lengths > 0)
    return [round(float(each), 4) for each in cosines]
