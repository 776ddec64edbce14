"""What crosses the network in a round of mode `private` until masked steps came; `contracts.unmasking` has the rest.

    up    keys       mask key (32), share key (32): X25519, of this round alone
    down  roster     who takes part, in order of names: identity key (32), those keys, the signature over them
    up    shares     commitment to the self-mask (32), one sealed share (50) per other member
    down  relay      to one member: who sent shares, and those sealed for it
    up    masked     k numbers of `width` bits: the steps under all masks

Each is a `contracts.signed` message, bound to one call, and from the shares on to one roster. Sets of members are bits
in the order of the roster, the first member the highest bit. Checked here: form, schema, lengths, signature. Trap: what
a message may answer is asked in `federation.privacy.masking` and `federation.aggregator.masked_rounds` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.signed import SIGNATURE_BYTES, Header, MessageRefused, Parts, canonical, header_of, opened, pack, verify
from contracts.update import INT8_MAX, MAX_UPDATE_BYTES, Name, RoundNumber, Sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEYS_MAGIC: Final = b"PSK1"
ROSTER_MAGIC: Final = b"PSR2"
SHARES_MAGIC: Final = b"PSH1"
RELAY_MAGIC: Final = b"PSL1"
MASKED_MAGIC: Final = b"PSM1"
CONSENT_MAGIC: Final = b"PSN1"
UNMASK_MAGIC: Final = b"PSV1"
UP: Final = {
    KEYS_MAGIC: "keys",
    SHARES_MAGIC: "shares",
    MASKED_MAGIC: "masked",
    CONSENT_MAGIC: "consent",
    UNMASK_MAGIC: "unmask",
}

LEAST_COHORT: Final = 3  # of two, each would know the other's
MAX_COHORT: Final = 64  # the sum stays within 16 bits, and no message is longer than MAX_MASK_BYTES
MAX_MASK_BYTES: Final = 16 * 1024
KEY_BYTES: Final = 32
SHARE_BYTES: Final = 17
SEALED_BYTES: Final = 2 * SHARE_BYTES + 16  # two shares and the tag of the seal
COMMITMENT_BYTES: Final = 32


def threshold(members: int) -> int:
    """Return how many members must stay to the end: more than two thirds.

    Any two sets of so many share more than a third of the members. So where fewer than a third are in league with the
    aggregator, no two lists of survivors find so many signatures each (decision 0041).

    >>> [threshold(members) for members in (3, 4, 5, 6, 10)]
    [3, 3, 4, 5, 7]
    """
    return 2 * members // 3 + 1


def width(members: int) -> int:
    """Return how many bits hold the sum of so many members' steps, and so each member's masked ones.

    >>> width(3), width(64)
    (10, 14)
    """
    return (2 * INT8_MAX * members).bit_length()


class KeysHeader(Header):
    """The header of keys. `call_sha256` names the call they answer."""

    format: Literal[1] = 1
    fleet: Name
    round: RoundNumber
    gateway: Name
    call_sha256: Sha256


class RosterHeader(Header):
    """The header of a roster."""

    format: Literal[1] = 1
    fleet: Name
    round: RoundNumber
    call_sha256: Sha256
    members: Annotated[int, Field(ge=LEAST_COHORT, le=MAX_COHORT)]


class MemberHeader(Header):
    """The header of what a member sends after the roster, and of a relay to it."""

    format: Literal[1] = 1
    fleet: Name
    round: RoundNumber
    gateway: Name
    roster_sha256: Sha256


@dataclass(frozen=True)
class Member:
    """Who takes part: its identity's public key, its keys of this round, its signature over the message of those."""

    name: str
    identity: bytes
    mask_key: bytes
    share_key: bytes
    signature: bytes


@dataclass(frozen=True, eq=False)
class Roster:
    """A roster whose form was checked. `sha256` names its octets."""

    header: RosterHeader
    members: tuple[Member, ...]
    sha256: str

    def place(self, name: str) -> int:
        """Return a member's place. Raises MessageRefused where there is none of that name."""
        for place, member in enumerate(self.members):
            if member.name == name:
                return place
        raise MessageRefused("not a member", f"{name[:64]} is not in the roster")


@dataclass(frozen=True)
class Keys:
    """A gateway's keys of a round, as they came."""

    header: KeysHeader
    mask_key: bytes
    share_key: bytes
    parts: Parts


@dataclass(frozen=True)
class Shares:
    """A gateway's sealed shares, by place of the receiver; none for itself."""

    header: MemberHeader
    commitment: bytes
    sealed: tuple[bytes, ...]
    parts: Parts


@dataclass(frozen=True)
class Relay:
    """Who sent shares, by place, and what they sealed for the receiver (nothing at its own place)."""

    header: MemberHeader
    sealed: dict[int, bytes]
    senders: frozenset[int]


