"""The columns of a window in words, and their values with units: `fwd_iat_mean_us` 1250 is "mean time between packets
from the initiator", 1.25 ms. Names are composed, so are the words; a test holds that no column is without.
"""

from __future__ import annotations

import math
from typing import Final

STATISTICS: Final = {
    "_mean": "mean ",
    "_std": "spread of ",
    "_max": "largest ",
    "_min": "smallest ",
    "_sum": "sum of ",
    "_var": "variance of ",
}
ENDS: Final = {"fwd_": " from the initiator", "bwd_": " from the responder"}
BASES: Final = {
    "duration": "duration of the flow",
    "packets": "packets",
    "packets_per_s": "packets a second",
    "payload_bytes": "payload",
    "payload_bytes_per_s": "payload a second",
    "payload_bytes_per_packet": "payload per packet",
    "header_bytes": "headers",
    "data_packets": "packets with payload",
    "init_window_bytes": "first TCP window",
    "iat": "time between packets",
    "active_spell": "busy spell",
    "idle_spell": "idle spell",
    "bulk_bytes": "payload of a bulk",
    "bulk_packets": "packets of a bulk",
    "bulk_bytes_per_s": "payload a second in bulks",
    "subflow_packets": "packets of a subflow",
    "subflow_bytes": "payload of a subflow",
    "rst": "a reset",
    **{
        f"{flag}_packets": f"packets with {flag.upper()}"
        for flag in ["fin", "syn", "rst", "psh", "ack", "urg", "cwr", "ece"]
    },
}
WHOLE: Final = {
    "payload_bytes_max": "largest payload of a packet",
    "payload_bytes_min": "smallest payload of a packet",
    "payload_bytes_mean": "mean payload of a packet",
    "payload_bytes_std": "spread of a packet's payload",
    "payload_bytes_var": "variance of a packet's payload",
    "down_up_ratio": "packets back for each packet there",
    "port_remote_admin": "responder's port: remote administration",
    "port_web": "responder's port: web",
    "port_infrastructure": "responder's port: infrastructure (DNS, DHCP, NTP)",
    "port_mqtt": "responder's port: MQTT",
    "port_industrial": "responder's port: industrial",
    "port_other_system": "responder's port: another below 1024",
    "port_registered": "responder's port: another up to 49151",
    "port_dynamic": "responder's port: above 49151",
    "is_tcp": "TCP",
    "is_udp": "UDP",
    "is_icmp": "ICMP",
    "device_initiated": "the device began the flow",
    "peer_is_home": "the other end is a home device",
    "is_partial": "the flow goes on",
    "log_gap": "time since the record before",
    "repeats": "flows like it, folded into one record",
}
FLAGS: Final = ("device_initiated", "peer_is_home", "fwd_rst", "bwd_rst")
COUNTED: Final = {
    "peers": "other ends",
    "ports": "ports",
    "half_open": "half-open flows",
    "failed": "failed flows",
}


def words(column: str) -> str:
    """Return what a column says, in words. Raises KeyError for what is no column.

    >>> words("bwd_iat_max_us"), words("ports_10s")
    ('largest time between packets from the responder', 'ports of the last 10 s')
    """
    if column in WHOLE:
        return WHOLE[column]
    name, _, span = column.rpartition("_")
    if span in ("10s", "60s"):
        return f"{COUNTED[name]} of the last {span.removesuffix('s')} s"
    rest, end = column, ""
    for prefix, text in ENDS.items():
        if rest.startswith(prefix):
            rest, end = rest.removeprefix(prefix), text
    if rest in WHOLE:
        return WHOLE[rest] + end
    rest = rest.removesuffix("_us")
    for suffix, text in STATISTICS.items():
        if rest not in BASES and rest.endswith(suffix):
            return text + BASES[rest.removesuffix(suffix)] + end
    return BASES[rest] + end


def told(column: str, value: float) -> str:
    """Return a value of a column with its unit.

    >>> told("iat_mean_us", 1250.0), told("is_tcp", 1.0), told("fwd_payload_bytes", 2048.0)
    ('1.25 ms', 'yes', '2,048 B')
    """
    if column.startswith(("port_", "is_")) or column in FLAGS:
        return "yes" if value >= 0.5 else "no"
    if column == "log_gap":
        return _time(1e6 * math.expm1(min(value, 30.0)))
    if column.endswith("_us"):
        return _time(value)
    if column == "payload_bytes_var":
        return f"{_number(value)} B²"
    if "bytes" in column:
        return f"{_number(value)} B{'/s' if column.endswith('_per_s') else ''}"
    return f"{_number(value)}{'/s' if column.endswith('_per_s') else ''}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def _time(value_us: float) -> str:
    for limit, unit, size in ((1e3, "us", 1.0), (1e6, "ms", 1e3), (1e8, "s", 1e6)):
        if abs(value_us) < limit:
            return f"{_number(round(value_us / size, 3))} {unit}"
    return f"{_number(value_us / 60e6)} min"
