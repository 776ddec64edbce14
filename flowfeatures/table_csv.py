"""Flow records as CSV: under CICIDS2017's headers what its readers know, under our names all of a record."""

from __future__ import annotations

from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from flowfeatures.records import RECORD
from flowfeatures.table_columns import Names, Records, check_records, table_of

ROWS_AT_ONCE = 2_048  # bounds what the cells take, some 20 MB


def csv_header(names: Names = "cicids2017") -> list[str]:
    """Return the headers: by default CICIDS2017's 84, identity, then columns 1 to 77 with 55 as the copy of 34."""
    return list(table_of(np.empty(0, RECORD), names))


def write_csv(records: Records, file: TextIO, *, names: Names = "cicids2017") -> int:
    """Write the header and a line per record, in order of leaving; return how many records were written.

    `records` is RECORD[n] or an iterable of such arrays, written as they come. Numbers are the shortest text that reads
    back as the same value, times are UTC to the microsecond without an offset, flags are 0 and 1. No cell needs quotes,
    and none holds text that came from the network.

    Raises TypeError where `records` are none, ValueError where there is no such set of names.
    """
    count = 0
    file.write(",".join(csv_header(names)) + "\n")
    for batch in [records] if isinstance(records, np.ndarray) else records:
        check_records(batch)
        for at in range(0, len(batch), ROWS_AT_ONCE):
            cells = [_cells(values) for values in table_of(batch[at : at + ROWS_AT_ONCE], names).values()]
            file.writelines(",".join(row) + "\n" for row in zip(*cells, strict=True))
        count += len(batch)
    return count


def _cells(values: NDArray[Any]) -> list[str]:
    """Return a column's values as text."""
    if values.dtype.kind == "M":
        return [text.replace("T", " ") for text in np.datetime_as_string(values, unit="us").tolist()]
    if values.dtype.kind == "f":
        return [_number(value) for value in values.tolist()]
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    return [str(value) for value in values.tolist()]


def _number(value: float) -> str:
    """Return the shortest text that reads back as the same float64."""
    return str(int(value)) if value.is_integer() else repr(value)
