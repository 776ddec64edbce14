"""Which capture teaches, chooses or judges: `splits.toml`, read and checked.

A split is by capture and by device, never by row. `Splits` refuses a capture, vendor or lab seed that stands on two
sides, and a source without terms in `train` or `validation`. It knows paths, not packets.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import SplitError

SIDES = ("train", "validation", "test", "evaluation")
TEACHING_SIDES = ("train", "validation")  # what shapes a bundle: weights and thresholds
SPLITS_FILE = Path(__file__).with_name("splits.toml")


@dataclass(frozen=True)
class Side:
    """One side of the split: makers of iot_sentinel, globs under the data folder, lab seeds."""

    vendors: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    lab: tuple[int, ...] = ()


@dataclass(frozen=True)
class Splits:
    """Sides by name, checked when built.

    Raises SplitError where a vendor, device, glob or seed stands on two sides, a vendor is unknown, or a teaching side
    names a source without terms.
    """

    sides: Mapping[str, Side]
    vendors: Mapping[str, tuple[str, ...]]
    terms: Mapping[str, str]
    _side_of_vendor: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_twice("device", [(device, vendor) for vendor, devices in self.vendors.items() for device in devices])
        for name, side in self.sides.items():
            if name not in SIDES:
                raise SplitError(f"splits.toml: side {name!r} is none of {', '.join(SIDES)}")
            for vendor in side.vendors:
                if vendor not in self.vendors:
                    raise SplitError(f"splits.toml: {name} names vendor {vendor!r}, which [vendors] does not list")
        for what in ("vendors", "data", "lab"):
            _refuse_twice(what, [(item, name) for name, side in self.sides.items() for item in getattr(side, what)])
        for name in TEACHING_SIDES:
            side = self.sides.get(name, Side())
            sources = {glob.split("/")[0] for glob in side.data}
            sources |= {"iot_sentinel"} if side.vendors else set()
            sources |= {"lab"} if side.lab else set()
            if lacking := sorted(sources - set(self.terms)):
                raise SplitError(f"splits.toml: {name} uses {', '.join(lacking)}, for which [terms] allows nothing")
        self._side_of_vendor.update({v: name for name, side in self.sides.items() for v in side.vendors})

    def vendor_of(self, device: str) -> str | None:
        """Return the maker of an iot_sentinel device folder, None where [vendors] does not know it."""
        return next((vendor for vendor, devices in self.vendors.items() if device in devices), None)

    def side_of_data(self, relative: str) -> str | None:
        """Return the side of a capture by its path under the data folder, None where no side claims it.

        Raises SplitError if two sides claim it.
        """
        parts = relative.split("/")
        claims = {name for name, side in self.sides.items() for glob in side.data if fnmatch.fnmatch(relative, glob)}
        if parts[0] == "iot_sentinel" and len(parts) > 1:
            vendor = self.vendor_of(parts[1])
            if vendor in self._side_of_vendor:
                claims.add(self._side_of_vendor[vendor])
        if len(claims) > 1:
            raise SplitError(f"{relative}: stands on two sides: {', '.join(sorted(claims))}")
        return next(iter(claims), None)

    def side_of_seed(self, seed: int) -> str | None:
        """Return the side of a lab recording, None where no side claims its seed."""
        return next((name for name, side in self.sides.items() if seed in side.lab), None)


def refuse_shared_captures(sha256_of: Mapping[str, str], side_of: Mapping[str, str]) -> None:
    """Raise SplitError if one capture's bytes stand on two sides under two names.

    `sha256_of` and `side_of` map a capture's name to its digest and its side.
    """
    _refuse_twice("capture", [(sha256_of[name], f"{side} ({name})") for name, side in side_of.items()], by_side=True)


def load_splits(path: Path = SPLITS_FILE) -> Splits:
    """Return the checked splits of a TOML file. Raises SplitError."""
    tomllib = importlib.import_module("tomllib")  # Python >= 3.11, as fitting needs; evaluate never comes here
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise SplitError(f"{path}: {exc}") from exc
    sides = {
        name: Side(vendors=tuple(table["vendors"]), data=tuple(table["data"]), lab=_seeds(table["lab"]))
        for name, table in raw.items()
        if name not in ("vendors", "terms")
    }
    return Splits(sides=sides, vendors={k: tuple(v) for k, v in raw["vendors"].items()}, terms=raw["terms"])


def _seeds(texts: Iterable[int | str]) -> tuple[int, ...]:
    """Return seeds given one by one or as "first-last".

    >>> _seeds([7, "1-3"])
    (7, 1, 2, 3)
    """
    seeds: list[int] = []
    for text in texts:
        first, _, last = str(text).partition("-")
        seeds.extend(range(int(first), int(last or first) + 1))
    return tuple(seeds)


def shared_folder() -> Path | None:
    """Return the optional data folder (PENSTOCK_SHARED, default ../shared beside the tree), None where absent."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("PENSTOCK_SHARED", str(default)))
    return folder if (folder / "data").is_dir() else None


def lab_folder() -> Path:
    """Return where the lab's recordings lie: .cache/lab of the tree (PENSTOCK_LAB overrides)."""
    return Path(os.environ.get("PENSTOCK_LAB", str(Path(__file__).resolve().parents[1] / ".cache" / "lab")))


def _refuse_twice(what: str, pairs: Iterable[tuple[object, str]], *, by_side: bool = False) -> None:
    """Raise SplitError if one item comes with two owners; `by_side`: owners differ only in their first word."""
    owner_of: dict[object, str] = {}
    for item, owner in pairs:
        before = owner_of.setdefault(item, owner)
        same = before.split()[0] == owner.split()[0] if by_side else before == owner
        if not same:
            raise SplitError(f"{what} {item} stands on two sides: {before} and {owner}")
