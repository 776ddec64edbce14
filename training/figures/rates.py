"""Rates over windows and incidents, each with the bound its sample supports.

Bounds are at 95 %. The trap: they count windows as if each were drawn by itself, while windows of one capture resemble
each other; the true uncertainty is wider. Spread over captures and seeds is told beside them where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.thresholds import upper_bound

FALSE_RATES = (1e-2, 1e-3, 1e-4)
TWO_SIDED_Z = 1.96

Array = NDArray[Any]


def wilson_bounds(hits: int, trials: int) -> list[float] | None:
    """Return the two-sided 95 % interval of a share (Wilson 1927); None without trials.

    >>> [round(bound, 3) for bound in wilson_bounds(8, 10)]
    [0.49, 0.943]
    """
    if trials == 0:
        return None
    z, share = TWO_SIDED_Z, hits / trials
    centre = share + z * z / (2 * trials)
    spread = z * float(np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)))
    scale = 1 + z * z / trials
    return [max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)]


def poisson_upper_bound(seen: int) -> float:
    """Return a one-sided 95 % upper bound on the mean of a Poisson count: 3 for none seen, else Byar's."""
    if seen == 0:
        return 3.0
    more = seen + 1
    return float(more * (1 - 1 / (9 * more) + 1.645 / (3 * more**0.5)) ** 3)


def auc(attack: Array, benign: Array) -> float | None:
    """Return the chance that an attack window scores above a benign one, ties counting half; None without both.

    >>> auc(np.array([0.9, 0.4]), np.array([0.1, 0.4]))
    0.875
    """
    if not len(attack) or not len(benign):
        return None
    ordered = np.sort(benign)
    below = np.searchsorted(ordered, attack, side="left")
    not_above = np.searchsorted(ordered, attack, side="right")
    return float((below + not_above).mean() / 2 / len(benign))


def tpr_at_fpr(attack: Array, benign: Array, *, rates: Sequence[float] = FALSE_RATES) -> dict[str, dict[str, Any]]:
    """Return by false rate the share of attack scores above the threshold that lets no more benign ones pass.

    `threshold` is a benign score: what lies above counts. `benign_above` of the sample lie above it, which bounds the
    true false rate by `fpr_upper_bound`; `is_supported` says that the sample is large enough to tell that rate at all
    (three windows or more would be expected above). `tpr` is None without attack or without benign scores.

    >>> told = tpr_at_fpr(np.array([0.2, 0.9]), np.linspace(0, 0.5, 101), rates=[1e-2])["0.01"]
    >>> told["tpr"], told["benign_above"]
    (0.5, 1)
    """
    return {f"{rate:g}": _at(attack, benign, rate) for rate in rates}


def threshold_at(benign: Array, rate: float) -> float | None:
    """Return the least benign score above which at most a share `rate` of the benign scores lies; None without any."""
    if not len(benign):
        return None
    allowed = int(rate * len(benign) + 1e-9)
    return float(np.sort(benign)[len(benign) - 1 - allowed])


def share(hits: Array) -> float | None:
    """Return the share of True; None of nothing."""
    return float(np.mean(hits)) if len(hits) else None


def quantile(values: Sequence[float], at: float) -> float | None:
    """Return a quantile; None of nothing."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), at)) if len(values) else None


def mean_and_spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Return mean, standard deviation (n - 1), least and most over seeds, passing over None."""
    seen = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(seen):
        return {"n": 0, "mean": None, "std": None, "least": None, "most": None}
    std = float(seen.std(ddof=1)) if len(seen) > 1 else None
    ends = {"least": float(seen.min()), "most": float(seen.max())}
    return {"n": len(seen), "mean": float(seen.mean()), "std": std, **ends}


def _at(attack: Array, benign: Array, rate: float) -> dict[str, Any]:
    threshold = threshold_at(benign, rate)
    if threshold is None:
        return {"tpr": None, "tpr_bounds": None, "threshold": None, "benign_above": 0, "fpr_upper_bound": None,
                "is_supported": False}  # fmt: skip
    above = int((benign > threshold).sum())
    found = int((attack > threshold).sum())
    return {
        "tpr": found / len(attack) if len(attack) else None,
        "tpr_bounds": wilson_bounds(found, len(attack)),
        "threshold": threshold,
        "benign_above": above,
        "fpr_upper_bound": upper_bound(above, len(benign)),
        "is_supported": bool(rate * len(benign) >= 3),
    }
