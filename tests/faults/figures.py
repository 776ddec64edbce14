"""What a fault test measured, kept so that the page of results is written by a command and never by hand.

Each test hands in one set of figures; it is written under .cache/faults when the test ends, with how it ended, the
machine and the commit. The trap: figures of the short form prove that a test runs, those of the long form are results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import fingerprint

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "faults"
FORM = os.environ.get("PENSTOCK_FAULTS", "short")  # short, long, or a share of long such as 0.2
SHARE = {"short": 0.0, "long": 1.0}[FORM] if FORM in ("short", "long") else float(FORM)
IS_LONG = SHARE == 1.0
IS_TIMED = SHARE > 0  # seconds are asserted on a machine that is asked for them, not among all other tests


def times(short: int, *, long: int) -> int:
    """Return how often to do something: the long form is asked for by PENSTOCK_FAULTS=long (`make soak`)."""
    return max(short, round(SHARE * long))


@dataclass
class Figures:
    """Of one test: what was done, what was wanted, what was seen."""

    test: str
    fault: str = ""
    goal: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    outcome: str = "not finished"
    form: str = FORM if FORM in ("short", "long") else f"{FORM} of long"
    machine: dict[str, Any] = field(default_factory=dict)

    def told(self, *, fault: str, goal: str, **values: float | str) -> None:
        """Take the figures; units stand in their names. May be called again, before what is asserted of them."""
        self.fault, self.goal = fault, goal
        self.values |= values

    def line(self) -> str:
        """Return the figures as one line for a person.

        >>> Figures("x", values={"lost": 0, "drained_per_s": 1234.56}).line()
        'lost 0, drained 1,235 per s'
        """
        return ", ".join(f"{_spaced(name, value)}" for name, value in self.values.items())

    def write(self) -> None:
        """Write them where `read_all` finds them."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.machine = fingerprint(["numpy", "onnxruntime", "paho-mqtt"])
        (FOLDER / f"{self.test}.{self.form.replace(' ', '-')}.json").write_text(
            json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8"
        )


def read_all(folder: Path = FOLDER) -> Iterator[Figures]:
    """Give the figures of every test that ran here, by name."""
    for path in sorted(folder.glob("*.json")):
        yield Figures(**json.loads(path.read_text(encoding="utf-8")))


UNITS = ("per_s", "per_day", "mib", "ms", "s", "percent", "kpps")


def _spaced(name: str, value: float | str) -> str:
    """Return a name and its value in words, the unit behind the value."""
    unit = next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")
    stem = name.removesuffix(f"_{unit}") if unit else name
    shown = {"percent": "%", "mib": "MiB"}.get(unit, unit.replace("_", " "))
    return f"{stem.replace('_', ' ')} {_number(value)} {shown}".rstrip()


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.3g}" if abs(value) < 10 else f"{value:,.1f}"
