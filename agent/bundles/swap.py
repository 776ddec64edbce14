"""From one bundle to the next while packets come: tried in the shadow, swapped between two batches, taken back.

    offered -> shadow (scores the same windows, decides nothing) -> serves on trial -> serves
                  \\-> refused                                         \\-> taken back: the one before serves again

What goes wrong is told, counted and remembered; at every moment one bundle serves. An agent that ends meanwhile,
however that is, begins the trial anew at its next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.bundles.store import PACKAGE, Store, name_of
from agent.bundles.trial import Answering, Served, Trial
from contracts.bundle import Bundle
from contracts.errors import BundleError, PenstockError, SchemaMismatch
from contracts.terminal import complain
from detection.engine import Engine
from flowfeatures import WindowBatch


class BundleSwap:
    """The bundle that serves, and the one that may. `use` is called with the one that serves from now on.

    `engine_of` makes an engine of a bundle; `shadow_windows` are compared before a swap and once more after it, 0 being
    none. `is_busy` tells whether scoring is behind: then nothing is scored twice. `answering` gives, of a bundle, which
    of its detections the operator has answered.
    """

    def __init__(
        self,
        serving: Served,
        *,
        store: Store,
        engine_of: Callable[[Bundle], Engine],
        use: Callable[[Served], None],
        shadow_windows: int,
        is_busy: Callable[[], bool] = lambda: False,
        answering: Callable[[Served], Answering] | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.serving = serving
        self.since_us = now_us()
        self.shadow_windows = shadow_windows
        self.swaps = 0
        self.rollbacks = 0
        self.refused = 0
        self.last_refusal = ""
        self.shadow: Trial | None = None
        self.probation: Trial | None = None
        self._store = store
        self._engine_of = engine_of
        self._use = use
        self._is_busy = is_busy
        self._answering = answering
        self._now_us = now_us
        self._is_rollback = False
        self._go_on_trial()

    def made(self, bundle: Bundle) -> Served:
        """Return a bundle ready to serve here. Raises BundleError where it cannot, and then nothing has changed."""
        window, wanted = bundle.manifest.window, self.serving.bundle.manifest.window
        if window != wanted:
            raise SchemaMismatch(
                f"bundle: {bundle.path}: windows of {window} flows, wanted {wanted} as in use: restart to take it"
            )
        return Served(bundle, self._engine_of(bundle))

    def offer(self, served: Served, *, at_once: bool = False, rollback: bool = False) -> None:
        """Try a bundle, then let it serve; `at_once`, or by an operator who goes back, without a trial."""
        if served.bundle.manifest_sha256 == self.serving.bundle.manifest_sha256:
            self.shadow = None
            self._store.settled()
            return
        if self.shadow is not None and not (at_once or rollback) and self.shadow.subject.bundle == served.bundle:
            return
        self._is_rollback = rollback
        trial = self._trial(self.serving, served)
        if at_once or rollback or trial.is_over:
            self.shadow = None
            self._take_over(served, on_trial=False)
        else:
            self.shadow = trial
            complain(f"bundle {_told(served.bundle)} is tried beside {_told(self.serving.bundle)}")

    def judged(self, batch: WindowBatch) -> None:
        """Let a bundle on trial see a batch, and decide where enough was seen."""
        trial = self.shadow or self.probation
        if trial is None or self._is_busy():
            return
        try:
            trial.see(batch)
        except BundleError as exc:
            self._end(trial, str(exc))
            return
        if trial.is_over:
            self._end(trial, trial.complaint())

    def failed(self, error: BundleError) -> None:
        """Take back the bundle that serves, since it gave what is no score. Raises the error where no other is left."""
        before = self.probation.reference if self.probation is not None else self._served_before()
        if before is None:
            raise error
        self._take_back(before, str(error))

    def refuse(self, what: str, reason: str) -> None:
        """Count and tell that something offered was turned away."""
        self.refused += 1
        self.last_refusal = reason
        complain(f"{what} is refused: {reason}; {_told(self.serving.bundle)} serves on")

    def look(self) -> None:
        """Take what the operator asked for in the store, if anything; also what an agent before this one had taken."""
        wish = self._store.wish()
        if wish is None:
            return
        try:
            bundle = self._store.load(wish.name)
            newest = self.serving.bundle.manifest.release
            if bundle.manifest.release < newest and not wish.rollback:
                raise BundleError(f"release {bundle.manifest.release}, wanted {newest} or later unless rolled back")
            made = self.made(bundle)
            if wish.rollback and bundle.manifest_sha256 != self.serving.bundle.manifest_sha256:
                self._store.refuse(name_of(self.serving.bundle), "an operator went back from it")
            self.offer(made, at_once=wish.at_once, rollback=wish.rollback)
        except PenstockError as exc:
            self._store.settled()
            self.refuse(f"bundle {wish.name}", str(exc))

    def _served_before(self) -> Served | None:
        """Return what served before, or the package's bundle; None where neither can serve now."""
        own = name_of(self.serving.bundle)
        for name in dict.fromkeys((self._store.standing.previous, PACKAGE)):
            if name != own:
                try:
                    return self.made(self._store.load(name))
                except BundleError as exc:
                    complain(exc)
        return None

    # -- inside -------------------------------------------------------------------------------------------------

    def _trial(self, reference: Served, subject: Served) -> Trial:
        made = Trial(reference, subject, self.shadow_windows)
        if self._answering is not None:
            made.answered = self._answering(reference)
        return made

    def _go_on_trial(self) -> None:
        """Let the bundle that serves go on with a trial that an end of the agent broke off: it begins anew."""
        standing = self._store.standing
        if standing.trial_starts is None or standing.active != name_of(self.serving.bundle):
            return
        before = self._served_before()
        if before is None:
            self._store.confirmed()
        else:
            self.probation = self._trial(before, self.serving)

    def _end(self, trial: Trial, complaint: str | None) -> None:
        is_shadow = trial is self.shadow
        if is_shadow:
            self.shadow = None
        else:
            self.probation = None
        if complaint is None and is_shadow:
            self._take_over(trial.subject, on_trial=True)
        elif complaint is None:
            self._store.confirmed()
            complain(f"bundle {_told(self.serving.bundle)} has passed its trial")
        elif is_shadow:
            self._store.refuse(name_of(trial.subject.bundle), complaint)
            self.refuse(f"bundle {_told(trial.subject.bundle)}", complaint)
        else:
            self._take_back(trial.reference, complaint)

    def _take_over(self, served: Served, *, on_trial: bool) -> None:
        before, self.serving = self.serving, served
        self._use(served)
        self.since_us = self._now_us()
        self.swaps += 1
        self.probation = self._trial(before, served) if on_trial else None
        self._store.activated(served.bundle, trial=on_trial, rollback=self._is_rollback)
        complain(f"bundle {_told(served.bundle)} serves in the place of {_told(before.bundle)}")

    def _take_back(self, before: Served, reason: str) -> None:
        failed, self.serving = self.serving, before
        self.probation = self.shadow = None
        self._use(before)
        self.since_us = self._now_us()
        self.rollbacks += 1
        self.last_refusal = reason
        self._store.taken_back(failed.bundle, reason=reason, to=before.bundle)
        complain(f"bundle {_told(failed.bundle)} is taken back: {reason}; {_told(before.bundle)} serves again")


def _told(bundle: Bundle) -> str:
    return f"{bundle.manifest.name} release {bundle.manifest.release}"
