"""Incident updates to alerts: what detection found, in the words of the contract."""

from __future__ import annotations

from typing import Literal

import numpy as np

from contracts.alert import MAX_TIME_US, Alert, AlertDevice, AlertFlow, Direction, protocol_name
from contracts.bundle import Manifest
from detection.incidents import IncidentUpdate
from flowfeatures import END_REASONS, HomeNets, address_text, community_id

PROTOCOLS_WITH_PORTS = (6, 17)
DECIMALS = 4  # of scores and falls: more is noise, and less text is cheaper to carry


class AlertWriter:
    """Make alerts of one gateway with one bundle. In replay a device is its address, so it has no name or MAC here."""

    def __init__(self, manifest: Manifest, *, gateway: str, home: HomeNets) -> None:
        self._manifest = manifest
        self._gateway = gateway
        self._home = home

    def alert(self, update: IncidentUpdate) -> Alert:
        """Return the alert that says what an update says."""
        flow, parties = update.parties.flow, update.parties
        src_is_initiator = bytes(flow["src"]) == parties.attacker
        src_port, dest_port = _ports(flow) if src_is_initiator else reversed(_ports(flow))
        return Alert(
            timestamp_us=_time(flow["end_us"]),
            host=self._gateway,
            flow_id=int(flow["flow_id"]),
            community_id=community_id(flow),
            src_ip=address_text(parties.attacker),
            src_port=src_port,
            dest_ip=address_text(parties.victim),
            dest_port=dest_port,
            proto=protocol_name(int(flow["proto"])),
            flow=_alert_flow(flow, src_is_initiator=src_is_initiator),
            attack_class=update.class_name,
            severity=_severity(update.severity),
            alert_id=update.alert_id,
            incident_id=update.incident_id,
            update=update.update,
            state="closed" if update.closed else "open",
            started_us=_time(update.first_us),
            flows=update.flows,
            direction=self._direction(update),
            spoofable=parties.spoofable,
            device=AlertDevice(ip=address_text(update.device)),
            score=_probability(update.score),
            threshold=_probability(update.threshold),
            model=self._manifest.name,
            version=self._manifest.release,
            columns=tuple((column, round(fall, DECIMALS)) for column, fall in update.columns),
        )

    def _direction(self, update: IncidentUpdate) -> Direction:
        if not update.inside:
            return "inbound"
        return "internal" if update.parties.victim in self._home else "outbound"


def _ports(flow: np.void) -> tuple[int, int] | tuple[None, None]:
    """Return the initiator's and the responder's port."""
    if int(flow["proto"]) not in PROTOCOLS_WITH_PORTS:
        return None, None
    return int(flow["src_port"]), int(flow["dst_port"])


def _alert_flow(flow: np.void, *, src_is_initiator: bool) -> AlertFlow:
    return AlertFlow(
        src_is_initiator=src_is_initiator,
        pkts_toserver=int(flow["fwd_packets"]),
        pkts_toclient=int(flow["bwd_packets"]),
        bytes_toserver=int(flow["fwd_wire_bytes"]),
        bytes_toclient=int(flow["bwd_wire_bytes"]),
        start_us=_time(flow["start_us"]),
        end_us=_time(flow["end_us"]),
        reason=END_REASONS[int(flow["end_reason"])] if flow["end_reason"] else None,  # type: ignore[arg-type]
    )


def _time(time_us: int) -> int:
    """Return a packet time inside what a time stamp can show; a capture may hold any number."""
    return min(max(0, int(time_us)), MAX_TIME_US)


def _probability(score: float) -> float:
    """Return a score rounded and inside [0, 1]: a float32 softmax may overshoot in its last bit."""
    return min(1.0, max(0.0, round(score, DECIMALS)))


def _severity(severity: int) -> Literal[1, 2, 3]:
    return 1 if severity == 1 else 2 if severity == 2 else 3
