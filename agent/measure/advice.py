"""Which settings a measurement speaks for.

Of each engine that `scoring.engine` knows, the largest batch whose 99th percentile leaves half the deadline free; of
the engines, the one that carries most windows then. The CPU is the reference: another must be a tenth better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.measure.timing import Result

KNOWN: Final = ("cpu", "tensorrt")
SHARE_OF_DEADLINE: Final = 0.5
WORTH_IT: Final = 1.1


@dataclass(frozen=True)
class Advice:
    """What to set, and why in one line. `is_slow`: no batch size leaves half the deadline."""

    engine: str
    batch_windows: int
    reason: str
    is_slow: bool = False

    def toml(self) -> str:
        """Return the file for conf.d."""
        return (
            f"# Written by penstock bench --apply: {self.reason}\n[scoring]\n"
            f'engine = "{self.engine}"\nbatch_windows = {self.batch_windows}\n'
        )


def advise(results: Sequence[Result], *, deadline_ms: float) -> Advice | None:
    """Return what to set; None where nothing that can be set was measured."""
    limit_ms = SHARE_OF_DEADLINE * deadline_ms
    best: tuple[Result, bool] | None = None
    for engine in KNOWN:  # the CPU first
        found = _best_of([each for each in results if each.engine == engine], limit_ms)
        if found is not None and (best is None or _is_better(found, best)):
            best = found
    if best is None:
        return None
    result, is_slow = best
    assert result.p99_ms is not None
    assert result.windows_per_s is not None
    room = "more than" if is_slow else "within"
    windows = f"{result.batch} window{'s' if result.batch > 1 else ''}"
    reason = (
        f"{result.engine}, {windows} at once: 99 % of calls {room} {limit_ms:g} ms "
        f"({result.p99_ms:.2f} ms), {result.windows_per_s:,.0f} windows/s"
    )
    return Advice(result.engine, result.batch, reason, is_slow)


def _best_of(results: Sequence[Result], limit_ms: float) -> tuple[Result, bool] | None:
    measured = [each for each in results if each.p99_ms is not None]
    fitting = [each for each in measured if each.p99_ms is not None and each.p99_ms <= limit_ms]
    if fitting:
        return max(fitting, key=lambda each: each.batch), False
    return (min(measured, key=lambda each: each.batch), True) if measured else None


def _is_better(found: tuple[Result, bool], best: tuple[Result, bool]) -> bool:
    """Tell whether another engine is worth it; one that keeps the deadline beats one that does not."""
    if found[1] != best[1]:
        return best[1]
    mine, theirs = found[0].windows_per_s, best[0].windows_per_s
    return mine is not None and theirs is not None and mine > WORTH_IT * theirs
