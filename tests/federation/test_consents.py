"""The round in which survivors sign what they were told: an aggregator that lies gets no shares, whatever it tries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.masks import MemberHeader, pack_relay, read_header, read_shares, threshold
from contracts.signed import MessageRefused
from contracts.unmasking import (
    CohortHeader,
    Told,
    pack_consent,
    pack_consents,
    pack_survivors,
    pack_unmask,
    read_consent,
    read_unmask,
)
from federation.aggregator.masked_sum import relayed
from federation.gateway.desk import Desk, Learnt
from federation.gateway.private import PRIVATE_FILE, PrivateDesk
from federation.privacy.masking import Participant
from tests.federation.homes import FLEET, NOW_US
from tests.federation.private_fleet import KEY, LATER_US, NAMES, PrivateFleet, key_of, participant

ALL = frozenset(range(6))
MOST = frozenset(range(5))  # without the forge
OTHERS = frozenset({0, 1, 2, 3, 5})  # without the eaves


@pytest.fixture
def fleet(tmp_path: Path) -> PrivateFleet:
    return to_consent(PrivateFleet(tmp_path))


def to_consent(fleet: PrivateFleet) -> PrivateFleet:
    """Go on to where everybody's masked steps came, and who survived is to be told."""
    for _ in range(3):
        fleet.stage(fleet.names)
    assert fleet.state() == "consent"
    return fleet


def bound(fleet: PrivateFleet) -> dict[str, object]:
    return {"fleet": FLEET, "round": fleet.call.header.round, "roster_sha256": roster_sha256(fleet)}


def roster_sha256(fleet: PrivateFleet) -> str:
    at = fleet.masked._standing()
    assert at is not None
    assert at.roster is not None
    return at.roster.sha256


def survivors(fleet: PrivateFleet, places: Iterable[int]) -> bytes:
    return pack_survivors(CohortHeader(**bound(fleet)), places, members=len(fleet.names), key=KEY)


def consents(fleet: PrivateFleet, signatures: dict[int, bytes]) -> bytes:
    return pack_consents(CohortHeader(**bound(fleet)), signatures, members=len(fleet.names), key=KEY)


def signed(fleet: PrivateFleet, name: str, places: Iterable[int]) -> bytes:
    """Return a gateway's signature under a list that the aggregator tells it."""
    return read_consent(fleet.members[name].answer(survivors(fleet, places)), members=len(fleet.names)).parts.signature


def consent_by(at: PrivateFleet, name: str, told: Told, **changes: object) -> bytes:
    header = MemberHeader(**{**bound(at), "gateway": name, **changes})
    return pack_consent(header, told, members=len(at.names), key=key_of(name))


def refused(member: Participant, message: bytes) -> str:
    before = dict(member.taken)
    with pytest.raises(MessageRefused) as caught:
        member.answer(message)
    assert member.taken == before
    return caught.value.reason


# -- what a gateway gives no shares for -------------------------------------------------------------------------------


def test_with_the_signatures_of_enough_peers_over_what_it_was_told_a_gateway_gives_its_shares(fleet: PrivateFleet):
    signatures = {place: signed(fleet, name, ALL) for place, name in enumerate(NAMES)}
    enough = {place: signatures[place] for place in range(1, 6)}

    given = read_unmask(fleet.members["attic"].answer(consents(fleet, enough)), members=6)

    assert set(given.shares) == ALL
    assert given.survivors == ALL


def test_one_gateway_that_was_told_another_set_gives_nothing(fleet: PrivateFleet):
    signatures = {place: signed(fleet, name, ALL) for place, name in enumerate(NAMES) if name != "attic"}
    signed(fleet, "attic", MOST)

    assert refused(fleet.members["attic"], consents(fleet, signatures)) == "payload"  # the forge signs, and is not told
    without_forge = {place: raw for place, raw in signatures.items() if place != 5}
    assert refused(fleet.members["attic"], consents(fleet, without_forge)) == "payload"  # four
    own = read_consent(consent_by(fleet, "attic", Told(ALL, MOST)), members=6).parts.signature
    assert refused(fleet.members["attic"], consents(fleet, {**without_forge, 0: own})) == "signature"


