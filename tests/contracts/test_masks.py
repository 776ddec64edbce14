"""The messages of a private round: read as packed, and refused wherever they are cut, lengthened or changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contracts import masks, unmasking
from contracts.masks import KeysHeader, Member, MemberHeader, RosterHeader, bits, places_of
from contracts.signed import MessageRefused, pack, verify
from contracts.unmasking import CohortHeader, Told, read_consent, signed_consent

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BOUND = {"fleet": "homes", "round": 3, "roster_sha256": "a" * 64}
OWN = MemberHeader(gateway="barn", **BOUND)
MEMBERS = [
    Member(name, name[2:3].encode() * 32, name[:1].encode() * 32, name[:1].upper().encode() * 32, bytes(64))
    for name in ("attic", "barn", "cellar")
]
KEYS = KeysHeader(fleet="homes", round=3, gateway="barn", call_sha256="b" * 64)
ROSTER = RosterHeader(fleet="homes", round=3, call_sha256="b" * 64, members=3)
TRUSTED = [KEY.public_key()]

MESSAGES: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "keys": (masks.pack_keys(KEYS, mask_key=b"m" * 32, share_key=b"s" * 32, key=KEY), masks.read_keys),
    "roster": (masks.pack_roster(ROSTER, MEMBERS, KEY), lambda raw: masks.read_roster(raw, TRUSTED)),
    "shares": (
        masks.pack_shares(OWN, b"c" * 32, [b"1" * 50, b"2" * 50], KEY), lambda raw: masks.read_shares(raw, members=3),
    ),
    "relay": (
        masks.pack_relay(OWN, {0: b"1" * 50, 2: b"2" * 50}, own=1, members=3, key=KEY),
        lambda raw: masks.read_relay(raw, TRUSTED, own=1, members=3),
    ),
    "masked": (
        masks.pack_masked(OWN, np.arange(40, dtype=np.uint16), senders=range(3), members=3, key=KEY),
        lambda raw: masks.read_masked(raw, members=3, count=40),
    ),
    "survivors": (
        unmasking.pack_survivors(CohortHeader(**BOUND), {0, 1}, members=3, key=KEY),
        lambda raw: unmasking.read_survivors(raw, TRUSTED, members=3),
    ),
    "consent": (
        unmasking.pack_consent(OWN, Told(frozenset({0, 1, 2}), frozenset({0, 1})), members=3, key=KEY),
        lambda raw: unmasking.read_consent(raw, members=3),
    ),
    "consents": (
        unmasking.pack_consents(CohortHeader(**BOUND), {2: b"2" * 64, 0: b"0" * 64}, members=3, key=KEY),
        lambda raw: unmasking.read_consents(raw, TRUSTED, members=3),
    ),
    "unmask": (
        unmasking.pack_unmask(OWN, {0: b"1" * 17, 1: b"2" * 17}, survivors={0, 1}, members=3, key=KEY),
        lambda raw: unmasking.read_unmask(raw, members=3),
    ),
}  # fmt: skip


def test_each_is_read_as_it_was_packed():
    read = {kind: reader(message) for kind, (message, reader) in MESSAGES.items()}

    assert (read["keys"].mask_key, read["keys"].share_key) == (b"m" * 32, b"s" * 32)
    assert read["roster"].members == tuple(MEMBERS)
    assert read["shares"].sealed == (b"1" * 50, b"2" * 50)
    assert read["relay"].sealed == {0: b"1" * 50, 2: b"2" * 50}
    assert read["relay"].senders == {0, 1, 2}
    assert read["masked"].values.tolist() == list(range(40))
    assert read["survivors"][1] == {0, 1}
    assert read["consent"].told == Told(frozenset({0, 1, 2}), frozenset({0, 1}))
    assert read["consents"][1] == {0: b"0" * 64, 2: b"2" * 64}
    assert read["unmask"].shares == {0: b"1" * 17, 1: b"2" * 17}


@pytest.mark.parametrize("kind", MESSAGES)
def test_one_cut_off_or_lengthened_is_refused_or_not_signed(kind: str):
    message, read = MESSAGES[kind]

    for changed in [message[:length] for length in range(len(message))] + [message + b"\0"]:
        assert not _passes(changed, read)


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_changed_octet_never_passes(kind: str):
    message, read = MESSAGES[kind]

    for place in range(len(message)):
        changed = bytearray(message)
        changed[place] ^= 1 << (place % 8)
        assert not _passes(bytes(changed), read), place


def _passes(message: bytes, read: Callable[[bytes], object]) -> bool:
    """Return whether a message is read, and signed: messages up leave the signature to who knows the key."""
    try:
        found = read(message)
    except MessageRefused:
        return False
    parts = getattr(found, "parts", None)
    return parts is None or verify(parts, KEY.public_key())


@given(members=st.integers(3, 64), data=st.data())
def test_a_set_of_members_is_the_same_after_its_bits(members: int, data: st.DataObject):
    places = data.draw(st.sets(st.integers(0, members - 1)))

    assert places_of(bits(places, members=members), members=members) == places


def test_a_bit_beyond_the_members_is_refused():
    with pytest.raises(MessageRefused, match="beyond the 5 members"):
        places_of(b"\x04", members=5)


@pytest.mark.parametrize(
    "members",
    [
        [MEMBERS[0], MEMBERS[0], MEMBERS[2]],
        [MEMBERS[0], Member("barn", b"w" * 32, MEMBERS[0].mask_key, b"x" * 32, bytes(64)), MEMBERS[2]],
        [MEMBERS[0], Member("barn", MEMBERS[0].identity, b"x" * 32, b"y" * 32, bytes(64)), MEMBERS[2]],
        [MEMBERS[0], Member("no name", b"w" * 32, b"x" * 32, b"y" * 32, bytes(64)), MEMBERS[2]],
        MEMBERS[:2],
    ],
)
def test_a_roster_that_is_none_is_refused_however_well_signed(members: list[Member]):
    with pytest.raises(MessageRefused) as caught:
        masks.read_roster(masks.pack_roster(ROSTER, members, KEY), TRUSTED)

    assert caught.value.reason == "payload"


def test_a_consent_is_verified_by_its_signature_and_what_it_must_be_about():
    told = Told(frozenset({0, 1, 2}), frozenset({0, 1}))
    signature = read_consent(MESSAGES["consent"][0], members=3).parts.signature
    other_round = MemberHeader(**{**OWN.model_dump(), "round": 2})

    assert verify(signed_consent(OWN, told, signature, members=3), KEY.public_key())
    for header, about in (
        (OWN, Told(told.senders, frozenset({0, 1, 2}))),
        (OWN, Told(frozenset({0, 1}), told.survivors)),
        (OWN, Told(told.survivors, told.senders)),
        (other_round, told),
        (MemberHeader(**{**OWN.model_dump(), "gateway": "attic"}), told),
        (MemberHeader(**{**OWN.model_dump(), "roster_sha256": "c" * 64}), told),
    ):
        assert not verify(signed_consent(header, about, signature, members=3), KEY.public_key())


def test_a_signature_under_another_kind_of_message_is_no_consent():
    """Domain separation: the same header and payload, signed as an answer to the consents."""
    told = Told(frozenset({0, 1, 2}), frozenset({0, 1}))
    payload = bits(told.senders, members=3) + bits(told.survivors, members=3)
    other = pack(masks.UNMASK_MAGIC, OWN, payload, key=KEY, most_bytes=masks.MAX_MASK_BYTES)

    assert not verify(signed_consent(OWN, told, other[-64:], members=3), KEY.public_key())
