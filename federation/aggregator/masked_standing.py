"""Where the open private round stands, as its row on disk says: state, roster, and which members came how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.masks import Roster
from contracts.update import Call


@dataclass(frozen=True, eq=False)
class Standing:
    """The round. Members are told by their place in the roster; sets are empty until their state is reached."""

    call: Call
    state: str
    until_us: int
    roster: Roster | None
    senders: frozenset[int]
    survivors: frozenset[int]

    @property
    def bound(self) -> dict[str, Any]:
        """Return what headers after the roster have in common."""
        assert self.roster is not None
        return {"fleet": self.call.header.fleet, "round": self.call.header.round, "roster_sha256": self.roster.sha256}

    @property
    def count(self) -> int:
        """Return how many members the roster has."""
        return 0 if self.roster is None else len(self.roster.members)

    def name(self, place: int) -> str:
        """Return who stands at a place."""
        assert self.roster is not None
        return self.roster.members[place].name
