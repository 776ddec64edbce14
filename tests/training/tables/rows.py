"""Tables made by hand for the tests: NSL-KDD and CICIDS2017 lines, and a small table of two clouds."""

from __future__ import annotations

from collections import Counter

import numpy as np

from training.tables.cicids_columns import CORRECTED_FEATURES, ORIGINAL_FEATURES
from training.tables.nsl_kdd import COLUMNS
from training.tables.table import BENIGN, Table

CORRECTED_NAMES = (
    ["id", "Flow ID", "Src IP", "Src Port", "Dst IP", "Dst Port", "Protocol", "Timestamp"]
    + [name.title() for name in CORRECTED_FEATURES]
    + ["Label", "Attempted Category"]
)  # fmt: skip


def nsl_line(*, kind: str = "normal", difficulty: bool = True, **cells: object) -> str:
    """Return a line of NSL-KDD: zeros, a web connection, and what is given by column."""
    values = dict.fromkeys(COLUMNS, "0") | {"protocol_type": "tcp", "service": "http", "flag": "SF"}
    values |= {name: str(value) for name, value in cells.items()}
    return ",".join([*values.values(), kind, *(["21"] if difficulty else [])])


def corrected_line(
    *, label: str = "BENIGN", flow: str = "a-b", time: str = "2017-07-03 11:57:41.826651", **cells: object
) -> str:
    """Return a line of the corrected CICIDS2017 under CORRECTED_NAMES."""
    values = dict.fromkeys(CORRECTED_NAMES, "1")
    values |= {"Flow ID": flow, "Timestamp": time, "Label": label, "Protocol": "6", "Attempted Category": "-1"}
    values |= {name.replace("_", " "): str(value) for name, value in cells.items()}
    return ",".join(values.values())


def original_header(*, twice: bool = False, named: bool = False) -> list[str]:
    """Return a header of the original format as its files print it, with leading spaces and all."""
    names = [f" {name.title()}" for name in ORIGINAL_FEATURES]
    if twice:
        names.insert(54, "Fwd Header Length.1")
    if named:
        names = ["Flow ID", "Source IP", "Timestamp", " Destination Port", *names]
    return [*names, " Label"]


def clouds(*, benign: int = 300, kinds: dict[str, int] | None = None, seed: int = 0, time: bool = False) -> Table:
    """Return rows of four numbers and a symbol: benign around 0, each kind around a place of its own."""
    rng = np.random.default_rng(seed)
    parts, kind = [rng.normal(0.0, 1.0, (benign, 4))], [BENIGN] * benign
    for place, (name, count) in enumerate((kinds or {"flood": 100, "scan": 100}).items(), start=1):
        parts.append(rng.normal(6.0 * place, 1.0, (count, 4)))
        kind += [name] * count
    names = np.array(kind, dtype=object)
    moments = np.arange(1, len(kind) + 1, dtype=np.int64) * 3_600_000_000
    return Table(
        number_names=("a", "b", "c", "d"),
        symbol_names=("proto",),
        numbers=np.concatenate(parts),
        symbols=np.array([["tcp"] if place % 3 else ["udp"] for place in range(len(kind))], dtype=object),
        label=names,
        kind=names,
        flow=np.full(len(kind), "", dtype=object),
        time_us=moments if time else np.zeros(len(kind), np.int64),
        cleaned=Counter(rows=len(kind)),
    )
