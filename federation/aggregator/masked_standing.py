"""Where a private round stands, as its row on disk says: state, roster, and which members came how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts.masks import Roster, places_of, read_roster
from contracts.signed import MessageRefused
from contracts.update import Call
from federation.aggregator.ledger import Ledger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


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


def answered(ledger: Ledger, number: int, key: Ed25519PublicKey) -> tuple[str, set[str]] | None:
    """Return a private round's state and who has answered in it, at its end who is in the sum; None for another round.

    `key` is what rosters are signed with; who is in a sum is not known any more once that is another key.
    """
    row = ledger.row("SELECT state, roster, survivors FROM private_rounds WHERE number = ?", number)
    if row is None:
        return None
    state = str(row[0])
    if state == "sum":
        try:
            members = read_roster(bytes(row[1]), [key]).members
        except MessageRefused:
            return state, set()
        return state, {members[place].name for place in places_of(bytes(row[2]), members=len(members))}
    found = ledger.rows("SELECT gateway FROM private WHERE round = ? AND kind = ?", number, state)
    return state, {str(name) for (name,) in found}
