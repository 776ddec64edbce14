"""Flow records as a pandas DataFrame. pandas is optional and loaded when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowfeatures.extras import optional
from flowfeatures.records import RECORD
from flowfeatures.table_columns import Names, Records, Table, in_groups, table_of

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 65_536


def to_pandas(records: Records, *, names: Names = "cicids2017") -> pd.DataFrame:
    """Return a DataFrame with a row per record, in order of leaving.

    `records` is RECORD[n] or an iterable of such arrays, taken as they come. `names` are "cicids2017" (the 84 columns
    under that data set's headers) or "penstock" (all of a record, under our own). Counts, time spans in microseconds
    and ports are int64, means and rates float64, time stamps datetime64[us, UTC], flags bool, addresses text.

    Raises MissingExtra without pandas, TypeError where `records` are none, ValueError where there is no such set of
    names.
    """
    pandas = optional("pandas", purpose="to make a DataFrame")
    tables = [table_of(group, names) for group in in_groups(records, ROWS_AT_ONCE)]
    tables = tables or [table_of(np.empty(0, RECORD), names)]
    return pandas.DataFrame({name: _series(pandas, name, tables) for name in list(tables[0])})


def _series(pandas: Any, name: str, tables: list[Table]) -> Any:
    """Return one column; its parts are given up one by one, so that the table is not held twice."""
    parts = [table.pop(name) for table in tables]
    values = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if values.dtype.kind == "M":
        return pandas.Series(values).dt.tz_localize("UTC")
    return pandas.Series(values, dtype=str) if values.dtype.kind == "O" else pandas.Series(values)