@dataclass(frozen=True, eq=False)
class Masked:
    """Masked steps uint16[k], below 2 ** width, and with whom the sender shared masks."""

    header: MemberHeader
    senders: frozenset[int]
    values: NDArray[np.uint16]
    parts: Parts


def read_header(message: bytes) -> tuple[str, KeysHeader | MemberHeader, Parts]:
    """Return of a message up what needs no roster to be read: its kind, header and parts. Raises MessageRefused."""
    magic = message[:4]
    if magic not in UP:
        raise MessageRefused("foreign", f"begins with {magic!r}, wanted a message of a private round")
    parts = opened(magic, message, most_bytes=MAX_UPDATE_BYTES if magic == MASKED_MAGIC else MAX_MASK_BYTES)
    if magic == KEYS_MAGIC:
        return UP[magic], header_of(KeysHeader, parts.header), parts
    return UP[magic], header_of(MemberHeader, parts.header), parts


# -- up ---------------------------------------------------------------------------------------------------------------


def pack_keys(header: KeysHeader, *, mask_key: bytes, share_key: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the octets of a gateway's keys."""
    return pack(KEYS_MAGIC, header, mask_key + share_key, key=key, most_bytes=MAX_MASK_BYTES)


def read_keys(message: bytes) -> Keys:
    """Return keys whose form is right; the signature is not asked about. Raises MessageRefused."""
    parts = opened(KEYS_MAGIC, message, most_bytes=MAX_MASK_BYTES)
    header = header_of(KeysHeader, parts.header)
    sized(parts.payload, 2 * KEY_BYTES)
    return Keys(header, parts.payload[:KEY_BYTES], parts.payload[KEY_BYTES:], parts)


def signed_keys(header: KeysHeader, member: Member) -> Parts:
    """Return a member's keys as the message it signed, put together again from a roster."""
    told = canonical(header)
    body = KEYS_MAGIC + len(told).to_bytes(2, "big") + told + member.mask_key + member.share_key
    return opened(KEYS_MAGIC, body + member.signature, most_bytes=MAX_MASK_BYTES)


def pack_shares(header: MemberHeader, commitment: bytes, sealed: Sequence[bytes], key: Ed25519PrivateKey) -> bytes:
    """Return the octets of sealed shares, in the order of the roster without the sender."""
    return pack(SHARES_MAGIC, header, commitment + b"".join(sealed), key=key, most_bytes=MAX_MASK_BYTES)


def read_shares(message: bytes, *, members: int) -> Shares:
    """Return sealed shares of a cohort of so many. Raises MessageRefused."""
    parts, header = member_message(SHARES_MAGIC, message)
    sized(parts.payload, COMMITMENT_BYTES + (members - 1) * SEALED_BYTES)
    commitment, rest = parts.payload[:COMMITMENT_BYTES], parts.payload[COMMITMENT_BYTES:]
    return Shares(header, commitment, cut(rest, SEALED_BYTES), parts)


def pack_masked(
    header: MemberHeader, values: NDArray[np.uint16], *, senders: Iterable[int], members: int, key: Ed25519PrivateKey
) -> bytes:
    """Return the octets of masked steps; what stands above `width` bits is left out."""
    each = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 16 - width(members) :]
    payload = bits(senders, members=members) + np.packbits(each).tobytes()
    return pack(MASKED_MAGIC, header, payload, key=key, most_bytes=MAX_UPDATE_BYTES)


def read_masked(message: bytes, *, members: int, count: int) -> Masked:
    """Return so many masked steps of a cohort of so many. Raises MessageRefused."""
    parts, header = member_message(MASKED_MAGIC, message, most_bytes=MAX_UPDATE_BYTES)
    start, each = octets(members), width(members)
    sized(parts.payload, start + octets(count * each))
    flags = np.unpackbits(np.frombuffer(parts.payload, np.uint8, offset=start))
    if flags[count * each :].any():
        raise MessageRefused("payload", f"a bit beyond the {count} numbers")
    values = flags[: count * each].reshape(count, each) @ (1 << np.arange(each, dtype=np.uint16)[::-1])
    return Masked(header, places_of(parts.payload[:start], members=members), values.astype(np.uint16), parts)


# -- down -------------------------------------------------------------------------------------------------------------


def pack_roster(header: RosterHeader, members: Sequence[Member], key: Ed25519PrivateKey) -> bytes:
    """Return the octets of a roster; members are put in order of their names."""
    payload = bytearray()
    for member in sorted(members, key=lambda each: each.name):
        name = member.name.encode("ascii")
        payload += len(name).to_bytes(1, "big") + name + member.identity
        payload += member.mask_key + member.share_key + member.signature
    return pack(ROSTER_MAGIC, header, bytes(payload), key=key, most_bytes=MAX_MASK_BYTES)


