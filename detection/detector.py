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
from detection.decide import Detection, Thresholds
from detection.engine import Engine, Scores
from detection.evidence import Evidence, find_evidence, sightings
from detection.explain import Explainer
from detection.incidents import Explain, Explained, Incidents, IncidentUpdate, SeverityRule
from detection.rules import MacOf, Rules, Suppressor
from detection.snapshot import Snapshot
from detection.sustained import Sustained, score_alone
from detection.usual import Usual
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
        self._suppressor = Suppressor(rules or Rules(), manifest_sha256=bundle.manifest_sha256, mac_of=mac_of)
        self._calibrator: Calibrator | None = None
        self._observer = observer
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
        return self._suppressor.muted

    @property
    def known_benign(self) -> int:
        """Return how many sightings looked like what was marked benign."""
        return self._suppressor.known_benign

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
        self._engine, self._shipped, self._explainer = engine, shipped, explainer
        self._sustained = Sustained(bundle.manifest.sustained, shipped)
        self._manifest = bundle.manifest
        self._suppressor.use(bundle.manifest_sha256)
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
            for _, device in rules.answered - self._suppressor.rules.answered:
                self._sustained.calm(device)
            self._suppressor.change(rules)
        if not isinstance(calibrator, _Unchanged):
            self._calibrator = calibrator
        if self._calibrator is not None:
            self._calibrator.judge(self._suppressor.rules.verdicts)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address (16 octets each) keep its incidents and what is held of it."""
        self._incidents.moved(old, new)
        for each in (self._sustained, self._usual, self._calibrator, self._observer):
            if each is not None:
                each.moved(old, new)

    def add(self, batch: WindowBatch) -> list[IncidentUpdate]:
        """Score a batch and return the messages due, in order of time. Windows must come in order of their ticks."""
        alone = self._engine.score(batch.values, batch.mask)
        scores = self._sustained.told(batch, alone)
        self.judged = scores
        detections = self.thresholds.detections(scores)
        found = find_evidence(self._engine, batch, detections)
        self.windows += len(batch.due_us)
        self.detections += len(detections)
        if self._calibrator is not None:
            self._calibrator.observe(batch, scores)
        if self._observer is not None:
            self._show(self._observer, batch, scores, detections)
        if self._usual is not None:
            self._usual.observe(batch, left_out={detection.row for detection in detections})
        updates = []
        for detection, evidence in zip(detections, found, strict=True):
            updates += self._told(self._incidents.advance(int(batch.due_us[detection.row])))
            own = None if scores is alone else score_alone(alone, detection)
            is_told, known = False, self._suppressor.known_benign
            for whole in sightings(batch, detection, evidence, home=self._rule.home, own_score=own):
                sighting = self._suppressor.left_of(whole)
                if sighting is not None:
                    is_told = True
                    explain = self._explanation(batch, scores, detection, evidence)
                    updates += self._told(self._incidents.add(sighting, explain))
                elif self._calibrator is not None:
                    self._calibrator.set_aside(whole.device, whole.due_us)
            if not is_told and self._suppressor.known_benign > known:
                self._sustained.calm(batch.device[detection.row].tobytes())
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

    def _show(self, observer: Observer, batch: WindowBatch, scores: Scores, detections: list[Detection]) -> None:
        margins = self._shipped.margins(scores)
        class_index = np.full(len(batch), BENIGN, np.int64)
        class_index[[each.row for each in detections]] = [each.class_index for each in detections]
        observer.observe(batch, np.maximum(margins.known, margins.unknown), class_index)

    def _explanation(self, batch: WindowBatch, scores: Scores, detection: Detection, evidence: Evidence) -> Explain:
        """Return what explains a detection, if anyone asks: it costs as much as a hundred windows."""
        row = detection.row
        explainer = self._explainer

        def explain() -> Explained:
            snapshot = self._snapshot(batch, scores, row, evidence)
            try:
                columns = explainer.top_columns(batch.values[row], batch.mask[row], class_index=detection.class_index)
            except BundleError:  # half of the batch is counted by now; the next one will say it again
                columns = ()
            return Explained(columns, snapshot)

        return explain

    def _snapshot(self, batch: WindowBatch, scores: Scores, row: int, evidence: Evidence) -> Snapshot:
        """Return copies: a view would keep the whole batch alive."""
        held, manifest = batch.mask[row] > 0, self._manifest
        device = batch.device[row].tobytes()
        return Snapshot(
            device=device,
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
            usual=None if self._usual is None else self._usual.of(device),
        )
