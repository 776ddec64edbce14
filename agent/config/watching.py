"""The sections of what is watched and how it is judged: gateway, capture, scoring, judgement, federation and more."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, model_validator

from agent.config.section import RESTART, Conflict, Section
from agent.config.values import (
    AbsolutePath,
    GatewayId,
    HomeNetworks,
    InterfaceNames,
    Networks,
    Text,
    host_gateway,
)
from contracts.alert import is_gateway_id

MAX_RING_BYTES: Final = 1 << 30  # agent.capture.source says why
MAX_INTERFACES: Final = 16


class GatewaySection(Section):
    """Who this is and where it keeps what must survive a restart."""

    id: GatewayId = Field(
        default_factory=host_gateway,
        description="Name of this gateway in alerts, topics and as the MQTT client; no two may have the same.",
        examples=["cellar"],
        json_schema_extra={"default_text": "the first part of the host's name", **RESTART},
    )
    state_dir: AbsolutePath = Field(
        Path("/var/lib/penstock"),
        description="Folder of outbox, calibration, rules and bundles.",
        json_schema_extra=RESTART,
    )


class CaptureSection(Section):
    """What is captured."""

    interfaces: InterfaceNames = Field(
        min_length=1,
        max_length=MAX_INTERFACES,
        description="Interfaces to watch; one may be absent at first, it is taken up when it comes.",
        examples=[["eth0"]],
        json_schema_extra={"sample": ["eth0"], **RESTART},
    )
    filter: Text | None = Field(
        None,
        description="pcap filter; only what it lets through is captured. Unset: everything.",
        examples=["not port 22"],
        json_schema_extra=RESTART,
    )
    home_nets: HomeNetworks = Field(
        "auto",
        description="Networks of the devices to watch; auto: those of the interfaces' own addresses and routes.",
        json_schema_extra=RESTART,
    )
    never_ban: Networks = Field(
        (),
        description="Addresses and networks that no alert may ask to ban; gateway, resolvers and broker belong here.",
        examples=[["192.168.1.1", "192.168.1.53"]],
    )
    snap_length_bytes: int = Field(
        512, ge=14, le=65_535, description="Octets kept of each frame: headers are enough.", json_schema_extra=RESTART
    )
    block_bytes: int = Field(
        1 << 18,
        ge=1 << 16,
        le=1 << 24,
        multiple_of=4096,
        description="Octets of one block of the kernel's ring, per interface.",
        json_schema_extra=RESTART,
    )
    block_count: int = Field(
        128,
        ge=2,
        le=4096,
        description="Blocks of the ring, per interface; 32 MB held 453,000 packets/s for two seconds.",
        json_schema_extra=RESTART,
    )
    promiscuous: bool = Field(
        True, description="Also take frames addressed to others, as on a mirror port.", json_schema_extra=RESTART
    )
    max_flows: int = Field(
        65_536,
        ge=1000,
        le=10_000_000,
        description="Live flows kept, some 270 to 1,000 octets each; beyond it half-open ones leave first.",
        json_schema_extra=RESTART,
    )

    @model_validator(mode="after")
    def _ring_fits(self) -> CaptureSection:
        most = MAX_RING_BYTES // self.block_bytes
        if self.block_count > most:
            raise Conflict("block_count", f"{self.block_count:,}", f"at most {most:,} of {self.block_bytes:,} octets")
        return self


class ScoringSection(Section):
    """Which network scores the windows, where, and when."""

    bundle: AbsolutePath | None = Field(
        None,
        description="Folder of the bundle to use, signed by a key of trust_dir. Unset: the one inside the package.",
        examples=["/var/lib/penstock/models/current"],
    )
    trust_dir: AbsolutePath = Field(
        Path("/etc/penstock/trust.d"), description="Folder of the public keys (*.pub) that may vouch for a bundle."
    )
    engine: Literal["auto", "cpu", "tensorrt"] = Field(
        "auto", description="What scores: auto asks the TensorRT worker where one listens.", json_schema_extra=RESTART
    )
    tensorrt_socket: AbsolutePath = Field(
        Path("/run/penstock-tensorrt/socket"), description="Socket of that worker.", json_schema_extra=RESTART
    )
    batch_windows: int = Field(256, ge=1, le=4096, description="Windows scored at once, at most.")
    deadline_ms: int = Field(50, ge=1, le=1000, description="How long a window may wait for others, in milliseconds.")
    max_waiting_windows: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Windows that may wait to be scored; beyond it the newest of each device stays, the rest are shed "
        "and counted.",
    )
    shadow_windows: int = Field(
        1000,
        ge=0,
        le=10_000_000,
        description="Windows a new bundle scores beside the old one before it takes over; 0: none, it takes over at "
        "once.",
    )
    incident_quiet_s: float = Field(
        300.0, ge=1, le=86_400, description="An incident closes after so many seconds without a detection."
    )

    @model_validator(mode="after")
    def _batch_fits(self) -> ScoringSection:
        if self.max_waiting_windows < self.batch_windows:
            wanted = f"at least batch_windows, {self.batch_windows:,}"
            raise Conflict("max_waiting_windows", f"{self.max_waiting_windows:,}", wanted)
        return self


class JudgementSection(Section):
    """How many false alarms are bearable, and what the agent may learn of its site (docs/judgement.md)."""

    calibrate: bool = Field(
        True, description="Move thresholds, inside the bundle's interval, to keep the budget on this site's traffic."
    )
    false_incidents_per_day: float = Field(
        1.0, gt=0, le=1000, description="The budget: false incidents a day that this gateway may cost its operator."
    )
    calibration_windows: int = Field(
        1000, ge=100, le=1_000_000, description="Local windows needed before a threshold is moved."
    )


class EvidenceSection(Section):
    """The packets of incidents, kept on this machine for `penstock explain` (docs/explain.md). Off: no packet is."""

    enabled: bool = Field(False, description="Keep them.", json_schema_extra=RESTART)
    memory_bytes: int = Field(
        16 << 20,
        ge=1 << 20,
        le=64 << 20,
        description="Octets of memory for the newest frames, shared out among the interfaces.",
        json_schema_extra=RESTART,
    )
    packets: int = Field(
        256,
        ge=1,
        le=512,
        description="Packets kept of an incident, the newest when it opens.",
        json_schema_extra=RESTART,
    )
    max_bytes: int = Field(
        64 << 20,
        ge=1 << 16,
        le=1 << 40,
        description="Octets of their files in state_dir/evidence; beyond it the oldest go.",
        json_schema_extra=RESTART,
    )
    max_age_s: float = Field(
        604_800.0, ge=60, le=31_536_000, description="Seconds a file is kept.", json_schema_extra=RESTART
    )


class SilenceSection(Section):
    """When it is an alarm that nothing is seen. 0 switches an alarm off."""

    no_packets_s: float = Field(300.0, ge=0, le=604_800, description="An interface without a packet for this long.")
    drop_ratio: float = Field(
        0.01, ge=0, le=1, description="Share of an interface's packets that the kernel dropped, over a minute."
    )
    one_way_s: float = Field(
        600.0, ge=0, le=604_800, description="Only one direction of the flows was seen for this long."
    )
    home_nets_unseen_s: float = Field(
        3600.0, ge=0, le=604_800, description="No address of home_nets was seen for this long."
    )


class FederationSection(Section):
    """Learning together with other gateways (docs/federation.md); no packet and no window leaves this one."""

    enabled: bool = Field(
        False,
        description="Keep windows to learn from, carry signed messages of rounds, take bundles that a fleet rolls out.",
        json_schema_extra=RESTART,
    )
    fleet: Text | None = Field(
        None,
        description="Name of the fleet whose rounds are answered.",
        examples=["homes"],
        json_schema_extra=RESTART,
    )
    aggregators_dir: AbsolutePath = Field(
        Path("/etc/penstock/aggregators.d"),
        description="Folder of the public keys (*.pub) of aggregators whose orders are followed.",
        json_schema_extra=RESTART,
    )
    private_only: bool = Field(
        False,
        description="Never let an unmasked update leave: rounds of another mode than private are not answered.",
        json_schema_extra=RESTART,
    )
    max_samples_bytes: int = Field(
        32 << 20,
        ge=1 << 20,
        le=1 << 30,
        description="Octets of windows kept on disk (samples.db); the oldest leave first.",
        json_schema_extra=RESTART,
    )

    @model_validator(mode="after")
    def _names_a_fleet(self) -> FederationSection:
        if self.fleet is not None and not is_gateway_id(self.fleet):
            raise Conflict("fleet", repr(self.fleet), "1 to 64 letters, digits, dots, dashes or underscores")
        if self.enabled and self.fleet is None:
            raise Conflict("fleet", "unset", "the name of a fleet where federation is enabled")
        return self


class DataSection(Section):
    """What is kept on this machine, and for how long; `penstock forget` takes a device out of all of it."""

    retention_days: float = Field(
        30.0,
        gt=0,
        le=3650,
        description="Days after which rotated eve files and files set aside by an upgrade are deleted.",
    )
    aside_files: int = Field(
        4, ge=0, le=100, description="Files set aside by an upgrade (another format) that are kept, per kind."
    )
