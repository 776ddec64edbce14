"""What is wrong with published rows, put right and counted, never silently.

A rate of a flow without duration is infinite or no number: it becomes 0, as our own extractor has it. A negative value
where none can be (header lengths, gaps between packets) becomes 0. Duplicates leave: a
flow's second row, an equal row. The counts are cells for the first three and rows for the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.tables.table import Table


def cleaned_numbers(
    numbers: NDArray[np.float64], names: Sequence[str], *, may_be_negative: Collection[str], cleaned: Counter[str]
) -> NDArray[np.float64]:
    """Return the numbers with every cell finite, and not negative but in the columns named; adds to `cleaned`."""
    guarded = np.array([name not in may_be_negative for name in names])
    nan, infinite = np.isnan(numbers), np.isinf(numbers)
    negative = (numbers < 0) & guarded & ~infinite
    cleaned["cells not a number"] += int(nan.sum())
    cleaned["cells infinite"] += int(infinite.sum())
    cleaned["cells negative"] += int(negative.sum())
    return np.where(nan | infinite | negative, 0.0, numbers)


def without_duplicates(table: Table) -> Table:
    """Return the table with each flow that is named once, and each other row once: equal values of one class."""
    table = replace(table, content=table.contents())
    named = np.asarray(table.flow != "", dtype=bool)
    keys = np.zeros(len(table), [("row", "<u8"), ("label", "<i8")])
    keys["row"] = np.where(named, table.identities(), table.contents())
    keys["label"] = np.where(named, -1, np.unique(table.label.astype(str), return_inverse=True)[1])
    first = np.sort(np.unique(keys, return_index=True)[1])
    cleaned = Counter(table.cleaned)
    cleaned["duplicate rows"] += len(table) - len(first)
    return replace(table.take(first), cleaned=cleaned)
