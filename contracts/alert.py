"""The one alert: a message of an incident, complete, with no format in it.

`detection` says what happened, `agent` makes an `Alert` of it, renderers (`eve`, `ecs`, `ocsf`, `cef`) write it down.
What follows from the class and the direction (signature, category, technique) is derived here, so no two renderers can
disagree. Times are microseconds since the epoch, of packets. Trap: `src_ip` is the attacker, which need not be the
flow's initiator; `flow.src_is_initiator` tells, and the flow's counters follow the initiator.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import uuid
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from contracts.classes import BENIGN, NAMES, AttackClass, class_named

MAX_TIME_US: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z, the last a time stamp can show
MAX_FLOW_ID: Final = (1 << 53) - 1  # exact in JavaScript and Elasticsearch
MAX_COLUMNS: Final = 3
GATEWAY_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # one level of an MQTT topic, without wildcards
UUID7: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
COMMUNITY_ID: Final = r"^1:[A-Za-z0-9+/]{27}=$"
MAC: Final = r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"
COLUMN_NAME: Final = r"^[a-z][a-z0-9_]{0,47}$"
INTERFACE: Final = r"^[!-~]{1,15}$"  # IFNAMSIZ is 16 with the final zero
PROTOCOL: Final = r"^[A-Za-z0-9-]{2,10}$"
MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$"

Direction: TypeAlias = Literal["inbound", "outbound", "internal"]
"""Attacker outside and victim a home device; the reverse; both home devices."""

Clock: TypeAlias = Literal["synchronised", "unsynchronised"]
"""Whether this machine knew the time when it wrote the alert; a board without a battery starts long ago."""

EndReason: TypeAlias = Literal["idle_timeout", "active_timeout", "end_of_flow", "forced_end", "lack_of_resources"]

PROTOCOL_NAMES: Final = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "IPv6-ICMP", 132: "SCTP"}
"""IP protocol number -> the name Suricata's EVE gives it."""


def protocol_name(number: int) -> str:
    """Return the name of an IP protocol as EVE writes it; three digits where it has none.

    >>> protocol_name(6), protocol_name(89)
    ('TCP', '089')
    """
    return PROTOCOL_NAMES.get(number, f"{number:03d}")


def is_gateway_id(text: str) -> bool:
    """Tell whether a text may name a gateway: 1 to 64 letters, digits, dots, dashes, underscores."""
    return re.fullmatch(GATEWAY_ID, text) is not None and not text.endswith("\n")


def uuid7(time_us: int, entropy: bytes) -> str:
    """Return a version 7 UUID (RFC 9562) of a time and at least 8 bytes of entropy.

    The 12 bits after the milliseconds hold their fraction (method 3 of section 6.2), so that ids sort by microsecond.
    Live, entropy is random; in replay it is a digest of the content, so that the same capture gives the same ids.

    >>> uuid7(1_500_000_000_123_456, bytes(8))
    '015d3ef7-987b-774b-8000-000000000000'
    """
    milliseconds, rest_us = divmod(max(0, time_us), 1000)
    number = (milliseconds & ((1 << 48) - 1)) << 80
    number |= 0x7 << 76 | (rest_us * 4096 // 1000) << 64
    number |= 0b10 << 62 | int.from_bytes(entropy[:8], "big") >> 2
    return str(uuid.UUID(int=number))


def derived_uuid7(time_us: int, *parts: str | int) -> str:
    """Return the version 7 UUID that replay gives to a time and what tells this thing from others of that time."""
    return uuid7(time_us, hashlib.sha256(repr(parts).encode()).digest())


def _canonical_address(text: str) -> str:
    if "%" in text:
        raise ValueError(f"an address without a zone is wanted, got {text!r}")
    return str(ipaddress.ip_address(text))


Address = Annotated[str, AfterValidator(_canonical_address)]
TimeUs = Annotated[int, Field(ge=0, le=MAX_TIME_US)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AlertFlow(_Frozen):
    """The flow that brought the alert, counted from its initiator (client) to its responder (server)."""

    src_is_initiator: bool
    pkts_toserver: Count
    pkts_toclient: Count
    bytes_toserver: Count = Field(description="whole frames, link header included")
    bytes_toclient: Count
    start_us: TimeUs
    end_us: TimeUs
    reason: EndReason | None = Field(None, description="None while the flow is live")


class AlertDevice(_Frozen):
    """The home device that owns the incident."""

    ip: Address
    mac: Annotated[str, Field(pattern=MAC)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        None, description="as DHCP or mDNS gave it"
    )


class Alert(_Frozen):
    """One message of an incident. Raises pydantic.ValidationError where a field, or two together, cannot be."""

    timestamp_us: TimeUs = Field(description="time of the flow's last packet")
    host: Annotated[str, Field(pattern=GATEWAY_ID)] = Field(description="gateway id")
    in_iface: Annotated[str, Field(pattern=INTERFACE)] | None = None
    flow_id: Annotated[int, Field(ge=0, le=MAX_FLOW_ID)]
    community_id: Annotated[str, Field(pattern=COMMUNITY_ID)]
    src_ip: Address = Field(description="the attacker")
    src_port: Port | None = Field(None, description="None where the protocol has no ports")
    dest_ip: Address
    dest_port: Port | None = None
    proto: Annotated[str, Field(pattern=PROTOCOL)] = Field(description="see protocol_name")
    flow: AlertFlow

    attack_class: str
    severity: Literal[1, 2, 3]
    alert_id: Annotated[str, Field(pattern=UUID7)] = Field(description="new per message, stable over resends")
    incident_id: Annotated[str, Field(pattern=UUID7)] = Field(description="constant per incident")
    update: Count = Field(description="0, 1, 2, ... within the incident")
    state: Literal["open", "closed"] = "open"
    started_us: TimeUs = Field(description="first packet of the incident")
    flows: Annotated[int, Field(ge=1, lt=1 << 63)] = Field(description="flows of the incident so far")
    direction: Direction
    spoofable: bool = Field(description="the source never answered: it may be forged")
    device: AlertDevice
    score: Probability
    threshold: Probability
    model: Annotated[str, Field(pattern=MODEL_NAME)]
    version: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(description="the bundle's release")
    columns: tuple[tuple[Annotated[str, Field(pattern=COLUMN_NAME)], float], ...] = Field(
        (), max_length=MAX_COLUMNS, description="(column, fall of the score without it), largest fall first"
    )
    clock: Clock = Field("synchronised", description="unsynchronised: take none of these times for the time of day")

    @property
    def inside(self) -> bool:
        """Whether the attacker is a home device."""
        return self.direction != "inbound"

    @property
    def kind(self) -> AttackClass:
        """The row of the class table this alert speaks of."""
        return class_named(self.attack_class)

    @model_validator(mode="after")
    def _hang_together(self) -> Alert:
        if self.attack_class not in NAMES or self.attack_class == NAMES[BENIGN]:
            raise ValueError(f"attack_class must be one of {', '.join(NAMES[1:])}, got {self.attack_class!r}")
        if (self.src_port is None) != (self.dest_port is None):
            raise ValueError(f"both ports or neither, got {self.src_port} and {self.dest_port}")
        # D8: consumers ban on one alert of severity 1, so it must not be possible to choose whom they ban.
        if self.severity == 1 and (self.spoofable or self.inside):
            raise ValueError(f"severity 1 wants a two-way source outside, got {self.spoofable=} {self.direction=}")
        return self
