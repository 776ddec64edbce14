"""Plan files: TOML that says what a recording is drawn from. The shipped ones lie in `lab/plans/`.

Owns reading and refusing: an unknown key, technique, kind of activity or role is refused with those there are. Draws
nothing (`lab.timetable` does). The trap: what a file does not name has the weight `others`, so that a technique added
to the catalogue joins the plans that did not decide about it; a plan that must never have it says `others = 0`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from contracts.terminal import brief
from lab.attacks import TECHNIQUES
from lab.benign import ACTIVITIES
from lab.roles import ROLES
from lab.scenario import MAC_VENDORS

FOLDER = Path(__file__).with_name("plans")
MOST_DEVICES, MOST_MINUTES, MOST_PER_MINUTE, MOST_WEIGHT = 40, 24 * 60, 20, 1000.0
KEYS = ("about", "fixed", "minutes", "network", "roles", "attacks", "benign")
NETWORK_KEYS = ("devices", "nat", "strangers", "loss_percent", "mac_vendors")


@dataclass(frozen=True)
class PlanFile:
    """What recordings are drawn from. A weight of 0 is never; a kind's weight is how often compared to its habit."""

    name: str
    about: str
    minutes: float
    fixed: bool = False  # the demo: one plan, whatever the seed
    devices: tuple[int, int] = (12, 16)
    nat: bool = True
    strangers: int = 6
    loss_percent: tuple[float, float] = (0.0, 0.0)
    mac_vendors: tuple[str, ...] = MAC_VENDORS
    roles: Mapping[str, float] = field(default_factory=dict)
    attacks_per_minute: float = 0.0
    attacks: Mapping[str, float] = field(default_factory=dict)
    benign: Mapping[str, float] = field(default_factory=dict)


def shipped() -> list[str]:
    """Return the names of the plans in the tree."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_plan(name_or_path: str) -> PlanFile:
    """Return the plan of a name in the tree, or of a file whose name ends in .toml; raises UsageError."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in shipped():
            raise UsageError(
                f"no plan named {brief(name_or_path)}; there are {', '.join(shipped())}, or give a .toml file"
            )
        path = FOLDER / f"{name_or_path}.toml"
    try:
        tomllib = importlib.import_module("tomllib")
    except ImportError as exc:
        raise UsageError("plan files need Python 3.11 or newer") from exc
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    return _Reader(path, raw).plan()


class _Reader:
    """One file being read; every complaint names it and the key."""

    def __init__(self, path: Path, raw: dict[str, Any]) -> None:
        self.path = path
        self.raw = raw

    def fail(self, key: str, seen: object, wanted: str) -> UsageError:
        return UsageError(f"{self.path}: {key}: seen {brief(str(seen))}, wanted {wanted}")

    def known(self, where: str, names: Collection[str], there_are: Collection[str]) -> None:
        for name in names:
            if name not in there_are:
                raise self.fail(where, name, f"one of {', '.join(there_are)}")

    def table(self, key: str) -> dict[str, Any]:
        table = self.raw.get(key, {})
        if not isinstance(table, dict):
            raise self.fail(key, table, "a table")
        return dict(table)

    def number(self, key: str, value: object, *, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fail(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def pair(self, key: str, value: object, *, low: float, high: float) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            raise self.fail(key, value, "[at least, at most]")
        least, most = (self.number(key, each, low=low, high=high) for each in value)
        if least > most:
            raise self.fail(key, value, "[at least, at most]")
        return least, most

    def weights(self, key: str, table: dict[str, Any], names: Collection[str], *, others: float) -> dict[str, float]:
        """Return a weight for each of the names; `others` in the table is that of those it leaves out."""
        rest = self.number(f"{key}.others", table.pop("others", others), low=0.0, high=MOST_WEIGHT)
        self.known(key, table, names)
        given = {name: self.number(f"{key}.{name}", each, low=0.0, high=MOST_WEIGHT) for name, each in table.items()}
        return {name: given.get(name, rest) for name in names}

    def plan(self) -> PlanFile:
        raw, network, attacks = self.raw, self.table("network"), self.table("attacks")
        self.known("key", raw, KEYS)
        self.known("network", network, NETWORK_KEYS)
        about = raw.get("about", "")
        if not isinstance(about, str):
            raise self.fail("about", about, "a text")
        if raw.get("fixed", "demo") != "demo":
            raise self.fail("fixed", raw["fixed"], "'demo'")
        vendors = network.get("mac_vendors", list(MAC_VENDORS))
        if (
            not isinstance(vendors, list)
            or not vendors
            or not all(
                isinstance(each, str) and re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){2}", each) for each in vendors
            )
        ):
            raise self.fail("network.mac_vendors", vendors, 'a list such as ["b8:27:eb"]')
        least, most = self.pair("network.devices", network.get("devices", [12, 16]), low=6, high=MOST_DEVICES)
        per_minute = attacks.pop("per_minute", 0.0)
        nat = network.get("nat", True)
        if not isinstance(nat, bool):
            raise self.fail("network.nat", nat, "true or false")
        plan = PlanFile(
            name=self.path.stem,
            about=about,
            minutes=self.number("minutes", raw.get("minutes", 15), low=0.5, high=MOST_MINUTES),
            fixed="fixed" in raw,
            devices=(int(least), int(most)),
            nat=nat,
            strangers=int(self.number("network.strangers", network.get("strangers", 6), low=2, high=20)),
            loss_percent=self.pair("network.loss_percent", network.get("loss_percent", [0, 0]), low=0, high=20),
            mac_vendors=tuple(vendors),
            roles=self.weights("roles", self.table("roles"), ROLES, others=1.0),
            attacks_per_minute=self.number("attacks.per_minute", per_minute, low=0.0, high=MOST_PER_MINUTE),
            attacks=self.weights("attacks", attacks, TECHNIQUES, others=1.0),
            benign=self.weights("benign", self.table("benign"), ACTIVITIES, others=1.0),
        )
        if not any(weight for role, weight in plan.roles.items() if role != "hub"):
            raise self.fail("roles", "no role with a weight", "one at least besides hub")
        if plan.attacks_per_minute and not any(plan.attacks.values()):
            raise self.fail("attacks", "no technique with a weight", "one at least, or per_minute = 0")
        return plan
