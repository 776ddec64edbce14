"""The one table of columns: of a flow record (77), of the model's vector (76), of a window's row (F).

docs/FEATURES.md defines the values, `vector.pyx` computes them in this order. `SCHEMA_ID` changes when a name or the
order does; a bundle trained under another schema is refused.
"""

import hashlib
from typing import NamedTuple


class Column(NamedTuple):
    """One column of a flow record. `number` is its place in the CICIDS2017 table (0 to 77, 55 is a duplicate)."""

    number: int
    name: str
    header: str


def _both(name: str, header: str, headers: tuple[str, str] = ("Fwd", "Bwd")) -> list[tuple[str, str]]:
    return [(f"{way}_{name}", header.format(way=title)) for way, title in zip(("fwd", "bwd"), headers, strict=True)]


def _each(name: str, header: str, statistics: str) -> list[tuple[str, str]]:
    """Return a column per statistic; `{}` in name and header is where the statistic stands."""
    titles = {"sum": "Total", "max": "Max", "min": "Min", "mean": "Mean", "std": "Std"}
    return [(name.format(word), header.format(titles[word])) for word in statistics.split()]


def _table() -> list[tuple[str, str]]:
    """Return (our name, CICIDS2017 header) of columns 0 to 77 in order."""
    rows = [("dst_port", "Destination Port"), ("duration_us", "Flow Duration")]
    rows += [("fwd_packets", "Total Fwd Packets"), ("bwd_packets", "Total Backward Packets")]
    rows += _both("payload_bytes", "Total Length of {way} Packets")
    rows += _each("fwd_payload_bytes_{}", "Fwd Packet Length {}", "max min mean std")
    rows += _each("bwd_payload_bytes_{}", "Bwd Packet Length {}", "max min mean std")
    rows += [("payload_bytes_per_s", "Flow Bytes/s"), ("packets_per_s", "Flow Packets/s")]
    rows += _each("iat_{}_us", "Flow IAT {}", "mean std max min")
    rows += _each("fwd_iat_{}_us", "Fwd IAT {}", "sum mean std max min")
    rows += _each("bwd_iat_{}_us", "Bwd IAT {}", "sum mean std max min")
    rows += _both("psh_packets", "{way} PSH Flags") + _both("urg_packets", "{way} URG Flags")
    rows += _both("header_bytes", "{way} Header Length") + _both("packets_per_s", "{way} Packets/s")
    rows += [("payload_bytes_min", "Min Packet Length"), ("payload_bytes_max", "Max Packet Length")]
    rows += _each("payload_bytes_{}", "Packet Length {}", "mean std")
    rows += [("payload_bytes_var", "Packet Length Variance")]
    # "CWE" is CWR (RFC 3168): the published header has a typo.
    flags = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "CWE", "ECE"]
    rows += [(f"{'cwr' if flag == 'CWE' else flag.lower()}_packets", f"{flag} Flag Count") for flag in flags]
    rows += [("down_up_ratio", "Down/Up Ratio"), ("payload_bytes_per_packet", "Average Packet Size")]
    rows += _both("payload_bytes_per_packet", "Avg {way} Segment Size")
    rows += [("", "Fwd Header Length.1")]
    for way, title in (("fwd", "Fwd"), ("bwd", "Bwd")):
        rows += [
            (f"{way}_bulk_bytes_mean", f"{title} Avg Bytes/Bulk"),
            (f"{way}_bulk_packets_mean", f"{title} Avg Packets/Bulk"),
            (f"{way}_bulk_bytes_per_s", f"{title} Avg Bulk Rate"),
        ]
    for way, title in (("fwd", "Fwd"), ("bwd", "Bwd")):
        rows += [(f"{way}_subflow_packets_mean", f"Subflow {title} Packets")]
        rows += [(f"{way}_subflow_bytes_mean", f"Subflow {title} Bytes")]
    rows += _both("init_window_bytes", "Init_Win_bytes_{way}", ("forward", "backward"))
    rows += [("fwd_data_packets", "act_data_pkt_fwd"), ("fwd_header_bytes_min", "min_seg_size_forward")]
    rows += _each("active_spell_{}_us", "Active {}", "mean std max min")
    rows += _each("idle_spell_{}_us", "Idle {}", "mean std max min")
    return rows


DUPLICATE_NUMBER = 55
DUPLICATE_HEADER = "Fwd Header Length.1"
"""Column 55 of the published files: a copy of 34, written to CSV, kept nowhere."""

COLUMNS: tuple[Column, ...] = tuple(
    Column(number, name, header) for number, (name, header) in enumerate(_table()) if number != DUPLICATE_NUMBER
)

VECTOR_COLUMNS: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.name != "dst_port")
"""What of a record a model may see: everything but the raw port."""

PORT_BUCKETS: dict[str, tuple[int, ...]] = {
    "remote_admin": (21, 22, 23, 2222, 2323, 3389, 5555, 5900),
    "web": (80, 443, 8000, 8008, 8080, 8081, 8443, 8888),
    "infrastructure": (53, 67, 68, 123, 137, 138, 161, 162, 514, 1900, 5353, 5355),
    "mqtt": (1883, 8883),
    "industrial": (102, 502, 4840, 5683, 5684, 20000, 44818, 47808),
    "other_system": (),  # any other below 1,024
    "registered": (),  # any other below 49,152
    "dynamic": (),  # the rest
}


def bucket_of_port() -> bytes:
    """Return 65,536 octets: for each port, the place of its bucket in PORT_BUCKETS."""
    place = {bucket: index for index, bucket in enumerate(PORT_BUCKETS)}
    table = bytearray([place["other_system"]]) * 1024
    table += bytearray([place["registered"]]) * (49_152 - 1024)
    table += bytearray([place["dynamic"]]) * (65_536 - 49_152)
    for bucket, ports in PORT_BUCKETS.items():
        for port in ports:
            table[port] = place[bucket]
    return bytes(table)


CONTEXT_COLUMNS: tuple[str, ...] = (
    *(f"port_{bucket}" for bucket in PORT_BUCKETS),
    "is_tcp",
    "is_udp",
    "is_icmp",
    "device_initiated",
    "peer_is_home",
    "fwd_rst",
    "bwd_rst",
    "is_partial",
    "log_gap",
    "repeats",
    "peers_10s",
    "peers_60s",
    "ports_10s",
    "ports_60s",
    "half_open_10s",
    "half_open_60s",
    "failed_10s",
    "failed_60s",
)
"""What a row of a window says beside its record; docs/decisions tells how each is computed."""

WINDOW_COLUMNS: tuple[str, ...] = VECTOR_COLUMNS + CONTEXT_COLUMNS

SCHEMA_ID = hashlib.sha256(
    "\n".join([*(f"{c.number} {c.name}" for c in COLUMNS), "--", *WINDOW_COLUMNS]).encode()
).hexdigest()[:16]

END_REASONS: tuple[str, ...] = (
    "partial",
    "idle_timeout",
    "active_timeout",
    "end_of_flow",
    "forced_end",
    "lack_of_resources",
)
"""By number, as in IPFIX flowEndReason (136); 0 is ours: the flow has not ended."""

UNDECODED_REASONS: tuple[str, ...] = (
    "truncated_link",
    "truncated_ip",
    "truncated_l4",
    "bad_ihl",
    "bad_offset",
    "not_ip",
    "unsupported_link",
)
"""Why a frame became no packet; the order is that of the enum in packet.pxd, which begins at 1."""
