"""CICIDS2017 in both published formats, told apart by their header.

`corrected` (Engelen, Liu et al.): 91 columns, or 84 as first published. Flow ID, addresses, ports and the time say who
and when: they name the flow for the check of splits and order it in time, and are never features. `original`: the
78 columns of CICFlowMeter and the label, with or without the column that comes twice, with or without port, addresses
and flow id. Columns are told by name, whatever their order; those of neither format are passed over.

`kind` is the data set's own label with one spelling; `label` groups kinds (`FAMILIES`), since the files of the original
format do not all tell DoS Hulk from DoS GoldenEye. An attack that was tried and failed ("- Attempted") is left out and
counted. The two formats describe the same flows by different tools and must not be mixed: reading both raises.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.tables import files
from training.tables.cicids_columns import CORRECTED_FEATURES, NEWER, ORIGINAL_FEATURES
from training.tables.cleaning import cleaned_numbers, without_duplicates
from training.tables.table import BENIGN, UNKNOWN, Table, TableError, Texts, joined

CORRECTED, ORIGINAL = "corrected", "original"
CORRECTED_MARKS = ("attempted category", "total fwd packet")  # the second is "total fwd packets" in the original
# -1 stands for "none" in these; in any other column a value below 0 is the tool's mistake.
MAY_BE_NEGATIVE = frozenset(
    {"fwd init win bytes", "bwd init win bytes", "init_win_bytes_forward", "init_win_bytes_backward", "icmp code",
     "icmp type"}
)  # fmt: skip
PROTOCOLS = {"0": "none", "1": "icmp", "6": "tcp", "17": "udp"}
FAMILIES = {
    BENIGN: ("benign",),
    "dos": ("dos hulk", "dos goldeneye", "dos slowloris", "dos slowhttptest", "dos"),
    "ddos": ("ddos",),
    "portscan": ("portscan",),
    "brute force": ("ftp-patator", "ssh-patator", "bruteforce"),
    "web attack": ("web attack - brute force", "web attack - xss", "web attack - sql injection", "webattack"),
    "botnet": ("botnet", "bot"),
    "infiltration": ("infiltration", "infiltration - portscan"),
    "heartbleed": ("heartbleed",),
}
FAMILY_OF = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}
TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%d/%m/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """What a header says: format, width, and the places of features, label, protocol, flow id and time stamp."""

    format: str
    width: int
    names: tuple[str, ...]
    places: tuple[int, ...]
    label: int
    protocol: int | None
    flow: int | None
    time: int | None


def read(paths: Sequence[Path]) -> tuple[str, Table]:
    """Return the format and the rows of one or more files of one format, each row once.

    Raises as `files.blocks` does, and TableError where two formats meet or a header lacks what is wanted.
    """
    layouts = [layout_of(path, files.first_row(path)) for path in paths]
    formats = {layout.format for layout in layouts}
    if len(formats) > 1:
        told = ", ".join(f"{path} is {layout.format}" for path, layout in zip(paths, layouts, strict=True))
        raise TableError(f"two formats that must not be mixed: {told}")
    table = joined([_read_file(path, layout) for path, layout in zip(paths, layouts, strict=True)])
    if formats == {ORIGINAL}:
        # One file names a flow, another publishes the same flow without its name: the values alone can tell.
        # And one file says DoS where another says DoS Hulk: a kind is known where its family is.
        table = replace(
            table,
            flow=np.full(len(table), "", dtype=object),
            time_us=np.zeros(len(table), np.int64),
            kind=np.where(table.label == UNKNOWN, table.kind, table.label),
        )
    return formats.pop(), without_duplicates(table)


def layout_of(path: Path, header: Sequence[str]) -> Layout:
    """Return the layout of a header. Raises TableError where it is none of CICIDS2017."""
    names = [name.strip().lower() for name in header]
    place = {name: index for index, name in reversed(list(enumerate(names)))}
    for wanted in ("label", "flow duration"):
        if wanted not in place:
            raise TableError(f"{path}:1: no column {wanted!r} among {len(names)}, want the header of CICIDS2017")
    is_corrected = any(mark in place for mark in CORRECTED_MARKS)
    features = CORRECTED_FEATURES if is_corrected else ORIGINAL_FEATURES
    if missing := [name for name in features if name not in place and name not in NEWER]:
        raise TableError(
            f"{path}:1: no column {missing[0]!r} and {len(missing) - 1} others of the {_format(is_corrected)} format's"
            f" {len(features)} features among {len(names)} columns"
        )
    present = tuple(name for name in features if name in place)
    return Layout(
        format=_format(is_corrected),
        width=len(names),
        names=present,
        places=tuple(place[name] for name in present),
        label=place["label"],
        protocol=place.get("protocol") if is_corrected else None,
        flow=place.get("flow id"),
        time=place.get("timestamp"),
    )


def _format(is_corrected: bool) -> str:
    return CORRECTED if is_corrected else ORIGINAL


def _read_file(path: Path, layout: Layout) -> Table:
    parts = [_table_of(block, layout) for block in files.blocks(path, widths=(layout.width,), skip=1)]
    if not parts:
        raise TableError(f"{path}: a header and no row, want rows")
    return joined(parts)


def _table_of(block: files.Block, layout: Layout) -> Table:
    cleaned: Counter[str] = Counter(rows=len(block.rows))
    numbers = block.numbers(layout.places, layout.names)
    numbers = cleaned_numbers(numbers, layout.names, may_be_negative=MAY_BE_NEGATIVE, cleaned=cleaned)
    kind = np.array([kind_of(cell) for cell in block.column(layout.label)], dtype=object)
    for row in np.flatnonzero((kind == "") | (kind == "nan"))[:1]:
        raise block.wrong(int(row), "label", block.rows[row][layout.label], "BENIGN or an attack's name")
    attempted = np.array([each.endswith("- attempted") for each in kind], dtype=bool)
    cleaned["attempted attacks left out"] = int(attempted.sum())
    label = np.array([FAMILY_OF.get(each, UNKNOWN) for each in kind], dtype=object)
    cleaned["unknown labels"] = int(((label == UNKNOWN) & ~attempted).sum())
    table = Table(
        number_names=layout.names,
        symbol_names=() if layout.protocol is None else ("protocol",),
        numbers=numbers,
        symbols=_protocols(block, layout.protocol),
        label=label,
        kind=kind,
        flow=_flows(block, layout),
        time_us=_times(block, layout),
        cleaned=cleaned,
    )
    return table.take(~attempted)


def kind_of(cell: str) -> str:
    """Return a label in one spelling: the published files differ in dashes, spaces and capitals.

    >>> kind_of("Web Attack \\ufffd XSS"), kind_of(" PortScan"), kind_of("Web Attack \\u2013 Sql Injection")
    ('web attack - xss', 'portscan', 'web attack - sql injection')
    """
    return re.sub(r"\s*[^\x00-\x7f]+\s*", " - ", cell.strip()).lower()


def _protocols(block: files.Block, place: int | None) -> Texts:
    if place is None:
        return np.empty((len(block.rows), 0), dtype=object)
    return np.array([[PROTOCOLS.get(cell, "other")] for cell in block.column(place)], dtype=object)


def _flows(block: files.Block, layout: Layout) -> Texts:
    if layout.flow is None or layout.time is None:
        return np.full(len(block.rows), "", dtype=object)
    pairs = zip(block.column(layout.flow), block.column(layout.time), strict=True)
    return np.array([f"{flow} {time}" for flow, time in pairs], dtype=object)


def _times(block: files.Block, layout: Layout) -> NDArray[np.int64]:
    if layout.time is None or layout.format == ORIGINAL:
        return np.zeros(len(block.rows), np.int64)
    found = np.zeros(len(block.rows), np.int64)
    for row, cell in enumerate(block.column(layout.time)):
        time = _time(cell)
        if time is None:
            raise block.wrong(row, "timestamp", cell, "a time as 2017-07-03 11:57:41.826651")
        found[row] = time
    return found


def _time(cell: str) -> int | None:
    for pattern in TIME_FORMATS:
        try:
            moment = datetime.datetime.strptime(cell, pattern)
        except ValueError:
            continue
        since = moment - datetime.datetime(1970, 1, 1)
        return since // datetime.timedelta(microseconds=1)
    return None
