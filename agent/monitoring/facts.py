"""What the agent knows of itself at one moment, as plain immutable values, and the board they are posted on.

The thread that runs the pipeline makes one `AgentFacts` about once a second and replaces one reference; the metrics
page and the status socket read `FactsBoard.latest` in threads of their own. So no lock is taken, nothing is counted
twice, and a reader sees numbers of one moment. Counts only rise and are counted where they happen; this module derives
none. Trap: on the way of a packet or window nothing here is built: plain ints are counted there, and gathered here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from agent.monitoring.federation import FederationFacts
from agent.monitoring.histogram import DISK_EDGES_S, LATENCY_EDGES_S, HistogramFacts
from agent.monitoring.history import History

RATE_OVER_S: Final = 10
"""Rates are means over so many posts: one a second, so about as many seconds."""
RECENT: Final = 20
"""Incidents shown to a person."""
HEARD: Final = 48
"""Devices shown to a person."""

Counted: TypeAlias = tuple[tuple[str, int], ...]
"""What was counted by name, in a fixed order: reasons, classes, stages."""


@dataclass(frozen=True, kw_only=True)
class InterfaceFacts:
    """One interface. The counts are those of `agent.capture.source.Counts`, by the same names."""

    name: str
    link: str = ""
    source: str = ""
    seen: int = 0
    read: int = 0
    dropped: int = 0
    outgoing: int = 0
    malformed: int = 0
    standing: int = 0
    abandoned: int = 0
    ring_full: int = 0
    rebinds: int = 0
    link_downs: int = 0
    is_absent: bool = False
    is_down: bool = False
    offloads: tuple[str, ...] = ()
    home_nets: tuple[str, ...] = ()
    last_packet_us: int | None = None


@dataclass(frozen=True, kw_only=True)
class FlowFacts:
    """The flow table, as `FlowMeter.counters` counts; summed where several tables are kept."""

    packets: int = 0
    decoded: int = 0
    undecoded: Counted = ()
    metered: int = 0
    shed_packets: int = 0
    super_frames: int = 0
    live: int = 0
    most: int = 0
    opened: int = 0
    records: int = 0
    partial_records: int = 0
    evicted: int = 0
    emergencies: int = 0
    twins: int = 0
    """Records of flows that another interface speaks of, and that were left out."""


@dataclass(frozen=True, kw_only=True)
class WindowFacts:
    """Device windows: due = scored + shed + waiting, at any moment."""

    due: int = 0
    scored: int = 0
    shed: int = 0
    waiting: int = 0
    devices: int = 0
    evicted_devices: int = 0


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What scores the windows; `fallbacks` are batches that another engine had to take over, by reason."""

    name: str = ""
    provider: str = ""
    batches: int = 0
    inference: HistogramFacts = field(default_factory=HistogramFacts)
    fallbacks: Counted = ()


@dataclass(frozen=True, kw_only=True)
class RecentIncident:
    """An incident as a person reads it in `penstock status`. Addresses are text; this never becomes a metric."""

    incident_id: str
    class_name: str
    severity: int
    device: str
    device_name: str = ""
    attacker: str = ""
    victim: str = ""
    opened_us: int = 0
    last_us: int = 0
    is_open: bool = False
    score: float = 0.0
    threshold: float = 0.0
    flows: int = 0
    is_spoofable: bool = False
    columns: tuple[tuple[str, float], ...] = ()
    """What its score rests on: columns, and by how much it falls without them (`detection.explain`)."""


@dataclass(frozen=True, kw_only=True)
class IncidentFacts:
    """Detections and what came of them; `opened` by class, `alerts` by severity ("1", "2", "3")."""

    open: int = 0
    opened: Counted = ()
    alerts: Counted = ()
    detections: int = 0
    muted: int = 0
    rules: int = 0
    recent: tuple[RecentIncident, ...] = ()
    """The last ones, newest first; at most RECENT."""


