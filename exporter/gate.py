"""The gate: what a bundle must be before it is written or shipped, each rule with its figure and its limit.

`check` looks at what `exporter.measure` measured and refuses, all reasons on one line: a float graph that leaves torch,
a compression step that costs accuracy, a model over its size, a release that does not rise, and a bundle that is worse
than the one it replaces on benign captures neither was taught on. The trap: those captures are looked at for every
release, so they guard against getting worse; they are no fresh proof of being good.

False incidents and FPR are held to different rules. An incident is what wakes somebody, the captures are the same ones
and replay is exact, so not one more is let through. Windows of one device resemble each other, so a few more of them
over threshold are noise: the share may rise to the 95 % bound that the old one's sample supports.

Who wants a bundle that finds more and is louder says why (`louder`); it stands on the card. Louder than an operator's
budget it may not be: the 95 % bound on its false incidents a day stays below `LOUDEST_PER_DAY`, or there is no more
than before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from exporter.parity import Parity
from training.errors import GateRefused
from training.thresholds import upper_bound

MAX_DIFFERENCE = 1e-4  # between torch and the float graph, of any output of any window
MAX_POINTS_LOST = 0.2  # of accuracy, per compression step
KIB = 1024
MAX_MODEL_BYTES: Mapping[str, int] = {"gru": 64 * KIB, "conv_bilstm_small": 64 * KIB}
LOUDEST_PER_DAY = 1.0  # [judgement] false_incidents_per_day, where nobody set it
MAX_OTHER_BYTES = 4096 * KIB  # networks that are compared, not shipped: some 2 MB at float32


@dataclass(frozen=True, kw_only=True)
class Step:
    """One compression step, measured on the same windows before and after; accuracies from 0 to 1.

    Where no labels were kept (`labelled` false), the classes found before the step stand for them: the share that
    changed, which the loss of accuracy cannot exceed.
    """

    name: str
    accuracy_before: float
    accuracy_after: float
    bytes_before: int
    bytes_after: int
    windows: int
    labelled: bool = True

    @property
    def points_lost(self) -> float:
        """Return how many points (hundredths) of accuracy the step costs; negative where it gains."""
        return 100 * (self.accuracy_before - self.accuracy_after)


@dataclass(frozen=True, kw_only=True)
class Benign:
    """What a bundle made of one side's benign captures, with the 95 % upper bounds that the sample supports."""

    windows: int
    false_windows: int
    false_incidents: int
    days: float
    fpr_bound: float | None
    per_day_bound: float | None

    @property
    def fpr(self) -> float:
        return self.false_windows / self.windows if self.windows else 0.0

    def incidents_text(self) -> str:
        bound = "" if self.per_day_bound is None else f", below {self.per_day_bound:.2g} a day"
        return f"{self.false_incidents} in {self.days:.3g} days{bound}"

    def fpr_text(self) -> str:
        bound = "" if self.fpr_bound is None else f" (below {self.fpr_bound:.2g})"
        return f"{self.fpr:.2g}{bound} of {self.windows} windows"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All the gate looks at. `benign` and `replaced_benign` are by side; both empty where nothing is replaced.

    `louder` is why the bundle may be worse on benign captures than the one it replaces; empty where it may not.
    """

    name: str
    release: int
    float_parity: Parity
    steps: tuple[Step, ...]
    model_bytes: int
    replaced_release: int | None = None
    benign: Mapping[str, Benign] = field(default_factory=dict)
    replaced_benign: Mapping[str, Benign] = field(default_factory=dict)
    louder: str = ""


def check(measured: Measured) -> None:
    """Raise GateRefused, naming every rule that is broken with the value seen and the value wanted."""
    if broken := list(refusals(measured)):
        raise GateRefused(f"gate: {'; '.join(broken)}")


def refusals(measured: Measured) -> Iterator[str]:
    """Give the rules a bundle breaks, a phrase each."""
    # Written so that a figure which is no number is refused: every comparison with NaN is false.
    if not measured.float_parity.largest <= MAX_DIFFERENCE:
        yield f"float graph leaves torch by {measured.float_parity.largest:.2e}, wanted at most {MAX_DIFFERENCE:.0e}"
    for step in measured.steps:
        if not round(step.points_lost, 9) <= MAX_POINTS_LOST:
            yield (
                f"{step.name} costs {step.points_lost:.2f} points of accuracy ({step.accuracy_before:.4f} to "
                f"{step.accuracy_after:.4f} on {step.windows} windows), wanted at most {MAX_POINTS_LOST}"
            )
    most = MAX_MODEL_BYTES.get(measured.name, MAX_OTHER_BYTES)
    if measured.model_bytes > most:
        yield f"model.onnx of {measured.name} has {measured.model_bytes} bytes, wanted at most {most}"
    if measured.replaced_release is not None and measured.release <= measured.replaced_release:
        yield f"release is {measured.release}, wanted above {measured.replaced_release}, which it replaces"
    for side, old in measured.replaced_benign.items():
        judge = _too_loud if measured.louder else _worse
        yield from judge(side, new=measured.benign[side], old=old)


def _worse(side: str, *, new: Benign, old: Benign) -> Iterator[str]:
    if new.false_incidents > old.false_incidents:
        yield (
            f"false incidents on benign {side} captures are {new.incidents_text()}, wanted no more than those of the "
            f"bundle it replaces: {old.incidents_text()}"
        )
    if not old.windows:
        return
    allowed = upper_bound(old.false_windows, old.windows)
    if not new.fpr <= allowed:
        yield (
            f"FPR on benign {side} captures is {new.fpr_text()}, wanted at most {allowed:.2g}: "
            f"the bundle it replaces has {old.fpr_text()}"
        )


def _too_loud(side: str, *, new: Benign, old: Benign) -> Iterator[str]:
    bound = new.per_day_bound
    if new.false_incidents > old.false_incidents and not (bound is not None and bound <= LOUDEST_PER_DAY):
        yield (
            f"false incidents on benign {side} captures are {new.incidents_text()}, wanted at most {LOUDEST_PER_DAY:g} "
            f"a day, bound included, or no more than those of the bundle it replaces: {old.incidents_text()}"
        )
