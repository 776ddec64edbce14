"""What a store lets go of, so that it grows with its fleet and not with the years.

Of a round that is over nothing more is counted: what comes late, or again, is refused for that alone. So its updates go
at once, its call and its roster with the next round. Of updates stay who sent which sha256 to the last rounds; of
rounds and releases a line each; the rest is told by the audit log, as far as that reaches. Of releases' archives stay
those that a gateway may be ordered to take, forward or back. Each of these is called within a change.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from federation.aggregator.ledger import LOGGED, Ledger

KEPT_ROUNDS: Final = 8
_OVER: Final = "(SELECT number FROM rounds WHERE state <> 'open')"
_BULKY: Final = "roster IS NOT NULL OR senders IS NOT NULL OR survivors IS NOT NULL OR total IS NOT NULL"


def forget_updates(ledger: Ledger) -> None:
    """Keep of updates of rounds that are over who sent them, and no more."""
    ledger.run(f"UPDATE updates SET message = ? WHERE length(message) > 0 AND round IN {_OVER}", b"")


def void_open(ledger: Ledger, *, why: str, now_us: int) -> None:
    """Void the round that is open, if one is: masked steps and shares are of no use then."""
    row = ledger.row("SELECT number FROM rounds WHERE state = 'open'")
    if row is not None:
        ledger.run("UPDATE rounds SET state = 'void', closed_us = ?, why = ? WHERE number = ?", now_us, why, row[0])
        ledger.run("DELETE FROM private")
        forget_updates(ledger)
        ledger.count("void")
        ledger.log("void", at_us=now_us, round=row[0], why=why)


def forget_rounds(ledger: Ledger, *, number: int) -> None:
    """Keep of the rounds before one that is about to open when they were, and what became of them."""
    forget_updates(ledger)
    ledger.run("DELETE FROM updates WHERE round < ?", number - KEPT_ROUNDS)
    emptied = "UPDATE rounds SET call = ?, base = ?, head = NULL WHERE number < ? AND length(call) > 0"
    ledger.run(emptied, b"", b"", number)
    ledger.run(
        "UPDATE private_rounds SET roster = NULL, senders = NULL, survivors = NULL, total = NULL "
        f"WHERE number < ? AND ({_BULKY})",
        number,
    )
    ledger.run("DELETE FROM counters WHERE what LIKE ?", f"{LOGGED}%")


def forget_archives(ledger: Ledger, *, kept: Collection[int]) -> None:
    """Keep the archives of some releases alone."""
    for (number,) in ledger.rows("SELECT number FROM releases WHERE length(archive) > 0"):
        if number not in kept:
            ledger.run("UPDATE releases SET archive = ? WHERE number = ?", b"", number)
