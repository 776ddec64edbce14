"""Incident updates to alerts: what detection found, in the words of the contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from contracts.alert import INTERFACE, MAC, MAX_TIME_US, Alert, AlertDevice, AlertFlow, Direction, protocol_name
from contracts.bundle import Manifest
from detection.incidents import IncidentUpdate
from flowfeatures import END_REASONS, HomeNets, address_text, community_id

PROTOCOLS_WITH_PORTS = (6, 17)
DECIMALS = 4  # of scores and falls: more is noise, and less text is cheaper to carry
MOST_NAME = 1024  # characters of a device's name an alert can hold


class Named(Protocol):
    """What is known of a device beside its address."""

    @property
    def mac(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...


class AlertWriter:
    """Make alerts of one gateway with one bundle; cheap to make, and without a state of its own.

    `names` gives what is known of a device by its address of 16 bytes, `interface_of` where a flow (FLOW_META) was
    seen, `clock` whether the time of day is known. In replay a device is its address and time is packet time, so there
    are none of them. Names come from the network: what an alert cannot hold of them is left out.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        gateway: str,
        home: HomeNets,
        names: Callable[[bytes], Named | None] | None = None,
        interface_of: Callable[[np.void], str | None] | None = None,
        clock: Callable[[], bool] | None = None,
    ) -> None:
        self._manifest = manifest
        self._gateway = gateway
        self._home = home
        self._names = names
        self._interface_of = interface_of
        self._clock = clock

    def alert(self, update: IncidentUpdate) -> Alert:
        """Return the alert that says what an update says."""
        flow, parties = update.parties.flow, update.parties
        src_is_initiator = bytes(flow["src"]) == parties.attacker
        src_port, dest_port = _ports(flow) if src_is_initiator else reversed(_ports(flow))
        return Alert(
            timestamp_us=_time(flow["end_us"]),
            host=self._gateway,
            in_iface=self._interface(flow),
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
            device=self._device(update.device),
            score=_probability(update.score),
            threshold=_probability(update.threshold),
            model=self._manifest.name,
            version=self._manifest.release,
            columns=tuple((column, round(fall, DECIMALS)) for column, fall in update.columns),
            clock="synchronised" if self._clock is None or self._clock() else "unsynchronised",
        )

    def _device(self, address: bytes) -> AlertDevice:
        known = None if self._names is None else self._names(address)
        if known is None:
            return AlertDevice(ip=address_text(address))
        return AlertDevice(ip=address_text(address), mac=_mac(known.mac), name=_name(known.name))

    def _interface(self, flow: np.void) -> str | None:
        interface = None if self._interface_of is None else self._interface_of(flow)
        return interface if interface is not None and re.fullmatch(INTERFACE, interface) else None

    def _direction(self, update: IncidentUpdate) -> Direction:
        if not update.inside:
            return "inbound"
        return "internal" if update.parties.victim in self._home else "outbound"


def _mac(text: str | None) -> str | None:
    lowered = (text or "").lower()
    return lowered if re.fullmatch(MAC, lowered) else None


def _name(text: str | None) -> str | None:
    """Return a name as an alert can hold it: no broken letter (half a surrogate pair), no more than MOST_NAME."""
    whole = (text or "").encode(errors="replace").decode()
    return whole[:MOST_NAME] or None


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
