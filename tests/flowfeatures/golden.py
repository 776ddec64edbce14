"""Rows of the corrected CICFlowMeter beside ours, and the list of what differs on purpose.

The list is FEATURES.md section 4's; every entry says which rows and columns it excuses, and nothing else is excused.
"""

import csv
import ipaddress
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.flowfeatures.meters import SHARED
from tests.oracle.columns import NAMES
from tests.oracle.meter import Record

GOLDEN = SHARED / "golden"
SQLI = SHARED / "data" / "golden_cicids2017_sqli"
RELATIVE_TOLERANCE = 1e-6

# The fork's headers in the order of our columns 1 to 77 (without 0, which it does not print, and 55).
FORK_HEADERS = """
Flow Duration,Total Fwd Packet,Total Bwd packets,Total Length of Fwd Packet,Total Length of Bwd Packet,
Fwd Packet Length Max,Fwd Packet Length Min,Fwd Packet Length Mean,Fwd Packet Length Std,
Bwd Packet Length Max,Bwd Packet Length Min,Bwd Packet Length Mean,Bwd Packet Length Std,
Flow Bytes/s,Flow Packets/s,Flow IAT Mean,Flow IAT Std,Flow IAT Max,Flow IAT Min,
Fwd IAT Total,Fwd IAT Mean,Fwd IAT Std,Fwd IAT Max,Fwd IAT Min,
Bwd IAT Total,Bwd IAT Mean,Bwd IAT Std,Bwd IAT Max,Bwd IAT Min,
Fwd PSH Flags,Bwd PSH Flags,Fwd URG Flags,Bwd URG Flags,Fwd Header Length,Bwd Header Length,
Fwd Packets/s,Bwd Packets/s,
Packet Length Min,Packet Length Max,Packet Length Mean,Packet Length Std,Packet Length Variance,
FIN Flag Count,SYN Flag Count,RST Flag Count,PSH Flag Count,ACK Flag Count,URG Flag Count,CWR Flag Count,ECE Flag Count,
Down/Up Ratio,Average Packet Size,Fwd Segment Size Avg,Bwd Segment Size Avg,
Fwd Bytes/Bulk Avg,Fwd Packet/Bulk Avg,Fwd Bulk Rate Avg,Bwd Bytes/Bulk Avg,Bwd Packet/Bulk Avg,Bwd Bulk Rate Avg,
Subflow Fwd Packets,Subflow Fwd Bytes,Subflow Bwd Packets,Subflow Bwd Bytes,
FWD Init Win Bytes,Bwd Init Win Bytes,Fwd Act Data Pkts,Fwd Seg Size Min,
Active Mean,Active Std,Active Max,Active Min,Idle Mean,Idle Std,Idle Max,Idle Min
""".replace("\n", "").split(",")

SUBFLOWS = frozenset(header for header in FORK_HEADERS if header.startswith("Subflow"))
RATES = frozenset({"Flow Bytes/s", "Flow Packets/s"})
# Columns that do not change when the two directions are exchanged.
DIRECTION_FREE = frozenset(
    header for header in FORK_HEADERS if not header.lower().startswith(("fwd", "bwd", "subflow", "down", "total"))
)
FIRST_PACKET_BACKWARD = frozenset({"FWD Init Win Bytes", "Fwd Seg Size Min"})
EVERYTHING = frozenset(FORK_HEADERS)

# (capture, n-th flow of its key) -> columns the fork gets wrong there.
EXCUSED: dict[tuple[str, int], frozenset[str]] = {
    ("08_timeout_bwd_first", 1): FIRST_PACKET_BACKWARD,
    ("14_synack_first", 0): FIRST_PACKET_BACKWARD,
    # It tells directions by address alone, and both ends of this flow have the same.
    ("15_same_ip", 0): EVERYTHING - DIRECTION_FREE,
    ("21_tcp_keepalive_130s", 1): FIRST_PACKET_BACKWARD,
}
# It prints protocol 0 for later fragments, and one ARP frame as an IPv4 flow.
ROWS_NOT_OURS = {("18_fragments", 0), ("coap_mqtt", 0)}


@dataclass
class ColumnDiff:
    """What comparing one capture's rows gave."""

    lines: list[str] = field(default_factory=list)
    """One per value that differs without an excuse."""
    rows: int = 0
    equal: int = 0
    excused: int = 0


Key = tuple[tuple[tuple[str, int], ...], int]


def address(packed: bytes) -> str:
    """Return the text of a 16-byte address, IPv4 in its own form."""
    parsed = ipaddress.IPv6Address(packed)
    return str(parsed.ipv4_mapped or parsed)


def golden_rows(path: Path) -> dict[Key, list[dict[str, str]]]:
    """Return the fork's rows by flow key, in file order."""
    rows: dict[Key, list[dict[str, str]]] = defaultdict(list)
    with path.open() as lines:
        for row in csv.DictReader(lines):
            ends = (row["Src IP"], int(row["Src Port"])), (row["Dst IP"], int(row["Dst Port"]))
            rows[tuple(sorted(ends)), int(row["Protocol"])].append(row)
    return rows


def our_rows(records: list[Record]) -> dict[Key, list[dict[str, float]]]:
    """Return our records by flow key, under the fork's headers."""
    rows: dict[Key, list[dict[str, float]]] = defaultdict(list)
    assert NAMES[0] == "dst_port"
    for record in records:
        ends = (address(record.src), record.src_port), (address(record.dst), record.dst_port)
        rows[tuple(sorted(ends)), record.proto].append(dict(zip(FORK_HEADERS, record.columns[1:], strict=True)))
    return rows


def column_diff(capture: str, records: list[Record], golden: Path) -> ColumnDiff:
    """Compare every golden row of the capture with our record of the same flow."""
    ours, diff = our_rows(records), ColumnDiff()
    for key, rows in golden_rows(golden).items():
        if (capture, key[1]) in ROWS_NOT_OURS:
            continue
        for i, row in enumerate(rows):
            diff.rows += 1
            if i >= len(ours[key]):
                diff.lines.append(f"{capture} {key} flow {i + 1}: no such record of ours")
                continue
            here = ours[key][i]
            excused = EXCUSED.get((capture, i), frozenset()) | SUBFLOWS
            if capture == "sqli":
                excused |= {"Bwd Init Win Bytes"}  # the older tool's: the last window, not the first
            if here["Flow Duration"] == 0:
                excused |= RATES
            for header in FORK_HEADERS:
                if header in excused:
                    diff.excused += 1
                elif is_equal(float(row[header]), here[header]):
                    diff.equal += 1
                else:
                    diff.lines.append(
                        f"{capture} {key} flow {i + 1} {header}: {row[header]} there, {here[header]} here"
                    )
    return diff


def is_equal(there: float, here: float) -> bool:
    """Say whether two values agree to what the fork prints."""
    return math.isclose(there, here, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE)
