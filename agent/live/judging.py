"""From a configuration to who judges: the bundle that serves, its engine, the detector around them.

What changes while packets come changes here, between two batches: a new bundle (`use`), new settings (`change`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.bundles.store import Store, name_of
from agent.bundles.swap import BundleSwap
from agent.bundles.trial import Answering, Served
from agent.config import AgentConfig
from agent.live.reload import Commit
from agent.monitoring.histogram import Histogram
from agent.options.engine import engine_of
from agent.state.rules import RULES_FILE, RulesFile
from agent.state.saved import StateFile
from agent.stopwatch import Stopwatch, TimedEngine
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.errors import BundleError, BundleOutdated, BundleUntrusted, OutputError
from contracts.terminal import complain
from detection.answered import Answered
from detection.calibration import Calibrator
from detection.detector import Detector, Observer
from detection.engine import Engine
from detection.rules import Rules
from detection.state import StateRefused
from detection.usual import Usual

CALIBRATION: Final = "calibration.json"


class Judging:
    """The detector and the bundle it judges by.

    `renamed` is called with the bundle that serves from now on, so that alerts can name it. Raises BundleError where no
    bundle can serve, MissingExtra without a runtime, UsageError for an engine the bundle has no graph for.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        state_dir: Path | None,
        home_nets: Sequence[str],
        never_ban: Sequence[str],
        stopwatch: Stopwatch,
        mac_of: Callable[[bytes], str | None] = lambda _: None,
        renamed: Callable[[Bundle], None] = lambda _: None,
        is_busy: Callable[[], bool] = lambda: False,
        observer: Observer | None = None,
    ) -> None:
        self.config = config
        self.rules_file = None if state_dir is None else RulesFile(state_dir / RULES_FILE)
        self.rules = Rules() if self.rules_file is None else self.rules_file.current()
        self.batches = 0
        self.inference = Histogram()
        self._mac_of = mac_of
        self._stopwatch = stopwatch
        self._renamed = renamed
        self._calibration = StateFile(None if state_dir is None else state_dir / CALIBRATION)
        self._calibrators: dict[str, Calibrator] = {}  # by bundle, so that the one before finds its own again
        self.store = Store(None if state_dir is None else state_dir / "models", trust=config.scoring.trust_dir)
        bundle = first_bundle(self.store, config.scoring.bundle)
        serving = Served(bundle, self.engine_of(bundle))
        self.swap = BundleSwap(
            serving,
            store=self.store,
            engine_of=self.engine_of,
            use=self._use,
            shadow_windows=config.scoring.shadow_windows,
            is_busy=is_busy,
            answering=self._answering,
        )
        self.detector = Detector(
            bundle,
            self._timed(serving),
            never_ban=never_ban,
            home_nets=home_nets,
            incident_quiet_s=config.scoring.incident_quiet_s,
            id_salt=f"{config.gateway.id} {bundle.manifest_sha256} {secrets.token_hex(8)}",
            calibrator=self._first_calibrator(bundle),
            rules=self.rules,
            mac_of=mac_of,
            observer=observer,
            usual=Usual(),
        )
        self._rules_trouble = ""

    @property
    def calibrator(self) -> Calibrator | None:
        """Return who moves the thresholds of the bundle that serves, None where nobody does."""
        return self._calibrators.get(self.serving.bundle.manifest_sha256)

    @property
    def serving(self) -> Served:
        """Return the bundle that judges now."""
        return self.swap.serving

    @property
    def bundle(self) -> Bundle:
        """Return the bundle that judges now."""
        return self.serving.bundle

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Return what the operator said of incidents."""
        return self.rules.verdicts

    @property
    def is_drifting(self) -> bool:
        """Return whether more or fewer windows come near a threshold than used to."""
        return self.calibrator is not None and self.calibrator.is_drifting

    def engine_of(self, bundle: Bundle) -> Engine:
        """Return an engine for a bundle, as configured."""
        scoring = self.config.scoring
        return engine_of(bundle, choice=scoring.engine, socket_path=str(scoring.tensorrt_socket))

    def new_bundle(self, before: AgentConfig, after: AgentConfig) -> Commit:
        """Return what lets the bundle of new settings be tried, and then serve. Raises PenstockError.

        Where the setting has not changed, what an operator did since (a newer release, a way back) stands.
        """
        trust, configured = after.scoring.trust_dir, after.scoring.bundle
        is_same = configured == before.scoring.bundle
        served = None if configured is None and is_same else self._offered(configured, trust, is_same=is_same)

        def commit() -> None:
            self.store.trust = trust
            if served is not None:
                self.swap.offer(served)

        return commit

    def _offered(self, configured: Path | None, trust: Path, *, is_same: bool) -> Served | None:
        """Return the configured bundle ready to serve, None where it need not be tried."""
        serving = self.serving.bundle
        if configured is None:
            bundle = default_bundle()
        else:
            try:
                bundle = Store(self.store.path, trust=trust).stage(configured, newest=serving.manifest.release)
            except BundleOutdated:
                if is_same:
                    return None
                raise
        if bundle.manifest_sha256 == serving.manifest_sha256:
            return None
        if (reason := self.store.standing.refused.get(name_of(bundle))) is not None:
            if is_same:
                return None
            raise BundleUntrusted(f"bundle: {configured} was refused here: {reason}; penstock model stage insists")
        return self.swap.made(bundle)

    def change(self, config: AgentConfig) -> None:
        """Let new settings hold that were checked before."""
        self.config = config
        self.swap.shadow_windows = config.scoring.shadow_windows
        calibrator = self.calibrator
        if not config.judgement.calibrate:
            self._calibrators.clear()
        elif calibrator is None:
            self._calibrators[self.serving.bundle.manifest_sha256] = self._new_calibrator(self.serving.bundle)
        else:
            calibrator.budget_per_day = config.judgement.false_incidents_per_day
            calibrator.windows_wanted = config.judgement.calibration_windows
        self.detector.change(calibrator=self.calibrator, incident_quiet_s=config.scoring.incident_quiet_s)

    def look(self) -> None:
        """Take up what an operator has changed on disk: rules, and the bundle that is wanted."""
        if self.rules_file is not None:
            rules = self.rules_file.current()
            if rules is not self.rules:
                self.rules = rules
                self.detector.change(rules=rules)
            if self.rules_file.trouble not in ("", self._rules_trouble):
                complain(f"{self.rules_file.trouble}: the rules of before hold")
            self._rules_trouble = self.rules_file.trouble
        self.swap.look()

    def saving(self) -> Callable[[], object]:
        """Return what puts on disk what was learnt up to now; it may run in another thread."""
        calibrator = self.calibrator
        if calibrator is None:
            return lambda: None
        state = calibrator.state()
        return lambda: self._calibration.write(state)

    def _answering(self, served: Served) -> Answering:
        """Return what tells which detections of a bundle the operator has answered."""
        sha256 = served.bundle.manifest_sha256
        asked = Answered(
            served.engine,
            manifest_sha256=sha256,
            rules=lambda: self.rules,
            home=lambda: self.detector.home,
            mac_of=self._mac_of,
        )
        return asked.rows

    def _use(self, served: Served) -> None:
        self.detector.use(served.bundle, self._timed(served))
        if self.config.judgement.calibrate:
            sha256 = served.bundle.manifest_sha256
            known = self._calibrators.get(sha256) or self._new_calibrator(served.bundle)
            before = {each: self._calibrators[each] for each in list(self._calibrators)[-1:] if each != sha256}
            self._calibrators = before | {sha256: known}
            self.detector.change(calibrator=known)
        self._renamed(served.bundle)

    def _new_calibrator(self, bundle: Bundle) -> Calibrator:
        judgement = self.config.judgement
        return Calibrator(
            bundle, budget_per_day=judgement.false_incidents_per_day, windows_wanted=judgement.calibration_windows
        )

    def _first_calibrator(self, bundle: Bundle) -> Calibrator | None:
        """Return the calibrator with what it learnt before the restart; what cannot be read is told and begun anew."""
        judgement = self.config.judgement
        if not judgement.calibrate:
            return None
        made, state = self._new_calibrator(bundle), self._calibration.read()
        if state is not None:
            try:
                made = Calibrator.restored(
                    state,
                    bundle,
                    budget_per_day=judgement.false_incidents_per_day,
                    windows_wanted=judgement.calibration_windows,
                )
            except StateRefused as exc:
                self._calibration.set_aside(str(exc))
        self._calibrators[bundle.manifest_sha256] = made
        return made

    def _timed(self, served: Served) -> TimedEngine:
        return TimedEngine(served.engine, self._stopwatch, observe=self._observe)

    def _observe(self, seconds: float) -> None:
        self.batches += 1
        self.inference.observe(seconds)


def first_bundle(store: Store, configured: Path | None) -> Bundle:
    """Return the bundle to start with: the configured one, else what was good.

    Raises BundleError where the configured one cannot serve and none of before is kept: a first start with a wrong
    setting should say so. Later, the last good one serves.
    """
    served_before = bool(store.names())
    last_good = store.last_good()
    if configured is None:
        return last_good
    newest = last_good.manifest.release if served_before and not store.standing.rolled_back else 0
    try:
        bundle = store.stage(configured, newest=newest)
    except BundleError as exc:
        if not served_before:
            raise
        complain(f"{exc}; {last_good.manifest.name} release {last_good.manifest.release}, the last good one, serves")
        return last_good
    except OutputError as exc:
        complain(f"{exc}; the bundle serves from where it stands")
        bundle = load_bundle(configured, trust=store.trust, newest=newest)
    if (reason := store.standing.refused.get(name_of(bundle))) is not None:
        complain(f"bundle: {configured} was refused here: {reason}; release {last_good.manifest.release} serves")
        return last_good
    if bundle.manifest_sha256 != last_good.manifest_sha256:
        store.activated(bundle, trial=False)
    return bundle
