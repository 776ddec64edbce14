"""What tells the evidence of one incident apart from other behaviour of the same class: its prints.

A print is one record of the evidence: the network's embedding of that record alone, protocol, the responder's port, who
the other end was and who attacked whom. An incident keeps MAX_PRINTS that differ, those seen first. The trap: a print
means something beside the bundle that made it, and nowhere else; embeddings of two networks cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detection.evidence import Sighting

MAX_PRINTS: Final = 16
RADIUS: Final = 0.35
"""Two records are alike when their embeddings lie nearer than this share of their length; see decision 0027."""


@dataclass(frozen=True, eq=False)
class Print:
    """One record of evidence. `embedding` float32[E]; `peer` is the end that is not the incident's owner."""

    embedding: NDArray[np.float32]
    proto: int
    port: int
    owner_attacks: bool
    peer: bytes


def prints_of(sighting: Sighting) -> list[Print]:
    """Return the print of every record of a sighting."""
    found = []
    for place, (record, attacker) in enumerate(zip(sighting.records, sighting.attackers, strict=True)):
        owner_attacks = attacker == sighting.owner
        found.append(
            Print(
                embedding=sighting.embeddings[place].copy(),  # a view would keep the whole window's alive
                proto=int(record["proto"]),
                port=int(record["dst_port"]),
                owner_attacks=owner_attacks,
                peer=sighting.victims[place] if owner_attacks else attacker,
            )
        )
    return found


def is_near(one: NDArray[np.float32], others: NDArray[np.float32], *, radius: float = RADIUS) -> NDArray[np.bool_]:
    """Return bool[K]: which of float32[K, E] lie within a share of the longer one's length; never what is no number."""
    apart = np.linalg.norm(others - one, axis=1)
    length = np.maximum(np.linalg.norm(others, axis=1), np.linalg.norm(one))
    return np.asarray(apart <= radius * length)


class Prints:
    """The prints of one incident, in bounded memory."""

    def __init__(self) -> None:
        self._kept: list[Print] = []

    def all(self) -> tuple[Print, ...]:
        return tuple(self._kept)

    def add(self, sighting: Sighting) -> None:
        """Keep what is new in a sighting, until there are enough."""
        if len(self._kept) >= MAX_PRINTS and len(self._kept[0].embedding) == sighting.embeddings.shape[1]:
            return
        for each in prints_of(sighting):
            if self._kept and len(each.embedding) != len(self._kept[0].embedding):
                self._kept.clear()  # another bundle judges since: those of before mean nothing beside it
            if len(self._kept) < MAX_PRINTS and not self._has(each):
                self._kept.append(each)

    def _has(self, one: Print) -> bool:
        like = [
            each.embedding
            for each in self._kept
            if (each.proto, each.port, each.owner_attacks, each.peer)
            == (one.proto, one.port, one.owner_attacks, one.peer)
        ]
        return bool(like) and bool(is_near(one.embedding, np.array(like), radius=RADIUS / 4).any())
