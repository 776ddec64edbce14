"""One gateway in a round of mode `private`: what it answers to call, roster, relay, survivors and consents.

Pairwise masks with a self-mask over each (Bonawitz et al., CCS 2017). Between every two members stands a mask that one
adds and the other takes off; each adds one of its own besides. The sum over all members keeps the self-masks alone,
whose seeds are shared out; so are the mask keys, for members that go silent. A member gives of each other one share:
of the self-mask of a survivor, of the mask key of another, never both, once; and only where enough survivors signed
that they were told of the same senders and survivors. So the aggregator learns one sum and no update that is in it.

    masked = steps + self-mask + sum over v after u of pair(u, v) - sum over v before u of pair(u, v)

modulo the least power of two that holds the sum.

All a member sends follows from its seeds, its steps and what it took, so after a power cut it sends the same octets.
Seeds are of one round. Trap: a participant must be on disk before its answer leaves (`federation.gateway.private`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from contracts.masks import (
    LEAST_COHORT,
    RELAY_MAGIC,
    ROSTER_MAGIC,
    SHARE_BYTES,
    KeysHeader,
    Member,
    MemberHeader,
    Relay,
    Roster,
    pack_keys,
    pack_masked,
    pack_shares,
    read_keys,
    read_relay,
    read_roster,
    signed_keys,
    threshold,
)
from contracts.signed import MessageRefused, verify
from contracts.unmasking import (
    CONSENTS_MAGIC,
    SURVIVORS_MAGIC,
    Told,
    pack_consent,
    pack_unmask,
    read_consents,
    read_survivors,
    signed_consent,
)
from federation.privacy.shamir import SECRET_BYTES, split

if TYPE_CHECKING:
    from contracts.update import Call

Masks = NDArray[np.uint16]
_ONCE: Final = bytes(12)  # a nonce: every key here seals or draws one thing
_KINDS: Final = {ROSTER_MAGIC: "roster", RELAY_MAGIC: "relay", SURVIVORS_MAGIC: "survivors", CONSENTS_MAGIC: "consents"}


@dataclass(frozen=True)
class Seeds:
    """What a member draws for one round: seeds of its mask key, its share key and its self-mask."""

    mask: bytes
    share: bytes
    own: bytes

    @classmethod
    def drawn(cls) -> Seeds:
        """Return new ones."""
        return cls(*(secrets.token_bytes(SECRET_BYTES) for _ in range(3)))


@dataclass(eq=False)
class Participant:
    """A member of one private round. `taken` are the messages it answered, by kind; with the rest they are all of it.

    `peers` are the gateways it knows, by name: with them, a roster in which another stands, or one under another key,
    is refused. Without, the aggregator is believed who takes part and by which key.
    """

    name: str
    key: Ed25519PrivateKey
    call: Call
    seeds: Seeds
    steps: NDArray[np.int8]
    aggregators: tuple[Ed25519PublicKey, ...]
    peers: Mapping[str, Ed25519PublicKey] | None = None
    taken: dict[str, bytes] = field(default_factory=dict)

    def keys(self) -> bytes:
        """Return the answer to the call."""
        mask, share = (each.public_key().public_bytes_raw() for each in (self._mask_key, self._share_key))
        return pack_keys(self._keys_header(self.name), mask_key=mask, share_key=share, key=self.key)

    def answer(self, message: bytes) -> bytes:
        """Return the answer to a message of the aggregator, the same for the same message.

        Raises MessageRefused, also for a second, other message of a kind that was answered.
        """
        kind = _KINDS.get(message[:4])
        if kind is None:
            raise MessageRefused("foreign", f"begins with {message[:4]!r}, wanted one of {', '.join(_KINDS.values())}")
        if self.taken.get(kind, message) != message:
            raise MessageRefused("second answer", f"another {kind} of round {self.call.header.round} was answered")
        replies = {
            "roster": self._shares,
            "relay": self._masked,
            "survivors": self._consent,
            "consents": self._unmask,
        }
        reply = replies[kind](message)
        self.taken[kind] = message
        return reply

    # -- each answer --

    def _shares(self, message: bytes) -> bytes:
        roster = self._roster(message)
        own, both = roster.place(self.name), self._split(roster)
        sealed = [
            self._seal(roster, own, place).encrypt(_ONCE, shares, None)
            for place, shares in enumerate(both)
            if place != own
        ]
        return pack_shares(self._header(roster), commitment(self.seeds.own), sealed, self.key)

    def _masked(self, message: bytes) -> bytes:
        roster, relay = self._relay(message)
        values = self.steps.astype(np.int16).view(np.uint16) + self_mask(self.seeds.own, self._salt, len(self.steps))
        for place in relay.sealed:
            other = roster.members[place]
            pair = pair_mask(self._mask_key, other.mask_key, self._salt, len(self.steps))
            values = values + pair if self.name < other.name else values - pair
        return pack_masked(
            self._header(roster), values, senders=relay.senders, members=len(roster.members), key=self.key
        )

    def _consent(self, message: bytes) -> bytes:
        roster, relay = self._relay(self._before("relay"))
        told = self._told(message, roster, relay)
        return pack_consent(self._header(roster), told, members=len(roster.members), key=self.key)

    def _unmask(self, message: bytes) -> bytes:
        roster, relay = self._relay(self._before("relay"))
        told, count = self._told(self._before("survivors"), roster, relay), len(roster.members)
        self._check_consents(message, roster, told)
        shares = {}
        for place, sealed in {**relay.sealed, roster.place(self.name): b""}.items():
            both = self._opened(roster, place, sealed)
            if both is not None:
                shares[place] = both[SHARE_BYTES:] if place in told.survivors else both[:SHARE_BYTES]
        return pack_unmask(self._header(roster), shares, survivors=told.survivors, members=count, key=self.key)

    # -- what messages must be --

    def _roster(self, message: bytes) -> Roster:
        roster = read_roster(message, self.aggregators)
        header, wanted = roster.header, self.call.header
        if (header.fleet, header.round, header.call_sha256) != (wanted.fleet, wanted.round, self.call.sha256):
            raise MessageRefused("base", "a roster of another call")
        own = roster.members[roster.place(self.name)]
        mine = read_keys(self.keys())
        if (own.mask_key, own.share_key) != (mine.mask_key, mine.share_key):
            raise MessageRefused("payload", "a roster with other keys than were sent")
        if len(roster.members) < LEAST_COHORT:
            raise MessageRefused("payload", f"a cohort of {len(roster.members)}, wanted {LEAST_COHORT}")
        for member in roster.members:
            self._check_member(member)
        return roster

    def _check_member(self, member: Member) -> None:
        """Raise MessageRefused unless a member signed its keys itself, and is a known gateway where any are known."""
        known = self.peers
        if member.name == self.name:
            known = {self.name: self.key.public_key()}
        if known is not None and member.name not in known:
            raise MessageRefused("unknown gateway", f"{member.name} is in the roster and not among the known peers")
        if known is not None and known[member.name].public_bytes_raw() != member.identity:
            raise MessageRefused("signature", f"{member.name} is in the roster under another key than it is known by")
        if not verify(signed_keys(self._keys_header(member.name), member), identity(member)):
            raise MessageRefused("signature", f"keys of {member.name} that it did not sign")

    def _relay(self, message: bytes) -> tuple[Roster, Relay]:
        roster = self._roster(self._before("roster"))
        own, count = roster.place(self.name), len(roster.members)
        relay = read_relay(message, self.aggregators, own=own, members=count)
        self._check_bound(relay.header.fleet, relay.header.round, relay.header.roster_sha256, roster)
        if relay.header.gateway != self.name:
            raise MessageRefused("wrong gateway", f"a relay to {relay.header.gateway}")
        if len(relay.senders) < threshold(count):
            raise MessageRefused("payload", f"{len(relay.senders)} of {count} sent shares, wanted {threshold(count)}")
        return roster, relay

    def _told(self, message: bytes, roster: Roster, relay: Relay) -> Told:
        """Return what this member was told of: senders and survivors, of which it must be one."""
        header, survivors = read_survivors(message, self.aggregators, members=len(roster.members))
        self._check_bound(header.fleet, header.round, header.roster_sha256, roster)
        if not survivors <= relay.senders or len(survivors) < threshold(len(roster.members)):
            raise MessageRefused("payload", f"{len(survivors)} survivors, wanted {threshold(len(roster.members))}")
        if roster.place(self.name) not in survivors:
            raise MessageRefused("not a member", f"{self.name} is not among the survivors")
        return Told(relay.senders, survivors)

    def _check_consents(self, message: bytes, roster: Roster, told: Told) -> None:
        """Raise MessageRefused unless enough survivors, each once, signed that they were told what this one was."""
        count = len(roster.members)
        header, signatures = read_consents(message, self.aggregators, members=count)
        self._check_bound(header.fleet, header.round, header.roster_sha256, roster)
        if not set(signatures) <= told.survivors or len(signatures) < threshold(count):
            raise MessageRefused("payload", f"{len(signatures)} consents of survivors, wanted {threshold(count)}")
        for place, signature in signatures.items():
            member = roster.members[place]
            parts = signed_consent(self._header(roster, member.name), told, signature, members=count)
            if not verify(parts, identity(member)):
                raise MessageRefused("signature", f"no consent of {member.name} to what was told here")

    def _before(self, kind: str) -> bytes:
        if kind not in self.taken:
            raise MessageRefused("early", f"no {kind} of round {self.call.header.round} came before it")
        return self.taken[kind]

    def _check_bound(self, fleet: str, number: int, roster_sha256: str, roster: Roster) -> None:
        wanted = self.call.header
        if (fleet, number, roster_sha256) != (wanted.fleet, wanted.round, roster.sha256):
            raise MessageRefused("base", "of another round or roster")

    # -- keys and seals --

    @property
    def _salt(self) -> bytes:
        return bytes.fromhex(self.call.sha256)

    @property
    def _mask_key(self) -> X25519PrivateKey:
        return mask_key(self.seeds.mask, self._salt)

    @property
    def _share_key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(derived(self.seeds.share, b"share key", salt=self._salt))

    def _keys_header(self, name: str) -> KeysHeader:
        header = self.call.header
        return KeysHeader(fleet=header.fleet, round=header.round, gateway=name, call_sha256=self.call.sha256)

    def _header(self, roster: Roster, name: str = "") -> MemberHeader:
        header, by = self.call.header, name or self.name
        return MemberHeader(fleet=header.fleet, round=header.round, gateway=by, roster_sha256=roster.sha256)

    def _seal(self, roster: Roster, sender: int, receiver: int) -> ChaCha20Poly1305:
        """Return what seals shares on one way between this member and another: a key of roster, sender and receiver."""
        other = roster.members[receiver if roster.members[sender].name == self.name else sender]
        way = bytes.fromhex(roster.sha256) + sender.to_bytes(2, "big") + receiver.to_bytes(2, "big")
        return ChaCha20Poly1305(derived(_agreed(self._share_key, other.share_key), b"seal" + way, salt=self._salt))

    def _split(self, roster: Roster) -> list[bytes]:
        """Return by place the share of the mask key and that of the self-mask, in one piece."""
        count = len(roster.members)
        purpose = b"polynomial" + bytes.fromhex(roster.sha256)
        of_mask, of_own = (
            split(seed, count=count, threshold=threshold(count), key=derived(seed, purpose, salt=self._salt))
            for seed in (self.seeds.mask, self.seeds.own)
        )
        return [first + second for first, second in zip(of_mask, of_own, strict=True)]

    def _opened(self, roster: Roster, sender: int, sealed: bytes) -> bytes | None:
        """Return the two shares that a member sealed for this one, or its own; None where they are not."""
        own = roster.place(self.name)
        if sender == own:
            return self._split(roster)[own]
        try:
            return self._seal(roster, sender, own).decrypt(_ONCE, sealed, None)
        except (InvalidTag, MessageRefused):
            return None  # who sent it harms itself: one share of its secrets less


# -- what the aggregator does too, once it has the secrets ------------------------------------------------------------


def identity(member: Member) -> Ed25519PublicKey:
    """Return the key that a member signs with."""
    return Ed25519PublicKey.from_public_bytes(member.identity)


def mask_key(seed: bytes, salt: bytes) -> X25519PrivateKey:
    """Return the mask key of a seed, in the round of a call's sha256."""
    return X25519PrivateKey.from_private_bytes(derived(seed, b"mask key", salt=salt))


