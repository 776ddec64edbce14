"""Detections to incidents: one device and one class until it has been quiet for some time (docs/architecture.md).

An incident speaks when it opens, 10 s, 1 min and 10 min later, when its severity rises and when it closes; never
once per detection. It closes when it was quiet for long enough, or called benign: what comes after that opens another.
Time is the time of the windows, so that a replay says the same at any speed. Memory is bounded: beyond MAX_OPEN
incidents the one quiet for longest closes, beyond MAX_CLOSED the oldest closed one is forgotten.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from contracts.alert import derived_uuid7
from contracts.classes import CLASSES
from detection.evidence import Sighting
from detection.explain import ColumnFall
from detection.prints import Print, Prints
from detection.snapshot import Snapshot
from detection.suspicion import Suspicions
from detection.tally import Parties, Tally, keep_newest
from flowfeatures import HomeNets

SECOND_US = 1_000_000
UPDATES_AFTER_S = (10, 60, 600)
MAX_OPEN = 1024
MAX_CLOSED = 10_000
MAX_FLOWS = 16_384  # whose incidents are remembered
CLOCK_RESET_US = 60 * SECOND_US  # windows come in order; a larger step back is another capture or a clock set back
EARNED_SEVERITY = 1
CLOSED = "closed: "
CALLED_BENIGN = CLOSED + "called benign"

_Key = tuple[bytes, int]  # owner, class index


class Explained(NamedTuple):
    """Why an incident opened: the columns its score fell most without, and the window it was seen in."""

    columns: tuple[ColumnFall, ...] = ()
    snapshot: Snapshot | None = None


Explain = Callable[[], Explained]


@dataclass(frozen=True, kw_only=True, eq=False)
class IncidentUpdate:
    """An incident as it stood when it spoke; an alert is made of it.

    `device` is the owner (16 address bytes), `update` counts the messages from 0, `reason` says why it spoke. Times
    are packet times: `opened_us` of the window that opened it, `at_us` of this message, `first_us` and `last_us` of
    its flows. `inside` (the attacker is a home device) and so `signature_id` are those of the opening message. `prints`
    tell its evidence apart from other behaviour (`detection.prints`); `snapshot` comes with the first message only.
    """

    incident_id: str
    alert_id: str
    update: int
    reason: str
    device: bytes
    class_index: int
    opened_us: int
    at_us: int
    first_us: int
    last_us: int
    flows: int
    detections: int
    score: float
    threshold: float
    severity: int
    inside: bool
    parties: Parties
    columns: tuple[ColumnFall, ...]
    prints: tuple[Print, ...] = ()
    snapshot: Snapshot | None = None

    @property
    def closed(self) -> bool:
        """Return whether this is the incident's last message."""
        return self.reason.startswith(CLOSED)

    @property
    def class_name(self) -> str:
        return CLASSES[self.class_index].name

    @property
    def signature_id(self) -> int:
        return CLASSES[self.class_index].signature_id(inside=self.inside)


@dataclass(frozen=True)
class SeverityRule:
    """When severity 1 is earned: a consumer may ban the source of such an alert without asking (decision 0012).

    The source is one address, finished a handshake in a window above the second threshold, is no home device and not
    in `never_ban`.
    """

    home: HomeNets
    never_ban: HomeNets

    def severity(self, class_index: int, parties: Parties) -> int:
        """Return 1 where it is earned, else the class's own severity (2, or 3 for unknown behaviour)."""
        source = parties.attacker
        earned = parties.attacker_named and parties.severe and not parties.spoofable
        default = CLASSES[class_index].severity
        if default == 2 and earned and source not in self.home and source not in self.never_ban:
            return EARNED_SEVERITY
        return default


