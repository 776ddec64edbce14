"""NSL-KDD: 41 columns, the attack type, and in most files a difficulty, which is no feature. With or without a header.

`kind` is the attack type, `label` one of benign, dos, probe, r2l, u2r. Types of both published files are known; one
that is not becomes class `unknown`: an attack, but of no class that could be learned. Source of the grouping: Tavallaee
et al. 2009 and the task description of KDD Cup 1999.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.tables import files
from training.tables.cleaning import cleaned_numbers, without_duplicates
from training.tables.table import BENIGN, UNKNOWN, Table, TableError, joined

SYMBOLS = ("protocol_type", "service", "flag")
COLUMNS = (
    "duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent",
    "hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root",
    "num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login",
    "count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate",
    "diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count", "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate", "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate", "dst_host_serror_rate",
    "dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate",
)  # fmt: skip
KIND = len(COLUMNS)
WIDTHS = (KIND + 1, KIND + 2)
KINDS = {
    BENIGN: ("normal",),
    "dos": (
        "apache2", "back", "land", "mailbomb", "neptune", "pod", "processtable", "smurf", "teardrop", "udpstorm",
    ),
    "probe": ("ipsweep", "mscan", "nmap", "portsweep", "saint", "satan"),
    "r2l": (
        "ftp_write", "guess_passwd", "httptunnel", "imap", "multihop", "named", "phf", "sendmail", "snmpgetattack",
        "snmpguess", "spy", "warezclient", "warezmaster", "worm", "xlock", "xsnoop",
    ),
    "u2r": ("buffer_overflow", "loadmodule", "perl", "ps", "rootkit", "sqlattack", "xterm"),
}  # fmt: skip
LABEL_OF = {kind: label for label, kinds in KINDS.items() for kind in kinds}


def read(paths: Sequence[Path]) -> Table:
    """Return the rows of one or more files, without those that come twice. Raises as `files.blocks` does."""
    table = joined([_read_file(path) for path in paths])
    if not len(table):
        raise TableError(f"{paths[0]}: no row, want lines of {WIDTHS[0]} or {WIDTHS[1]} cells")
    return without_duplicates(table)


def _read_file(path: Path) -> Table:
    first = files.first_row(path)
    has_header = first[0].lower() == COLUMNS[0]
    parts = [_table_of(block) for block in files.blocks(path, widths=WIDTHS, skip=int(has_header))]
    if not parts:
        raise TableError(f"{path}: a header and no row, want lines of {WIDTHS[0]} or {WIDTHS[1]} cells")
    return joined(parts)


def _table_of(block: files.Block) -> Table:
    names = [name for name in COLUMNS if name not in SYMBOLS]
    numbers = block.numbers([COLUMNS.index(name) for name in names], names)
    cleaned: Counter[str] = Counter(rows=len(block.rows))
    kind = np.array([_kind(cell) for cell in block.column(KIND)], dtype=object)
    for row in np.flatnonzero(kind == "")[:1]:
        raise block.wrong(int(row), "label", "", "an attack type or 'normal'")
    for row in np.flatnonzero([_is_number(each) for each in kind])[:1]:
        raise block.wrong(int(row), "label", kind[row], "an attack type or 'normal'")
    label = np.array([LABEL_OF.get(each, UNKNOWN) for each in kind], dtype=object)
    cleaned["unknown labels"] = int((label == UNKNOWN).sum())
    return Table(
        number_names=tuple(names),
        symbol_names=SYMBOLS,
        numbers=cleaned_numbers(numbers, names, may_be_negative=(), cleaned=cleaned),
        symbols=np.array([block.column(COLUMNS.index(name)) for name in SYMBOLS], dtype=object).T,
        label=label,
        kind=kind,
        flow=np.full(len(label), "", dtype=object),
        time_us=np.zeros(len(label), np.int64),
        cleaned=cleaned,
    )


def _kind(cell: str) -> str:
    """Return the attack type as KDD'99 and NSL-KDD both write it: without the full stop of the former."""
    return cell.lower().rstrip(".")


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()
