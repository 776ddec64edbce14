"""What the agent knows of itself, gathered once a second from the objects that count it, into one `AgentFacts`.

Nothing is counted here but what passes by: incidents as they speak, and how long a packet took to become an alert.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from agent.capture.several import Point
from agent.capture.source import Counts
from agent.live.judging import Judging
from agent.live.pipeline import LivePipeline
from agent.monitoring.facts import (
    RECENT,
    AgentFacts,
    BundleFacts,
    CalibrationFacts,
    Counted,
    EngineFacts,
    FlowFacts,
    IncidentFacts,
    InterfaceFacts,
    RecentIncident,
    WindowFacts,
)
from agent.monitoring.histogram import LATENCY_EDGES_S, Histogram
from contracts.bundle import DEFAULT_DIR
from contracts.classes import NAMES
from detection.incidents import IncidentUpdate
from detection.tensorrt_client import TensorrtEngine
from flowfeatures import address_text

NAMED: Final = 8  # bundles turned away, in facts and status
OF_CALIBRATION: Final = tuple(field.name for field in fields(CalibrationFacts))
COUNTED: Final = tuple(field.name for field in fields(Counts) if field.name != "meanwhile")
OF_REPORT: Final = ("link", "source", "ring_full", "rebinds", "link_downs", "is_absent", "is_down", "offloads")
OF_METER: Final = {
    "packets": "packets", "decoded": "decoded", "metered": "metered", "shed_packets": "shed_packets",
    "super_frames": "super_frames",
    "live": "live_flows", "opened": "flows", "records": "records", "partial_records": "partial_records",
    "evicted": "evicted_flows", "emergencies": "emergencies",
}  # fmt: skip


class Gathering:
    """Make `AgentFacts` of a pipeline and of who judges in it. `named` gives a device's name for people."""

    def __init__(
        self,
        pipeline: LivePipeline,
        judging: Judging,
        *,
        named: Callable[[bytes], str] = lambda _: "",
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._pipeline = pipeline
        self._judging = judging
        self._named = named
        self._now_us = now_us
        self._wire_to_alert = Histogram(LATENCY_EDGES_S)
        self._alerts: Counter[str] = Counter()
        self._recent: OrderedDict[str, RecentIncident] = OrderedDict()
        self._last_packets: dict[str, tuple[int, int | None]] = {}  # by interface: packets read, when that last rose
        self.started_us = now_us()
        self._version = _version()

    def told(self, update: IncidentUpdate) -> None:
        """Take note of a message that goes out."""
        if update.update == 0:
            self._wire_to_alert.observe((self._now_us() - int(update.parties.flow["end_us"])) / 1e6)
        self._alerts[str(update.severity)] += 1
        self._recent.pop(update.incident_id, None)
        self._recent[update.incident_id] = self._recent_of(update)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def facts(self, **others: Any) -> AgentFacts:
        """Return everything as it is now; `others` are fields of AgentFacts that are not gathered here."""
        pipeline = self._pipeline
        seconds = pipeline.stopwatch.seconds
        return AgentFacts(
            at_us=self._now_us(),
            started_us=self.started_us,
            version=self._version,
            interfaces=tuple(map(self._interface, pipeline.interfaces.points)),
            flows=self._flows(),
            windows=self._windows(),
            engine=self._engine(),
            incidents=self._incidents(),
            calibration=self._calibration(),
            bundle=self._bundle(),
            clock_steps=pipeline.interfaces.clock_steps,
            wire_to_alert=self._wire_to_alert.facts(),
            stage_seconds=tuple((name, spent_s) for name, spent_s in seconds.items() if name != "total"),
            **others,
        )

    # -- parts --------------------------------------------------------------------------------------------------

    def _interface(self, point: Point) -> InterfaceFacts:
        counts, report = point.source.counts(), point.report()
        read_before, last_us = self._last_packets.get(point.interface, (0, None))
        if counts.read > read_before:
            last_us = self._now_us()
        self._last_packets[point.interface] = counts.read, last_us
        return InterfaceFacts(
            name=point.interface,
            last_packet_us=last_us,
            **{name: getattr(counts, name) for name in COUNTED},
            **{name: getattr(report, name) for name in OF_REPORT},
        )

    def _flows(self) -> FlowFacts:
        points = self._pipeline.interfaces.points
        counters = [point.meter.counters for point in points]
        undecoded: Counter[str] = Counter()
        for each in counters:
            undecoded.update(each["undecoded"])
        return FlowFacts(
            undecoded=counted(undecoded),
            most=sum(point.meter.settings.max_flows for point in points),
            twins=self._pipeline.interfaces.twins.taken_away,
            **{name: sum(each[key] for each in counters) for name, key in OF_METER.items()},
        )

    def _windows(self) -> WindowFacts:
        pipeline = self._pipeline
        counters = pipeline.windows.counters
        return WindowFacts(
            due=pipeline.windows_due,
            scored=pipeline.detector.windows,
            shed=pipeline.windows_shed,
            waiting=len(pipeline.waiting),
            devices=counters["devices"],
            evicted_devices=counters["evicted_devices"],
        )

    def _engine(self) -> EngineFacts:
        judging = self._judging
        engine = judging.serving.engine
        fallbacks = engine.tally.fallbacks if isinstance(engine, TensorrtEngine) else {}
        return EngineFacts(
            name=engine.name,
            provider=engine.provider,
            batches=judging.batches,
            inference=judging.inference.facts(),
            fallbacks=counted(fallbacks),
        )

    def _incidents(self) -> IncidentFacts:
        detector = self._pipeline.detector
        return IncidentFacts(
            open=detector.open_incidents,
            opened=tuple(zip(NAMES[1:], detector.opened_by_class[1:], strict=True)),
            alerts=tuple((severity, self._alerts[severity]) for severity in ("1", "2", "3")),
            detections=detector.detections,
            muted=detector.muted + detector.known_benign,
            rules=len(self._judging.rules),
            recent=tuple(reversed(self._recent.values())),
        )

    def _calibration(self) -> CalibrationFacts:
        calibrator = self._judging.calibrator
        if calibrator is None:
            return CalibrationFacts()
        status = calibrator.facts()
        return CalibrationFacts(**{name: getattr(status, name) for name in OF_CALIBRATION})

    def _recent_of(self, update: IncidentUpdate) -> RecentIncident:
        return RecentIncident(
            incident_id=update.incident_id,
            class_name=update.class_name,
            severity=update.severity,
            device=address_text(update.device),
            device_name=self._named(update.device),
            attacker=address_text(update.parties.attacker),
            victim=address_text(update.parties.victim),
            opened_us=update.opened_us,
            last_us=update.last_us,
            is_open=not update.closed,
            score=update.score,
            threshold=update.threshold,
            flows=update.flows,
            is_spoofable=update.parties.spoofable,
            columns=tuple((column, fall) for column, fall in update.columns),
        )

    def _bundle(self) -> BundleFacts:
        swap = self._judging.swap
        bundle, shadow = swap.serving.bundle, swap.shadow
        made = BundleFacts(
            name=bundle.manifest.name,
            release=bundle.manifest.release,
            path=str(bundle.path),
            manifest_sha256=bundle.manifest_sha256,
            trusted_by="package" if bundle.path == DEFAULT_DIR else bundle.signer or "",
            active_since_us=swap.since_us,
            swaps=swap.swaps,
            rollbacks=swap.rollbacks,
            refused=swap.refused,
            last_refusal=swap.last_refusal,
            on_probation=swap.probation is not None,
            refused_names=tuple(self._judging.store.standing.refused)[-NAMED:],
        )
        if shadow is None:
            return made
        release = shadow.subject.bundle.manifest.release
        return replace(made, shadow_release=release, shadow_windows=shadow.windows, shadow_wanted=shadow.wanted)


def counted(counts: Mapping[str, int]) -> Counted:
    """Return counts by name in a fixed order."""
    return tuple(sorted(counts.items()))


def _version() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:
        return ""
