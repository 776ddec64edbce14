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


@dataclass
class _Seen:
    """What was seen of one address at one end of the evidence."""

    newest: np.void
    records: int = 0
    handshake: bool = False
    severe: bool = False


class _End:
    """The addresses at one end of the evidence (`src` or `dst`)."""

    def __init__(self, field: str) -> None:
        self._field = field
        self.seen: dict[bytes, _Seen] = {}

    def add(self, record: np.void, *, severe: bool) -> bytes:
        address = bytes(record[self._field])
        if address not in self.seen:
            if len(self.seen) >= MAX_ADDRESSES:
                del self.seen[min(self.seen, key=lambda each: self.seen[each].records)]
            self.seen[address] = _Seen(record)
        seen = self.seen[address]
        seen.newest = record
        seen.records += 1
        seen.handshake |= bool(record["handshake"])
        seen.severe |= severe
        return address

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
        self._sources = _End("src")
        self._targets = _End("dst")
        self._pairs: dict[tuple[bytes, bytes], np.void] = {}
        self._flow_ids: dict[int, None] = {}
        self._has_forgotten = False  # from then on only a flow's first record shows that the flow is new
        self._groups: dict[_Group, int] = {}
        self._device: bytes | None = None

    def add(self, sighting: Sighting) -> None:
        """Count the records of a sighting."""
        self._count_flows(sighting)
        for record in sighting.records:
            start_us, end_us = int(record["start_us"]), int(record["end_us"])
            self.first_us = min(self.first_us, start_us) if self.records else start_us
            self.last_us = max(self.last_us, end_us) if self.records else end_us
            self.records += 1
            source = self._sources.add(record, severe=sighting.severe)
            target = self._targets.add(record, severe=sighting.severe)
            _keep_newest(self._pairs, (source, target), record, limit=MAX_PAIRS)

    def knows_flow_of(self, sighting: Sighting) -> bool:
        """Return whether a flow of the sighting is among the last MAX_FLOWS counted here."""
        return any(flow_id in self._flow_ids for flow_id in sighting.records["flow_id"].tolist())

    def parties(self) -> Parties:
        """Return who attacks whom by all evidence so far; a sighting must have been added."""
        attacker, victim = self._sources.most(of=self.records), self._targets.most(of=self.records)
        flow = self._newest(attacker, victim)
        source = self._sources.seen[bytes(flow["src"])]
        return Parties(
            attacker=bytes(flow["src"]),
            victim=bytes(flow["dst"]),
            attacker_named=attacker is not None,
            victim_named=victim is not None and victim == bytes(flow["dst"]),
            attackers=len(self._sources.seen),
            victims=len(self._targets.seen),
            spoofable=not source.handshake,
            severe=source.handshake and source.severe,
            flow=flow,
        )

    def _newest(self, attacker: bytes | None, victim: bytes | None) -> np.void:
        """Return the newest record between the named ends; of the attacker alone where the two never met."""
        if attacker is not None and victim is not None and (attacker, victim) in self._pairs:
            return self._pairs[attacker, victim]
        if attacker is not None:
            return self._sources.seen[attacker].newest
        if victim is not None:
            return self._targets.seen[victim].newest
        return next(reversed(self._pairs.values()))

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
            unseen[group] += flow_id not in self._flow_ids and (not self._has_forgotten or record["segment"] == 0)
            self._has_forgotten |= _keep_newest(self._flow_ids, flow_id, None, limit=MAX_FLOWS)
            if sighting.device == self._device:
                grown[group] = group_flows - self._groups.get(group, group_flows)
                _keep_newest(self._groups, group, group_flows, limit=MAX_PAIRS)
        self.flows += sum(max(count, grown.get(group, 0)) for group, count in unseen.items())


def _keep_newest(kept: dict[_Key, _Value], key: _Key, value: _Value, *, limit: int) -> bool:
    """Put an entry at the end of a dict; return whether the first had to go because there were more than `limit`."""
    kept.pop(key, None)
    kept[key] = value
    is_full = len(kept) > limit
    if is_full:
        del kept[next(iter(kept))]
    return is_full
