"""Windows to incidents: engine, lasting suspicion, thresholds, evidence, rules, incidents, explanation, in this order.

The one object the agent and `training.evaluate` share. Its clock is the end of the tick of the windows it is given.
Without a calibrator the bundle's thresholds hold, without rules every detection counts: so a replay says the same
wherever it runs. Whatever the engine raises, it raises before anything of the batch was counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from contracts.classes import BENIGN, CLASSES
from contracts.errors import BundleError
from detection.calibration import Calibrator
from detection.decide import Thresholds
from detection.engine import Engine, Scores
from detection.explain import Explainer
from detection.incidents import Explain, Explained, Incidents, IncidentUpdate, SeverityRule
from detection.judge import Found, Judge
from detection.renewal import renewed_rules
from detection.rules import MacOf, Rules, Suppressor
from detection.snapshot import Snapshot
from detection.usual import Usual, UsualRange
from flowfeatures import DEFAULT_HOME_NETS, HomeNets, WindowBatch

UNIFORM: Final = "uniform"
"""What a manifest calls the attention of a network that has none."""


class _Unchanged:
    """Stands for an argument that was not given, where None means something."""


UNCHANGED = _Unchanged()


class Observer(Protocol):
    """Who looks on while windows are judged, to learn from them later. Must be quick."""

    def observe(self, batch: WindowBatch, margins: NDArray[np.float64], class_index: NDArray[np.int64]) -> None:
        """Take how far each window is above its shipped threshold, and the class of those detected, else BENIGN."""

    def incident(self, update: IncidentUpdate) -> None:
        """Take what an incident says."""

    def moved(self, old: bytes, new: bytes) -> None:
        """Take that a device changed its address."""


class Detector:
    """Score windows and keep their incidents.

    `home_nets` and `never_ban` are CIDRs or addresses; an incident closes `incident_quiet_s` after its last detection.
    `id_salt` (the gateway's name, say) goes into every incident's and alert's id. `mac_of` gives the MAC of an address
    as text, for rules that name one. With `usual`, incidents say what their device does otherwise; it decides nothing.
    Raises ValueError for a text that is no network.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        never_ban: Iterable[str] = (),
        home_nets: Iterable[str] = DEFAULT_HOME_NETS,
        incident_quiet_s: float = 300.0,
        id_salt: str = "",
        calibrator: Calibrator | None = None,
        rules: Rules | None = None,
        mac_of: MacOf | None = None,
        observer: Observer | None = None,
        usual: Usual | None = None,
    ) -> None:
        self._usual = usual
        self._rule = SeverityRule(home=HomeNets(home_nets), never_ban=HomeNets(never_ban))
        self._incidents = Incidents(rule=self._rule, quiet_s=incident_quiet_s, salt=id_salt)
        suppressor = Suppressor(rules or Rules(), manifest_sha256=bundle.manifest_sha256, mac_of=mac_of)
        self._judge = Judge(bundle, engine, suppressor=suppressor)
        self._calibrator: Calibrator | None = None
        self._observer = observer
        self._whole: dict[str, IncidentUpdate] = {}  # incidents that rules closed; the file may not know them whole yet
        self.judged = Scores(*[np.zeros(0, np.float32)] * 4)
        """What the last batch was judged by."""
        self.windows = 0
        self.detections = 0
        self.opened_by_class = [0] * len(CLASSES)
        self.use(bundle, engine)
        self.change(calibrator=calibrator)

    @property
    def incidents(self) -> list[IncidentUpdate]:
        """Return every incident still remembered as it stands now, in the order they opened."""
        return self._incidents.all()

    @property
    def opened(self) -> int:
        """Return how many incidents were opened."""
        return self._incidents.opened

    @property
    def open_incidents(self) -> int:
        """Return how many incidents are open."""
        return self._incidents.open

    @property
    def muted(self) -> int:
        """Return how many sightings a mute kept from incidents."""
        return self._judge.suppressor.muted

    @property
    def known_benign(self) -> int:
        """Return how many sightings looked like what was marked benign."""
        return self._judge.suppressor.known_benign

    @property
    def home(self) -> HomeNets:
        """Return the networks whose devices are home's."""
        return self._rule.home

    @property
    def thresholds(self) -> Thresholds:
        """Return the thresholds in force."""
        return self._shipped if self._calibrator is None else self._calibrator.thresholds

    def use(self, bundle: Bundle, engine: Engine) -> None:
        """Judge by another bundle from the next batch on: incidents and rules stay, a calibrator is its bundle's own.

        Raises before anything has changed.
        """
        shipped = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
        explainer = Explainer(engine, bundle.manifest.benign_medians, score=bundle.manifest.score)
        self._shipped, self._explainer, self._manifest = shipped, explainer, bundle.manifest
        self._judge.use(bundle, engine)
        self._calibrator = None

    def change(
        self,
        *,
        never_ban: Iterable[str] | _Unchanged = UNCHANGED,
        home_nets: Iterable[str] | _Unchanged = UNCHANGED,
        incident_quiet_s: float | _Unchanged = UNCHANGED,
        calibrator: Calibrator | _Unchanged | None = UNCHANGED,
        rules: Rules | _Unchanged = UNCHANGED,
    ) -> None:
        """Go by other settings from the next batch on. Raises ValueError before anything has changed."""
        home = self._rule.home if isinstance(home_nets, _Unchanged) else HomeNets(home_nets)
        never = self._rule.never_ban if isinstance(never_ban, _Unchanged) else HomeNets(never_ban)
        self._rule = SeverityRule(home=home, never_ban=never)
        self._incidents.change(
            rule=self._rule, quiet_s=None if isinstance(incident_quiet_s, _Unchanged) else incident_quiet_s
        )
        if not isinstance(rules, _Unchanged):
            self._whole |= self._incidents.dismiss(rules.dismissed_us)
            marked = {each.incident_id for each in rules.state.benign}
            self._whole = {name: update for name, update in self._whole.items() if name in marked}
            self._judge.change(renewed_rules(rules, self._whole))
        if not isinstance(calibrator, _Unchanged):
            self._calibrator = calibrator
        if self._calibrator is not None:
            self._calibrator.judge(self._judge.suppressor.rules.verdicts)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address (16 octets each) keep its incidents and what is held of it."""
        self._incidents.moved(old, new)
        for each in (self._judge, self._usual, self._calibrator, self._observer):
            if each is not None:
                each.moved(old, new)

    def add(self, batch: WindowBatch) -> list[IncidentUpdate]:
        """Score a batch and return the messages due, in order of time. Windows must come in order of their ticks."""
        scores, found = self._judge.judged(batch, thresholds=self.thresholds, home=self._rule.home)
        self.judged = scores
        self.windows += len(batch.due_us)
        self.detections += len(found)
        if self._calibrator is not None:
            self._calibrator.observe(batch, scores)
        if self._observer is not None:
            self._show(self._observer, batch, scores, found)
        usual = _UsualSoFar(self._usual, batch, found=found)
        updates = []
        for each in found:
            updates += self._told(self._incidents.advance(int(batch.due_us[each.detection.row])))
            for whole, left in each.sightings:
                if left is not None:
                    updates += self._told(self._incidents.add(left, self._explanation(batch, scores, each, usual)))
                elif self._calibrator is not None:
                    self._calibrator.set_aside(whole.device, whole.due_us)
        usual.observe(len(batch))
        return updates + self.advance(int(batch.due_us[-1]))

    def advance(self, now_us: int) -> list[IncidentUpdate]:
        """Return the messages due up to a time at which every window before it has been added."""
        updates = self._told(self._incidents.advance(now_us))
        if self._calibrator is not None:
            self._calibrator.advance(now_us)
        return updates

    def close(self) -> list[IncidentUpdate]:
        """Close all incidents, because the input ended, and return their last messages."""
        return self._told(self._incidents.close("end of input"))

    def _told(self, updates: list[IncidentUpdate]) -> list[IncidentUpdate]:
        """Let the calibrator and who looks on know what incidents say."""
        for update in updates:
            self.opened_by_class[update.class_index] += update.update == 0
            for each in (self._calibrator, self._observer):
                if each is not None:
                    each.incident(update)
        return updates

    def _show(self, observer: Observer, batch: WindowBatch, scores: Scores, found: list[Found]) -> None:
        margins = self._shipped.margins(scores)
        class_index = np.full(len(batch), BENIGN, np.int64)
        class_index[[each.detection.row for each in found]] = [each.detection.class_index for each in found]
        observer.observe(batch, np.maximum(margins.known, margins.unknown), class_index)

    def _explanation(self, batch: WindowBatch, scores: Scores, found: Found, usual: _UsualSoFar) -> Explain:
        """Return what explains a detection, if anyone asks: it costs as much as a hundred windows."""
        row, class_index = found.detection.row, found.detection.class_index
        explainer = self._explainer

        def explain() -> Explained:
            snapshot = self._snapshot(batch, scores, found, usual.of(row))
            try:
                columns = explainer.top_columns(batch.values[row], batch.mask[row], class_index=class_index)
            except BundleError:  # half of the batch is counted by now; the next one will say it again
                columns = ()
            return Explained(columns, snapshot)

        return explain

    def _snapshot(self, batch: WindowBatch, scores: Scores, found: Found, usual: UsualRange | None) -> Snapshot:
        """Return copies: a view would keep the whole batch alive."""
        row, evidence, manifest = found.detection.row, found.evidence, self._manifest
        held = batch.mask[row] > 0
        return Snapshot(
            device=batch.device[row].tobytes(),
            due_us=int(batch.due_us[row]),
            bundle=f"{manifest.name} release {manifest.release}",
            values=batch.values[row][held],
            attention=None if manifest.attention == UNIFORM else scores.attention[row][held],
            alone=evidence.alone[held],
            made_it=evidence.made_it[held],
            is_new=batch.is_new[row][held] > 0,
            repeats=batch.repeats[row][held],
            flows=batch.flows[row][held],
            medians=np.asarray(manifest.benign_medians, np.float32),
            usual=usual,
        )


class _UsualSoFar:
    """What is usual as a batch goes by: an explanation knows of no window that came after it."""

    def __init__(self, usual: Usual | None, batch: WindowBatch, *, found: list[Found]) -> None:
        self._usual, self._batch, self._at = usual, batch, 0
        self._left_out = {each.detection.row for each in found}

    def of(self, row: int) -> UsualRange | None:
        """Return the usual range of a window's device, with all windows up to this one."""
        self.observe(row + 1)
        return None if self._usual is None else self._usual.of(self._batch.device[row].tobytes())

    def observe(self, end: int) -> None:
        """Take the windows before a row that were not taken yet."""
        if self._usual is not None and end > self._at:
            rows = slice(self._at, end)
            self._usual.observe(self._batch.rows(rows), left_out={row - self._at for row in self._left_out})
            self._at = end
