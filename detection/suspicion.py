"""What must repeat itself before it is an incident: one login is no password guessing, even a mistyped one.

Sightings of such a class are held back until they tell of enough different flows; a flow that is seen again and again
(its partial records) counts once. Memory is bounded: beyond MAX_SUSPICIONS the one quiet for longest is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from contracts.classes import NAMES
from detection.evidence import Sighting
from detection.tally import keep_newest

# Decision 0015: on 72 recordings of the lab, false incidents of password guessing 60 -> 18, true ones 75 -> 66.
MIN_FLOWS: Final = {NAMES.index("brute_force"): 3}
MAX_SUSPICIONS: Final = 1024

_Key = tuple[bytes, int]


@dataclass
class _Suspicion:
    last_us: int
    flow_ids: set[int] = field(default_factory=set)
    sightings: list[Sighting] = field(default_factory=list)  # those that brought a flow


class Suspicions:
    """Sightings that do not suffice yet, by owner and class; forgotten after `quiet_us` without another."""

    def __init__(self, *, quiet_us: int) -> None:
        self._quiet_us = quiet_us
        self._held: dict[_Key, _Suspicion] = {}

    def add(self, key: _Key, sighting: Sighting) -> list[Sighting]:
        """Return the sightings an incident opens with, the newest last; none where they do not suffice."""
        wanted = MIN_FLOWS.get(sighting.class_index, 1)
        held = self._held.pop(key, None)
        if held is None or sighting.due_us - held.last_us > self._quiet_us:
            held = _Suspicion(sighting.due_us)
        new_flow_ids = set(sighting.records["flow_id"].tolist()) - held.flow_ids
        held.last_us = sighting.due_us
        held.flow_ids |= new_flow_ids
        if len(held.flow_ids) >= wanted:
            return [*held.sightings, sighting]
        if new_flow_ids:
            held.sightings.append(sighting)
        keep_newest(self._held, key, held, limit=MAX_SUSPICIONS)
        return []

    def change(self, *, quiet_us: int) -> None:
        """Forget from now on after another time without a sighting."""
        self._quiet_us = quiet_us

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address keep what is held of it, but of a class that is held there already."""
        held = self._held
        keys = {key: (new, key[1]) for key in held if key[0] == old and (new, key[1]) not in held}
        if keys:
            self._held = {keys.get(key, key): suspicion for key, suspicion in held.items()}

    def clear(self) -> None:
        """Forget all: the clock was set back."""
        self._held.clear()
