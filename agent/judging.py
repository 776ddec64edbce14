"""From a configuration to who judges: the bundle that serves, its engine, the detector around them.

What changes while packets come changes here, between two batches: a new bundle (`use`), new settings (`change`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.bundles.store import Store, name_of
from agent.bundles.swap import BundleSwap
from agent.bundles.trial import Served
from agent.config import AgentConfig
from agent.engine_options import engine_of
from agent.facts import Histogram
from agent.reload import Commit
from agent.stopwatch import Stopwatch, TimedEngine
from contracts.bundle import Bundle, default_bundle
from contracts.errors import BundleError, BundleUntrusted, PenstockError
from contracts.terminal import complain
from detection.detector import Detector
from detection.engine import Engine


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
        renamed: Callable[[Bundle], None] = lambda _: None,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self.batches = 0
        self.inference = Histogram()
        self._stopwatch = stopwatch
        self._renamed = renamed
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
        )
        self.detector = Detector(
            bundle,
            self._timed(serving),
            never_ban=never_ban,
            home_nets=home_nets,
            incident_quiet_s=config.scoring.incident_quiet_s,
            id_salt=f"{config.gateway.id} {bundle.manifest_sha256} {secrets.token_hex(8)}",
        )

    @property
    def serving(self) -> Served:
        """Return the bundle that judges now."""
        return self.swap.serving

    def engine_of(self, bundle: Bundle) -> Engine:
        """Return an engine for a bundle, as configured."""
        scoring = self.config.scoring
        return engine_of(bundle, choice=scoring.engine, socket_path=str(scoring.tensorrt_socket))

    def new_bundle(self, before: AgentConfig, after: AgentConfig) -> Commit:
        """Return what lets the bundle of new settings be tried, and then serve. Raises PenstockError."""
        configured, store = after.scoring.bundle, self.store
        store.trust = after.scoring.trust_dir
        serving = self.serving.bundle
        try:
            if configured is None:
                bundle = store.last_good() if before.scoring.bundle is None else default_bundle()
            else:
                bundle = store.stage(configured, newest=serving.manifest.release)
            reason = store.standing.refused.get(name_of(bundle))
            if bundle.manifest_sha256 == serving.manifest_sha256:
                return lambda: None
            if reason is not None and configured != before.scoring.bundle:
                raise BundleUntrusted(f"bundle: {configured} was refused here: {reason}")
            served = self.swap.made(bundle) if reason is None else None
        except PenstockError:
            store.trust = before.scoring.trust_dir
            raise
        return lambda: None if served is None else self.swap.offer(served)

    def change(self, config: AgentConfig) -> None:
        """Let new settings hold that were checked before."""
        self.config = config
        self.swap.shadow_windows = config.scoring.shadow_windows

    def _use(self, served: Served) -> None:
        self.detector.use(served.bundle, self._timed(served))
        self._renamed(served.bundle)

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
    try:
        newest = last_good.manifest.release if served_before and not store.standing.rolled_back else 0
        bundle = store.stage(configured, newest=newest)
    except BundleError as exc:
        if not served_before:
            raise
        complain(f"{exc}; {last_good.manifest.name} release {last_good.manifest.release}, the last good one, serves")
        return last_good
    if (reason := store.standing.refused.get(name_of(bundle))) is not None:
        complain(f"bundle: {configured} was refused here: {reason}; release {last_good.manifest.release} serves")
        return last_good
    if bundle.manifest_sha256 != last_good.manifest_sha256:
        store.activated(bundle, trial=False)
    return bundle