def test_where_gateways_are_told_two_sets_nobody_gives_shares_for_either(fleet: PrivateFleet):
    told = {name: MOST if name in NAMES[:3] else OTHERS for name in NAMES if name not in ("eaves", "forge")}
    signatures = {NAMES.index(name): signed(fleet, name, places) for name, places in told.items()}

    for name in told:
        for count in range(1, len(signatures) + 1):
            for chosen in combinations(sorted(signatures), count):
                message = consents(fleet, {place: signatures[place] for place in chosen})
                assert refused(fleet.members[name], message) in ("payload", "signature")


def test_who_was_told_of_other_senders_gives_nothing(tmp_path: Path):
    """The aggregator hides the forge's shares from the attic alone: its signature is about other senders."""
    fleet = PrivateFleet(tmp_path)
    fleet.stage(NAMES)
    fleet.stage(NAMES)
    shares = {place: read_shares(fleet.sent[name][1], members=6) for place, name in enumerate(NAMES)}
    for place, name in enumerate(NAMES):
        sealed = relayed({each: shares[each] for each in (MOST if name == "attic" else ALL)}, own=place)
        header = MemberHeader(gateway=name, **bound(fleet))
        fleet.members[name].answer(pack_relay(header, sealed, own=place, members=6, key=KEY))

    signatures = {place: signed(fleet, name, MOST) for place, name in enumerate(NAMES[:5])}

    assert refused(fleet.members["attic"], consents(fleet, signatures)) == "signature"
    assert refused(fleet.members["barn"], consents(fleet, signatures)) == "signature"  # the attic's is among them


def test_signatures_of_an_older_round_are_none(tmp_path: Path):
    older = to_consent(PrivateFleet(tmp_path / "older", seed="1" * 64))
    newer = to_consent(PrivateFleet(tmp_path / "newer", seed="2" * 64))
    replayed = {place: signed(older, name, ALL) for place, name in enumerate(NAMES)}
    signed(newer, "attic", ALL)

    assert refused(newer.members["attic"], consents(newer, replayed)) == "signature"
    assert refused(newer.members["attic"], consents(older, replayed)) == "base"


def test_signatures_that_are_dropped_or_doubled_or_of_no_survivor_do_not_suffice(fleet: PrivateFleet):
    signatures = {place: signed(fleet, name, MOST) for place, name in enumerate(NAMES[:5])}
    attic = fleet.members["attic"]
    forge = read_consent(consent_by(fleet, "forge", Told(ALL, MOST)), members=6).parts.signature

    for place in signatures:
        assert refused(attic, consents(fleet, {each: signatures[each] for each in signatures if each != place})) == (
            "payload"
        )
    doubled = {**signatures, 4: signatures[3]}
    assert refused(attic, consents(fleet, doubled)) == "signature"
    of_the_silent = {**{place: raw for place, raw in signatures.items() if place != 4}, 5: forge}
    assert refused(attic, consents(fleet, of_the_silent)) == "payload"


@pytest.mark.parametrize("place", range(6))
def test_one_forged_signature_among_enough_is_refused(fleet: PrivateFleet, place: int):
    signatures = {each: signed(fleet, name, ALL) for each, name in enumerate(NAMES)}
    header = MemberHeader(gateway=NAMES[place], **bound(fleet))
    forged = pack_consent(header, Told(ALL, ALL), members=6, key=KEY)
    signatures[place] = read_consent(forged, members=6).parts.signature

    assert refused(fleet.members["attic"], consents(fleet, signatures)) == "signature"


def test_a_gateway_signs_one_set_and_answers_once_also_after_it_began_again(fleet: PrivateFleet):
    attic = fleet.members["attic"]
    first = attic.answer(survivors(fleet, ALL))

    again = participant("attic", fleet.call, attic.steps, taken=dict(attic.taken))

    assert refused(again, survivors(fleet, MOST)) == "second answer"
    assert again.answer(survivors(fleet, ALL)) == first
    signatures = {place: signed(fleet, name, ALL) for place, name in enumerate(NAMES)}
    given = again.answer(consents(fleet, signatures))
    once_more = participant("attic", fleet.call, attic.steps, taken=dict(again.taken))
    fewer = {place: signatures[place] for place in range(5)}
    assert refused(once_more, consents(fleet, fewer)) == "second answer"
    assert refused(once_more, survivors(fleet, MOST)) == "second answer"
    assert once_more.answer(consents(fleet, signatures)) == given


