"""Whether this is a moment to learn: not when the board is hot, loaded, or on battery, and not without anything new.

Readings come from a root that tests can fake; what a board does not tell is no reason against.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

HOT_CELSIUS: Final = 75.0  # boards of this kind throttle from some 80 to 97 degrees
LOADED_PER_CORE: Final = 0.8  # of the last five minutes
WEEK_US: Final = 7 * 86_400 * 1_000_000


def reasons_against(root: Path = Path("/"), *, cores: int) -> list[str]:
    """Return why not to learn now, a phrase each; none where nothing speaks against it."""
    found = []
    hottest = max(_temperatures(root), default=0.0)
    if hottest >= HOT_CELSIUS:
        found.append(f"the board has {hottest:.0f} C, wanted below {HOT_CELSIUS:.0f}")
    load = _load(root)
    if load is not None and load >= LOADED_PER_CORE * cores:
        found.append(f"the load is {load:.1f} on {cores} cores, wanted below {LOADED_PER_CORE * cores:.1f}")
    if any(status == "Discharging" for status in _texts(root, "sys/class/power_supply/*/status")):
        found.append("the board runs on battery")
    return found


def reason_for(
    *, verdicts: int, verdicts_before: int, learnt_us: int, now_us: int, has_drifted: bool = False
) -> str | None:
    """Return what there is to learn from: other verdicts than last time, drift, or a week's age; None where nothing."""
    if verdicts != verdicts_before:
        return f"{verdicts} judged incidents, {verdicts_before} when last learnt"
    if has_drifted:
        return "the site has drifted"
    if now_us - learnt_us >= WEEK_US:
        return "a week since it last learnt" if learnt_us else "it never learnt"
    return None


def _temperatures(root: Path) -> list[float]:
    found = []
    for text in _texts(root, "sys/class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(ValueError):
            found.append(int(text) / 1000.0)
    return [each for each in found if -40.0 < each < 200.0]  # zones without a sensor say anything


def _load(root: Path) -> float | None:
    for text in _texts(root, "proc/loadavg"):
        with contextlib.suppress(ValueError, IndexError):
            return float(text.split()[1])
    return None


def _texts(root: Path, pattern: str) -> list[str]:
    found = []
    for path in sorted(root.glob(pattern)):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found.append(path.read_text(encoding="ascii")[:256].strip())
    return found
