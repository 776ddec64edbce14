"""A table read from files: numbers, symbols, labels, and what tells one row or flow from another.

K numeric and S symbolic columns. `label` is the class that is judged, `kind` the attack type by the data set's own name
("normal" or "BENIGN" included); both are text. `flow` names the flow of a row where the files do, "" where not: then
the row's own values tell it apart. `time_us` is 0 where unknown. `cleaned` counts what cleaning did.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import PenstockError

BENIGN = "benign"
UNKNOWN = "unknown"
ROWS_AT_ONCE = 20_000  # rounding takes several times the memory of the rows it rounds

Texts = NDArray[np.object_]


class TableError(PenstockError):
    """A table's file cannot be read, or a line in it does not say what it must."""

    exit_code = 65


@dataclass(frozen=True, eq=False)
class Table:
    """N rows; see the module docstring."""

    number_names: tuple[str, ...]
    symbol_names: tuple[str, ...]
    numbers: NDArray[np.float64]
    symbols: Texts
    label: Texts
    kind: Texts
    flow: Texts
    time_us: NDArray[np.int64]
    cleaned: Counter[str] = field(default_factory=Counter)
    content: NDArray[np.uint64] | None = None  # what `contents` found, kept since every split asks for it

    def __len__(self) -> int:
        return len(self.label)

    @property
    def attack(self) -> NDArray[np.bool_]:
        """Return which rows are attacks."""
        return np.asarray(self.label != BENIGN, dtype=bool)

    def take(self, rows: NDArray[Any]) -> Table:
        """Return the rows at these places, or where a mask is true."""
        return replace(
            self,
            numbers=self.numbers[rows],
            symbols=self.symbols[rows],
            label=self.label[rows],
            kind=self.kind[rows],
            flow=self.flow[rows],
            time_us=self.time_us[rows],
            content=None if self.content is None else self.content[rows],
        )

    def columns(self, numbers: Sequence[str], symbols: Sequence[str]) -> Table:
        """Return the table with these columns alone, in this order. Raises TableError for one it does not have."""
        if (tuple(numbers), tuple(symbols)) == (self.number_names, self.symbol_names):
            return self
        if missing := [n for n in (*numbers, *symbols) if n not in (*self.number_names, *self.symbol_names)]:
            raise TableError(f"column {missing[0]!r} is wanted, this table has {len(self.number_names)} others")
        return replace(
            self,
            number_names=tuple(numbers),
            symbol_names=tuple(symbols),
            numbers=self.numbers[:, [self.number_names.index(name) for name in numbers]],
            symbols=self.symbols[:, [self.symbol_names.index(name) for name in symbols]],
            content=None,
        )

    def counts(self) -> dict[str, int]:
        """Return the number of rows by kind, most frequent first."""
        return dict(Counter(self.kind.tolist()).most_common())

    def contents(self) -> NDArray[np.uint64]:
        """Return one number per row that is equal where symbols and rounded numbers are (64 bits of BLAKE2)."""
        if self.content is not None:
            return self.content
        digests = bytearray()
        for at in range(0, len(self), ROWS_AT_ONCE):
            part = slice(at, at + ROWS_AT_ONCE)
            numbers = np.ascontiguousarray(rounded(self.numbers[part]))
            for row, symbols in zip(numbers, self.symbols[part], strict=True):
                text = "\0".join(map(str, symbols)).encode()
                digests += hashlib.blake2b(row.tobytes() + text, digest_size=8).digest()
        return np.frombuffer(bytes(digests), dtype=np.uint64)

    def identities(self) -> NDArray[np.uint64]:
        """Return one number per row, equal for rows that must not stand on two sides: the same flow, or the same row.

        Rows whose flow is named are told by it alone: two scan probes may look alike and still be two flows.
        """
        found: NDArray[np.uint64] = self.contents().copy()
        for place in np.flatnonzero(self.flow != ""):
            found[place] = int.from_bytes(hashlib.blake2b(self.flow[place].encode(), digest_size=8).digest(), "little")
        return found


def rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers to six significant digits: one row is printed differently in two published files.

    >>> rounded(np.array([1592893.8730000001, 1592893.873, 0.0])).tolist()
    [1592890.0, 1592890.0, 0.0]
    """
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log10(np.abs(numbers)))
    scale = 10.0 ** (5 - np.where(np.isfinite(exponent), exponent, 0.0))
    return np.asarray(np.round(numbers * scale) / scale + 0.0)  # -0.0 becomes 0.0


def joined(tables: Sequence[Table]) -> Table:
    """Return all rows under the columns every table has, in the order of the first. `cleaned` adds up."""
    first = tables[0]
    if len(tables) == 1:
        return first
    shared = [name for name in first.number_names if all(name in each.number_names for each in tables)]
    symbols = [name for name in first.symbol_names if all(name in each.symbol_names for each in tables)]
    chosen = [each.columns(shared, symbols) for each in tables]
    return Table(
        number_names=tuple(shared),
        symbol_names=tuple(symbols),
        **{
            name: np.concatenate([getattr(each, name) for each in chosen])
            for name in ("numbers", "symbols", "label", "kind", "flow", "time_us")
        },
        cleaned=_added(each.cleaned for each in tables),
    )


def _added(counters: Iterable[Counter[str]]) -> Counter[str]:
    """Return the sum with zeros kept: that nothing was found is a finding."""
    total: Counter[str] = Counter()
    for each in counters:
        total.update(each)
    return total
