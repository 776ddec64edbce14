"""Many updates, one delta: strategies by name, each from float64[n, k] (a row per gateway) to float64[k].

    fedavg          mean weighted by examples (McMahan et al., AISTATS 2017), weights capped at CAP times the median
                    one: examples are a gateway's word
    fedmedian       the median of each number (Yin et al., ICML 2018)
    fedtrimmedavg   the mean of each number without its TRIMMED share at either end (likewise)
All gateways of a round send the same places, so numbers of one column mean the same. Trap: under strong heterogeneity
the median forgets what few gateways know; the trimmed mean is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TRIMMED: Final = 0.2
CAP: Final = 4.0
DEFAULT: Final = "fedtrimmedavg"


def fedavg(values: Floats, examples: NDArray[np.int64]) -> Floats:
    """Return the mean, weighted by examples as far as they are believed."""
    weight = np.minimum(examples, CAP * np.median(examples)).astype(np.float64)
    mean: Floats = (values * weight[:, None]).sum(axis=0) / weight.sum()
    return mean


def fedmedian(values: Floats, examples: NDArray[np.int64]) -> Floats:
    """Return the median of every number; examples do not count."""
    middle: Floats = np.median(values, axis=0)
    return middle


def fedtrimmedavg(values: Floats, examples: NDArray[np.int64]) -> Floats:
    """Return the mean of every number without the least and most; of three and more at least one goes at either end."""
    count = len(values)
    cut = max(int(TRIMMED * count), 1 if count >= 3 else 0)
    mean: Floats = np.sort(values, axis=0)[cut : count - cut].mean(axis=0)
    return mean


STRATEGIES: Final[Mapping[str, Callable[[Floats, NDArray[np.int64]], Floats]]] = {
    "fedavg": fedavg,
    "fedmedian": fedmedian,
    "fedtrimmedavg": fedtrimmedavg,
}


def likeness(values: Floats, delta: Floats) -> list[float]:
    """Return each row's cosine with the delta, 0 where either is zero: who points elsewhere is worth a look."""
    lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(delta)
    cosines = np.divide(values @ delta, lengths, out=np.zeros(len(values)), where=lengths > 0)
    return [round(float(each), 4) for each in cosines]
