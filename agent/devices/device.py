"""One device as it shows itself: its MAC, the addresses it says are its own and since when, its name.

Times are microseconds of a clock that never steps. A name that stands is kept until another one has been said for a
day and the old one never meanwhile: a forger has to keep on for longer than most leases last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SECOND_US: Final = 1_000_000
RENAME_US: Final = 24 * 3600 * SECOND_US
RENAME_SAYINGS: Final = 3
SETTLE_US: Final = 600 * SECOND_US
SETTLE_HEARINGS: Final = 3
MAX_ADDRESSES: Final = 16
FORMER_US: Final = 7 * 24 * 3600 * SECOND_US  # an address left longer ago is not the one it comes from
STALE_US: Final = 3600 * SECOND_US  # an address not claimed for so long makes room for another
STEADY_CLAIMS: Final = 3
STEADY_US: Final = 20 * SECOND_US
PROVEN_US: Final = 3600 * SECOND_US  # an IPv6 address beside others must have been claimed for so long to be its own


@dataclass(slots=True)
class Claim:
    """How often and how long a device has said that an address is its own."""

    first_us: int
    last_us: int
    count: int = 1

    @property
    def is_steady(self) -> bool:
        """Return whether it was said more than in passing."""
        return self.count >= STEADY_CLAIMS and self.last_us - self.first_us >= STEADY_US


@dataclass(slots=True)
class Device:
    """One MAC."""

    mac: bytes
    first_us: int
    last_us: int
    hearings: int = 0
    claims: dict[bytes, Claim] = field(default_factory=dict)
    proven: set[bytes] = field(default_factory=set)
    """Addresses a rule of the operator's may follow it to: the first of a kind, one it moved to, long-held IPv6."""
    name: str | None = None
    wishes: bytes = b""
    moved_us: int | None = None
    rival: str | None = None
    rival_first_us: int = 0
    rival_sayings: int = 0

    @property
    def is_settled(self) -> bool:
        """Return whether it has been here for more than a moment."""
        return self.hearings >= SETTLE_HEARINGS and self.last_us - self.first_us >= SETTLE_US

    def hear(self, now_us: int) -> None:
        self.last_us = now_us
        self.hearings += 1

    def claim(self, address: bytes, now_us: int) -> bool:
        """Enter a claim; return whether there was room for it. One not made for an hour begins anew."""
        claim = self.claims.get(address)
        if claim is not None and now_us - claim.last_us < STALE_US:
            claim.last_us = now_us
            claim.count += 1
            return True
        if claim is None and len(self.claims) >= MAX_ADDRESSES:
            stalest = min(self.claims, key=lambda each: self.claims[each].last_us)
            if now_us - self.claims[stalest].last_us < STALE_US:
                return False
            self.leave(stalest)
        self.claims[address] = Claim(now_us, now_us)
        return True

    def prove(self, address: bytes) -> None:
        """Take an address for its own, where nothing suggests that somebody else speaks in its name."""
        claim, kind = self.claims[address], kind_of(address)
        lately = [each for each, other in self.claims.items() if claim.last_us - other.last_us < STALE_US]
        is_only_one = all(each == address or kind_of(each) != kind for each in [*lately, *self.proven])
        is_long_held = kind == "ipv6" and claim.last_us - claim.first_us >= PROVEN_US
        if claim.is_steady and (is_only_one or is_long_held):
            self.proven.add(address)

    def leave(self, address: bytes) -> None:
        self.claims.pop(address, None)
        self.proven.discard(address)

    def call(self, name: str, now_us: int) -> str:
        """Take note of a name; return what came of it: "named", "same", "contested" or "renamed"."""
        if self.name is None:
            self.name = name
            return "named"
        if name == self.name:
            self.rival = None
            return "same"
        if name != self.rival:
            self.rival, self.rival_first_us, self.rival_sayings = name, now_us, 0
        self.rival_sayings += 1
        if self.rival_sayings < RENAME_SAYINGS or now_us - self.rival_first_us < RENAME_US:
            return "contested"
        self.name, self.rival = name, None
        return "renamed"

    def left_for(self, address: bytes) -> bytes | None:
        """Return the address of its own it no longer claims since it claims this one; None for none, or several."""
        since_us = self.claims[address].first_us
        kind = kind_of(address)
        former = [
            each
            for each in self.proven
            if each != address and kind_of(each) == kind and 0 < since_us - self.claims[each].last_us < FORMER_US
        ]
        return former[0] if len(former) == 1 else None


def kind_of(address: bytes) -> str:
    """Return what may follow what when a device changes its address: IPv4, link-local, other IPv6."""
    if address.startswith(bytes(10) + b"\xff\xff"):
        return "ipv4"
    return "link_local" if address[0] == 0xFE and address[1] & 0xC0 == 0x80 else "ipv6"