class _Incident:
    """An open incident."""

    def __init__(
        self,
        sightings: Sequence[Sighting],
        *,
        number: int,
        name: str,
        rule: SeverityRule,
        columns: tuple[ColumnFall, ...],
    ) -> None:
        sighting = sightings[-1]
        self.number = number
        self.name = name
        self.device = sighting.owner
        self.class_index = sighting.class_index
        self.opened_us = self.last_detection_us = sighting.due_us
        self.score = 0.0
        self.threshold = sighting.threshold
        self.detections = 0
        self.columns = columns
        self.messages = 0
        self.dismissed_us: int | None = None
        self.updates_due_us = [self.opened_us + after_s * SECOND_US for after_s in UPDATES_AFTER_S]
        self.tally = Tally()
        self.prints = Prints()
        self._rule = rule
        for each in sightings:
            self.add(each)
        parties = self.tally.parties()
        self.inside = parties.attacker_named and parties.attacker in rule.home
        self.severity_said = self.severity(parties)

    def add(self, sighting: Sighting) -> None:
        self.tally.add(sighting)
        self.prints.add(sighting)
        self.last_detection_us = sighting.due_us
        self.score = max(self.score, sighting.score)
        self.detections += 1

    def obey(self, rule: SeverityRule) -> None:
        """Earn severity by another rule from now on; what was said stays said."""
        self._rule = rule

    def severity(self, parties: Parties) -> int:
        """Return what a message would say now; an incident that began as a home device's own never asks for a ban."""
        return CLASSES[self.class_index].severity if self.inside else self._rule.severity(self.class_index, parties)

    def view(self, reason: str, *, at_us: int) -> IncidentUpdate:
        """Return the incident as it stands, under the number of its next message."""
        parties = self.tally.parties()
        return IncidentUpdate(
            incident_id=self.name,
            alert_id=derived_uuid7(at_us, self.name, self.messages),
            update=self.messages,
            reason=reason,
            device=self.device,
            class_index=self.class_index,
            opened_us=self.opened_us,
            at_us=at_us,
            first_us=self.tally.first_us,
            last_us=self.tally.last_us,
            flows=self.tally.flows,
            detections=self.detections,
            score=self.score,
            threshold=self.threshold,
            severity=self.severity(parties),
            inside=self.inside,
            parties=parties,
            columns=self.columns,
            prints=self.prints.all(),
        )

    def speak(self, reason: str, *, at_us: int) -> IncidentUpdate:
        update = self.view(reason, at_us=at_us)
        self.messages += 1
        self.severity_said = update.severity
        return update


