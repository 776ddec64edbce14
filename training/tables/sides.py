"""Which row teaches, chooses or judges, and the check that refuses a split with the same row or flow on two sides.

Three ways to divide: at random (the papers'), the last share of each class by time, and whole attack kinds left out.
Rows that may not stand on two sides move together. Nothing here looks at a test side's labels but to keep classes in
proportion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import SplitError
from training.tables.table import UNKNOWN, Table, joined

SHARES = (0.70, 0.15, 0.15)
SAME_FILE_SHARE = 0.5  # a test file of which more than this stands in the training file is the training file
DAY_US = 86_400_000_000

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Sides:
    """`train` teaches, `validation` chooses (early stopping, thresholds), `test` judges. `told` says how it was cut."""

    train: Table
    validation: Table
    test: Table
    told: str

    def __iter__(self) -> Iterator[Table]:
        return iter((self.train, self.validation, self.test))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the rows of each side by kind."""
        return {"train": self.train.counts(), "validation": self.validation.counts(), "test": self.test.counts()}


def check_sides(sides: Mapping[str, Table]) -> None:
    """Raise SplitError where one flow, or one row whose flow is not named, stands on two sides."""
    seen: list[tuple[str, NDArray[np.uint64]]] = []
    for name, table in sides.items():
        own = np.unique(table.identities())
        for other, theirs in seen:
            both = np.intersect1d(own, theirs)
            if len(both):
                raise SplitError(f"{len(both)} rows or flows stand on both sides, {other} and {name}, want none")
        seen.append((name, own))


def at_random(table: Table, *, seed: int, shares: Sequence[float] = SHARES) -> Sides:
    """Return the papers' split: random rows, each class in proportion, equal rows on one side."""
    parts = _random_parts(table, shares, seed=seed)
    told = "random, " + "/".join(f"{share:.0%}" for share in shares) + ", classes in proportion, equal rows together"
    train, validation, test = (table.take(part) for part in parts)
    return checked(Sides(train, validation, test, told=told))


def teaching_sides(table: Table, *, seed: int, share: float = 0.2) -> tuple[Table, Table]:
    """Return train and validation of a training file: the last rows of each day and class by time, else random ones."""
    if (table.time_us > 0).all():
        late = last_by_time(table, share=share, by_day=True)
        return table.take(~late), table.take(late)
    train, validation = _random_parts(table, (1 - share, share), seed=seed)
    return table.take(train), table.take(validation)


def last_by_time(table: Table, *, share: float, by_day: bool = False) -> NDArray[np.bool_]:
    """Return which rows are the last share of their kind (of their day and kind) by time."""
    late = np.zeros(len(table), dtype=bool)
    day = table.time_us // DAY_US if by_day else np.zeros(len(table), np.int64)
    for kind in np.unique(table.kind):
        for each in np.unique(day[table.kind == kind]):
            rows = np.flatnonzero((table.kind == kind) & (day == each))
            ordered = rows[np.argsort(table.time_us[rows], kind="stable")]
            late[ordered[len(ordered) - round(len(ordered) * share) :]] = True
    return late


