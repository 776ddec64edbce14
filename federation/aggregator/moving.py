"""Taking a fleet's ledger from one store to another: all of it or none, compared before it counts.

Both stores are held for as long as it takes, so nobody writes meanwhile; the old one stays as it is. Trap: whoever
goes on with the old one afterwards has two fleets of one name, so workers are stopped first and started on the new one.
"""

from __future__ import annotations

from itertools import zip_longest

from federation.aggregator.ledger import TABLES, Ledger, LedgerError


def copy(source: Ledger, target: Ledger, *, now_us: int) -> int:
    """Copy all of a ledger into an empty one; return how many rows. Raises ValueError where it is not empty.

    Raises LedgerError where what came of it differs, or the audit log's chain was broken already.
    """
    with source.change(), target.change():
        held = [table for table in TABLES if target.row(f"SELECT 1 FROM {table} LIMIT 1") is not None]
        if held:
            raise ValueError(f"{target.name}: holds a fleet already, wanted an empty store")
        source.log("copied", at_us=now_us, to=target.name)
        rows = sum(_copy_table(table, source, target) for table in TABLES)
        pairs = zip_longest(source.entries(), target.entries())
        is_same = {
            "digest": source.digest() == target.digest(),
            "counters": source.counters() == target.counters(),
            "audit": all(one == other for one, other in pairs),
        }
        if what := ", ".join(name for name, holds in is_same.items() if not holds):
            raise LedgerError(f"{target.name}: its {what} differs from that of {source.name}: nothing was copied")
    return rows


def _copy_table(table: str, source: Ledger, target: Ledger) -> int:
    found = source.rows(f"SELECT * FROM {table}")
    for row in found:
        target.run(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)
    return len(found)