@dataclass(frozen=True, kw_only=True)
class CalibrationFacts:
    """Where the threshold stands and what it is worth here (DESIGN D19)."""

    state: Literal["off", "calibrating", "calibrated", "drift"] = "off"
    windows: int = 0
    windows_wanted: int = 0
    threshold: float = 0.0
    threshold_low: float = 0.0
    threshold_high: float = 1.0
    false_positive_bound: float | None = None
    """The rate of false positives that the windows seen can rule out: 3 / n where none was above the threshold."""
    budget_per_day: float = 0.0
    spent_today: float = 0.0
    """Incidents of the last 24 hours that count against the budget."""
    drifts: int = 0
    reason: str = ""
    """Why it stands where it stands, one line for a person."""


@dataclass(frozen=True, kw_only=True)
class SinkFacts:
    """One way out beside the broker: eve, stdout, syslog."""

    name: str
    written: int = 0
    failed: int = 0
    waiting: int = 0
    trouble: str = ""
    """What is wrong with it now; empty where nothing is."""


@dataclass(frozen=True, kw_only=True)
class DeliveryFacts:
    """Outbox, broker and sinks."""

    broker: str = ""
    """`host:port`, empty where none was asked for."""
    broker_state: Literal["none", "connecting", "connected", "refused"] = "none"
    broker_reason: str = ""
    connects: int = 0
    in_flight: int = 0
    outbox_path: str = ""
    outbox_rows: int = 0
    outbox_bytes: int = 0
    outbox_max_rows: int = 0
    outbox_oldest_us: int | None = None
    outbox_trouble: str = ""
    delivered: int = 0
    resent: int = 0
    dropped: Counted = ()
    """Alerts that left without the broker's word, by reason: rows, bytes, age, unsendable, unwritten."""
    received: int = 0
    refused: Counted = ()
    """Messages of the broker that were not taken, by reason: topic, size, malformed, full, packet."""
    commit: HistogramFacts = field(default_factory=lambda: HistogramFacts(DISK_EDGES_S))
    acknowledge: HistogramFacts = field(default_factory=lambda: HistogramFacts(LATENCY_EDGES_S))
    sinks: tuple[SinkFacts, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """The bundle that serves, and what became of others."""

    name: str = ""
    release: int = 0
    path: str = ""
    manifest_sha256: str = ""
    trusted_by: str = ""
    """`package`, the name of the key that signed it, or empty where it is unsigned."""
    active_since_us: int = 0
    shadow_release: int | None = None
    shadow_windows: int = 0
    shadow_wanted: int = 0
    swaps: int = 0
    rollbacks: int = 0
    refused: int = 0
    last_refusal: str = ""
    on_probation: bool = False
    """Whether the one that serves is still on trial."""
    refused_names: tuple[str, ...] = ()
    """Bundles turned away or taken back here, by their names in the store, newest last."""


@dataclass(frozen=True, kw_only=True)
class SilenceFacts:
    """A silence alarm that is open (DESIGN D2)."""

    kind: str
    interface: str = ""
    since_us: int = 0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class HeardDevice:
    """A device as a person reads it; nothing of it is proven, all of it was said on the wire."""

    mac: str
    name: str = ""
    addresses: tuple[str, ...] = ()
    heard_us: int = 0


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """The devices of the home networks and what their own frames (DHCP, mDNS, ARP, ND) say of them."""

    devices: int = 0
    addresses: int = 0
    named: int = 0
    moves: int = 0
    """Addresses that a known MAC moved to; the device's window went with it."""
    takeovers: int = 0
    frames: int = 0
    refused: Counted = ()
    """Frames that did not hold together, by reason."""
    dropped: int = 0
    heard: tuple[HeardDevice, ...] = ()
    """Those heard last, newest first; at most HEARD."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One sensor: its name as the board gives it, and its value in base units."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class BoardFacts:
    """The machine and this process on it (`agent.monitoring.board`); what a board does not have is None or empty."""

    model: str = ""
    l4t: str = ""
    power_mode: str = ""
    temperatures_celsius: tuple[Reading, ...] = ()
    power_watts: tuple[Reading, ...] = ()
    gpu_load_ratio: float | None = None
    memory_bytes: int | None = None
    """Resident set of this process, a mapped ring included."""
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    cpu_seconds: float | None = None
    open_files: int | None = None
    threads: int | None = None
    unreadable: int = 0
    """Sensors that are there and did not answer, counted at every look."""


@dataclass(frozen=True, kw_only=True)
class AgentFacts:
    """Everything, at one moment. Times are of the wall clock, in microseconds since the epoch."""

    at_us: int = 0
    started_us: int = 0
    version: str = ""
    gateway: str = ""
    config: str = ""
    reloads: int = 0
    refused_reloads: int = 0
    last_reload: str = ""
    """What came of the last SIGHUP: `applied`, or why it was refused."""
    home_nets: tuple[str, ...] = ()
    interfaces: tuple[InterfaceFacts, ...] = ()
    flows: FlowFacts = field(default_factory=FlowFacts)
    windows: WindowFacts = field(default_factory=WindowFacts)
    engine: EngineFacts = field(default_factory=EngineFacts)
    incidents: IncidentFacts = field(default_factory=IncidentFacts)
    calibration: CalibrationFacts = field(default_factory=CalibrationFacts)
    delivery: DeliveryFacts = field(default_factory=DeliveryFacts)
    verdicts: Counted = ()
    """Verdicts of the broker, by what came of them (`agent.live.verdicts`)."""
    evidence: Counted = ()
    """Incidents whose packets were wanted: written, left_out (too many at once), failed; empty where it is off."""
    bundle: BundleFacts = field(default_factory=BundleFacts)
    silences: tuple[SilenceFacts, ...] = ()
    devices: DeviceFacts = field(default_factory=DeviceFacts)
    clock_steps: int = 0
    """How often the wall clock was set by more than a minute."""
    wire_to_alert: HistogramFacts = field(default_factory=lambda: HistogramFacts(LATENCY_EDGES_S))
    """From the last packet of an alert's flow to the moment the alert was handed to delivery."""
    stage_seconds: tuple[tuple[str, float], ...] = ()
    """Seconds spent by stage of the pipeline (`agent.stopwatch`), without its total."""
    watchdog_feeds: int = 0
    board: BoardFacts = field(default_factory=BoardFacts)
    federation: FederationFacts = field(default_factory=FederationFacts)


class FactsBoard:
    """Where the newest facts hang: one thread posts, any thread reads, nobody waits.

    `latest` is empty facts until the first post. `rate` needs two posts.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._posts: deque[tuple[float, AgentFacts]] = deque(maxlen=RATE_OVER_S + 1)
        self._latest = AgentFacts()
        self.history = History()

    @property
    def latest(self) -> AgentFacts:
        return self._latest

    @property
    def age_s(self) -> float | None:
        """Return how long ago the last facts were posted, by a clock nobody sets; None before the first."""
        return self._now_s() - self._posts[-1][0] if self._posts else None

    def post(self, facts: AgentFacts) -> None:
        """Let these be the newest facts."""
        now_s = self._now_s()
        self._posts.append((now_s, facts))
        self.history.add(now_s, facts)
        self._latest = facts

    def rate(self, count: Callable[[AgentFacts], float]) -> float:
        """Return by how much a count rose per second, over the posts kept; 0 where there are none to compare.

        A count that fell (an interface went and came back) has no rate: 0.
        """
        posts = tuple(self._posts)
        if len(posts) < 2:
            return 0.0
        (before_s, before), (after_s, after) = posts[0], posts[-1]
        return max(0.0, count(after) - count(before)) / max(1e-9, after_s - before_s)