def by_time(table: Table, *, seed: int) -> Sides:
    """Return the like of a later capture: the last day of benign rows and the last 30 % of each attack judge."""
    if not (table.time_us > 0).all():
        raise SplitError("a split by time wants the time of every row; the original format has none that can be used")
    benign = ~table.attack
    days = np.unique(table.time_us[benign] // DAY_US)
    late = np.where(benign, table.time_us // DAY_US == days[-1], last_by_time(table, share=0.30))
    if len(days) < 2:
        late = last_by_time(table, share=0.30)
    train, validation = teaching_sides(table.take(~late), seed=seed)
    return checked(
        Sides(train, validation, table.take(late), told="by time: the last benign day, the last 30% of each attack")
    )


def without_kinds(table: Table, kinds: Collection[str], *, seed: int) -> Sides:
    """Return sides in which these attack kinds judge only, beside benign and known rows that teach nothing.

    A row of another kind that is equal to one left out takes no part: it would tell what was to be unknown.
    """
    left_out = np.isin(table.kind.astype(str), sorted(kinds))
    linked = _together(table)
    rest = at_random(table.take(~np.isin(linked, linked[left_out])), seed=seed)
    test = _both(rest.test, table.take(left_out))
    return checked(replace(rest, test=test, told=f"{rest.told}; left out: {', '.join(sorted(kinds))}"))


def given(train: Table, test: Table, *, seed: int) -> tuple[Sides, dict[str, int]]:
    """Return sides for a caller's test file, and what had to be left out of training for it.

    Flows and rows that also stand in the test file leave the training side and are counted; where they are more than
    half of the test file, SplitError is raised. The test file may be of one class: what wants both is then None.
    """
    both = np.isin(train.identities(), test.identities())
    repeated = float(np.isin(test.identities(), train.identities()).mean()) if len(test) else 0.0
    if repeated > SAME_FILE_SHARE:
        raise SplitError(f"{repeated:.0%} of the test file's rows stand in the training file, want less than half")
    unknown = train.label == UNKNOWN
    usable = with_known_labels(train.take(~both))
    if unknown.any() and not usable.attack.any():
        seen = ", ".join(sorted(set(train.kind[unknown].tolist())))[:80]
        raise SplitError(f"no attack of the training file is of a known class (seen {seen}), want the types by name")
    teach, choose = teaching_sides(usable, seed=seed)
    sides = Sides(teach, choose, test, told="test file given; validation taken from the training file")
    sides = checked(sides, judges_both=False)
    left_out = {
        "training rows left out: they stand in the test file": int(both.sum()),
        "training rows left out: unknown label": int((unknown & ~both).sum()),
    }
    return sides, left_out


def with_known_labels(table: Table) -> Table:
    """Return the rows whose class is known: the others may judge, in a caller's test file, and do nothing else."""
    return table.take(table.label != UNKNOWN)


def under_shared_columns(train: Table, test: Table) -> tuple[Table, Table]:
    """Return both tables under the columns both have, in the training table's order."""
    numbers = [name for name in train.number_names if name in test.number_names]
    symbols = [name for name in train.symbol_names if name in test.symbol_names]
    return train.columns(numbers, symbols), test.columns(numbers, symbols)


def checked(sides: Sides, *, judges_both: bool = True) -> Sides:
    """Return the sides, refused where they leak or where one of them cannot do its part.

    `judges_both`: the test side, too, must hold benign rows and attacks.
    """
    check_sides({"train": sides.train, "validation": sides.validation, "test": sides.test})
    needing_both = {"train": sides.train, "validation": sides.validation}
    if judges_both:
        needing_both["test"] = sides.test
    for name, table in needing_both.items():
        for what, found in (("benign", (~table.attack).any()), ("attack", table.attack.any())):
            if not found:
                raise SplitError(f"{name} of {len(table)} rows holds no {what} row, want both")
    return sides


def _both(first: Table, second: Table) -> Table:
    return replace(joined([first, second]), cleaned=Counter(first.cleaned))


def _random_parts(table: Table, shares: Sequence[float], *, seed: int) -> list[Rows]:
    """Return places per share. Equal rows are one draw; a class with few rows still reaches every side it can."""
    rng = np.random.default_rng(seed)
    keys = _together(table)
    side = np.zeros(len(table), np.int64)
    for kind in np.unique(table.kind):
        groups = np.unique(keys[table.kind == kind])
        rng.shuffle(groups)
        edges = np.round(np.cumsum(shares) * len(groups)).astype(int)
        side_of = np.searchsorted(edges, np.arange(len(groups)), side="right").clip(max=len(shares) - 1)
        placed: NDArray[Any] = np.zeros(keys.max() + 1, np.int64)
        placed[groups] = side_of
        rows = table.kind == kind
        side[rows] = placed[keys[rows]]
    # Rows of two kinds with equal values: all go where the first of them went.
    first = np.unique(keys, return_index=True)[1]
    return [np.flatnonzero(side[first][keys] == place) for place in range(len(shares))]


def _together(table: Table) -> NDArray[np.int64]:
    """Return int64[N]: one number for all rows that are linked by equal values or by the same flow."""
    links = [np.unique(each, return_inverse=True)[1] for each in (table.contents(), table.identities())]
    group, before = np.arange(len(table)), None
    while before is None or not np.array_equal(group, before):
        before = group
        for link in links:
            least = np.full(link.max() + 1, len(table))
            np.minimum.at(least, link, group)
            group = least[link]
    return np.unique(group, return_inverse=True)[1].astype(np.int64)
