"""Who did what to whom in one incident, in bounded memory.

A flood from a hundred thousand made-up addresses costs as much as one attacker: an address seen often stays, one seen
once makes room for the next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from detection.evidence import Sighting

MAX_ADDRESSES = 256
MAX_PAIRS = 64
MAX_FLOWS = 512

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Group = tuple[bytes, bytes, int, int]  # initiator, responder, responder's port, protocol


@dataclass(frozen=True)
class Parties:
    """Who attacks whom, as an alert says it; addresses are 16 bytes.

    Where no address made half of the evidence, `*_named` is false and the address is that of the newest record.
    `attackers` and `victims` count distinct addresses, up to MAX_ADDRESSES. `spoofable`: no flow of the attacker
    finished a handshake, so nothing proves that the address is its own; `severe`: one did, in a window above the
    second threshold. `flow` is the newest row of FLOW_META between the two.
    """

    attacker: bytes
    victim: bytes
    attacker_named: bool
    victim_named: bool
    attackers: int
    victims: int
    spoofable: bool
    severe: bool
    flow: np.void


@dataclass(frozen=True)
class _Meeting:
    """One record of the evidence, and who attacks whom in it."""

    attacker: bytes
    victim: bytes
    flow: np.void


@dataclass
class _Seen:
    """What was seen of one address at one end of the evidence."""

    newest: _Meeting
    records: int = 0
    handshake: bool = False
    severe: bool = False


class _End:
    """The addresses at one end of the evidence: attackers or victims."""

    def __init__(self) -> None:
        self.seen: dict[bytes, _Seen] = {}

    def add(self, address: bytes, meeting: _Meeting, *, severe: bool) -> None:
        if address not in self.seen:
            if len(self.seen) >= MAX_ADDRESSES:
                del self.seen[min(self.seen, key=lambda each: self.seen[each].records)]
            self.seen[address] = _Seen(meeting)
        seen = self.seen[address]
        seen.newest = meeting
        seen.records += 1
        # A handshake proves the address of who began the flow, not that of who answered.
        seen.handshake |= bool(meeting.flow["handshake"]) and bytes(meeting.flow["src"]) == address
        seen.severe |= severe

    def most(self, *, of: int) -> bytes | None:
        """Return the address of at least half of `of` records; None where there is none."""
        address = max(self.seen, key=lambda each: self.seen[each].records)
        return address if 2 * self.seen[address].records >= of else None


class Tally:
    """The evidence of one incident, added up."""

    def __init__(self) -> None:
        self.records = 0
        self.flows = 0
        self.first_us = 0
        self.last_us = 0
        self._attackers = _End()
        self._victims = _End()
        self._meetings: dict[tuple[bytes, bytes], _Meeting] = {}
        self._flow_ids: dict[int, None] = {}
        self._has_forgotten = False  # from then on only a flow's first record shows that the flow is new
        self._groups: dict[_Group, int] = {}
        self._device: bytes | None = None

    def add(self, sighting: Sighting) -> None:
        """Count the records of a sighting."""
        self._count_flows(sighting)
        for record, attacker, victim in zip(sighting.records, sighting.attackers, sighting.victims, strict=True):
            start_us, end_us = int(record["start_us"]), int(record["end_us"])
            self.first_us = min(self.first_us, start_us) if self.records else start_us
            self.last_us = max(self.last_us, end_us) if self.records else end_us
            self.records += 1
            meeting = _Meeting(attacker, victim, record)
            self._attackers.add(attacker, meeting, severe=sighting.severe)
            self._victims.add(victim, meeting, severe=sighting.severe)
            keep_newest(self._meetings, (attacker, victim), meeting, limit=MAX_PAIRS)

    def parties(self) -> Parties:
        """Return who attacks whom by all evidence so far; a sighting must have been added."""
        attacker, victim = self._attackers.most(of=self.records), self._victims.most(of=self.records)
        shown = self._newest(attacker, victim)
        source = self._attackers.seen.get(shown.attacker)
        is_two_way = source is not None and source.handshake
        return Parties(
            attacker=shown.attacker,
            victim=shown.victim,
            attacker_named=attacker is not None,
            victim_named=shown.victim == victim,
            attackers=len(self._attackers.seen),
            victims=len(self._victims.seen),
            spoofable=not is_two_way,
            severe=is_two_way and source is not None and source.severe,
            flow=shown.flow,
        )

    def _newest(self, attacker: bytes | None, victim: bytes | None) -> _Meeting:
        """Return the newest meeting of the ends named; of the attacker alone where the two never met."""
        if attacker is not None and victim is not None and (attacker, victim) in self._meetings:
            return self._meetings[attacker, victim]
        if attacker is not None:
            return self._attackers.seen[attacker].newest
        if victim is not None:
            return self._victims.seen[victim].newest
        return next(reversed(self._meetings.values()))

    def _count_flows(self, sighting: Sighting) -> None:
        """Count flows not seen before, and those of a flood that passed between two windows, folded into one row.

        The folded ones are what a group grew by since its last window. They count in one device's windows only: the
        other end's windows tell of the same flows.
        """
        self._device = self._device or sighting.device
        unseen: Counter[_Group] = Counter()
        grown: dict[_Group, int] = {}
        for record, group_flows in zip(sighting.records, sighting.group_flows.tolist(), strict=True):
            group = (bytes(record["src"]), bytes(record["dst"]), int(record["dst_port"]), int(record["proto"]))
            flow_id = int(record["flow_id"])
            unseen[group] += flow_id not in self._flow_ids and (not self._has_forgotten or int(record["segment"]) == 0)
            self._has_forgotten |= keep_newest(self._flow_ids, flow_id, None, limit=MAX_FLOWS)
            if sighting.device == self._device:
                grown[group] = group_flows - self._groups.get(group, group_flows)
                keep_newest(self._groups, group, group_flows, limit=MAX_PAIRS)
        self.flows += sum(max(count, grown.get(group, 0)) for group, count in unseen.items())


def keep_newest(kept: dict[_Key, _Value], key: _Key, value: _Value, *, limit: int) -> bool:
    """Put an entry at the end of a dict; return whether the first had to go because there were more than `limit`."""
    kept.pop(key, None)
    kept[key] = value
    is_full = len(kept) > limit
    if is_full:
        del kept[next(iter(kept))]
    return is_full
