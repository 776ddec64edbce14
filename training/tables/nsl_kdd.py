"""NSL-KDD: 41 columns, the attack type, and in most files a difficulty, which is no feature.

Columns are told by their names where there is a header (or an ARFF file's attributes), and by their order where not.

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
WIDTHS = (len(COLUMNS) + 1, len(COLUMNS) + 2)
LABEL_NAMES = ("label", "labels", "class", "attack", "attack_type", "outcome")  # what headers call the attack type
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
    places = _places(path, first)
    widths = WIDTHS if places is None else (len(first),)
    skipped = 0 if places is None else 1
    parts = [_table_of(block, places or IN_ORDER) for block in files.blocks(path, widths=widths, skip=skipped)]
    if not parts:
        raise TableError(f"{path}: a header and no row, want lines of {WIDTHS[0]} or {WIDTHS[1]} cells")
    return joined(parts)


def _places(path: Path, first: Sequence[str]) -> tuple[int, ...] | None:
    """Return where the columns and the attack type stand by a header; None where the first line is a row."""
    names = [_plain(name) for name in first]
    if not {_plain(name) for name in SYMBOLS} & set(names):
        return None
    label = next((_plain(name) for name in LABEL_NAMES if _plain(name) in names), _plain(LABEL_NAMES[0]))
    for name, wanted in ((each, _plain(each)) for each in (*COLUMNS, label)):
        if wanted not in names:
            raise TableError(f"{path}:1: no column {name!r} among {len(names)}, want the 41 of NSL-KDD and a label")
    return tuple(names.index(_plain(name)) for name in (*COLUMNS, label))


def _plain(name: str) -> str:
    """Return a column's name as its letters and digits: headers differ in the rest."""
    return "".join(each for each in name.lower() if each.isalnum())


IN_ORDER = tuple(range(len(COLUMNS) + 1))


def _table_of(block: files.Block, places: Sequence[int]) -> Table:
    names = [name for name in COLUMNS if name not in SYMBOLS]
    numbers = block.numbers([places[COLUMNS.index(name)] for name in names], names)
    cleaned: Counter[str] = Counter(rows=len(block.rows))
    kind = np.array([_kind(cell) for cell in block.column(places[-1])], dtype=object)
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
        symbols=np.array([block.column(places[COLUMNS.index(name)]) for name in SYMBOLS], dtype=object).T,
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
