"""`penstock run` as one object: builds everything from an `AgentConfig`, watches until asked to stop, ends in order.

Start and end have an order of their own: first what can refuse (bundle, interfaces, files), then what others can see;
at the end the interfaces first, so that the last flows become alerts, then the alerts. One thread does the work; what
waits for a disk, a broker or a reader has threads of its own.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.alerts import AlertWriter
from agent.capture.accounting import Accounting
from agent.capture.closing import Warnings
from agent.capture.interface import absent
from agent.capture.live_line import LiveLine
from agent.capture.patient import PatientSource
from agent.capture.several import Point, Several, total
from agent.capture.source import CaptureSettings
from agent.config import AgentConfig
from agent.console.outgoing import Outgoing
from agent.delivery import Delivery
from agent.delivery.clock import is_clock_synchronised
from agent.delivery.letters import Posted
from agent.learning.learning import Learning
from agent.live.chores import Aside, Chores
from agent.live.evidence import Evidence
from agent.live.gathering import Gathering
from agent.live.judging import Judging
from agent.live.mail import Mail
from agent.live.neighbourhood import Neighbourhood
from agent.live.notify import Notifier
from agent.live.outlets import bounds_of, check_outputs, mqtt_of, new_outlets, sinks_of
from agent.live.overload import WaitingWindows
from agent.live.pipeline import LivePipeline
from agent.live.recorder import Recorder
from agent.live.reload import Commit, Reload
from agent.live.verdicts import Verdicts
from agent.monitoring.facts import FactsBoard
from agent.monitoring.servers import Servers, status_text
from agent.options.engine import told
from agent.state.evidence_files import trim
from agent.state.retention import sweep
from agent.state.saved import make_folder
from agent.stopping import HangUp, StopRequest
from agent.stopwatch import Stopwatch
from contracts.bundle import Bundle
from contracts.terminal import complain
from detection.incidents import IncidentUpdate
from flowfeatures import DeviceWindows, FlowMeter, FlowSettings, HomeNets

END_S: Final = 1.0  # for what is put on disk at the end; one that hangs longer is left alone
MINUTE_S: Final = 60.0
FACTS_EVERY_S: Final = 1.0
SAVE_EVERY_S: Final = 300.0
FAREWELL_S: Final = 1.0
"""How long the last alerts may take to a broker once a stop was asked for; what it has not then waits in the outbox."""


class Service:
    """The agent. A context manager: entering builds it and opens what it watches, leaving gives everything back.

    `file` is where the settings came from, None: from a person who tries something, and then nothing listens that was
    not asked for. `state_dir` None: nothing is kept. Raises what is wrong at start: BundleError, UsageError,
    MissingExtra, OutputError, OutboxError, DataMissing where none of the interfaces is there, NeedsRoot, CaptureError.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        file: Path | None,
        state_dir: Path | None,
        load: Callable[[], AgentConfig],
        environ: Mapping[str, str],
    ) -> None:
        self.board = FactsBoard()
        self.stopwatch = Stopwatch()
        self.notifier = Notifier(environ)
        self.reload = Reload(config, load=load, parts=(self._new_bundle, self._new_judging, self._new_outlets))
        self._state_dir = state_dir
        self._environ = environ
        self._open = ExitStack()
        self._chores = Chores()
        self._saving = Aside("penstock-state")
        self._sweeping = Aside("penstock-sweep")
        self._is_service = file is not None
        self._config_name = "" if file is None else str(file)
        self._status = ""
        self._warnings = Warnings()

    @property
    def config(self) -> AgentConfig:
        """Return the settings that hold now."""
        return self.reload.config

    def __enter__(self) -> Service:
        with ExitStack() as opened:
            self._build(opened)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(self, *, stop: StopRequest, hang_up: HangUp, duration_s: float | None = None) -> int:
        """Watch until a stop is asked for or the time is over, end in order, and return the exit code."""
        names = [point.interface for point in self.interfaces.points]
        line = LiveLine(", ".join(names), stream=sys.stderr)
        for point in self.interfaces.points:
            report = point.source.report()
            complain(f"watching {report.interface} ({report.link}, {report.source})")
            self._warnings.say(report)
        self._chores.every(FACTS_EVERY_S, self._each_second)
        self._chores.every(SAVE_EVERY_S, lambda: self._saving.do(self._save()))
        self._chores.every(MINUTE_S, self._look_around)
        self._chores.every(3600.0, self._sweep)
        if line.is_on:
            self._chores.every(0.25, lambda: self._draw(line))
        self._chores.turn()  # who asks what is seen, from READY on, is answered
        self.notifier.ready(f"watching {', '.join(names)}")
        began_s = time.monotonic()
        try:
            while not stop and (duration_s is None or time.monotonic() - began_s < duration_s):
                self.pipeline.turn()
                self.notifier.progressed()
                self._chores.turn()
                if hang_up.taken():
                    self._reload()
        finally:
            line.clear()
        return self._end()

    # -- building -----------------------------------------------------------------------------------------------

    def _build(self, opened: ExitStack) -> None:
        config = self.config
        if self._state_dir is not None:
            make_folder(self._state_dir)
        self.evidence = opened.enter_context(Evidence(config, state_dir=self._state_dir))
        self.interfaces = opened.enter_context(Several([self._point(name) for name in config.capture.interfaces]))
        if not any(self._is_there(point) for point in self.interfaces.points):
            raise absent(config.capture.interfaces[0])
        self.around = Neighbourhood(config, state_dir=self._state_dir)
        opened.callback(self.around.close)
        for point in self.interfaces.points:
            point.left = self._tallying(point.interface)
        scoring = config.scoring
        self.waiting = WaitingWindows(
            batch_windows=scoring.batch_windows,
            deadline_s=scoring.deadline_ms / 1000,
            max_waiting=scoring.max_waiting_windows,
        )
        self.learning = Learning(config, state_dir=self._state_dir, post=self._post)
        self.judging = Judging(
            config,
            state_dir=self._state_dir,
            home_nets=self.around.home_nets,
            never_ban=self.around.never_ban(),
            stopwatch=self.stopwatch,
            mac_of=self.around.mac_of,
            renamed=self._renamed,
            is_busy=lambda: len(self.waiting) > self.waiting.batch_windows,
            observer=self.learning.keeper,
        )
        mqtt = mqtt_of(config, environ=self._environ)
        keeps_outbox = self._state_dir is not None or config.outbox.path is not None
        self.delivery = opened.enter_context(
            Delivery(
                sinks_of(config),
                mqtt=mqtt,
                outbox=config.outbox_path if keeps_outbox else None,
                bounds=bounds_of(config),
                sets_aside=self._state_dir is not None,
            )
        )
        opened.enter_context(self.learning)
        self._chores.every(MINUTE_S, lambda: self.around.ask_for_broker(self.config.mqtt.url))
        self.mail = Mail(self.delivery)
        self.verdicts = opened.enter_context(
            Verdicts(self._state_dir, gateway=config.gateway.id, answer=self.delivery.inbox.answer)
        )
        self._ask_for_mail(config)
        self.outgoing = Outgoing(self.delivery, stop=StopRequest())  # of its own: a stop must not cut the last alerts
        self.record = opened.enter_context(Recorder(self._state_dir))
        self.pipeline = LivePipeline(
            interfaces=self.interfaces,
            new_windows=self._new_windows,
            waiting=self.waiting,
            detector=self.judging.detector,
            alerts=self._writer(self.judging.serving.bundle),
            publish=self.delivery.take,
            stopwatch=self.stopwatch,
            watcher=self.judging.swap,
            told=self._told,
            between=self._between,
        )
        self.gathering = Gathering(self.pipeline, self.judging, named=self.around.name_of)
        self.servers = opened.enter_context(Servers(self.board, config, is_service=self._is_service))

    def _point(self, name: str) -> Point:
        capture = self.config.capture
        settings = CaptureSettings(
            interface=name,
            filter=capture.filter,
            snap_length_bytes=capture.snap_length_bytes,
            block_bytes=capture.block_bytes,
            block_count=capture.block_count,
            promiscuous=capture.promiscuous,
        )
        flows = FlowSettings(partials=True, max_flows=max(1, capture.max_flows // len(capture.interfaces)))
        meter = FlowMeter(flows, flow_id_key=secrets.token_bytes(16))
        return Point(interface=name, source=PatientSource(settings), meter=meter, kept=self.evidence.ring())

    @staticmethod
    def _is_there(point: Point) -> bool:
        return isinstance(point.source, PatientSource) and point.source.is_open

    def _tallying(self, interface: str) -> Callable[[NDArray[np.void]], None]:
        return lambda records: self.around.tally_of(interface).add(records)

    def _new_windows(self) -> DeviceWindows:
        windows = DeviceWindows(self.around.home_nets, window=self.judging.serving.bundle.manifest.window)
        self.around.watch(windows)
        return windows

    def _writer(self, bundle: Bundle) -> AlertWriter:
        return AlertWriter(
            bundle.manifest,
            gateway=self.config.gateway.id,
            home=HomeNets(self.around.home_nets),
            names=self.around.devices.named,
            interface_of=self.interfaces.interface_of,
            clock=is_clock_synchronised,
        )

    # -- between two turns --------------------------------------------------------------------------------------

    def _ask_for_mail(self, config: AgentConfig) -> None:
        """Subscribe to what the settings want of the broker."""
        self.mail.ask("federation", self.learning.subscriptions, self.learning.take)
        self.mail.ask("verdicts", self.verdicts.subscriptions(is_wanted=config.mqtt.feedback), self.verdicts.take)

    def _each_second(self) -> None:
        self.judging.look()
        self.mail.hand_out()
        self.delivery.tick()
        self.learning.turn(self.judging, now_us=self.interfaces.clock_us)
        self.mail.ask("federation", self.learning.subscriptions, self.learning.take)  # what is waited for may change
        self.around.check_silence(self.interfaces, evicted_devices=self.pipeline.windows.counters["evicted_devices"])
        if self.around.has_come():
            self._look_around()
        facts = self.gathering.facts(
            gateway=self.config.gateway.id,
            config=self._config_name,
            home_nets=self.around.home_nets,
            reloads=self.reload.applied,
            refused_reloads=self.reload.refused,
            last_reload=self.reload.last,
            watchdog_feeds=self.notifier.feeds,
            delivery=self.delivery.facts(),
            verdicts=tuple(self.verdicts.results.items()),
            evidence=self.evidence.counts,
            silences=self.around.silences(),
            devices=self.around.facts(),
            board=self.servers.board_facts,
            federation=self.learning.facts(),
        )
        self.board.post(facts)
        status = status_text(facts)
        if status != self._status:
            self._status = status
            self.delivery.status(status)

    def _look_around(self) -> None:
        """Take up interfaces, networks and neighbours that have come since the last look."""
        if self.around.grown():
            self.pipeline.begin_anew()
            self.judging.detector.change(home_nets=self.around.home_nets)
            self.pipeline.alerts = self._writer(self.judging.serving.bundle)
        elif self.around.has_come():
            self.around.watch(self.pipeline.windows)
        self.judging.detector.change(never_ban=self.around.never_ban())

    def _between(self, clock_us: int) -> None:
        for move in self.around.turn(clock_us):
            self.judging.detector.moved(move.old, move.new)

    def _draw(self, line: LiveLine) -> None:
        points = self.interfaces.points
        line.show(
            sum(point.meter.counters["packets"] for point in points), total([point.source.counts() for point in points])
        )

    def _told(self, update: IncidentUpdate) -> None:
        self.gathering.told(update)
        sha256 = self.judging.serving.bundle.manifest_sha256
        self.evidence.told(update)
        self.record.add(update, bundle_sha256=sha256, mac=self.around.mac_of(update.device) or None)

    def _post(self, topic: str, payload: bytes, *, content_type: str) -> Posted | None:
        return self.delivery.post(topic, payload, content_type=content_type)

    def _renamed(self, bundle: Bundle) -> None:
        self.pipeline.alerts = self._writer(bundle)

    def _save(self) -> Callable[[], object]:
        """Return what puts on disk what must survive a restart, as it is now."""
        savings = [self.judging.saving(), self.around.saving()]
        return lambda: [save() for save in savings]

    def _sweep(self) -> None:
        """Delete what has grown old, in a thread of its own."""
        if self._state_dir is not None:
            state_dir, config = self._state_dir, self.config

            def both() -> None:
                days, aside_files = config.data.retention_days, config.data.aside_files
                sweep(state_dir, eve=config.eve.path, days=days, aside_files=aside_files)
                trim(state_dir, max_bytes=config.evidence.max_bytes, max_age_s=config.evidence.max_age_s)

            self._sweeping.do(both)

    # -- new settings -------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        self.notifier.reloading()
        self.reload()
        self.notifier.ready()

    def _new_bundle(self, before: AgentConfig, after: AgentConfig) -> Commit:
        return self.judging.new_bundle(before, after)

    def _new_judging(self, before: AgentConfig, after: AgentConfig) -> Commit:
        scoring = after.scoring

        def commit() -> None:
            self.waiting.batch_windows = scoring.batch_windows
            self.waiting.deadline_s = scoring.deadline_ms / 1000
            self.waiting.max_waiting = scoring.max_waiting_windows
            self.around.change(after)
            self.judging.change(after)
            self.judging.detector.change(never_ban=self.around.never_ban())

        return commit

    def _new_outlets(self, before: AgentConfig, after: AgentConfig) -> Commit:
        check_outputs(after, state_dir=self._state_dir)
        outlets = new_outlets(self.delivery, before, after, self._environ)

        def commit() -> None:
            outlets()
            self._ask_for_mail(after)

        return commit

    # -- the end ------------------------------------------------------------------------------------------------

    def _end(self) -> int:
        """Let the last flows become alerts, tell what was seen, and return the exit code."""
        self.notifier.stopping()
        self.pipeline.finish()
        self._saving.wait(END_S)
        if self._saving.do(self._save()):
            self._saving.wait(END_S)
        codes = [self._warnings.close(point.report(), point.accounting()) for point in self.interfaces.points]
        windows = Accounting(
            kernel=total([]),
            windows_due=self.pipeline.windows_due,
            windows_scored=self.pipeline.detector.windows,
            windows_shed=self.pipeline.windows_shed,
            windows_waiting=len(self.waiting),
        )
        codes.append(self._warnings.even(windows))
        judged, opened = self.pipeline.detector.windows, self.pipeline.detector.opened
        complain(f"{judged:,} windows judged, {opened:,} incidents, {self.pipeline.alerts_made:,} alerts")
        if (text := told(self.judging.serving.engine)) is not None:
            complain(text)
        self.outgoing.drain(FAREWELL_S)
        return max(codes)