def test_consents_before_survivors_or_to_who_is_none_of_them_are_refused(fleet: PrivateFleet):
    signatures = {place: signed(fleet, name, MOST) for place, name in enumerate(NAMES[:5])}
    forge = fleet.members["forge"]

    assert refused(forge, consents(fleet, signatures)) == "early"
    assert refused(forge, survivors(fleet, MOST)) == "not a member"
    assert refused(forge, survivors(fleet, {0, 1, 2, 5})) == "payload"


def test_survivors_and_consents_by_somebody_else_are_refused(fleet: PrivateFleet):
    header, barn = CohortHeader(**bound(fleet)), key_of("barn")
    attic = fleet.members["attic"]
    assert refused(attic, pack_survivors(header, ALL, members=6, key=barn)) == "signature"
    signatures = {place: signed(fleet, name, ALL) for place, name in enumerate(NAMES)}

    assert refused(attic, pack_consents(header, signatures, members=6, key=barn)) == "signature"
    assert refused(attic, consents(fleet, signatures)[:-65]) == "signature"
    assert refused(attic, b"PST1" + bytes(20_000)) == "oversize"


# -- whoever is told what ---------------------------------------------------------------------------------------------


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_at_most_one_list_is_answered_though_a_third_of_the_gateways_are_in_league(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    """Every gateway is told one of two lists; those in league with the aggregator sign both."""
    fleet = to_consent(PrivateFleet(tmp_path_factory.mktemp("fleet")))
    lists = (ALL, MOST)
    league = data.draw(st.sets(st.sampled_from(range(5)), max_size=2 * threshold(6) - 6 - 1), label="in league")
    told = {place: data.draw(st.sampled_from([0, 1]), label=name) for place, name in enumerate(NAMES)}
    told[5] = 0  # the second list is without it

    signatures: list[dict[int, bytes]] = [{}, {}]
    for place, name in enumerate(NAMES):
        for which in (0, 1) if place in league else (told[place],):
            made = consent_by(fleet, name, Told(ALL, lists[which])) if place in league else None
            signatures[which][place] = (
                signed(fleet, name, lists[which]) if made is None else read_consent(made, members=6).parts.signature
            )
    answered = set()
    for place, name in enumerate(NAMES):
        if place not in league and len(signatures[told[place]]) >= threshold(6):
            fleet.members[name].answer(consents(fleet, signatures[told[place]]))
            answered.add(told[place])

    assert len(answered) <= 1


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_can_be_bared_is_the_sum_of_all_honest_survivors_whoever_was_told_what(data: st.DataObject):
    """Of sets alone: senders as each was told, one list that found enough signatures, mask keys of the silent bared.

    Whose masks are to cancel needs everybody it shares an unbared mask with in the sum too; so from any honest
    survivor one comes to all of them. Lists are drawn among those that find enough signatures.
    """
    members = data.draw(st.integers(3, 12), label="members")
    wanted = threshold(members)
    league = frozenset(
        data.draw(st.sets(st.integers(0, members - 1), max_size=2 * wanted - members - 1), label="league")
    )
    alive = frozenset(
        data.draw(st.permutations(range(members)), label="order")[: data.draw(st.integers(wanted, members))]
    )
    common = alive | frozenset(data.draw(st.sets(st.integers(0, members - 1)), label="silent senders"))
    lied_to = sorted(alive - league)[: max(0, len(alive) - wanted)]
    senders = {
        place: frozenset(data.draw(st.permutations(range(members)))[:wanted]) | {place} if place in lied_to else common
        for place in alive - league
    }
    assert len([place for place in alive if place in league or senders[place] == common]) >= wanted

    for start in alive - league:
        reached, todo = {start}, [start]
        while todo:
            for other in (senders[todo.pop()] & alive) - league - reached:
                reached.add(other)
                todo.append(other)
        assert reached == alive - league


# -- what an aggregator takes -----------------------------------------------------------------------------------------

Hostile = Callable[[PrivateFleet], tuple[str, bytes]]
SURE = Told(ALL, ALL)
AT_CONSENT: dict[str, tuple[str, Hostile]] = {
    "other survivors": ("base", lambda fleet: ("attic", consent_by(fleet, "attic", Told(ALL, MOST)))),
    "other senders": ("base", lambda fleet: ("attic", consent_by(fleet, "attic", Told(MOST, ALL)))),
    "another roster": ("base", lambda fleet: ("attic", consent_by(fleet, "attic", SURE, roster_sha256="0" * 64))),
    "another fleet": ("fleet", lambda fleet: ("attic", consent_by(fleet, "attic", SURE, fleet="others"))),
    "a round to come": ("no such round", lambda fleet: ("attic", consent_by(fleet, "attic", SURE, round=2))),
    "a second set": ("second answer", lambda fleet: ("cellar", consent_by(fleet, "cellar", Told(ALL, MOST)))),
    "another's key": ("signature", lambda fleet: ("attic", consent_by(fleet, "barn", SURE, gateway="attic"))),
    "another's topic": ("wrong gateway", lambda fleet: ("attic", consent_by(fleet, "barn", SURE))),
    "nobody's": ("unknown gateway", lambda fleet: ("stranger", consent_by(fleet, "stranger", SURE))),
    "truncated": ("truncated", lambda fleet: ("attic", consent_by(fleet, "attic", SURE)[:60])),
    "too short a set": ("signature", lambda fleet: ("attic", consent_by(fleet, "attic", SURE)[:-1])),
    "oversize": ("oversize", lambda fleet: ("attic", consent_by(fleet, "attic", SURE) + bytes(20_000))),
    "shares before anybody signed": (
        "stage",
        lambda fleet: (
            "attic",
            pack_unmask(
                MemberHeader(gateway="attic", **bound(fleet)), {}, survivors=ALL, members=6, key=key_of("attic")
            ),
        ),
    ),
}


@pytest.mark.parametrize("what", AT_CONSENT)
def test_a_hostile_message_where_consents_are_waited_for_is_refused_counted_and_changes_nothing(
    fleet: PrivateFleet, what: str
):
    fleet.answer(["cellar"])
    reason, made = AT_CONSENT[what]
    sender, message = made(fleet)
    before = fleet.ledger.digest()

    with pytest.raises(MessageRefused) as caught:
        fleet.masked.submit(message, sender=sender, now_us=LATER_US)

    assert caught.value.reason == reason
    assert fleet.ledger.digest() == before
    assert fleet.ledger.counters()[f"refused: {reason}"] == 1
    assert fleet.ledger.audit()[-1]["reason"] == reason


def test_who_sent_no_masked_steps_has_nothing_to_consent_to_and_who_did_not_consent_no_shares_to_give(tmp_path: Path):
    fleet = PrivateFleet(tmp_path)
    for who in (NAMES, NAMES, NAMES[:5]):
        fleet.stage(who)
    assert fleet.state() == "consent"
    with pytest.raises(MessageRefused, match="forge is not among the survivors"):
        fleet.submit("forge", consent_by(fleet, "forge", Told(ALL, MOST)))
    late = PrivateFleet(tmp_path / "late")
    for who in (NAMES, NAMES, NAMES, NAMES[:5]):
        late.stage(who)
    assert late.state() == "unmask"
    header = MemberHeader(gateway="forge", **bound(late))

    with pytest.raises(MessageRefused, match="forge consented to no survivors"):
        late.submit("forge", pack_unmask(header, {}, survivors=ALL, members=6, key=key_of("forge")))
    with pytest.raises(MessageRefused, match="consent came while round 1 waits for unmask"):
        late.submit("forge", consent_by(late, "forge", SURE))

    late.stage(NAMES[:5])
    assert np.array_equal(late.total(), late.plain(NAMES))


def test_no_more_signatures_are_passed_on_than_it_takes(fleet: PrivateFleet):
    fleet.stage(NAMES)
    told = dict(fleet.masked.outgoing())

    assert set(told) == set(NAMES)
    (message,) = set(told.values())
    assert len(message) < 64 * 5 + 64 + 200
    for name in NAMES:
        assert fleet.members[name].answer(message)


def test_who_answered_is_told_no_more(fleet: PrivateFleet):
    fleet.answer(NAMES[:4])

    assert [name for name, _ in fleet.masked.outgoing()] == ["eaves", "forge"]


# -- a power cut at a gateway -----------------------------------------------------------------------------------------

CHILD = """
    import os, signal, sys
    from pathlib import Path
    from federation.gateway import private
    from tests.federation.test_consents import desk_at

    writes, kill_at, write_whole = 0, int(sys.argv[2]), private.write_whole

    def dying(path, content):
        global writes
        writes += 1
        if writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        write_whole(path, content)

    private.write_whole = dying
    desk_at(Path(sys.argv[1])).go_on(now_us=int(sys.argv[3]))
"""


def desk_at(folder: Path) -> PrivateDesk:
    return PrivateDesk(Desk(folder), key=key_of("attic"), aggregators=[KEY.public_key()])


class OnDisk:
    """The attic as a folder; what came out of it is kept, as an aggregator would."""

    def __init__(self, folder: Path, fleet: PrivateFleet) -> None:
        self.folder, self.fleet = folder, fleet
        self.seen: dict[str, set[bytes]] = {}
        (folder / "federation" / "in").mkdir(parents=True)
        member = fleet.members["attic"]
        learnt = Learnt(round=1, call_sha256=fleet.call.sha256)
        desk_at(folder).begin(fleet.call, fleet.message, member.steps, learnt, gateway="attic")

    def told(self, message: bytes) -> None:
        (self.folder / "federation" / "in" / "0000000001.down").write_bytes(message)

    def run(self, *, kill_at: int = 0) -> PrivateDesk | None:
        """Go on, in a process that is killed at a write, or in this one."""
        desk = None
        if kill_at:
            root = str(Path(__file__).resolve().parents[2])
            killed = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(CHILD), str(self.folder), str(kill_at), str(NOW_US)],
                cwd=root, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, timeout=120,
                check=False,
            )  # fmt: skip
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        else:
            desk = desk_at(self.folder)
            desk.go_on(now_us=NOW_US)
        for path in (self.folder / "federation" / "out").glob("0000000001.u*"):
            message = path.read_bytes()
            self.seen.setdefault(read_header(message)[0], set()).add(message)
        return desk

    def last(self, kind: str) -> bytes:
        (message,) = self.seen[kind]
        return message


