"""The alert as a Detection Finding (class 2004) of the Open Cybersecurity Schema Framework 1.5.

One finding per incident: `finding_info.uid` is the incident, `metadata.uid` the message, `activity_id` says whether the
finding is created, updated or closed. Our severities 1, 2, 3 are High, Medium, Low: nothing a network says is Critical.
Trap: OCSF counts time in whole milliseconds, and a sub-technique is an object of its own.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from contracts.alert import Alert
from contracts.ecs import protocol_number
from contracts.eve import MAX_LINE_BYTES, canonical_json
from contracts.fitting import fitted
from contracts.techniques import techniques_of

OCSF_VERSION: Final = "1.5.0"
CLASS_UID: Final = 2004
LEARNING: Final = 4  # analytic.type_id: Learning (ML/DL)
IP_ADDRESS: Final = 2  # observable.type_id

_ACTIVITIES: Final = {1: "Create", 2: "Update", 3: "Close"}
_SEVERITIES: Final = {1: (4, "High"), 2: (3, "Medium"), 3: (2, "Low")}
_DIRECTIONS: Final = {"inbound": (1, "Inbound"), "outbound": (2, "Outbound"), "internal": (3, "Lateral")}


def render_ocsf(alert: Alert) -> str:
    """Return one line of ASCII JSON without its newline, of at most MAX_LINE_BYTES bytes.

    Where it would be longer, keys that only say another key in words (`class_name` and the like) leave first.
    """
    text = canonical_json(ocsf_finding(alert))
    if len(text) <= MAX_LINE_BYTES:
        return text
    return fitted(alert, lambda each: canonical_json(_without_captions(each)), most_bytes=MAX_LINE_BYTES)


def ocsf_finding(alert: Alert) -> dict[str, Any]:
    """Return an alert as a Detection Finding; what is unknown is absent."""
    activity = 3 if alert.state == "closed" else 1 if alert.update == 0 else 2
    severity_id, severity = _SEVERITIES[alert.severity]
    return {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": 100 * CLASS_UID + activity,
        "type_name": f"Detection Finding: {_ACTIVITIES[activity]}",
        "time": _milliseconds(alert.timestamp_us),
        "start_time": _milliseconds(alert.started_us),
        "severity_id": severity_id,
        "severity": severity,
        "is_alert": True,
        "confidence_score": round(100 * alert.score),
        "message": alert.kind.signature(inside=alert.inside),
        "metadata": _metadata(alert),
        "finding_info": _finding_info(alert),
        "evidences": [_evidence(alert)],
        "observables": [
            {"name": "evidences[].src_endpoint.ip", "type_id": IP_ADDRESS, "value": alert.src_ip},
            {"name": "evidences[].dst_endpoint.ip", "type_id": IP_ADDRESS, "value": alert.dest_ip},
        ],
        "unmapped": _unmapped(alert),
    }


def _without_captions(alert: Alert) -> dict[str, Any]:
    captions = {"activity_name", "category_name", "class_name", "type_name", "severity", "message", "observables"}
    return {key: value for key, value in ocsf_finding(alert).items() if key not in captions}


def _milliseconds(time_us: int) -> int:
    return time_us // 1000


def _metadata(alert: Alert) -> dict[str, Any]:
    return {
        "version": OCSF_VERSION,
        "uid": alert.alert_id,
        "product": {"name": "penstock", "vendor_name": "Penstock", "uid": alert.host},
        "log_name": "penstock.alert",
        **({"labels": ["clock_unsynchronised"]} if alert.clock == "unsynchronised" else {}),
    }


def _finding_info(alert: Alert) -> dict[str, Any]:
    kind = alert.kind
    signature_id = str(kind.signature_id(inside=alert.inside))
    info: dict[str, Any] = {
        "uid": alert.incident_id,
        "title": kind.signature(inside=alert.inside),
        "types": [kind.name],
        "first_seen_time": _milliseconds(alert.started_us),
        "last_seen_time": _milliseconds(alert.timestamp_us),
        "analytic": {
            "type_id": LEARNING,
            "name": alert.model,
            "uid": signature_id,
            "category": kind.category,
            "version": str(alert.version),
        },
    }
    if kind.technique is not None:
        keys = ("technique", "sub_technique")
        info["attacks"] = [
            {key: each._asdict() for key, each in zip(keys, techniques_of(kind.technique), strict=False)}
        ]
    return info


def _evidence(alert: Alert) -> dict[str, Any]:
    direction_id, direction = _DIRECTIONS[alert.direction]
    number = protocol_number(alert.proto)
    return {
        "src_endpoint": _endpoint(alert, alert.src_ip, alert.src_port),
        "dst_endpoint": _endpoint(alert, alert.dest_ip, alert.dest_port),
        "connection_info": {
            "protocol_num": number,
            "protocol_name": alert.proto.lower(),
            "protocol_ver_id": ipaddress.ip_address(alert.src_ip).version,
            "direction_id": direction_id,
            "direction": direction,
            "community_uid": alert.community_id,
            "uid": str(alert.flow_id),
        },
    }


def _endpoint(alert: Alert, ip: str, port: int | None) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"ip": ip}
    if port is not None:
        endpoint["port"] = port
    if alert.device.ip == ip:
        if alert.device.mac is not None:
            endpoint["mac"] = alert.device.mac
        if alert.device.name is not None:
            endpoint["name"] = alert.device.name
    return endpoint


def _unmapped(alert: Alert) -> dict[str, Any]:
    flow = alert.flow
    return {
        "class": alert.attack_class,
        "update": alert.update,
        "flows": alert.flows,
        "spoofable": alert.spoofable,
        "device_ip": alert.device.ip,
        "threshold": round(alert.threshold, 4),
        "columns": {name: round(fall, 4) for name, fall in alert.columns},
        "src_is_initiator": flow.src_is_initiator,
        "pkts_toserver": flow.pkts_toserver,
        "pkts_toclient": flow.pkts_toclient,
        "bytes_toserver": flow.bytes_toserver,
        "bytes_toclient": flow.bytes_toclient,
        **({"in_iface": alert.in_iface} if alert.in_iface is not None else {}),
    }
