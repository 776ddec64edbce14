"""Masked sums: what the aggregator has at the end is the sum, whoever dropped, and never what one gateway sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.masks import (
    MAX_MASK_BYTES,
    KeysHeader,
    Member,
    MemberHeader,
    RosterHeader,
    pack_keys,
    pack_relay,
    pack_roster,
    read_keys,
    read_masked,
    read_roster,
    read_shares,
    threshold,
    width,
)
from contracts.signed import MessageRefused
from contracts.unmasking import CohortHeader, pack_survivors, read_unmask
from federation.aggregator.masked_sum import relayed
from federation.privacy.masking import pair_mask, self_mask
from federation.privacy.shamir import PRIME, joined, misfits, recovered, split
from tests.federation.homes import FLEET
from tests.federation.private_fleet import KEY, NAMES, PrivateFleet, key_of, participant

SECRET = bytes(range(16))


# -- secret sharing ---------------------------------------------------------------------------------------------------


def test_the_prime_is_one():
    """Miller-Rabin by hand: 2^130 - 5 - 1 = odd * 4."""
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        power = pow(base, odd, PRIME)
        squares = [pow(power, 1 << each, PRIME) for each in range(twos)]
        assert power == 1 or PRIME - 1 in squares


@settings(max_examples=60, deadline=None)
@given(secret=st.binary(min_size=16, max_size=16), count=st.integers(1, 12), data=st.data())
def test_any_threshold_shares_give_the_secret_and_fewer_give_another(secret: bytes, count: int, data: st.DataObject):
    wanted = data.draw(st.integers(1, count))
    shares = dict(enumerate(split(secret, count=count, threshold=wanted, key=b"k" * 32)))
    chosen = data.draw(st.permutations(sorted(shares)))

    assert joined({place: shares[place] for place in chosen[:wanted]}) == secret
    if wanted > 1:
        assert joined({place: shares[place] for place in chosen[: wanted - 1]}) != secret


def test_fewer_shares_fit_every_secret():
    """With one share less than wanted there is a polynomial through any secret: they say nothing."""
    shares = split(SECRET, count=3, threshold=3, key=b"k" * 32)

    for guess in (bytes(16), b"\xff" * 16):
        line = {-1: guess.rjust(17, b"\0"), 0: shares[0], 1: shares[1]}  # place -1 is the polynomial at 0
        third = _at(line, 3)
        assert joined({0: shares[0], 1: shares[1], 2: third}) == guess


def _at(line: dict[int, bytes], x: int) -> bytes:
    total, points = 0, {place + 1: int.from_bytes(share, "big") for place, share in line.items()}
    for at, value in points.items():
        for other in points:
            if other != at:
                value = value * (x - other) * pow(at - other, -1, PRIME) % PRIME  # noqa: PLW2901
        total = (total + value) % PRIME
    return total.to_bytes(17, "big")


def test_a_wrong_share_among_enough_does_no_harm_and_is_found():
    shares = dict(enumerate(split(SECRET, count=5, threshold=3, key=b"k" * 32)))
    shares[1] = bytes(16) + b"\x07"

    found = recovered(shares, threshold=3, is_it=lambda seed: seed == SECRET)

    assert found == (SECRET, (0, 2, 3))
    assert misfits(shares, (0, 2, 3), SECRET) == [1]
    assert recovered({0: shares[0], 1: shares[1], 2: shares[2]}, threshold=3, is_it=lambda s: s == SECRET) is None


@pytest.mark.parametrize("members", [5, 10, 20, 64])
@pytest.mark.parametrize("wrong", [{0}, {-1}, {1, 2}, {0, -1}])
def test_wrong_shares_do_no_harm_whosever_they_are(members: int, wrong: set[int]):
    """The first by name too: one gateway could void every round of a larger fleet, and was not named."""
    if len(wrong) > members - threshold(members):
        return
    right = dict(enumerate(split(SECRET, count=members, threshold=threshold(members), key=b"k" * 32)))
    places = {place % members for place in wrong}
    shares = right | dict.fromkeys(places, bytes(16) + b"\x07")

    found = recovered(shares, threshold=threshold(members), is_it=lambda seed: seed == SECRET)

    assert found is not None
    assert set(misfits(shares, found[1], SECRET)) == places


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 64), st.data())
def test_half_of_what_is_beyond_the_threshold_may_be_wrong_whatever_and_whosever_it_is(
    members: int, data: st.DataObject
):
    wanted = threshold(members)
    right = dict(enumerate(split(SECRET, count=members, threshold=wanted, key=b"k" * 32)))
    given = sorted(data.draw(st.sets(st.integers(0, members - 1), min_size=wanted)))
    liars = data.draw(st.sets(st.sampled_from(given), max_size=(len(given) - wanted) // 2))
    above = [share for share in right.values() if int.from_bytes(share, "big") + PRIME < 1 << 136]
    lies = st.one_of(st.binary(min_size=17, max_size=17), st.sampled_from([bytes(17), *right.values()]))
    past = st.sampled_from(above).map(lambda share: (int.from_bytes(share, "big") + PRIME).to_bytes(17, "big"))
    shares = {place: right[place] for place in given} | {place: data.draw(lies | past) for place in liars}

    found = recovered(shares, threshold=wanted, is_it=lambda seed: seed == SECRET)

    assert found is not None
    assert found[0] == SECRET
    assert set(misfits(shares, found[1], SECRET)) == {place for place in liars if shares[place] != right[place]}


@pytest.mark.parametrize("first", [0, 2, 10, 41])
def test_three_of_64_that_lie_spoil_nothing_wherever_they_stand(first: int):
    """They voided every round of 64, which may lack 21: of subsets in order, no 2,000 lack three of them."""
    right = dict(enumerate(split(SECRET, count=64, threshold=threshold(64), key=b"k" * 32)))
    liars = range(first, first + 3)

    found = recovered(
        right | dict.fromkeys(liars, bytes(17)), threshold=threshold(64), is_it=lambda seed: seed == SECRET
    )

    assert found is not None
    assert set(found[1]).isdisjoint(liars)


@pytest.mark.parametrize(("count", "wanted"), [(2, 3), (2, 0)])
def test_sharing_that_cannot_be_is_refused(count: int, wanted: int):
    with pytest.raises(ValueError, match="are wanted"):
        split(SECRET, count=count, threshold=wanted, key=b"k" * 32)


# -- the sum ----------------------------------------------------------------------------------------------------------


def test_the_sum_of_all_is_that_of_the_plain_steps(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)

    states = [fleet.stage(NAMES) for _ in range(5)]

    assert states == ["shares", "masked", "consent", "unmask", "sum"]
    assert np.array_equal(fleet.total(), fleet.plain(NAMES))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whoever_drops_out_wherever_the_sum_is_that_of_the_survivors_or_the_round_is_void(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    """A gateway may go silent at any of the five answers, and may come back never: it is one round."""
    names = NAMES[: data.draw(st.integers(3, 6), label="gateways")]
    answers = {name: data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5, 5]), label=name) for name in names}
    fleet = PrivateFleet(tmp_path_factory.mktemp("fleet"), names=names)
    still = [[name for name in names if answers[name] > stage] for stage in range(5)]

    for stage in range(5):
        if fleet.stage(still[stage]) in ("sum", "void"):
            break

    wanted = threshold(len(still[0])) if len(still[0]) >= 3 else 3
    if all(len(left) >= wanted for left in still):
        assert fleet.state() == "sum"
        assert np.array_equal(fleet.total(), fleet.plain(still[2]))
    else:
        assert fleet.state() == "void"
        assert fleet.ledger.row("SELECT total FROM private_rounds") == (None,)


def test_masked_steps_of_one_gateway_look_like_any_others(tmp_path: Path):
    """What arrives is uniform: neither the steps nor a second round with the same steps can be told from it."""
    first, second = (PrivateFleet(tmp_path / seed, seed=seed * 64) for seed in ("1", "2"))
    arrived = []
    for fleet in (first, second):
        fleet.stage(NAMES)
        fleet.stage(NAMES)
        told = dict(fleet.masked.outgoing())
        kept = fleet.call.header.kept
        arrived.append(read_masked(fleet.members["attic"].answer(told["attic"]), members=6, count=kept).values)

    assert not np.array_equal(arrived[0], arrived[1])
    modulus = 1 << width(6)
    assert (arrived[0] == first.members["attic"].steps.astype(int) % modulus).sum() < 5
    everything = np.concatenate(arrived).astype(float)
    assert abs(everything.mean() - (modulus - 1) / 2) < 5 * modulus / np.sqrt(12 * len(everything))


@pytest.mark.parametrize("value", [-127, 127])
def test_the_longest_sum_there_may_be_fits_the_width(tmp_path: Path, value: int):
    fleet = PrivateFleet(tmp_path, clip_norm=1000.0, largest_share=0.9)
    for name in NAMES:
        fleet.members[name].steps[:] = value

    for _ in range(5):
        fleet.stage(NAMES)

    (total, why) = fleet.ledger.row("SELECT total, why FROM private_rounds")
    assert total is None  # longer than the clip, and told as it is, not wrapped around
    assert f"norm {127 * fleet.call.header.scale * np.sqrt(fleet.call.header.kept):.4g}" in why


def test_of_no_gateway_both_the_self_mask_and_the_mask_key_are_told(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    fleet.stage(NAMES)
    fleet.stage(NAMES)
    fleet.stage(NAMES[:5])  # one sends no masked steps
    fleet.stage(NAMES[:5])
    fleet.stage(NAMES[:5])

    given = [read_unmask(fleet.sent[name][-1], members=6) for name in NAMES[:5]]
    roster = read_roster(_stored(fleet, "roster"), [KEY.public_key()])
    of_mask, of_own = {}, {}
    for name in NAMES:
        member = fleet.members[name]
        halves = member._split(roster)
        place = roster.place(name)
        for each in given:
            giver = roster.place(each.header.gateway)
            share = each.shares[place]
            of_mask.setdefault(name, []).append(share == halves[giver][:17])
            of_own.setdefault(name, []).append(share == halves[giver][17:])
    for name in NAMES:
        is_survivor = name in NAMES[:5]
        assert all(of_own[name]) is is_survivor
        assert any(of_own[name]) is is_survivor
        assert any(of_mask[name]) is not is_survivor


def test_two_thresholds_of_members_share_more_than_a_third():
    """So two lists with enough signatures each want a third of the members, or more, to sign both."""
    for members in range(3, 65):
        assert 2 * threshold(members) - members > members / 3
        assert threshold(members) <= members


def test_after_a_power_cut_a_gateway_answers_with_the_same_octets(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    for _ in range(4):
        fleet.stage(NAMES)
    attic, told = fleet.members["attic"], dict(fleet.masked.outgoing())["attic"]

    again = participant("attic", fleet.call, attic.steps, taken=dict(attic.taken))

    assert again.keys() == fleet.sent["attic"][0]
    assert again.answer(attic.taken["roster"]) == fleet.sent["attic"][1]
    assert again.answer(attic.taken["relay"]) == fleet.sent["attic"][2]
    assert again.answer(attic.taken["survivors"]) == fleet.sent["attic"][3]
    assert again.answer(told) == attic.answer(told)


def test_a_pair_mask_is_the_same_from_either_side_and_cancels(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    attic, barn = fleet.members["attic"]._mask_key, fleet.members["barn"]._mask_key
    salt = bytes.fromhex(fleet.call.sha256)

    ours = pair_mask(attic, barn.public_key().public_bytes_raw(), salt, 36)

    assert np.array_equal(ours, pair_mask(barn, attic.public_key().public_bytes_raw(), salt, 36))
    assert not np.array_equal(ours, pair_mask(attic, barn.public_key().public_bytes_raw(), bytes(32), 36))
    assert not np.array_equal(ours, self_mask(SECRET, salt, 36))


# -- a lying aggregator -----------------------------------------------------------------------------------------------


def _stored(fleet: PrivateFleet, what: str) -> bytes:
    return bytes(fleet.ledger.row(f"SELECT {what} FROM private_rounds")[0])


def _members(fleet: PrivateFleet, names: tuple[str, ...]) -> list[Member]:
    keys = {name: read_keys(fleet.members[name].keys()) for name in names}
    identities = {name: key_of(name).public_key().public_bytes_raw() for name in names}
    return [
        Member(name, identities[name], each.mask_key, each.share_key, each.parts.signature)
        for name, each in keys.items()
    ]


def _roster(fleet: PrivateFleet, members: list[Member], key: Ed25519PrivateKey = KEY, **changes: object) -> bytes:
    told = {"fleet": FLEET, "round": 1, "call_sha256": fleet.call.sha256, "members": len(members), **changes}
    return pack_roster(RosterHeader(**told), members, key)


def test_a_roster_that_is_not_right_is_refused(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    members = _members(fleet, NAMES)
    attic = fleet.members["attic"]
    strange = replace(members[0], mask_key=bytes(32))
    unsigned = replace(members[1], share_key=b"\x09" + bytes(31))
    impostor = replace(members[0], identity=key_of("forger").public_key().public_bytes_raw())
    wrong = {
        "signature": _roster(fleet, members, key_of("barn")),
        "base": _roster(fleet, members, call_sha256="0" * 64),
        "not a member": _roster(fleet, members[1:]),
        "payload": _roster(fleet, [strange, *members[1:]]),
        "signature ": _roster(fleet, [members[0], unsigned, *members[2:]]),
        "signature  ": _roster(fleet, [impostor, *members[1:]]),
    }

    for reason, message in wrong.items():
        with pytest.raises(MessageRefused) as caught:
            attic.answer(message)
        assert caught.value.reason == reason.strip()
    assert attic.taken == {}


def test_a_cohort_of_two_cannot_be_written(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)

    with pytest.raises(ValueError, match="greater than or equal to 3"):
        _roster(fleet, _members(fleet, NAMES[:2]))


def test_a_gateway_that_knows_its_peers_takes_no_stranger_and_no_key_another_signed(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    members = _members(fleet, NAMES[:4])
    peers = {name: key_of(name).public_key() for name in NAMES[:4]}
    steps = fleet.members["attic"].steps
    assert participant("attic", fleet.call, steps, peers=peers).answer(_roster(fleet, members))

    with pytest.raises(MessageRefused, match="not among the known peers"):
        participant("attic", fleet.call, steps, peers={}).answer(_roster(fleet, members))
    forger = key_of("forger")
    keys = pack_keys(
        KeysHeader(fleet=FLEET, round=1, gateway="barn", call_sha256=fleet.call.sha256),
        mask_key=members[1].mask_key, share_key=members[1].share_key, key=forger,
    )  # fmt: skip
    invented = replace(members[1], identity=forger.public_key().public_bytes_raw(), signature=keys[-64:])
    told = _roster(fleet, [members[0], invented, *members[2:]])
    assert participant("attic", fleet.call, steps).answer(told)  # without peers the aggregator is believed
    with pytest.raises(MessageRefused, match="barn is in the roster under another key than it is known by"):
        participant("attic", fleet.call, steps, peers=peers).answer(told)


def test_a_relay_or_survivors_below_the_threshold_are_refused(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    fleet.stage(NAMES)
    fleet.stage(NAMES)
    roster = read_roster(_stored(fleet, "roster"), [KEY.public_key()])
    attic, bound = fleet.members["attic"], {"fleet": FLEET, "round": 1, "roster_sha256": roster.sha256}
    sent = {roster.place(name): read_shares(fleet.sent[name][1], members=6) for name in NAMES}
    few = relayed({place: sent[place] for place in (0, 1, 2)}, own=0)

    with pytest.raises(MessageRefused, match="3 of 6 sent shares, wanted 5"):
        attic.answer(pack_relay(MemberHeader(gateway="attic", **bound), few, own=0, members=6, key=KEY))
    with pytest.raises(MessageRefused, match="no relay of round 1 came before it"):
        attic.answer(pack_survivors(CohortHeader(**bound), {0, 1, 2, 3}, members=6, key=KEY))
    attic.answer(dict(fleet.masked.outgoing())["attic"])
    with pytest.raises(MessageRefused, match="3 survivors, wanted 5"):
        attic.answer(pack_survivors(CohortHeader(**bound), {0, 1, 2}, members=6, key=KEY))


@settings(max_examples=60, deadline=None)
@given(message=st.binary(max_size=400), magic=st.sampled_from([b"PSR2", b"PSL1", b"PSF1", b"PST1", b""]))
def test_noise_is_refused_and_takes_no_step(noise_member, message: bytes, magic: bytes):
    with pytest.raises(MessageRefused):
        noise_member.answer(magic + message)
    assert noise_member.taken == {}


@pytest.fixture(scope="module")
def noise_member(tmp_path_factory: pytest.TempPathFactory):
    return PrivateFleet(tmp_path_factory.mktemp("noise")).members["attic"]


def test_no_message_is_longer_than_its_bound(tmp_path: Path):
    """With the most members there may be, whose names are as long as they may be."""
    names = tuple(f"{number:02d}".ljust(64, "x") for number in range(64))
    fleet = PrivateFleet(tmp_path, names=names)
    fleet.keys(names)
    fleet.masked.advance(now_us=fleet.call.header.opened_us + 1)

    (_, told), *_ = fleet.masked.outgoing()
    shares = fleet.members[names[0]].answer(told)

    assert len(told) <= MAX_MASK_BYTES
    assert len(shares) <= MAX_MASK_BYTES