@pytest.mark.parametrize("kill_at", [1, 2, 3])  # what was taken; the answer; that it was handed over
@pytest.mark.parametrize("state", ["consent", "unmask"])
def test_killed_at_any_write_a_gateway_signs_one_set_and_gives_shares_once(tmp_path: Path, state: str, kill_at: int):
    fleet = PrivateFleet(tmp_path)
    attic = OnDisk(tmp_path / "attic", fleet)
    attic.run()
    others = NAMES[1:]
    fleet.submit("attic", attic.last("keys"))
    fleet.keys(others)
    fleet.masked.advance(now_us=NOW_US)
    for kind in ("shares", "masked", "consent")[: 2 if state == "consent" else 3]:
        attic.told(fleet.told()["attic"])
        attic.run()
        fleet.submit("attic", attic.last(kind), now_us=NOW_US)
        fleet.answer(others)
        fleet.masked.advance(now_us=NOW_US)
    assert fleet.state() == state
    true = fleet.told()["attic"]
    lie = survivors(fleet, MOST)

    attic.told(true)
    attic.run(kill_at=kill_at)
    attic.told(lie)
    after = attic.run()
    attic.told(true)
    attic.run()

    is_first = state == "consent" and kill_at == 1  # nothing was on disk: the lie is what it was told first
    assert after is not None
    assert after.refused if not is_first else not after.refused
    assert len(attic.seen["consent"]) == 1
    consent = read_consent(attic.last("consent"), members=6)
    assert consent.told.survivors == (MOST if is_first else ALL)
    if state == "unmask":
        assert len(attic.seen["unmask"]) == 1
        assert read_unmask(attic.last("unmask"), members=6).survivors == ALL
        assert not (tmp_path / "attic" / "federation" / PRIVATE_FILE).exists()
        attic.told(lie)
        attic.run()
        assert len(attic.seen["consent"]) == 1  # the round is over here, and is not begun again
