"""Alerts for tests: one plain one, changed field by field, and hypothesis' strategy for extreme ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from contracts.alert import MAX_FLOW_ID, MAX_TIME_US, Alert, AlertDevice, AlertFlow, uuid7
from contracts.classes import NAMES

T0_US = 1_500_000_000_000_000


def alerts_so_far(path: Path) -> list[dict[str, Any]]:
    """Return the alerts of an eve.json that somebody is writing: whole lines, the last one may still be on its way."""
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def make_alert(number: int = 0, **changes: Any) -> Alert:
    """Return an alert that differs from others by `number` and by the fields given."""
    fields: dict[str, Any] = {
        "timestamp_us": T0_US + 250_000 + number,
        "host": "replay",
        "flow_id": 4_503_599_627_370_497 + number,
        "community_id": "1:wCb3OG7yAFWelaUydu0D+125CLM=",
        "src_ip": "10.77.0.66",
        "src_port": 40_000,
        "dest_ip": "10.77.0.12",
        "dest_port": 23,
        "proto": "TCP",
        "flow": AlertFlow(
            src_is_initiator=True,
            pkts_toserver=9,
            pkts_toclient=7,
            bytes_toserver=612,
            bytes_toclient=498,
            start_us=T0_US,
            end_us=T0_US + 250_000,
            reason="end_of_flow",
        ),
        "attack_class": "brute_force",
        "severity": 2,
        "alert_id": uuid7(T0_US + number, number.to_bytes(8, "big")),
        "incident_id": uuid7(T0_US, bytes(8)),
        "update": 0,
        "started_us": T0_US - 1_000_000,
        "flows": 4,
        "direction": "internal",
        "spoofable": False,
        "device": AlertDevice(ip="10.77.0.66", mac="02:00:00:00:00:42"),
        "score": 0.98765432,
        "threshold": 0.9,
        "model": "gru",
        "version": 1,
        "columns": (("failed_60s", 0.51), ("port_remote_admin", 0.2), ("fwd_payload_bytes_mean", 0.07)),
    }
    return Alert(**{**fields, **changes})


_counts = st.integers(0, (1 << 63) - 1)
_times = st.integers(0, MAX_TIME_US)
_addresses = st.ip_addresses().map(str)
_floats = st.floats(-1e300, 1e300)
_flows = st.builds(
    AlertFlow,
    src_is_initiator=st.booleans(),
    pkts_toserver=_counts,
    pkts_toclient=_counts,
    bytes_toserver=_counts,
    bytes_toclient=_counts,
    start_us=_times,
    end_us=_times,
    reason=st.sampled_from([None, "end_of_flow", "lack_of_resources"]),
)
_devices = st.builds(
    AlertDevice,
    ip=_addresses,
    mac=st.sampled_from([None, "ff:ff:ff:ff:ff:ff"]),
    name=st.none()
    | st.text(min_size=1, max_size=1024)
    | st.sampled_from(["\0" * 1024, "\U0001f47e" * 1024, '"' * 1024]),
)
_column = st.from_regex(r"[a-z][a-z0-9_]{0,47}", fullmatch=True)
_ports = st.none() | st.tuples(st.integers(0, 65_535), st.integers(0, 65_535))


@st.composite
def extreme_alerts(draw: st.DrawFn) -> Alert:
    """Draw alerts whose every field may stand at the end of its range."""
    src_port, dest_port = draw(_ports) or (None, None)
    return make_alert(
        timestamp_us=draw(_times),
        host=draw(st.sampled_from(["g", "g" * 64])),
        in_iface=draw(st.sampled_from([None, '"' * 15, "eth0"])),
        flow_id=draw(st.integers(0, MAX_FLOW_ID)),
        src_ip=draw(_addresses),
        src_port=src_port,
        dest_ip=draw(_addresses),
        dest_port=dest_port,
        proto=draw(st.sampled_from(["TCP", "IPv6-ICMP", "255"])),
        flow=draw(_flows),
        attack_class=draw(st.sampled_from(NAMES[1:])),
        severity=draw(st.sampled_from([2, 3])),
        update=draw(_counts),
        state=draw(st.sampled_from(["open", "closed"])),
        started_us=draw(_times),
        flows=draw(st.integers(1, (1 << 63) - 1)),
        direction=draw(st.sampled_from(["inbound", "outbound", "internal"])),
        spoofable=draw(st.booleans()),
        device=draw(_devices),
        score=draw(st.floats(0, 1)),
        threshold=draw(st.floats(0, 1)),
        model=draw(st.sampled_from(["gru", "m" * 48])),
        version=draw(_counts),
        columns=tuple((name, draw(_floats)) for name in draw(st.lists(_column, max_size=3, unique=True))),
    )
