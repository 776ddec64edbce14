"""Thresholds moved to where the agent stands: inside the manifest's interval, only as far as its sample supports.

One number per group moves every threshold of the group, in log-odds: the shift. It rises where the incidents of the
last days, counted as `budget` counts them, exceed the budget beyond doubt. It falls where the sample shows, beyond
doubt, that fewer than the budget would follow; never so far that a benign window of the bundle's own hold-out would
open one. Until the sample holds `windows_wanted` windows nothing moves. The trap: what is near incidents never enters
the sample, and what does enter can only keep a threshold from falling; so an attacker that was there from the first
hour is held to the shipped thresholds, never to ones learnt from it. And none rises beyond the second one, `severe`.

Judged at full hours, on the clock of the windows. State is plain values, and one bundle's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.bundle import Bundle, Manifest
from contracts.classes import NAMES, UNKNOWN
from detection.budget import GROUPS, LOOK_BACK_DAYS, Budget, BudgetState, Group
from detection.decide import LARGEST, Thresholds, log_odds, probability_of
from detection.drift import Drift, DriftState
from detection.engine import Scores
from detection.incidents import EARNED_SEVERITY, IncidentUpdate
from detection.rates import least, most, share_bound
from detection.sample import HOUR_US, KEEP_HOURS, HourState, Margin, Sample
from detection.state import StrictState, checked
from flowfeatures import WindowBatch

LEAST_BREADTH: Final = 4
BREADTH_SHARE: Final = 0.25  # of the devices there are
STEP: Final = 0.005  # beyond the incident that a threshold is to keep back; a shift has three decimals
WHAT: Final = "calibration state"
OF_GROUP: Final[Mapping[Group, slice]] = {"known": slice(0, UNKNOWN), "unknown": slice(UNKNOWN, UNKNOWN + 1)}


class CalibrationState(StrictState):
    """Everything a restart brings back."""

    format: Literal[1] = 1
    manifest_sha256: Annotated[str, Field(max_length=64)]
    shifts: dict[Group, Margin]
    judged_hour: Annotated[int, Field(ge=0, le=1 << 40)]
    hours: Annotated[list[HourState], Field(max_length=KEEP_HOURS)]
    budget: BudgetState
    drift: DriftState


@dataclass(frozen=True, kw_only=True)
class CalibrationStatus:
    """What can be said of the thresholds here.

    `threshold` is the highest score at which a known class opens now, between `threshold_low` and `threshold_high`.
    `false_positive_bound` is the share of windows, each the nearest of a device's five minutes, that opens a false
    incident at most (95 %): 3/n where none did; None without windows. `per_day` are incidents a day nobody called
    malicious, `per_day_bound` their 95 % bound. `reason` is one line for a person.
    """

    state: Literal["off", "calibrating", "calibrated", "drift"]
    windows: int
    windows_wanted: int
    threshold: float
    threshold_low: float
    threshold_high: float
    false_positive_bound: float | None
    budget_per_day: float
    spent_today: float
    drifts: int
    per_day: float | None
    per_day_bound: float | None
    shift: float
    shift_unknown: float
    over_budget: bool
    reason: str


class Calibrator:
    """Thresholds of one bundle at one place. `budget_per_day` are false incidents, of all devices together."""

    def __init__(self, bundle: Bundle, *, budget_per_day: float = 1.0, windows_wanted: int = 1000) -> None:
        self._manifest_sha256 = bundle.manifest_sha256
        self._shipped = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
        self._low, self._high = _interval(bundle.manifest, self._shipped)
        self._lowest = {group: _hold_out_shift(bundle.manifest, self._shipped, group) for group in GROUPS}
        self._groups = [group for group in GROUPS if self._able(group).any()]
        self.budget_per_day = budget_per_day
        self.windows_wanted = windows_wanted
        self._sample, self._budget, self._drift = Sample(), Budget(), Drift()
        self._shifts: dict[Group, float] = dict.fromkeys(GROUPS, 0.0)
        self._judged_hour = 0
        self._now_us = 0
        self.thresholds = self._shipped
        """Those in force; replaced when they move."""

    @classmethod
    def restored(
        cls, state: Mapping[str, Any], bundle: Bundle, *, budget_per_day: float = 1.0, windows_wanted: int = 1000
    ) -> Calibrator:
        """Return what `state` was made of; a new calibrator where that was another bundle's.

        Raises StateRefused where it is not what `state` gave.
        """
        seen = checked(CalibrationState, state, what=WHAT)
        made = cls(bundle, budget_per_day=budget_per_day, windows_wanted=windows_wanted)
        if seen.manifest_sha256 == bundle.manifest_sha256:
            made._sample, made._budget, made._drift = Sample(seen.hours), Budget(seen.budget), Drift(seen.drift)
            made._judged_hour = seen.judged_hour
            made._set({group: seen.shifts.get(group, 0.0) for group in GROUPS})
        return made

    def state(self) -> dict[str, Any]:
        """Return what `restored` takes: numbers, texts, lists and dicts, below 1 MiB as JSON."""
        return CalibrationState(
            manifest_sha256=self._manifest_sha256,
            shifts=self._shifts,
            judged_hour=self._judged_hour,
            hours=self._sample.hours(),
            budget=self._budget.state(),
            drift=self._drift.state(),
        ).model_dump()

    def observe(self, batch: WindowBatch, scores: Scores) -> None:
        """Take what a batch of windows scored."""
        margins = self._shipped.margins(scores)
        for due_us in np.unique(batch.due_us).tolist():
            rows = np.flatnonzero(batch.due_us == due_us).tolist()
            devices = [bytes(batch.device[row]) for row in rows]
            self._sample.add(due_us, devices, margins.known[rows].tolist(), margins.unknown[rows].tolist())

    def incident(self, update: IncidentUpdate) -> None:
        """Take what an incident says."""
        parties = update.parties
        name, group = update.incident_id, _group(update.class_index)
        if update.update == 0:
            self._sample.incident_opened(name, (update.device, parties.attacker, parties.victim), update.at_us)
            self._budget.opened(name, update.at_us)
        if update.closed:
            self._sample.incident_closed(name, update.at_us)
        margin = self._shipped.margin(update.class_index, update.score)
        if update.severity != EARNED_SEVERITY and margin < self._highest(update.class_index):
            proven = parties.attacker_named and not parties.spoofable
            self._budget.reason(
                update.device,
                parties.attacker if proven else update.device,
                at_us=update.opened_us,
                group=group,
                margin=margin,
                incident_id=name,
            )

    def set_aside(self, device: bytes, at_us: int) -> None:
        """Leave out a device's windows of now: a rule of the operator answered for them."""
        self._sample.set_aside(device, at_us)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address keep what is known of it."""
        self._sample.moved(old, new)

    def judge(self, incidents: Mapping[str, str]) -> None:
        """Count no more the incidents that the operator called benign or malicious."""
        self._budget.judge(incidents)

    def advance(self, now_us: int) -> None:
        """Let time pass; once an hour thresholds may move."""
        self._now_us = now_us
        for kept in self._sample.advance(now_us):
            for group in GROUPS:
                margin = kept.known if group == "known" else kept.unknown
                if 0.0 < margin <= self._shifts[group]:  # it would have opened one, had nothing been raised
                    self._budget.reason(kept.device, kept.device, at_us=kept.at_us, group=group, margin=margin)
        hour = now_us // HOUR_US
        if hour != self._judged_hour:
            self._judged_hour = max(0, hour)
            self._budget.forget_before(now_us)
            self._drift.judge(self._sample.hours(), now_hour=hour)
            if self._sample.windows >= self.windows_wanted:
                self._set({group: self._wanted(group) for group in GROUPS})

    @property
    def is_drifting(self) -> bool:
        """Return whether the site left what it used to be, once enough of it was seen."""
        return self._sample.windows >= self.windows_wanted and bool(self._drift.status)

    def facts(self) -> CalibrationStatus:
        """Return what can be said now."""
        days, windows = self._sample.watched_days, self._sample.windows
        spent_days = min(days, 14.0)
        spent = self._budget.spent(now_us=self._now_us, days=spent_days)
        above = sum(int((self._sample.tail(group) > self._shifts[group]).sum()) for group in self._groups)
        today = self._budget.spent(now_us=self._now_us)
        able = self._able("known")
        opens = self.thresholds.open[OF_GROUP["known"]][able]
        low, high = (edge[OF_GROUP["known"]][able] for edge in (self._low, self._high))
        over = today > self.budget_per_day
        state: Literal["calibrating", "calibrated", "drift"] = "calibrated"
        if windows < self.windows_wanted:
            state = "calibrating"
        elif self.is_drifting:
            state = "drift"
        return CalibrationStatus(
            state=state,
            windows=windows,
            windows_wanted=self.windows_wanted,
            threshold=float(opens.max(initial=0.0)),
            threshold_low=float(low.min(initial=1.0)),
            threshold_high=float(high.max(initial=0.0)),
            false_positive_bound=share_bound(above + spent, windows),
            budget_per_day=self.budget_per_day,
            spent_today=float(today),
            drifts=self._drift.drifts,
            per_day=spent / spent_days if spent_days else None,
            per_day_bound=most(spent) / spent_days if spent_days else None,
            shift=self._shifts["known"],
            shift_unknown=self._shifts["unknown"],
            over_budget=over,
            reason=self._reason(state, over=over),
        )

    def _reason(self, state: str, *, over: bool) -> str:
        if state == "calibrating":
            return "the shipped thresholds hold"
        if state == "drift":
            return f"{self._drift.status} windows near a threshold than in the weeks before"
        if over:
            return "over budget today: say of its alerts what they were (penstock feedback), or mute them"
        moved = [group for group in self._groups if self._shifts[group]]
        return f"thresholds moved: {', '.join(moved)}" if moved else "the shipped thresholds hold"

    def _wanted(self, group: Group) -> float:
        """Return the shift that the budget asks for and the sample supports."""
        days = min(self._sample.watched_days, float(LOOK_BACK_DAYS))
        if group not in self._groups or days < 1.0:  # the first day judges nobody
            return 0.0
        share = self.budget_per_day / len(self._groups)
        reasons = self._budget.margins(group, now_us=self._now_us, days=LOOK_BACK_DAYS)
        too_many = len(reasons) - floor(share * days)
        if too_many > 0 and least(len(reasons)) > share * days and self._is_broad(group):
            return reasons[-too_many] + STEP
        if too_many > 0 and self._shifts[group] > 0:  # no doubt is left only in one direction: it stays, or falls
            return min(self._shifts[group], reasons[-too_many] + STEP)
        return min(0.0, self._lowered(group, share=share))

    def _is_broad(self, group: Group) -> bool:
        """Return whether enough different devices and attackers are behind the incidents to blame the place."""
        wanted = max(LEAST_BREADTH, ceil(BREADTH_SHARE * self._sample.devices))
        return self._budget.breadth(group, now_us=self._now_us) >= wanted

    def _lowered(self, group: Group, *, share: float) -> float:
        """Return the lowest shift at which even the 95 % bound of what would have opened keeps the budget."""
        room = share * self._sample.watched_days
        affordable = max((count for count in range(ceil(room)) if most(count) <= room), default=-1)
        if affordable < 0:
            return 0.0
        reasons = self._budget.margins(group, now_us=self._now_us, days=KEEP_HOURS // 24)
        tail = np.sort(np.concatenate([self._sample.tail(group), reasons]))[::-1]
        reached = float(tail[affordable]) + STEP if affordable < len(tail) else -LARGEST
        return max(reached, self._sample.told_down_to(group), self._lowest[group])

    def _set(self, shifts: Mapping[Group, float]) -> None:
        """Take shifts, each inside what its group allows, and move the thresholds."""
        for group in GROUPS:
            able = np.flatnonzero(self._able(group)) + (OF_GROUP[group].start or 0)
            highest = max((self._highest(index) for index in able.tolist()), default=0.0)
            self._shifts[group] = round(float(np.clip(shifts[group], self._lowest[group], highest)), 3)
        if not any(self._shifts.values()):
            self.thresholds = self._shipped
            return
        shift = np.zeros(len(NAMES))
        for group, where in OF_GROUP.items():
            shift[where] = self._shifts[group]
        safe = np.where(np.isfinite(self._shipped.open), self._shipped.open, 0.5)
        moved = np.clip(probability_of(log_odds(safe) + shift), self._low, self._high)
        self.thresholds = self._shipped.moved(np.where(shift == 0.0, safe, moved))

    def _able(self, group: Group) -> NDArray[np.bool_]:
        """Return which classes of a group have a threshold that scores can be above."""
        return np.asarray(self._shipped.open[OF_GROUP[group]] < 1.0)

    def _highest(self, class_index: int) -> float:
        """Return the margin up to which raising can keep an incident of a class back."""
        return self._shipped.margin(class_index, float(self._high[class_index]))


def _group(class_index: int) -> Group:
    return "unknown" if class_index == UNKNOWN else "known"


def _interval(manifest: Manifest, shipped: Thresholds) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how low and how high each class's threshold may go: never above its second one, never to 0 or 1."""
    low, high = shipped.open.copy(), shipped.open.copy()
    for index, name in enumerate(NAMES):
        if 0.0 < shipped.open[index] < 1.0:
            interval = manifest.intervals.get(name)
            if interval is None and index != UNKNOWN:
                interval = manifest.interval
            if interval is not None:
                low[index] = min(low[index], interval.lo)
                high[index] = max(high[index], min(interval.hi, shipped.severe[index]))
    return low, high


def _hold_out_shift(manifest: Manifest, shipped: Thresholds, group: Group) -> float:
    """Return the lowest shift at which no benign window of the hold-out would open an incident; 0 without one."""
    if manifest.benign_scores is None:
        return 0.0
    reached = [
        shipped.margin(index, manifest.benign_scores.quantiles[name][-1])
        if name in manifest.benign_scores.quantiles
        else 0.0
        for index, name in enumerate(NAMES)
        if _group(index) == group and shipped.open[index] < 1.0
    ]
    return float(np.clip(max(reached, default=0.0), -LARGEST, 0.0))