class Incidents:
    """All incidents of one agent.

    `salt` goes into every id: two gateways that see the same packets must not give the same names. Nothing here takes
    longer with the number of open incidents, for a storm of them is an attack of its own.
    """

    def __init__(self, *, rule: SeverityRule, quiet_s: float, salt: str = "") -> None:
        self._rule = rule
        self._quiet_us = round(quiet_s * SECOND_US)
        self._salt = salt
        self._open: dict[_Key, _Incident] = {}  # the one quiet for longest first
        self._closed: deque[IncidentUpdate] = deque(maxlen=MAX_CLOSED)
        self._speaks: list[tuple[int, int, _Key]] = []  # a heap: when an incident speaks at the earliest, its number
        self._of_flow: dict[tuple[int, int], _Key] = {}  # class and flow id of late evidence, and whose it was
        self._suspicions = Suspicions(quiet_us=self._quiet_us)
        self._now_us = 0
        self.opened = 0

    @property
    def open(self) -> int:
        """Return how many incidents are open."""
        return len(self._open)

    def change(self, *, rule: SeverityRule | None = None, quiet_s: float | None = None) -> None:
        """Judge from now on by another rule, or another time of quiet; open incidents close after the new time too."""
        if rule is not None:
            self._rule = rule
            for incident in self._open.values():
                incident.obey(rule)
        if quiet_s is not None:
            self._quiet_us = round(quiet_s * SECOND_US)
            self._suspicions.change(quiet_us=self._quiet_us)
            for key in self._open:
                self._schedule(key)

    def dismiss(self, said_us: Mapping[str, int]) -> dict[str, IncidentUpdate]:
        """Close the incidents of these ids: they were called benign, at these times, and say no more than that.

        Return them as they stand. What was seen before that time and comes only now is still theirs; no rule answers
        for it.
        """
        found = {}
        for key, incident in self._open.items():
            if incident.name in said_us and incident.dismissed_us is None:
                incident.dismissed_us = max(self._now_us, incident.last_detection_us, said_us[incident.name])
                self._schedule(key)
                found[incident.name] = incident.view("", at_us=self._now_us)
        return found

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address keep its incidents, but one of a class that it has there already."""
        self._suspicions.moved(old, new)
        keys = {key: (new, key[1]) for key in self._open if key[0] == old and (new, key[1]) not in self._open}
        if not keys:
            return
        self._open = {keys.get(key, key): incident for key, incident in self._open.items()}
        self._of_flow = {flow: keys.get(key, key) for flow, key in self._of_flow.items()}
        for key in keys.values():
            self._open[key].device = new
            self._schedule(key)

    def all(self) -> list[IncidentUpdate]:
        """Return every incident still remembered as it stands now, by the time it opened."""
        now = [incident.view("", at_us=self._now_us) for incident in self._open.values()]
        return sorted([*self._closed, *now], key=lambda update: (update.opened_us, update.incident_id))

    def advance(self, now_us: int) -> list[IncidentUpdate]:
        """Return what is due up to a time, in order of time; windows of that time may follow."""
        if now_us < self._now_us - CLOCK_RESET_US:
            updates = self.close("clock set back")
            self._suspicions.clear()
            self._now_us = now_us
            return updates
        self._now_us = max(self._now_us, now_us)
        updates = []
        while self._speaks and self._speaks[0][0] <= now_us:
            due_us, number, key = heapq.heappop(self._speaks)
            if not self._is_open(key, number=number):
                continue  # closed for another reason
            if self._due_us(self._open[key]) == due_us:  # else a detection came since, which can only postpone
                updates.append(self._speak_as_due(key, due_us))
            if key in self._open:
                self._schedule(key)
        return updates

    def add(self, sighting: Sighting, explain: Explain) -> list[IncidentUpdate]:
        """Count a sighting; return the messages it causes. `explain` is called only where an incident opens."""
        key = self._key_of(sighting)
        if key not in self._open:
            enough = self._suspicions.add(key, sighting)
            return self._open_new(key, enough, explain()) if enough else []
        incident = self._open[key] = self._open.pop(key)  # to the end: it is the least quiet
        incident.add(sighting)
        self._remember_flows(key, sighting)
        if incident.severity(incident.tally.parties()) < incident.severity_said:
            return [incident.speak("severity", at_us=sighting.due_us)]
        return []

    def close(self, reason: str) -> list[IncidentUpdate]:
        """Close every open incident, in the order they opened, and return their last messages."""
        in_order = sorted(self._open, key=lambda key: self._open[key].number)
        return [self._close(key, reason, at_us=self._now_us) for key in in_order]

    def _key_of(self, sighting: Sighting) -> _Key:
        """Return the key of the open incident the sighting belongs to, or of the one it opens.

        A flow between two home devices is seen in both their windows; where one of them could not name the attacker,
        the flow itself says that it is the same attack.
        """
        own = (sighting.owner, sighting.class_index)
        if own in self._open:
            return own
        known = (self._of_flow.get((sighting.class_index, each)) for each in sighting.records["flow_id"].tolist())
        return next((key for key in known if key in self._open), own)

    def _open_new(self, key: _Key, sightings: Sequence[Sighting], explained: Explained) -> list[IncidentUpdate]:
        now_us = sightings[-1].due_us
        updates = []
        if len(self._open) >= MAX_OPEN:
            updates.append(self._close(next(iter(self._open)), "too many open", at_us=now_us))
        owner, class_index = key
        name = derived_uuid7(now_us, self._salt, self.opened, owner.hex(), class_index)
        incident = _Incident(sightings, number=self.opened, name=name, rule=self._rule, columns=explained.columns)
        self.opened += 1
        self._open[key] = incident
        self._schedule(key)
        for sighting in sightings:
            self._remember_flows(key, sighting)
        return [*updates, replace(incident.speak("opened", at_us=now_us), snapshot=explained.snapshot)]

    def _remember_flows(self, key: _Key, sighting: Sighting) -> None:
        for flow_id in sighting.records["flow_id"].tolist():
            keep_newest(self._of_flow, (sighting.class_index, flow_id), key, limit=MAX_FLOWS)

    def _due_us(self, incident: _Incident) -> int:
        """Return when an incident speaks next if nothing more is seen of it."""
        if incident.dismissed_us is not None:
            return incident.dismissed_us
        return min([*incident.updates_due_us, incident.last_detection_us + self._quiet_us])

    def _schedule(self, key: _Key) -> None:
        incident = self._open[key]
        heapq.heappush(self._speaks, (self._due_us(incident), incident.number, key))
        if len(self._speaks) > 2 * MAX_OPEN:  # most are of incidents that closed before their time
            self._speaks = [each for each in self._speaks if self._is_open(each[2], number=each[1])]
            heapq.heapify(self._speaks)

    def _is_open(self, key: _Key, *, number: int) -> bool:
        return key in self._open and self._open[key].number == number

    def _speak_as_due(self, key: _Key, due_us: int) -> IncidentUpdate:
        incident = self._open[key]
        if incident.dismissed_us is not None:
            return self._close(key, CALLED_BENIGN.removeprefix(CLOSED), at_us=due_us)
        if due_us not in incident.updates_due_us:
            return self._close(key, "quiet", at_us=due_us)
        incident.updates_due_us.remove(due_us)
        return incident.speak(f"after {(due_us - incident.opened_us) // SECOND_US} s", at_us=due_us)

    def _close(self, key: _Key, reason: str, *, at_us: int) -> IncidentUpdate:
        last = self._open.pop(key).speak(CLOSED + reason, at_us=at_us)
        self._closed.append(replace(last, prints=()))  # ten thousand of them are remembered
        return last
