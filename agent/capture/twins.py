"""A flow seen on two interfaces counts once: where it was seen first (docs/decisions/0025).

Each interface has a flow table of its own, for packets of two wires mixed in one table would double every count and
halve every gap. So a flow that crosses two of them leaves two records, and a device's window must not hold both. This
keeps, for each 5-tuple, which interface may speak of it. Fixed memory: one slot per hash, the newer claim wins. The
trap: a sender on one wire must not silence a flow on another by sending a packet of the same 5-tuple, so a claim only
covers a twin that began at the same time and is no larger than it should be.
"""

from __future__ import annotations

import secrets
from typing import Final

import numpy as np
from numpy.typing import NDArray

SLOTS: Final = 1 << 16  # as many as flows are kept by default; 1.7 MB
SAME_START_US: Final = 1_000_000  # a bridge or router passes a packet on within microseconds, a busy one within this
SILENT_US: Final = 120_000_000  # the active timeout: a flow that says nothing for so long has ended
SLACK_PACKETS: Final = 8  # two tables look at a flow at different moments


class Twins:
    """Take away the records of flows that another interface speaks of. `taken_away` counts them."""

    def __init__(self, *, slots: int = SLOTS) -> None:
        self.taken_away = 0
        self._mask = np.uint64(slots - 1)
        self._odd = np.frombuffer(secrets.token_bytes(48), np.uint64) | np.uint64(1)
        self._hash = np.zeros(slots, np.uint64)
        self._start_us = np.zeros(slots, np.int64)
        self._last_us = np.full(slots, -(1 << 62), np.int64)
        self._packets = np.zeros(slots, np.int64)
        self._owner = np.full(slots, -1, np.int16)

    def kept(self, records: NDArray[np.void], *, interface: int) -> NDArray[np.void]:
        """Return those of RECORD[n] that this interface (its number) may speak of, in their order."""
        hashes = self._hashes(records)
        slots = (hashes >> np.uint64(20)) & self._mask
        start_us, left_us = records["start_us"], records["left_us"]
        packets = records["fwd_packets"].astype(np.int64) + records["bwd_packets"]
        is_twin = (
            (self._hash[slots] == hashes)
            & (self._owner[slots] != interface)
            & (np.abs(start_us - self._start_us[slots]) <= SAME_START_US)
            & (left_us - self._last_us[slots] <= SILENT_US)
            & (packets <= 2 * self._packets[slots] + SLACK_PACKETS)
        )
        own = ~is_twin
        mine = slots[own]
        self._hash[mine] = hashes[own]
        self._owner[mine] = interface
        self._start_us[mine] = start_us[own]
        self._last_us[mine] = left_us[own]
        self._packets[mine] = packets[own]
        if own.all():
            return records
        self.taken_away += int(is_twin.sum())
        kept: NDArray[np.void] = records[own]
        return kept

    def interface_of(self, record: np.void) -> int | None:
        """Return the number of the interface a flow was seen on, None where it is not known any more."""
        known = np.atleast_1d(record)
        value = self._hashes(known)
        slot = int((value[0] >> np.uint64(20)) & self._mask)
        return int(self._owner[slot]) if self._hash[slot] == value[0] and self._owner[slot] >= 0 else None

    def forget(self) -> None:
        """Forget all claims: the clock was set, or the interfaces are others."""
        self._owner[:] = -1
        self._hash[:] = 0

    def _hashes(self, records: NDArray[np.void]) -> NDArray[np.uint64]:
        """Return uint64[n], the same for both directions of a flow; keyed, so that nobody can aim at a slot."""
        with np.errstate(over="ignore"):
            ends = self._end(records["src"], records["src_port"]) + self._end(records["dst"], records["dst_port"])
            mixed = (ends ^ records["proto"].astype(np.uint64) * self._odd[3]) * self._odd[4]
            return np.asarray(mixed ^ (mixed >> np.uint64(29)), np.uint64)

    def _end(self, address: NDArray[np.uint8], port: NDArray[np.uint16]) -> NDArray[np.uint64]:
        halves = np.ascontiguousarray(address).view(np.uint64)
        mixed = halves[:, 0] * self._odd[0]
        mixed = (mixed ^ (mixed >> np.uint64(31)) ^ halves[:, 1]) * self._odd[1]
        mixed = (mixed ^ (mixed >> np.uint64(33)) ^ port.astype(np.uint64)) * self._odd[2]
        return np.asarray(mixed ^ (mixed >> np.uint64(30)), np.uint64)
