"""Every metric of the agent: its name, kind, labels and meaning, and where in the facts its value stands.

Names are in base units, counts that only rise end in `_total`. Labels have few values, fixed by this code, by the
configuration (interfaces) or by the board (sensors): never an address, a name of a device or a text that the wire or a
broker can choose, since each new value is a new series for ever. docs/metrics.md is held against this table by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from agent.monitoring.facts import AgentFacts, Counted, InterfaceFacts, SinkFacts
from agent.monitoring.histogram import HistogramFacts

Value: TypeAlias = float | HistogramFacts
Sample: TypeAlias = tuple[tuple[str, ...], Value]
Samples: TypeAlias = Callable[[AgentFacts], Iterable[Sample]]
Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

STATES: Final = ("off", "calibrating", "calibrated", "drift")


@dataclass(frozen=True)
class MetricRow:
    """One metric. `samples` gives label values and a number (or a histogram) for each series it has now."""

    kind: Kind
    name: str
    told: str
    labels: tuple[str, ...]
    samples: Samples


def rows() -> Sequence[MetricRow]:
    """Return the table, in the order of the page."""
    return (*_agent(), *_capture(), *_flows(), *_judging(), *_delivery(), *_federation(), *_machine())


def _agent() -> Iterator[MetricRow]:
    yield MetricRow(
        "info", "penstock_agent_info", "Version and name of this gateway.", ("version", "gateway"),
        lambda facts: [((facts.version, facts.gateway), 1)],
    )  # fmt: skip
    yield _gauge(
        "penstock_start_time_seconds", "When the agent started, since the epoch.", lambda f: f.started_us / 1e6
    )
    yield MetricRow(
        "counter", "penstock_reloads_total", "Reloads of the configuration, by what came of them.", ("result",),
        lambda facts: [(("applied",), facts.reloads), (("refused",), facts.refused_reloads)],
    )  # fmt: skip
    yield _counter(
        "penstock_clock_steps_total", "How often the wall clock was set by over a minute.", lambda f: f.clock_steps
    )
    yield _counter(
        "penstock_watchdog_feeds_total", "How often progress was told to systemd.", lambda f: f.watchdog_feeds
    )
    yield MetricRow(
        "counter", "penstock_stage_seconds_total", "Seconds spent in a stage of the pipeline.", ("stage",),
        lambda facts: [((stage,), seconds) for stage, seconds in facts.stage_seconds],
    )  # fmt: skip


def _capture() -> Iterator[MetricRow]:
    yield _interface(
        "counter", "penstock_kernel_seen_total", "Frames the kernel saw that passed the filter.", lambda i: i.seen
    )
    yield _interface(
        "counter", "penstock_kernel_drops_total", "Frames the kernel had no room for.", lambda i: i.dropped
    )
    yield _interface("counter", "penstock_capture_read_total", "Frames handed to the flow table.", lambda i: i.read)
    yield _interface(
        "counter",
        "penstock_capture_outgoing_total",
        "Second sights of loopback frames, left out.",
        lambda i: i.outgoing,
    )
    yield _interface(
        "counter",
        "penstock_capture_malformed_total",
        "Frames of a ring that did not hold together.",
        lambda i: i.malformed,
    )
    yield _interface(
        "counter", "penstock_capture_abandoned_total", "Frames in a ring closed before its end.", lambda i: i.abandoned
    )
    yield _interface("gauge", "penstock_capture_standing_frames", "Frames in the ring now.", lambda i: i.standing)
    yield _interface("counter", "penstock_ring_full_total", "How often a ring began to drop.", lambda i: i.ring_full)
    yield _interface(
        "counter", "penstock_rebinds_total", "How often an interface made again was taken up.", lambda i: i.rebinds
    )
    yield _interface(
        "counter", "penstock_link_downs_total", "How often an interface was switched off.", lambda i: i.link_downs
    )
    yield _interface(
        "gauge", "penstock_interface_up", "Whether the interface is there and switched on.",
        lambda i: not (i.is_absent or i.is_down),
    )  # fmt: skip
    yield _interface(
        "gauge", "penstock_interface_offloads", "Offloads that are on and may glue packets together.",
        lambda i: len(i.offloads),
    )  # fmt: skip
    yield MetricRow(
        "gauge", "penstock_last_packet_timestamp_seconds", "When the last packet came.", ("interface",),
        lambda facts: [((i.name,), i.last_packet_us / 1e6) for i in facts.interfaces if i.last_packet_us is not None],
    )  # fmt: skip
    yield MetricRow(
        "gauge", "penstock_silence_alarms", "Alarms that are open: something that should be seen is not.",
        ("kind", "interface"), _silences,
    )  # fmt: skip


def _flows() -> Iterator[MetricRow]:
    yield _counter("penstock_packets_decoded_total", "Packets whose headers were read.", lambda f: f.flows.decoded)
    yield _counted(
        "penstock_packets_undecoded_total", "Frames that became no packet.", "reason", lambda f: f.flows.undecoded
    )
    yield _counter("penstock_packets_metered_total", "Packets accounted in a flow.", lambda f: f.flows.metered)
    yield _counter("penstock_packets_shed_total", "Packets left out under overload.", lambda f: f.flows.shed_packets)
    yield _counter(
        "penstock_super_frames_total", "IP packets above 1,500 octets: glued together.", lambda f: f.flows.super_frames
    )
    yield _gauge("penstock_flows", "Live flows.", lambda f: f.flows.live)
    yield _gauge("penstock_flows_limit", "Live flows there is room for.", lambda f: f.flows.most)
    yield _counter("penstock_flows_opened_total", "Flows that began.", lambda f: f.flows.opened)
    yield MetricRow(
        "counter", "penstock_flow_records_total", "Records that left the flow table.", ("kind",),
        lambda f: [(("ended",), f.flows.records - f.flows.partial_records), (("partial",), f.flows.partial_records)],
    )  # fmt: skip
    yield _counter("penstock_flows_evicted_total", "Flows cut short: the table was full.", lambda f: f.flows.evicted)
    yield _counter(
        "penstock_flow_emergencies_total",
        "How often a filling table shortened timeouts.",
        lambda f: f.flows.emergencies,
    )
    yield _counter(
        "penstock_flow_twins_total", "Records left out: another interface speaks of the flow.", lambda f: f.flows.twins
    )


def _judging() -> Iterator[MetricRow]:
    yield _counter("penstock_windows_due_total", "Windows of devices that were due.", lambda f: f.windows.due)
    yield _counter("penstock_windows_scored_total", "Windows scored.", lambda f: f.windows.scored)
    yield _counter(
        "penstock_windows_shed_total", "Windows shed: a newer one of the device was due.", lambda f: f.windows.shed
    )
    yield _gauge("penstock_windows_waiting", "Windows waiting to be scored.", lambda f: f.windows.waiting)
    yield _gauge("penstock_windows_held", "Windows held, one per device.", lambda f: f.windows.devices)
    yield _counter(
        "penstock_windows_evicted_total", "Devices forgotten for want of room.", lambda f: f.windows.evicted_devices
    )
    yield _gauge("penstock_devices", "Devices known.", lambda f: f.devices.devices)
    yield _gauge("penstock_devices_named", "Devices whose name is known.", lambda f: f.devices.named)
    yield _gauge("penstock_device_addresses", "Addresses of devices.", lambda f: f.devices.addresses)
    yield _counter(
        "penstock_device_moves_total", "Addresses that changed with their device.", lambda f: f.devices.moves
    )
    yield _counter(
        "penstock_device_takeovers_total", "Addresses given to another device.", lambda f: f.devices.takeovers
    )
    yield _counter(
        "penstock_device_frames_total", "Frames in which devices name themselves.", lambda f: f.devices.frames
    )
    yield _counted(
        "penstock_device_frames_refused_total",
        "Those that did not hold together.",
        "reason",
        lambda f: f.devices.refused,
    )
    yield _counter("penstock_device_frames_dropped_total", "Those there was no time for.", lambda f: f.devices.dropped)
    yield MetricRow(
        "info", "penstock_engine_info", "What scores the windows.", ("engine", "provider"),
        lambda f: [((f.engine.name, f.engine.provider), 1)],
    )  # fmt: skip
    yield _counter("penstock_inference_batches_total", "Batches of windows scored.", lambda f: f.engine.batches)
    yield _histogram("penstock_inference_seconds", "Time to score a batch.", lambda f: f.engine.inference)
    yield _counted(
        "penstock_engine_fallbacks_total", "Batches another engine took over.", "reason", lambda f: f.engine.fallbacks
    )
    yield _histogram(
        "penstock_wire_to_alert_seconds",
        "From a flow's last packet to its alert's delivery.",
        lambda f: f.wire_to_alert,
    )
    yield _counter("penstock_detections_total", "Windows above a threshold.", lambda f: f.incidents.detections)
    yield _counter("penstock_detections_muted_total", "Those that a rule silenced.", lambda f: f.incidents.muted)
    yield _gauge("penstock_rules", "Rules that silence.", lambda f: f.incidents.rules)
    yield _gauge("penstock_incidents_open", "Incidents open now.", lambda f: f.incidents.open)
    yield _counted("penstock_incidents_total", "Incidents opened.", "class", lambda f: f.incidents.opened)
    yield _counted("penstock_alerts_total", "Alerts made.", "severity", lambda f: f.incidents.alerts)
    yield _counted(
        "penstock_evidence_total", "Incidents whose packets were wanted, by result.", "result", lambda f: f.evidence
    )
    yield MetricRow(
        "gauge", "penstock_calibration_state", "1 for the state that thresholds are in, else 0.", ("state",),
        lambda f: [((state,), f.calibration.state == state) for state in STATES],
    )  # fmt: skip
    yield _gauge("penstock_calibration_windows", "Local windows kept for calibration.", lambda f: f.calibration.windows)
    yield _gauge(
        "penstock_threshold_ratio", "The score above which an incident opens.", lambda f: f.calibration.threshold
    )
    yield _gauge(
        "penstock_false_positive_bound_ratio", "The false positive rate that the windows seen can rule out.",
        lambda f: f.calibration.false_positive_bound,
    )  # fmt: skip
    yield _gauge(
        "penstock_budget_incidents_per_day",
        "False incidents a day that are bearable.",
        lambda f: f.calibration.budget_per_day,
    )
    yield _gauge(
        "penstock_budget_spent_incidents",
        "Incidents of the last day that count against it.",
        lambda f: f.calibration.spent_today,
    )
    yield _counter("penstock_drifts_total", "How often the site left its budget.", lambda f: f.calibration.drifts)
    yield MetricRow(
        "info", "penstock_bundle_info", "The bundle that serves.", ("name", "release", "manifest", "trusted_by"),
        lambda f: [((f.bundle.name, str(f.bundle.release), f.bundle.manifest_sha256[:12], f.bundle.trusted_by), 1)],
    )  # fmt: skip
    yield _gauge(
        "penstock_bundle_start_time_seconds",
        "Since when it serves, since the epoch.",
        lambda f: f.bundle.active_since_us / 1e6,
    )
    yield _gauge(
        "penstock_bundle_shadow_windows", "Windows a new bundle has scored.", lambda f: f.bundle.shadow_windows
    )
    yield _counter("penstock_bundle_swaps_total", "Bundles that took over.", lambda f: f.bundle.swaps)
    yield _counter("penstock_bundle_rollbacks_total", "Bundles that had to go again.", lambda f: f.bundle.rollbacks)
    yield _counter("penstock_bundle_refusals_total", "Bundles that were refused.", lambda f: f.bundle.refused)


def _delivery() -> Iterator[MetricRow]:
    yield _gauge(
        "penstock_broker_connected", "Whether the broker answers.",
        lambda f: None if f.delivery.broker_state == "none" else f.delivery.broker_state == "connected",
    )  # fmt: skip
    yield _counter("penstock_broker_connects_total", "Connections made to the broker.", lambda f: f.delivery.connects)
    yield _gauge("penstock_alerts_in_flight", "Alerts sent and not acknowledged.", lambda f: f.delivery.in_flight)
    yield _gauge("penstock_outbox_alerts", "Alerts on disk for the broker.", lambda f: f.delivery.outbox_rows)
    yield _gauge("penstock_outbox_limit_alerts", "Alerts the outbox may hold.", lambda f: f.delivery.outbox_max_rows)
    yield _gauge("penstock_outbox_bytes", "Octets of their texts.", lambda f: f.delivery.outbox_bytes)
    yield _gauge(
        "penstock_outbox_trouble", "Whether the outbox cannot be written.", lambda f: bool(f.delivery.outbox_trouble)
    )
    yield _gauge(
        "penstock_outbox_oldest_timestamp_seconds", "When the oldest of them was made, since the epoch.",
        lambda f: None if f.delivery.outbox_oldest_us is None else f.delivery.outbox_oldest_us / 1e6,
    )  # fmt: skip
    yield _counter("penstock_alerts_delivered_total", "Alerts the broker acknowledged.", lambda f: f.delivery.delivered)
    yield _counter("penstock_alerts_resent_total", "Alerts sent once more.", lambda f: f.delivery.resent)
    yield _counted(
        "penstock_alerts_dropped_total",
        "Alerts that left without the broker's word.",
        "reason",
        lambda f: f.delivery.dropped,
    )
    yield _histogram("penstock_outbox_commit_seconds", "Time to put alerts on disk.", lambda f: f.delivery.commit)
    yield _histogram("penstock_acknowledge_seconds", "From sending to PUBACK.", lambda f: f.delivery.acknowledge)
    yield _counter("penstock_messages_received_total", "Messages taken from the broker.", lambda f: f.delivery.received)
    yield _counted(
        "penstock_messages_refused_total", "Messages of the broker not taken.", "reason", lambda f: f.delivery.refused
    )
    yield _counted(
        "penstock_verdicts_total", "Verdicts over MQTT, by what came of them.", "result", lambda f: f.verdicts
    )
    yield _sink("counter", "penstock_sink_written_total", "Alerts a sink took.", lambda s: s.written)
    yield _sink("counter", "penstock_sink_failed_total", "Alerts a sink could not take.", lambda s: s.failed)
    yield _sink("gauge", "penstock_sink_waiting_alerts", "Alerts waiting for a sink.", lambda s: s.waiting)
    yield _sink("gauge", "penstock_sink_trouble", "Whether a sink is in trouble now.", lambda s: bool(s.trouble))


def _federation() -> Iterator[MetricRow]:
    yield _gauge("penstock_samples", "Windows kept on disk to learn from.", lambda f: f.federation.samples)
    yield _gauge("penstock_samples_bytes", "Octets of them, packed.", lambda f: f.federation.samples_bytes)
    yield MetricRow(
        "counter", "penstock_samples_kept_total", "Windows kept to learn from.", ("kind",),
        lambda f: [(("quiet",), f.federation.kept), (("incident",), f.federation.pinned)],
    )  # fmt: skip
    yield _counter(
        "penstock_samples_let_go_total", "Those that lay near an incident after all.", lambda f: f.federation.let_go
    )
    yield _counted(
        "penstock_samples_skipped_total", "Windows drawn and not kept.", "reason", lambda f: f.federation.skipped
    )
    yield _counter("penstock_samples_failed_total", "Windows the disk would not take.", lambda f: f.federation.failed)
    yield _counted(
        "penstock_federation_messages_total", "Messages carried, by what came of them.", "result",
        lambda f: f.federation.messages,
    )  # fmt: skip
    yield _counter(
        "penstock_finetune_wishes_total", "Early runs of the trainer asked for.", lambda f: f.federation.wishes
    )


def _machine() -> Iterator[MetricRow]:
    yield _gauge("process_resident_memory_bytes", "Resident memory, rings included.", lambda f: f.board.memory_bytes)
    yield _gauge("penstock_memory_peak_bytes", "The most it was.", lambda f: f.board.memory_peak_bytes)
    yield _gauge("penstock_memory_limit_bytes", "What the control group allows.", lambda f: f.board.memory_limit_bytes)
    yield _counter("process_cpu_seconds_total", "CPU time of this process.", lambda f: f.board.cpu_seconds)
    yield _gauge("process_open_fds", "Open file descriptors.", lambda f: f.board.open_files)
    yield _gauge("penstock_threads", "Threads of this process.", lambda f: f.board.threads)
    yield MetricRow(
        "info", "penstock_board_info", "The board.", ("model", "l4t", "power_mode"),
        lambda f: [((f.board.model, f.board.l4t, f.board.power_mode), 1)] if f.board.model else [],
    )  # fmt: skip
    yield MetricRow(
        "gauge", "penstock_board_temperature_celsius", "Temperature of a zone.", ("zone",),
        lambda f: [((each.name,), each.value) for each in f.board.temperatures_celsius],
    )  # fmt: skip
    yield MetricRow(
        "gauge", "penstock_board_power_watts", "Power of a rail.", ("rail",),
        lambda f: [((each.name,), each.value) for each in f.board.power_watts],
    )  # fmt: skip
    yield _gauge("penstock_board_gpu_load_ratio", "Load of the GPU.", lambda f: f.board.gpu_load_ratio)
    yield _counter(
        "penstock_board_unreadable_total", "Sensors that did not answer, at each look.", lambda f: f.board.unreadable
    )


def _counter(name: str, told: str, value: Callable[[AgentFacts], float | None]) -> MetricRow:
    return MetricRow("counter", name, told, (), _single(value))


def _gauge(name: str, told: str, value: Callable[[AgentFacts], float | None]) -> MetricRow:
    return MetricRow("gauge", name, told, (), _single(value))


def _single(value: Callable[[AgentFacts], float | None]) -> Samples:
    """Return the one series of a number; none where there is no number."""

    def samples(facts: AgentFacts) -> list[Sample]:
        number = value(facts)
        return [] if number is None else [((), number)]

    return samples


def _histogram(name: str, told: str, value: Callable[[AgentFacts], HistogramFacts]) -> MetricRow:
    return MetricRow("histogram", name, told, (), lambda facts: [((), value(facts))])


def _counted(name: str, told: str, label: str, value: Callable[[AgentFacts], Counted]) -> MetricRow:
    return MetricRow("counter", name, told, (label,), lambda facts: [((word,), count) for word, count in value(facts)])


def _interface(
    kind: Literal["counter", "gauge"], name: str, told: str, value: Callable[[InterfaceFacts], float]
) -> MetricRow:
    return MetricRow(
        kind, name, told, ("interface",), lambda facts: [((each.name,), value(each)) for each in facts.interfaces]
    )


def _sink(kind: Literal["counter", "gauge"], name: str, told: str, value: Callable[[SinkFacts], float]) -> MetricRow:
    return MetricRow(
        kind, name, told, ("sink",), lambda facts: [((each.name,), value(each)) for each in facts.delivery.sinks]
    )


def _silences(facts: AgentFacts) -> Iterator[Sample]:
    open_: dict[tuple[str, str], int] = {}
    for silence in facts.silences:
        key = (silence.kind, silence.interface)
        open_[key] = open_.get(key, 0) + 1
    yield from open_.items()
