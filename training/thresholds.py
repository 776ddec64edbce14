"""Thresholds of a bundle, chosen on validation windows only.

A class opens an incident above `open` and may earn severity 1 above `severe`. `open` is the highest score that a benign
validation window of real devices, or of the demo, reached (`choosing` reads every one), raised by a small margin in
log-odds; and never below a floor. The lab plays a day of a household in minutes, failed logins and all, so three in a
thousand of its benign windows may lie above. What the sample supports is said with it: nothing seen in n windows bounds
the rate only below 3/n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, HEAD_NAMES
from detection.decide import class_scores

Floats = NDArray[np.floating[Any]]

SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 0.0)
"""Of benign windows: the score each lies at or above goes into the manifest, for gateways to hold their own against."""


@dataclass(frozen=True)
class ThresholdSettings:
    """Shares of a source's benign windows that may lie above before the margin: by source in `tolerated`, of
    sources not named there `tolerated_elsewhere`. Margins are in log-odds."""

    tolerated: Mapping[str, float] = field(default_factory=lambda: {"lab": 3e-3})
    tolerated_elsewhere: float = 0.0
    open_margin: float = 0.05
    severe_margin: float = 2.0
    floor: float = 0.60  # of a threshold as it ships
    interval_floor: float = 0.60  # of one that a gateway moves
    ceiling: float = 0.9995

    def share_of(self, source: str) -> float:
        """Return what is tolerated of a source."""
        return self.tolerated.get(source, self.tolerated_elsewhere)


@dataclass(frozen=True)
class Chosen:
    """Thresholds by class name, the interval calibration may use, and what the benign sample supports."""

    by_class: dict[str, tuple[float, float]]
    interval: tuple[float, float]
    benign_windows: int
    benign_above: int
    benign_scores: dict[str, list[float]] = field(default_factory=dict)

    @property
    def fpr_bound(self) -> float | None:
        """Return the upper bound (95 %) on the benign rate the sample supports: 3/n where none was seen above."""
        if self.benign_windows == 0:
            return None
        return upper_bound(self.benign_above, self.benign_windows)

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        facts: dict[str, Any] = {
            "score": "not benign",
            "thresholds": {name: {"open": low, "severe": high} for name, (low, high) in self.by_class.items()},
            "interval": {"lo": self.interval[0], "hi": self.interval[1]},
        }
        if self.benign_windows:
            facts["benign_scores"] = {
                "windows": self.benign_windows,
                "shares": list(SHARES),
                "quantiles": self.benign_scores,
            }
        return facts


def choose(benign: Mapping[str, Floats], *, settings: ThresholdSettings | None = None) -> Chosen:
    """Return thresholds from the probabilities float32[N, C] of benign validation windows, by their source."""
    how = settings or ThresholdSettings()
    empty = np.zeros((0, len(HEAD_NAMES)), np.float32)
    scores_by_source = {source: class_scores(probabilities) for source, probabilities in benign.items()}
    by_class = {}
    for index, name in enumerate(HEAD_NAMES):
        if index == BENIGN:
            continue
        reached = max(
            (_reached(scores[:, index], how.share_of(source)) for source, scores in scores_by_source.items()),
            default=0.0,
        )
        low = float(np.clip(_raised(reached, how.open_margin), how.floor, how.ceiling))
        high = max(low, min(_raised(low, how.severe_margin), 0.9999))
        by_class[name] = (round(low, 5), round(high, 5))
    probabilities = np.concatenate([empty, *benign.values()])
    return Chosen(
        by_class=by_class,
        interval=(how.interval_floor, max(how.ceiling, *(low for low, _ in by_class.values()))),
        benign_windows=len(probabilities),
        benign_above=int(detected(probabilities, by_class).sum()),
        benign_scores={
            name: tail_of((scores[:, index], how.share_of(source)) for source, scores in scores_by_source.items())
            for index, name in enumerate(HEAD_NAMES)
            if index != BENIGN
        },
    )


def detected(probabilities: Floats, by_class: Mapping[str, tuple[float, float]]) -> NDArray[np.bool_]:
    """Return bool[N]: windows over the `open` threshold of the class they look like, of probabilities float32[N, C]."""
    opens = np.array([np.inf if index == BENIGN else by_class[name][0] for index, name in enumerate(HEAD_NAMES)])
    return np.asarray((class_scores(probabilities) > opens).any(axis=1))


def tail_of(sources: Iterable[tuple[Floats, float]]) -> list[float]:
    """Return, for each of SHARES, the score that share of the benign windows of some source lies at or above.

    A source comes with the share of its windows that is tolerated: what lies above that is not told, and the highest
    source counts, as for the thresholds. Windows of one source must not drown another's.
    """
    found = [[_reached(scores, max(share, tolerated)) for share in SHARES] for scores, tolerated in sources]
    return [round(float(score), 6) for score in np.max(found, axis=0)] if found else []


def _reached(scores: Floats, tolerated: float) -> float:
    """Return the score that a tolerated share of the windows lies above."""
    return float(np.quantile(scores, 1 - tolerated)) if len(scores) else 0.0


def upper_bound(seen: int, trials: int) -> float:
    """Return a one-sided 95 % upper bound on a rate (Wilson with z = 1.645; the rule of three where none was seen).

    >>> upper_bound(0, 3000)
    0.001
    """
    if seen == 0:
        return min(1.0, 3.0 / trials)
    z, share = 1.645, seen / trials
    centre = share + z * z / (2 * trials)
    spread = z * float(np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)))
    return min(1.0, (centre + spread) / (1 + z * z / trials))


def _raised(probability: float, margin: float) -> float:
    """Return the probability whose log-odds are `margin` higher."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return 1.0 / (1.0 + float(np.exp(-(np.log(p / (1 - p)) + margin))))