def read_roster(message: bytes, keys: Iterable[Ed25519PublicKey]) -> Roster:
    """Return a roster that one of the keys signed. Raises MessageRefused."""
    parts = from_aggregator(ROSTER_MAGIC, message, keys)
    header = header_of(RosterHeader, parts.header)
    members, at, payload = [], 0, parts.payload
    fixed = 3 * KEY_BYTES + SIGNATURE_BYTES
    while at < len(payload):
        end = at + 1 + payload[at]
        raw, name = payload[end : end + fixed], payload[at + 1 : end]
        if len(raw) != fixed:
            raise MessageRefused("payload", "a roster that ends within a member")
        identity, mask_key, share_key = cut(raw[: 3 * KEY_BYTES], KEY_BYTES)
        members.append(Member(_name(name), identity, mask_key, share_key, raw[3 * KEY_BYTES :]))
        at = end + fixed
    names = [member.name for member in members]
    if len(names) != header.members or names != sorted(set(names)):
        raise MessageRefused("payload", f"a roster of {len(names)} names, wanted {header.members} in order, each once")
    if len({key for each in members for key in (each.identity, each.mask_key, each.share_key)}) != 3 * len(members):
        raise MessageRefused("payload", "a roster in which a key comes twice")
    return Roster(header, tuple(members), hashlib.sha256(message).hexdigest())


def pack_relay(
    header: MemberHeader, sealed: dict[int, bytes], *, own: int, members: int, key: Ed25519PrivateKey
) -> bytes:
    """Return the octets of a relay to the member at place `own`: what others sealed for it, by place."""
    senders = {*sealed, own}
    payload = bits(senders, members=members) + b"".join(sealed[place] for place in sorted(sealed))
    return pack(RELAY_MAGIC, header, payload, key=key, most_bytes=MAX_MASK_BYTES)


def read_relay(message: bytes, keys: Iterable[Ed25519PublicKey], *, own: int, members: int) -> Relay:
    """Return a relay that one of the keys signed, to the member at place `own`. Raises MessageRefused."""
    parts = from_aggregator(RELAY_MAGIC, message, keys)
    header = header_of(MemberHeader, parts.header)
    wide = octets(members)
    senders = places_of(parts.payload[:wide], members=members)
    others = sorted(senders - {own})
    rest = parts.payload[wide:]
    if own not in senders:
        raise MessageRefused("payload", "a relay to who sent no shares")
    sized(rest, len(others) * SEALED_BYTES)
    return Relay(header, dict(zip(others, cut(rest, SEALED_BYTES), strict=True)), senders)


# -- sets of members --------------------------------------------------------------------------------------------------


def bits(places: Iterable[int], *, members: int) -> bytes:
    """Return a set of places as bits.

    >>> bits({0, 9}, members=10).hex()
    '8040'
    """
    flags = np.zeros(members, np.uint8)
    flags[sorted(places)] = 1
    return np.packbits(flags).tobytes()


def places_of(raw: bytes, *, members: int) -> frozenset[int]:
    """Return the set that bits say. Raises MessageRefused where they are not as many as members."""
    sized(raw, octets(members))
    flags = np.unpackbits(np.frombuffer(raw, np.uint8))
    if flags[members:].any():
        raise MessageRefused("payload", f"a bit beyond the {members} members")
    return frozenset(np.flatnonzero(flags).tolist())


def member_message(magic: bytes, message: bytes, *, most_bytes: int = MAX_MASK_BYTES) -> tuple[Parts, MemberHeader]:
    """Return parts and header of a message after the roster. Raises MessageRefused."""
    parts = opened(magic, message, most_bytes=most_bytes)
    return parts, header_of(MemberHeader, parts.header)


def from_aggregator(magic: bytes, message: bytes, keys: Iterable[Ed25519PublicKey]) -> Parts:
    """Return the parts of a message that one of the keys signed. Raises MessageRefused."""
    parts = opened(magic, message, most_bytes=MAX_MASK_BYTES)
    if not any(verify(parts, key) for key in keys):
        raise MessageRefused("signature", "by no aggregator that is trusted here")
    return parts


def sized(raw: bytes, wanted: int) -> None:
    """Raise MessageRefused unless there are so many octets."""
    if len(raw) != wanted:
        raise MessageRefused("payload", f"{len(raw)} bytes, wanted {wanted}")


def octets(count: int) -> int:
    """Return how many octets hold so many bits."""
    return (count + 7) // 8


def cut(raw: bytes, size: int) -> tuple[bytes, ...]:
    """Return octets in pieces of a size."""
    return tuple(raw[at : at + size] for at in range(0, len(raw), size))


def _name(raw: bytes) -> str:
    try:
        return KeysHeader(fleet="f", round=1, gateway=raw.decode("ascii"), call_sha256="0" * 64).gateway
    except ValueError as exc:
        raise MessageRefused("payload", "a member's name is no name") from exc
