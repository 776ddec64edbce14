"""What follows from the messages of a private round: relays from sealed shares, and the sum from what survivors gave.

Nothing here knows a disk or a clock. Of a member that sent masked steps the self-mask is put together and taken off; of
one that did not, its mask key, and with it the masks that the survivors share with it. Whether a secret is right is
known by the commitment or the public key its owner gave, so a few wrong shares among enough do no harm, and a secret
nobody can put together names its owner. Trap: of one member never both; who calls this says which by `survivors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.masks import Roster, Shares, threshold, width
from contracts.signed import MessageRefused
from federation.privacy.masking import commitment, mask_key, pair_mask, self_mask
from federation.privacy.shamir import misfits, recovered


@dataclass(frozen=True, eq=False)
class Gathered:
    """All of a round by place: sealed shares of senders, masked steps of survivors, shares given by whom of whom."""

    roster: Roster
    call_sha256: str
    shares: Mapping[int, Shares]
    masked: Mapping[int, NDArray[np.uint16]]
    given: Mapping[int, Mapping[int, bytes]]


def relayed(shares: Mapping[int, Shares], *, own: int) -> dict[int, bytes]:
    """Return by place what others sealed for one member."""
    # A sender's list leaves itself out: who stands behind it comes one earlier.
    return {place: each.sealed[own - (own > place)] for place, each in shares.items() if place != own}


def summed(gathered: Gathered) -> tuple[NDArray[np.int32], list[str]]:
    """Return the sum int32[k] of the survivors' steps, and who gave a share that was wrong.

    Raises MessageRefused (shares) where a secret cannot be put together.
    """
    salt, members = bytes.fromhex(gathered.call_sha256), gathered.roster.members
    total: NDArray[np.uint16] = np.stack(list(gathered.masked.values())).sum(axis=0, dtype=np.uint16)
    wrong: set[int] = set()
    for place in sorted(gathered.shares):
        seed, misfitting = _seed(gathered, place)
        wrong |= set(misfitting)
        if place in gathered.masked:
            total = total - self_mask(seed, salt, len(total))
            continue
        silent = mask_key(seed, salt)
        for other in gathered.masked:
            pair = pair_mask(silent, members[other].mask_key, salt, len(total))
            # The earlier of two added it, the later took it off.
            total = total - pair if members[other].name < members[place].name else total + pair
    return _centred(total, width(len(members))), [members[place].name for place in sorted(wrong)]


@dataclass(frozen=True, eq=False)
class Found:
    """A sum and who gave wrong shares, or None and why; `of` says which messages it was made of."""

    of: object
    total: NDArray[np.int32] | None
    wrong: Sequence[str]
    why: str = ""


def found_in(gathered: Gathered, *, of: object) -> Found:
    """Return the sum of what was gathered, or why there is none."""
    try:
        return Found(of, *summed(gathered))
    except MessageRefused as exc:
        return Found(of, None, (), str(exc))


def _centred(total: NDArray[np.uint16], bits: int) -> NDArray[np.int32]:
    """Return numbers modulo 2 ** bits as those around 0."""
    half = 1 << (bits - 1)
    centred: NDArray[np.int32] = ((total.astype(np.int32) + half) & (2 * half - 1)) - half
    return centred


def _seed(gathered: Gathered, place: int) -> tuple[bytes, list[int]]:
    told = {giver: said[place] for giver, said in gathered.given.items() if place in said}
    wanted = threshold(len(gathered.roster.members))
    found = recovered(told, threshold=wanted, is_it=lambda seed: _is_secret(gathered, place, seed))
    if found is None:
        name = gathered.roster.members[place].name
        why = f"{len(told)} shares of a secret of {name}, not {wanted} of them right: its fault or their givers'"
        raise MessageRefused("shares", why)
    seed, right = found
    return seed, misfits(told, right, seed)


def _is_secret(gathered: Gathered, place: int, seed: bytes) -> bool:
    if place in gathered.masked:
        return commitment(seed) == gathered.shares[place].commitment
    public = mask_key(seed, bytes.fromhex(gathered.call_sha256)).public_key().public_bytes_raw()
    return public == gathered.roster.members[place].mask_key