def pair_mask(own: X25519PrivateKey, other: bytes, salt: bytes, count: int) -> Masks:
    """Return the mask that stands between two members, uint16[count]; the same from either side."""
    both = b"".join(sorted((own.public_key().public_bytes_raw(), other)))
    return _stream(derived(_agreed(own, other), b"pair mask" + both, salt=salt), count)


def self_mask(seed: bytes, salt: bytes, count: int) -> Masks:
    """Return a member's own mask, uint16[count]."""
    return _stream(derived(seed, b"self mask", salt=salt), count)


def commitment(seed: bytes) -> bytes:
    """Return what a member says of its self-mask's seed at first: its sha256, which 128 random bits hide behind."""
    return hashlib.sha256(b"penstock self mask\0" + seed).digest()


def derived(secret: bytes, purpose: bytes, *, salt: bytes) -> bytes:
    """Return 32 octets for one purpose (HKDF, RFC 5869)."""
    return HKDF(SHA256(), 32, salt, b"penstock private\0" + purpose).derive(secret)


def _agreed(own: X25519PrivateKey, other: bytes) -> bytes:
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as exc:
        raise MessageRefused("payload", "a key of a member that no secret can be agreed with") from exc


def _stream(key: bytes, count: int) -> Masks:
    drawn = Cipher(ChaCha20(key, bytes(16)), None).encryptor().update(bytes(2 * count))
    return np.frombuffer(drawn, "<u2").astype(np.uint16)
