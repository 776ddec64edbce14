"""What a benchmark promised and what it saw: a figure, its mark, and whether it was met.

A mark is written once, beside the benchmark that measures it. The trap: whether it was met
holds for the machine of the result file, so it is printed and kept, and no exit code depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

MET: Final = {True: "met", False: "NOT MET"}


@dataclass(frozen=True)
class Marked:
    """One figure beside the mark it has to reach."""

    figure: str
    measured: float
    mark: float
    unit: str
    most: bool

    @classmethod
    def at_least(cls, figure: str, measured: float, mark: float, unit: str) -> Marked:
        return cls(figure, measured, mark, unit, most=False)

    @classmethod
    def at_most(cls, figure: str, measured: float, mark: float, unit: str) -> Marked:
        return cls(figure, measured, mark, unit, most=True)

    @property
    def met(self) -> bool:
        """Say whether the mark was reached; exactly on it counts.

        >>> Marked.at_most("peak", 900.0, 900.0, "MiB").met, Marked.at_least("rate", 0.9, 1.0, "M/s").met
        (True, False)
        """
        return self.measured <= self.mark if self.most else self.measured >= self.mark

    def record(self) -> dict[str, object]:
        return {**asdict(self), "met": self.met}


def number(value: float) -> str:
    """Return a whole number whole, another one with four digits.

    >>> number(1_000_000.0), number(0.58213)
    ('1,000,000', '0.5821')
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def mark_lines(marked: Sequence[Marked]) -> list[str]:
    """Return a table, a line for each figure, under one of titles."""
    rows = [("figure", "measured", "mark", "")]
    for each in marked:
        bound = "at most" if each.most else "at least"
        mark = f"{bound} {number(each.mark)} {each.unit}"
        rows.append((each.figure, number(each.measured), mark, MET[each.met]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
