"""Flow records as the CSV that CICIDS2017's readers know: `penstock features`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from flowfeatures.addresses import address_text
from flowfeatures.columns import COLUMNS, DUPLICATE_HEADER, DUPLICATE_NUMBER

_IDENTITY = ("Flow ID", "Source IP", "Source Port", "Destination IP", "Destination Port", "Protocol", "Timestamp")
_FEATURES = COLUMNS[1:]
"""All but the port, which stands among the identity columns."""
_DUPLICATE_AT = DUPLICATE_NUMBER - 1
_COPIED_AT = 34 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def csv_header() -> list[str]:
    """Return the 84 headers: identity, then columns 1 to 77 with 55 as the copy of 34."""
    headers = [column.header for column in _FEATURES]
    return [*_IDENTITY, *headers[:_DUPLICATE_AT], DUPLICATE_HEADER, *headers[_DUPLICATE_AT:]]


def write_csv(batches: Iterable[NDArray[np.void]], file: TextIO) -> int:
    """Write the header and a line per record, in order of leaving; return how many records were written."""
    count = 0
    file.write(",".join(csv_header()) + "\n")
    for records in batches:
        file.writelines(_line(record) for record in records)
        count += len(records)
    return count


def _line(record: Any) -> str:
    src, dst = address_text(record["src"]), address_text(record["dst"])
    src_port, dst_port, proto = int(record["src_port"]), int(record["dst_port"]), int(record["proto"])
    start = _EPOCH + timedelta(microseconds=int(record["start_us"]))
    values = [_number(value) for value in record["columns"].tolist()[1:]]
    values.insert(_DUPLICATE_AT, values[_COPIED_AT])
    identity = (f"{src}-{dst}-{src_port}-{dst_port}-{proto}", src, src_port, dst, dst_port, proto)
    return ",".join([*map(str, identity), f"{start:%Y-%m-%d %H:%M:%S.%f}", *values]) + "\n"


def _number(value: float) -> str:
    """Return the shortest text that reads back as the same float64."""
    return str(int(value)) if value.is_integer() else repr(value)
