"""Flow records as a Parquet file, row group by row group. pyarrow is optional and loaded when asked for.

Its trap: a pyarrow writer that is closed after an error writes the footer all the same, and what was written so far
reads as a whole file. So a file given by name is written beside its place and moved there when all of it is.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flowfeatures.extras import optional
from flowfeatures.records import RECORD
from flowfeatures.table_columns import Names, Records, in_groups, table_of

ROWS_PER_GROUP = 16_384
"""Some 13 MB of records; with columns, text and pages some 120 MB are in memory at a time."""


def write_parquet(
    records: Records,
    file: str | os.PathLike[str] | BinaryIO,
    *,
    names: Names = "cicids2017",
    rows_per_group: int = ROWS_PER_GROUP,
) -> int:
    """Write a row per record, in order of leaving; return how many were written.

    `records` is RECORD[n] or an iterable of such arrays, taken as they come: memory holds one row group. Columns and
    their types are those of `to_pandas`; pages are compressed with zstd. A file given by name appears when it is whole,
    or not at all; one given open stays open, and is the caller's to throw away where this raises.

    Raises MissingExtra without pyarrow, TypeError where `records` are none, ValueError where there is no such set of
    names or rows_per_group is below 1, OSError where the file cannot be written.
    """
    if rows_per_group < 1:
        raise ValueError(f"rows_per_group: {rows_per_group}, wanted 1 or more")
    arrow = optional("pyarrow", purpose="to write Parquet")
    schema = _schema(arrow, names)
    if not isinstance(file, (str, os.PathLike)):
        return _write(arrow, schema, records, file, names=names, rows_per_group=rows_per_group)
    target = Path(os.path.realpath(file))  # a link goes on pointing at what is written
    if target.exists() and not target.is_file():
        with target.open("wb") as device:
            return _write(arrow, schema, records, device, names=names, rows_per_group=rows_per_group)
    draft = target.with_name(f".{secrets.token_hex(8)}.draft")
    try:
        with draft.open("xb") as written:
            count = _write(arrow, schema, records, written, names=names, rows_per_group=rows_per_group)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _write(arrow: Any, schema: Any, records: Records, file: BinaryIO, *, names: Names, rows_per_group: int) -> int:
    parquet = optional("pyarrow.parquet", purpose="to write Parquet")
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in in_groups(records, rows_per_group):
            columns = table_of(group, names).values()
            arrays = [arrow.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema), row_group_size=rows_per_group)
            count += len(group)
    return count


def _schema(arrow: Any, names: Names) -> Any:
    types = {
        "i": arrow.int64(),
        "f": arrow.float64(),
        "b": arrow.bool_(),
        "M": arrow.timestamp("us", tz="UTC"),
        "O": arrow.string(),
    }
    table = table_of(np.empty(0, RECORD), names)
    return arrow.schema([arrow.field(name, types[values.dtype.kind], False) for name, values in table.items()])
