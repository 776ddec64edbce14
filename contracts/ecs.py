"""The alert in the Elastic Common Schema (9.x): one JSON document, as Elastic's and OpenSearch's indices want it.

Every key outside `penstock.` is a field of ECS with ECS's type; what ECS has no field for stands under `penstock.`, by
the names the EVE line uses. Trap: ECS writes a MAC address in capitals with dashes, and counts packets and bytes by
source and destination, not by client and server.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from contracts.alert import PROTOCOL_NAMES, Alert
from contracts.classes import AttackClass
from contracts.eve import MAX_LINE_BYTES, RULE_REVISION, canonical_json
from contracts.fitting import fitted
from contracts.techniques import techniques_of

ECS_VERSION: Final = "9.0.0"
UNSYNCHRONISED: Final = "clock_unsynchronised"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NUMBERS: Final = {name: number for number, name in PROTOCOL_NAMES.items()}


def render_ecs(alert: Alert) -> str:
    """Return one line of ASCII JSON without its newline, of at most MAX_LINE_BYTES bytes."""
    return fitted(alert, lambda each: canonical_json(ecs_document(each)), most_bytes=MAX_LINE_BYTES)


def ecs_document(alert: Alert) -> dict[str, Any]:
    """Return an alert as nested ECS fields; what is unknown is absent."""
    kind = alert.kind
    document = {
        "@timestamp": rfc3339_text(alert.timestamp_us),
        "ecs": {"version": ECS_VERSION},
        "message": kind.signature(inside=alert.inside),
        "tags": [UNSYNCHRONISED] if alert.clock == "unsynchronised" else None,
        "event": _event(alert),
        "rule": {
            "id": str(kind.signature_id(inside=alert.inside)),
            "name": kind.signature(inside=alert.inside),
            "category": kind.category,
            "ruleset": "penstock",
            "version": str(RULE_REVISION),
        },
        "threat": _threat(kind),
        "source": _end(alert, is_source=True),
        "destination": _end(alert, is_source=False),
        "network": _network(alert),
        "observer": {
            "name": alert.host,
            "type": "ids",
            "vendor": "Penstock",
            "product": "penstock",
            "ingress": {"interface": {"name": alert.in_iface}},
        },
        "related": {"ip": sorted({alert.src_ip, alert.dest_ip, alert.device.ip})},
        "penstock": _ours(alert),
    }
    return _present(document)


def rfc3339_text(time_us: int) -> str:
    """Return microseconds since the epoch as RFC 3339 writes them, in UTC.

    >>> rfc3339_text(1_500_000_000_123_456)
    '2017-07-14T02:40:00.123456Z'
    """
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def protocol_number(name: str) -> int:
    """Return the IP protocol number of a name of `contracts.alert.protocol_name`; 255 (reserved) for no such name."""
    return int(name) if name.isdecimal() and int(name) < 256 else _NUMBERS.get(name, 255)


def _event(alert: Alert) -> dict[str, Any]:
    return {
        "kind": "alert",
        "category": ["network", "intrusion_detection"],
        "type": ["info"],
        "module": "penstock",
        "dataset": "penstock.alert",
        "id": alert.alert_id,
        "severity": alert.severity,
        "risk_score": round(100 * alert.score, 2),
        "start": rfc3339_text(alert.flow.start_us),
        "end": rfc3339_text(alert.flow.end_us),
    }


def _threat(kind: AttackClass) -> dict[str, Any] | None:
    if kind.technique is None:
        return None
    technique, *sub = ({"id": [each.uid], "name": [each.name]} for each in techniques_of(kind.technique))
    return {"framework": "MITRE ATT&CK", "technique": {**technique, "subtechnique": sub[0] if sub else None}}


def _end(alert: Alert, *, is_source: bool) -> dict[str, Any]:
    flow = alert.flow
    ip, port = (alert.src_ip, alert.src_port) if is_source else (alert.dest_ip, alert.dest_port)
    is_initiator = flow.src_is_initiator == is_source
    mac = alert.device.mac if alert.device.ip == ip else None
    return {
        "ip": ip,
        "port": port,
        "mac": None if mac is None else mac.upper().replace(":", "-"),
        "packets": flow.pkts_toserver if is_initiator else flow.pkts_toclient,
        "bytes": flow.bytes_toserver if is_initiator else flow.bytes_toclient,
    }


def _network(alert: Alert) -> dict[str, Any]:
    flow = alert.flow
    packets, size = flow.pkts_toserver + flow.pkts_toclient, flow.bytes_toserver + flow.bytes_toclient
    return {
        "transport": alert.proto.lower(),
        "iana_number": str(protocol_number(alert.proto)),
        "type": f"ipv{ipaddress.ip_address(alert.src_ip).version}",
        "direction": alert.direction,
        "community_id": alert.community_id,
        "packets": _long(packets),
        "bytes": _long(size),
    }


def _long(number: int) -> int:
    """Return a sum within what the type `long` holds."""
    return min(number, (1 << 63) - 1)


def _ours(alert: Alert) -> dict[str, Any]:
    return {
        "incident_id": alert.incident_id,
        "update": alert.update,
        "state": alert.state,
        "started": rfc3339_text(alert.started_us),
        "flows": alert.flows,
        "flow_id": alert.flow_id,
        "class": alert.attack_class,
        "spoofable": alert.spoofable,
        "device": {"ip": alert.device.ip, "mac": alert.device.mac, "name": alert.device.name},
        "score": round(alert.score, 4),
        "threshold": round(alert.threshold, 4),
        "model": alert.model,
        "version": alert.version,
        "columns": {name: round(fall, 4) for name, fall in alert.columns} or None,
    }


def _present(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object without the keys that say nothing, and without the objects this leaves empty."""
    kept = {key: _present(each) if isinstance(each, dict) else each for key, each in value.items()}
    return {key: each for key, each in kept.items() if each is not None and each != {}}
