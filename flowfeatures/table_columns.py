"""Flow records as the columns of a table, in numpy alone: what CSV, DataFrame and Parquet are made of.

Two sets of names. `cicids2017`: the 84 columns of that data set, in its order and under its headers. `penstock`: all
of a record, under our own names. In both, what is counted, a time span or a port is int64 (two unsigned ones would wrap
when subtracted), means, deviations and rates are float64, time stamps are datetime64[us] in UTC, flags are bool.

All text is made here, of hexadecimal digits, dots, colons, hyphens and our own words: none comes from a packet, so that
no cell is read as a formula by a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowfeatures.addresses import AddressBytes, address_text, mac_text
from flowfeatures.columns import COLUMNS, DUPLICATE_HEADER, DUPLICATE_NUMBER, END_REASONS
from flowfeatures.records import RECORD

Names: TypeAlias = Literal["cicids2017", "penstock"]
Records: TypeAlias = NDArray[np.void] | Iterable[NDArray[np.void]]
"""RECORD[n], or several of them one after the other, as a meter yields them."""
Table: TypeAlias = dict[str, NDArray[Any]]

NAMES: tuple[Names, ...] = "cicids2017", "penstock"
_COPIED_NUMBER = 34
_NOT_WHOLE = "_mean", "_std", "_var", "_mean_us", "_std_us", "_per_s", "_per_packet", "_ratio"
_META = {"dst_port", "fwd_packets", "bwd_packets"}
"""Columns that a record also holds beside its columns, as whole numbers."""
_FLAGS = "partial", "half_open", "handshake", "group", "fwd_rst", "bwd_rst"
_NUMBERS = "segment", "fwd_wire_bytes", "bwd_wire_bytes", "fwd_packets", "bwd_packets", "label", "packet_label"


def is_whole(name: str) -> bool:
    """Return whether the column of this name holds whole numbers only."""
    return not name.endswith(_NOT_WHOLE)


def table_of(records: NDArray[np.void], names: Names) -> Table:
    """Return the columns of RECORD[n] by name, in order; the text columns are arrays of str.

    Raises ValueError where there is no such set of names.
    """
    if names not in NAMES:
        raise ValueError(f"names: {names!r}, wanted one of {', '.join(NAMES)}")
    return _cicids2017(records) if names == "cicids2017" else _penstock(records)


def in_groups(records: Records, rows: int) -> Iterator[NDArray[np.void]]:
    """Yield RECORD[rows] in the order given; the last may be shorter, and there is none where there is no record.

    A record is copied once, so that the large buffers of many small batches are not held.

    Raises TypeError where something is no array of dtype RECORD.
    """
    group, filled = np.empty(rows, RECORD), 0
    for batch in [records] if isinstance(records, np.ndarray) else records:
        check_records(batch)
        at = 0
        while at < len(batch):
            taken = min(rows - filled, len(batch) - at)
            group[filled : filled + taken] = batch[at : at + taken]
            filled, at = filled + taken, at + taken
            if filled == rows:
                yield group
                group, filled = np.empty(rows, RECORD), 0
    if filled:
        yield group[:filled]


def check_records(batch: Any) -> None:
    """Raise TypeError where the batch is not RECORD[n]."""
    if isinstance(batch, np.ndarray) and batch.ndim == 1 and batch.dtype.names == RECORD.names:
        return
    seen = f"{batch.dtype} of {batch.ndim} dimensions" if isinstance(batch, np.ndarray) else type(batch).__name__
    raise TypeError(f"records: {seen}, wanted RECORD[n] arrays, as a FlowMeter yields them")


def _cicids2017(records: NDArray[np.void]) -> Table:
    src, dst = _texts(records["src"], address_text), _texts(records["dst"], address_text)
    ports = records["src_port"].tolist(), records["dst_port"].tolist()
    parts = zip(src, dst, *ports, records["proto"].tolist(), strict=True)
    table: Table = {
        "Flow ID": _text("-".join(map(str, part)) for part in parts),
        "Source IP": src,
        "Source Port": _whole(records["src_port"]),
        "Destination IP": dst,
        "Destination Port": _whole(records["dst_port"]),
        "Protocol": _whole(records["proto"]),
        "Timestamp": _time(records["start_us"]),
    }
    values = records["columns"].T
    for place, column in enumerate(COLUMNS[1:], start=1):
        if column.number == DUPLICATE_NUMBER + 1:
            table[DUPLICATE_HEADER] = _feature(values[_COPIED_NUMBER], COLUMNS[_COPIED_NUMBER].name)
        table[column.header] = _feature(values[place], column.name)
    return table


def _penstock(records: NDArray[np.void]) -> Table:
    table: Table = {
        "flow_id": _whole(records["flow_id"]),
        "start": _time(records["start_us"]),
        "end": _time(records["end_us"]),
        "left": _time(records["left_us"]),
        "src": _texts(records["src"], address_text),
        "src_port": _whole(records["src_port"]),
        "dst": _texts(records["dst"], address_text),
        "dst_port": _whole(records["dst_port"]),
        "proto": _whole(records["proto"]),
        "ip_version": _whole(records["ip_version"]),
        "vlan_outer": _whole(records["vlan"][:, 0]),
        "vlan_inner": _whole(records["vlan"][:, 1]),
        "src_mac": _texts(records["src_mac"], mac_text),
        "dst_mac": _texts(records["dst_mac"], mac_text),
        "end_reason": _text(END_REASONS[reason] for reason in records["end_reason"].tolist()),
    }
    table |= {name: records[name] != 0 for name in _FLAGS}
    table |= {name: _whole(records[name]) for name in _NUMBERS}
    values = records["columns"].T
    for place, column in enumerate(COLUMNS):
        if column.name not in _META:
            table[column.name] = _feature(values[place], column.name)
    return table


def _feature(values: NDArray[np.float64], name: str) -> NDArray[Any]:
    return _whole(values) if is_whole(name) else np.ascontiguousarray(values)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    return values.astype(np.int64)


def _time(times_us: NDArray[np.int64]) -> NDArray[np.datetime64]:
    return times_us.astype(np.int64).view("datetime64[us]")


def _texts(rows: NDArray[np.uint8], text_of: Callable[[AddressBytes], str]) -> NDArray[Any]:
    """Return a text per row of octets; each distinct one is made once."""
    width, octets = rows.shape[1], rows.tobytes()
    keys = [octets[at : at + width] for at in range(0, len(octets), width)]
    texts = {key: text_of(key) for key in set(keys)}
    return _text(texts[key] for key in keys)


def _text(texts: Iterable[str]) -> NDArray[Any]:
    return np.array(list(texts), dtype=object)
