"""What crosses the network at the end of a round of mode `private`: two messages down, two up, all signed.

    down  survivors  whose masked steps came
    up    consent    this member's word that it was told of just these senders and just these survivors
    down  consents   the signatures of enough survivors' consents, no more of them than it takes
    up    unmask     per member one share (17): of the self-mask of a survivor, of the mask key of another

A consent is a message as any other, signed by the gateway's identity under a context of its kind, bound to fleet,
round, gateway and the sha256 of the roster, which holds everybody's keys and the call's sha256. Its octets follow from
what the receiver was told itself: so a signature alone travels on, and one over anything else is none. Trap: checked
here is the form; whose signatures suffice is asked in `federation.privacy.masking`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from contracts.masks import (
    CONSENT_MAGIC,
    MAX_MASK_BYTES,
    SHARE_BYTES,
    UNMASK_MAGIC,
    MemberHeader,
    bits,
    cut,
    from_aggregator,
    member_message,
    octets,
    places_of,
    sized,
)
from contracts.signed import SIGNATURE_BYTES, Header, MessageRefused, Parts, canonical, header_of, opened, pack
from contracts.update import Name, RoundNumber, Sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SURVIVORS_MAGIC: Final = b"PSF1"
CONSENTS_MAGIC: Final = b"PST1"


class CohortHeader(Header):
    """The header of what is told to all members alike after the roster."""

    format: Literal[1] = 1
    fleet: Name
    round: RoundNumber
    roster_sha256: Sha256


@dataclass(frozen=True)
class Told:
    """The two sets of members, by place, that a consent is about."""

    senders: frozenset[int]
    survivors: frozenset[int]


@dataclass(frozen=True)
class Consent:
    """A member's consent, as it came."""

    header: MemberHeader
    told: Told
    parts: Parts


@dataclass(frozen=True)
class Unmask:
    """A member's answer to the consents: a share by place, of the one kind or the other."""

    header: MemberHeader
    survivors: frozenset[int]
    shares: dict[int, bytes]
    parts: Parts


# -- up ---------------------------------------------------------------------------------------------------------------


def pack_consent(header: MemberHeader, told: Told, *, members: int, key: Ed25519PrivateKey) -> bytes:
    """Return the octets of a consent."""
    return pack(CONSENT_MAGIC, header, _both(told, members=members), key=key, most_bytes=MAX_MASK_BYTES)


def read_consent(message: bytes, *, members: int) -> Consent:
    """Return a consent in a cohort of so many. Raises MessageRefused."""
    parts, header = member_message(CONSENT_MAGIC, message)
    wide = octets(members)
    sized(parts.payload, 2 * wide)
    senders, survivors = (places_of(raw, members=members) for raw in cut(parts.payload, wide))
    return Consent(header, Told(senders, survivors), parts)


def signed_consent(header: MemberHeader, told: Told, signature: bytes, *, members: int) -> Parts:
    """Return a member's consent as the message it signed, put together again from what it must have been told."""
    raw = canonical(header)
    body = CONSENT_MAGIC + len(raw).to_bytes(2, "big") + raw + _both(told, members=members)
    return opened(CONSENT_MAGIC, body + signature, most_bytes=MAX_MASK_BYTES)


def pack_unmask(
    header: MemberHeader, shares: dict[int, bytes], *, survivors: Iterable[int], members: int, key: Ed25519PrivateKey
) -> bytes:
    """Return the octets of an answer to the consents."""
    told = bits(survivors, members=members) + bits(shares, members=members)
    return pack(
        UNMASK_MAGIC, header, told + b"".join(shares[place] for place in sorted(shares)), key=key,
        most_bytes=MAX_MASK_BYTES,
    )  # fmt: skip


def read_unmask(message: bytes, *, members: int) -> Unmask:
    """Return an answer to the consents in a cohort of so many. Raises MessageRefused."""
    parts, header = member_message(UNMASK_MAGIC, message)
    wide = octets(members)
    if len(parts.payload) < 2 * wide:
        raise MessageRefused("payload", f"{len(parts.payload)} bytes, wanted {2 * wide} or more")
    survivors = places_of(parts.payload[:wide], members=members)
    given = sorted(places_of(parts.payload[wide : 2 * wide], members=members))
    rest = parts.payload[2 * wide :]
    sized(rest, len(given) * SHARE_BYTES)
    return Unmask(header, survivors, dict(zip(given, cut(rest, SHARE_BYTES), strict=True)), parts)


# -- down -------------------------------------------------------------------------------------------------------------


def pack_survivors(header: CohortHeader, survivors: Iterable[int], *, members: int, key: Ed25519PrivateKey) -> bytes:
    """Return the octets of the list of survivors."""
    return pack(SURVIVORS_MAGIC, header, bits(survivors, members=members), key=key, most_bytes=MAX_MASK_BYTES)


def read_survivors(
    message: bytes, keys: Iterable[Ed25519PublicKey], *, members: int
) -> tuple[CohortHeader, frozenset[int]]:
    """Return a list of survivors that one of the keys signed. Raises MessageRefused."""
    parts = from_aggregator(SURVIVORS_MAGIC, message, keys)
    return header_of(CohortHeader, parts.header), places_of(parts.payload, members=members)


def pack_consents(
    header: CohortHeader, signatures: Mapping[int, bytes], *, members: int, key: Ed25519PrivateKey
) -> bytes:
    """Return the octets of consents: whose, by place, and their signatures."""
    payload = bits(signatures, members=members) + b"".join(signatures[place] for place in sorted(signatures))
    return pack(CONSENTS_MAGIC, header, payload, key=key, most_bytes=MAX_MASK_BYTES)


def read_consents(
    message: bytes, keys: Iterable[Ed25519PublicKey], *, members: int
) -> tuple[CohortHeader, dict[int, bytes]]:
    """Return whose consents an aggregator passes on, and their signatures, not yet asked about.

    Raises MessageRefused.
    """
    parts = from_aggregator(CONSENTS_MAGIC, message, keys)
    wide = octets(members)
    signers = sorted(places_of(parts.payload[:wide], members=members))
    rest = parts.payload[wide:]
    sized(rest, len(signers) * SIGNATURE_BYTES)
    return header_of(CohortHeader, parts.header), dict(zip(signers, cut(rest, SIGNATURE_BYTES), strict=True))


def _both(told: Told, *, members: int) -> bytes:
    return bits(told.senders, members=members) + bits(told.survivors, members=members)
