"""Windows to incidents: engine, thresholds, evidence, incidents, explanation, in this order.

The one object the agent and `training.evaluate` share. Its clock is the end of the tick of the windows it is given.
"""

from __future__ import annotations

from collections.abc import Iterable

from contracts.bundle import Bundle
from detection.decide import Detection, Thresholds
from detection.engine import Engine
from detection.evidence import find_evidence, sightings
from detection.explain import Explainer
from detection.incidents import Explain, Incidents, IncidentUpdate, SeverityRule
from flowfeatures import DEFAULT_HOME_NETS, HomeNets, WindowBatch


class Detector:
    """Score windows and keep their incidents.

    `home_nets` and `never_ban` are CIDRs or addresses; an incident closes `incident_quiet_s` after its last detection.
    `id_salt` (the gateway's name, say) goes into every incident's and alert's id. Raises ValueError for a text that is
    no network.
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
    ) -> None:
        self._engine = engine
        self._thresholds = Thresholds(bundle.manifest.thresholds)
        self._explainer = Explainer(engine, bundle.manifest.benign_medians)
        self._home = HomeNets(home_nets)
        rule = SeverityRule(home=self._home, never_ban=HomeNets(never_ban))
        self._incidents = Incidents(rule=rule, quiet_s=incident_quiet_s, salt=id_salt)
        self.windows = 0
        self.detections = 0

    @property
    def incidents(self) -> list[IncidentUpdate]:
        """Return every incident still remembered as it stands now, in the order they opened."""
        return self._incidents.all()

    @property
    def opened(self) -> int:
        """Return how many incidents were opened."""
        return self._incidents.opened

    def add(self, batch: WindowBatch) -> list[IncidentUpdate]:
        """Score a batch and return the messages due, in order of time. Windows must come in order of their ticks."""
        self.windows += len(batch.due_us)
        detections = self._thresholds.detections(self._engine.score(batch.values, batch.mask))
        self.detections += len(detections)
        updates = []
        for detection, evidence in zip(detections, find_evidence(self._engine, batch, detections), strict=True):
            updates += self._incidents.advance(int(batch.due_us[detection.row]))
            for sighting in sightings(batch, detection, evidence, home=self._home):
                explain = self._explanation(batch, detection)
                updates += self._incidents.add(sighting, explain)
        return updates + self.advance(int(batch.due_us[-1]))

    def advance(self, now_us: int) -> list[IncidentUpdate]:
        """Return the messages due up to a time at which every window before it has been added."""
        return self._incidents.advance(now_us)

    def close(self) -> list[IncidentUpdate]:
        """Close all incidents, because the input ended, and return their last messages."""
        return self._incidents.close("end of input")

    def _explanation(self, batch: WindowBatch, detection: Detection) -> Explain:
        """Return what explains a detection, if anyone asks: it costs as much as a hundred windows."""
        row = detection.row
        return lambda: self._explainer.top_columns(
            batch.values[row], batch.mask[row], class_index=detection.class_index
        )
