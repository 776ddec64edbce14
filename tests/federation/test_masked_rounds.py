"""Private rounds on disk: states, drop-outs, hostile messages that change nothing, a SIGKILL wherever it comes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from contracts.bundle import load_bundle, write_manifest
from contracts.masks import KeysHeader, MemberHeader, pack_keys, pack_masked, pack_shares
from contracts.signed import MessageRefused
from contracts.unmasking import pack_unmask, read_unmask
from contracts.update import MAX_UPDATE_BYTES, UpdateHeader, pack_update
from federation.aggregator.ledger import Ledger
from federation.aggregator.masked_rounds import MaskedRounds
from federation.aggregator.masked_standing import answered
from federation.aggregator.masked_sum import found_in
from federation.aggregator.rollout import Rollouts, RolloutSettings
from federation.aggregator.rounds import RoundSettings
from federation.gateway.learn import DEFAULTS
from tests.federation.conftest import NewFolder
from tests.federation.homes import FLEET, NOW_US, PARAMETERS, bundle, hold_out, rounds_at, store_of
from tests.federation.killed import at_change
from tests.federation.private_fleet import HOUR_US, KEY, LATER_US, NAMES, Hostile, PrivateFleet, key_of, participant


@pytest.fixture
def fleet(folder: Path) -> PrivateFleet:
    return PrivateFleet(folder)


KINDS = ("keys", "shares", "masked", "consent", "unmask")


def to_state(fleet: PrivateFleet, state: str) -> PrivateFleet:
    for _ in range([*KINDS, "sum"].index(state)):
        fleet.stage(NAMES)
    assert fleet.state() == state
    return fleet


def test_a_round_whose_roster_another_key_signed_is_told_all_the_same(folder: Path):
    fleet = to_state(PrivateFleet(folder), "sum")
    fleet.masked.close(now_us=LATER_US, hold_out=hold_out())

    assert answered(fleet.ledger, 1, KEY.public_key()) == ("sum", set(NAMES))
    assert answered(fleet.ledger, 1, key_of("new").public_key()) == ("sum", set())


def test_a_private_round_moves_the_head_by_the_mean(folder: Path):
    fleet = PrivateFleet(folder, clip_norm=0.25)
    before = fleet.rounds.head
    for name in NAMES:
        fleet.members[name].steps[:] = 2
    to_state(fleet, "sum")
    assert fleet.masked.is_due()

    closed = fleet.masked.close(now_us=LATER_US, hold_out=hold_out())

    assert (closed.state, closed.updates, closed.why) == ("adopted", 6, "")
    moved = (fleet.rounds.head.flat - before.flat)[fleet.call.places]
    assert moved == pytest.approx(2 * fleet.call.header.scale, rel=1e-3)
    assert fleet.ledger.row("SELECT count(*) FROM private") == (0,)
    assert fleet.masked.advance(now_us=LATER_US) is None
    assert fleet.masked.close(now_us=LATER_US, hold_out=hold_out()) is None
    assert [entry["state"] for entry in fleet.ledger.audit() if entry["what"] == "private"] == [
        "shares", "masked", "consent", "unmask", "sum",
    ]  # fmt: skip


@pytest.mark.parametrize("silent", KINDS)
def test_one_of_six_that_goes_silent_at_any_state_is_recovered_from(fleet: PrivateFleet, silent: str):
    for state in KINDS:
        fleet.stage(NAMES[:5] if KINDS.index(state) >= KINDS.index(silent) else NAMES)

    counted = NAMES if silent in ("consent", "unmask") else NAMES[:5]
    assert fleet.state() == "sum"
    assert np.array_equal(fleet.total(), fleet.plain(counted))


@pytest.mark.parametrize(
    ("silent", "why"),
    [
        ("keys", "2 gateways, wanted 3"),
        ("shares", "2 of 6 sent shares, wanted 5"),
        ("masked", "2 of 6 sent masked steps, wanted 5"),
        ("consent", "2 of 6 consented, wanted 5"),
        ("unmask", "2 of 6 gave shares, wanted 5"),
    ],
)
def test_below_the_threshold_the_round_is_void_and_the_head_stays(fleet: PrivateFleet, silent: str, why: str):
    before = fleet.rounds.head.sha256
    to_state(fleet, silent)
    fleet.stage(NAMES[:2])

    assert fleet.masked.is_due()
    closed = fleet.masked.close(now_us=LATER_US, hold_out=hold_out())

    assert (closed.state, closed.why) == ("void", why)
    assert fleet.rounds.head.sha256 == before


def test_a_state_waits_for_the_last_answer_until_its_time_is_up(fleet: PrivateFleet):
    fleet.keys(NAMES[:5])

    assert fleet.masked.advance(now_us=LATER_US) == "keys"
    (until_us,) = fleet.ledger.row("SELECT until_us FROM private_rounds")
    assert fleet.masked.advance(now_us=until_us - 1) == "keys"
    assert fleet.masked.advance(now_us=until_us) == "shares"
    assert len(fleet.masked.outgoing()) == 5


@pytest.mark.parametrize("names", [(), NAMES[:1], NAMES[:2]])
def test_a_round_opened_before_enough_gateways_are_enrolled_waits_for_them(folder: Path, names: tuple[str, ...]):
    fleet = PrivateFleet(folder, names=names)
    fleet.keys(names)

    assert fleet.masked.advance(now_us=LATER_US) == "keys"
    assert not fleet.masked.is_due()
    assert fleet.at_time_up() == "void"


def test_a_revoked_gateway_is_left_out_of_the_next_state_and_void_where_that_is_too_late(new_folder: NewFolder):
    fleet = PrivateFleet(new_folder("early"))
    to_state(fleet, "masked")
    fleet.answer(NAMES)
    fleet.rounds.revoke("attic", now_us=LATER_US)
    fleet.masked.advance(now_us=LATER_US)
    fleet.stage(NAMES[1:])
    fleet.stage(NAMES[1:])
    assert np.array_equal(fleet.total(), fleet.plain(NAMES[1:]))

    late = to_state(PrivateFleet(new_folder("late")), "unmask")
    late.rounds.revoke("attic", now_us=LATER_US)
    late.stage(NAMES[1:])
    assert late.state() == "void"
    assert "attic was revoked" in late.masked.close(now_us=LATER_US, hold_out=hold_out()).why


def test_more_than_the_largest_cohort_waits_for_another_round(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("federation.aggregator.masked_rounds.MAX_COHORT", 4)
    fleet = PrivateFleet(folder)

    fleet.stage(NAMES)

    assert [name for name, _ in fleet.masked.outgoing()] == list(NAMES[:4])


def test_who_comes_when_a_cohort_is_full_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("federation.aggregator.masked_rounds.MAX_COHORT", 4)
    fleet = PrivateFleet(folder)
    fleet.keys(NAMES[:4])
    fleet.rounds.revoke(NAMES[0], now_us=LATER_US)
    assert fleet.masked.advance(now_us=LATER_US) == "keys"

    fleet.keys([NAMES[4]])

    assert fleet.masked.advance(now_us=LATER_US) == "shares"
    assert [name for name, _ in fleet.masked.outgoing()] == list(NAMES[1:5])
    with pytest.raises(MessageRefused, match="waits for shares"):
        fleet.keys([NAMES[5]])


@pytest.mark.parametrize("state", ["keys", "shares", "masked", "consent", "unmask"])
def test_of_a_round_that_a_way_back_ends_nothing_that_members_sent_is_kept(folder: Path, state: str):
    fleet = PrivateFleet(folder)
    rollouts = Rollouts(fleet.ledger, bundle(), fleet=FLEET, key=KEY, settings=RolloutSettings())
    newer = folder / "newer"
    shutil.copytree(bundle().path, newer)
    write_manifest(newer, bundle().manifest.model_copy(update={"release": bundle().manifest.release + 1}))
    rollouts.begin(load_bundle(newer), head_sha256="c" * 64, now_us=NOW_US)
    to_state(fleet, state)
    (fleet.keys if state == "keys" else fleet.answer)(NAMES[:3])

    rollouts.roll_back(why="harm", now_us=LATER_US)

    assert fleet.rounds.opened() is None
    assert fleet.ledger.rows("SELECT kind FROM private") == []
    assert fleet.masked.advance(now_us=LATER_US) is None
    with pytest.raises(MessageRefused, match="expired round"):
        fleet.submit(NAMES[0], fleet.sent[NAMES[0]][-1])


# -- who lies ---------------------------------------------------------------------------------------------------------


def test_a_member_whose_steps_are_no_steps_spoils_the_round_and_no_more(fleet: PrivateFleet):
    before = fleet.rounds.head.sha256
    to_state(fleet, "masked")
    fleet.answer(NAMES[1:])
    fleet.members["attic"].answer(dict(fleet.masked.outgoing())["attic"])
    fleet.submit("attic", masked_by(fleet, "attic", np.full(fleet.call.header.kept, 30_000, np.uint16)))
    fleet.masked.advance(now_us=LATER_US)
    fleet.stage(NAMES)
    fleet.stage(NAMES)

    closed = fleet.masked.close(now_us=LATER_US, hold_out=hold_out())

    assert closed.state == "void"
    assert "a member lied" in closed.why
    assert fleet.rounds.head.sha256 == before


def test_a_member_that_gives_wrong_shares_is_named_and_the_sum_stands(fleet: PrivateFleet):
    to_state(fleet, "unmask")
    told = dict(fleet.masked.outgoing())
    right = read_unmask(fleet.members["attic"].answer(told["attic"]), members=6)
    wrong = {place: bytes(16) + bytes([place]) for place in right.shares}
    fleet.submit("attic", pack_unmask(right.header, wrong, survivors=range(6), members=6, key=key_of("attic")))
    fleet.answer(NAMES[1:])

    assert fleet.masked.advance(now_us=LATER_US) == "sum"
    assert np.array_equal(fleet.total(), fleet.plain(NAMES))
    (entry,) = [entry for entry in fleet.ledger.audit() if entry["what"] == "wrong shares"]
    assert entry["gateways"] == ["attic"]


def test_a_member_whose_own_shares_fit_nothing_makes_the_round_void_and_is_named(fleet: PrivateFleet):
    to_state(fleet, "shares")
    fleet.answer(NAMES[1:])
    liar = participant("attic", fleet.call, fleet.members["attic"].steps)
    honest = liar.answer(dict(fleet.masked.outgoing())["attic"])
    header = MemberHeader(fleet=FLEET, round=1, gateway="attic", roster_sha256=roster_of(fleet))
    fleet.submit("attic", pack_shares(header, bytes(32), [bytes(50)] * 5, key_of("attic")))
    assert honest != fleet.sent["attic"][-1]
    fleet.members["attic"] = liar
    fleet.masked.advance(now_us=LATER_US)
    for _ in range(3):
        fleet.stage(NAMES)

    assert fleet.state() == "void"
    assert "shares of a secret of attic" in fleet.masked.close(now_us=LATER_US, hold_out=hold_out()).why


def roster_of(fleet: PrivateFleet) -> str:
    return fleet.masked._standing().roster.sha256


def masked_by(fleet: PrivateFleet, name: str, values: np.ndarray, **changes: object) -> bytes:
    told = {"fleet": FLEET, "round": 1, "gateway": name, "roster_sha256": roster_of(fleet), **changes}
    return pack_masked(MemberHeader(**told), values, senders=range(6), members=6, key=key_of(name))


def keys_by(at: PrivateFleet, name: str, keys: tuple[bytes, bytes], **changes: object) -> bytes:
    told = {"fleet": FLEET, "round": 1, "gateway": name, "call_sha256": at.call.sha256, **changes}
    return pack_keys(KeysHeader(**told), mask_key=keys[0], share_key=keys[1], key=key_of(name))


KEPT = round(0.1 * PARAMETERS)
FRESH = (b"\x21" * 32, b"\x22" * 32)


def update(fleet: PrivateFleet, name: str) -> bytes:
    header = UpdateHeader(fleet=FLEET, round=1, gateway=name, call_sha256=fleet.call.sha256, examples=9, made_us=NOW_US)
    return pack_update(header, np.ones(fleet.call.header.kept, np.int8), key_of(name))


AT_KEYS: dict[str, tuple[str, Hostile]] = {
    "empty": ("foreign", lambda fleet: ("attic", b"")),
    "an update of mode robust": ("foreign", lambda fleet: ("attic", update(fleet, "attic"))),
    "truncated": ("truncated", lambda fleet: ("attic", fleet.members["attic"].keys()[:60])),
    "oversize": ("oversize", lambda fleet: ("attic", fleet.members["attic"].keys() + bytes(20_000))),
    "noise": ("schema", lambda fleet: ("attic", b"PSK1" + bytes(range(256)))),
    "another gateway's topic": ("wrong gateway", lambda fleet: ("barn", fleet.members["attic"].keys())),
    "not enrolled": ("unknown gateway", lambda fleet: ("stranger", keys_by(fleet, "stranger", FRESH))),
    "another's key": (
        "signature", lambda fleet: ("attic", participant("attic", fleet.call, np.ones(KEPT, np.int8), key=KEY).keys()),
    ),
    "another fleet": ("fleet", lambda fleet: ("attic", keys_by(fleet, "attic", FRESH, fleet="others"))),
    "round to come": ("no such round", lambda fleet: ("attic", keys_by(fleet, "attic", FRESH, round=2))),
    "another call": ("base", lambda fleet: ("attic", keys_by(fleet, "attic", FRESH, call_sha256="0" * 64))),
    "one key twice": ("payload", lambda fleet: ("attic", keys_by(fleet, "attic", (FRESH[0], FRESH[0])))),
    "a key of no secret": ("payload", lambda fleet: ("attic", keys_by(fleet, "attic", (FRESH[0], bytes(32))))),
    "other keys": ("second answer", lambda fleet: ("cellar", keys_by(fleet, "cellar", FRESH))),
    "shares too early": (
        "stage",
        lambda fleet: (
            "attic",
            pack_shares(
                MemberHeader(fleet=FLEET, round=1, gateway="attic", roster_sha256="0" * 64), bytes(32), [],
                key_of("attic"),
            ),
        ),
    ),
    "revoked": ("revoked", lambda fleet: ("dairy", fleet.members["dairy"].keys())),
}  # fmt: skip
AT_MASKED: dict[str, tuple[str, Hostile]] = {
    "keys too late": ("stage", lambda fleet: ("forge", keys_by(fleet, "forge", FRESH))),
    "another roster": (
        "base", lambda fleet: ("attic", masked_by(fleet, "attic", np.ones(KEPT, np.uint16), roster_sha256="0" * 64)),
    ),
    "too few numbers": ("payload", lambda fleet: ("attic", masked_by(fleet, "attic", np.ones(KEPT - 1, np.uint16)))),
    "other masked steps": (
        "second answer", lambda fleet: ("cellar", masked_by(fleet, "cellar", np.ones(KEPT, np.uint16))),
    ),
    "no member": ("not a member", lambda fleet: ("forge", masked_by(fleet, "forge", np.ones(KEPT, np.uint16)))),
}  # fmt: skip


def refuse(fleet: PrivateFleet, reason: str, made: Hostile) -> None:
    before = fleet.ledger.digest()
    sender, message = made(fleet)

    with pytest.raises(MessageRefused) as caught:
        fleet.masked.submit(message, sender=sender, now_us=LATER_US)

    assert caught.value.reason == reason
    assert fleet.ledger.digest() == before
    assert fleet.ledger.counters()[f"refused: {reason}"] == 1
    assert fleet.ledger.audit()[-1]["reason"] == reason


@pytest.mark.parametrize("what", AT_KEYS)
def test_a_hostile_message_for_keys_is_refused_counted_and_logged_and_changes_nothing(fleet: PrivateFleet, what: str):
    fleet.keys(["cellar"])
    fleet.rounds.revoke("dairy", now_us=NOW_US)

    refuse(fleet, *AT_KEYS[what])


@pytest.mark.parametrize("what", AT_MASKED)
def test_a_hostile_message_for_masked_steps_is_refused_too(fleet: PrivateFleet, what: str):
    fleet.stage(NAMES[:5])  # the forge comes too late
    fleet.stage(NAMES[:5])
    fleet.answer(["cellar"])

    refuse(fleet, *AT_MASKED[what])


def test_masked_steps_that_come_late_are_refused_since_their_mask_key_is_asked_for(fleet: PrivateFleet):
    to_state(fleet, "masked")
    told = dict(fleet.masked.outgoing())["attic"]
    fleet.stage(NAMES[1:])
    late = fleet.members["attic"].answer(told)
    before = fleet.ledger.digest()

    with pytest.raises(MessageRefused, match="masked came while round 1 waits for consent"):
        fleet.submit("attic", late)

    assert fleet.ledger.digest() == before
    assert "attic" not in dict(fleet.masked.outgoing())
    fleet.stage(NAMES[1:])
    fleet.stage(NAMES[1:])
    assert np.array_equal(fleet.total(), fleet.plain(NAMES[1:]))


def test_where_too_few_shares_were_given_nobody_is_said_to_have_lied(fleet: PrivateFleet):
    to_state(fleet, "unmask")
    told = dict(fleet.masked.outgoing())
    for name in NAMES:
        answer = read_unmask(fleet.members[name].answer(told[name]), members=6)
        shares = answer.shares if name in NAMES[:4] else {}
        packed = pack_unmask(answer.header, shares, survivors=answer.survivors, members=6, key=key_of(name))
        fleet.submit(name, packed)
    fleet.masked.advance(now_us=LATER_US)

    (why,) = fleet.ledger.row("SELECT why FROM private_rounds")
    assert fleet.state() == "void"
    assert why.endswith("4 shares of a secret of attic, not 5 of them right: its fault or their givers'")


def test_nobody_waits_while_shares_are_tried_and_what_comes_meanwhile_counts(
    fleet: PrivateFleet, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another worker, whose clock is a moment behind, takes an answer while we sum those before."""
    to_state(fleet, "unmask")
    fleet.answer(NAMES[:5])
    (until_us,) = fleet.ledger.row("SELECT until_us FROM private_rounds")
    late = fleet.members["forge"].answer(dict(fleet.masked.outgoing())["forge"])
    other = MaskedRounds(rounds_at(folder / "aggregator.db", KEY)[1])
    given: list[int] = []

    def slow(gathered, *, of):
        given.append(len(gathered.given))
        if len(given) == 1:
            assert other.submit(late, sender="forge", now_us=until_us - 1) == "accepted"
        return found_in(gathered, of=of)

    monkeypatch.setattr("federation.aggregator.masked_rounds.found_in", slow)

    assert fleet.masked.advance(now_us=until_us) == "sum"
    assert given == [5, 6]
    assert np.array_equal(fleet.total(), fleet.plain(NAMES))


def test_a_sum_that_another_worker_found_first_is_found_done(
    fleet: PrivateFleet, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    to_state(fleet, "unmask")
    fleet.answer(NAMES)
    other = MaskedRounds(rounds_at(folder / "aggregator.db", KEY)[1])

    def slow(gathered, *, of):
        with monkeypatch.context() as patch:
            patch.setattr("federation.aggregator.masked_rounds.found_in", found_in)
            assert other.advance(now_us=LATER_US) == "sum"
            other.close(now_us=LATER_US, hold_out=hold_out())
        return found_in(gathered, of=of)

    monkeypatch.setattr("federation.aggregator.masked_rounds.found_in", slow)

    assert fleet.masked.advance(now_us=LATER_US) is None
    assert fleet.ledger.counters()["private sum"] == 1


def test_every_message_twice_counts_once(fleet: PrivateFleet):
    for _ in range(5):
        fleet.stage(NAMES)
    for name in NAMES:
        assert [fleet.submit(name, message) for message in list(fleet.sent[name])] == ["repeated"] * 5

    counters = fleet.ledger.counters()
    assert [counters[f"accepted {kind}"] for kind in KINDS] == [6] * 5
    assert counters["repeated"] == 30
    assert np.array_equal(fleet.total(), fleet.plain(NAMES))


def test_a_private_round_takes_no_robust_update_and_a_robust_one_no_masks(new_folder: NewFolder, fleet: PrivateFleet):
    with pytest.raises(MessageRefused, match="round 1 is of mode private"):
        fleet.rounds.submit(update(fleet, "attic"), sender="attic", now_us=LATER_US)
    robust = PrivateFleet(new_folder("robust"), mode="robust")
    with pytest.raises(MessageRefused, match="round 1 is not of mode private"):
        robust.keys(["attic"])
    assert robust.masked.advance(now_us=LATER_US) is None
    assert robust.masked.outgoing() == []


def test_what_a_gateway_sends_in_a_private_round_of_ten_is_within_five_kilobytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    names = tuple(f"gateway-{number:02d}" for number in range(10))
    fleet = PrivateFleet(folder, names=names, kept_share=1.0)

    for _ in range(5):
        fleet.stage(names)

    assert fleet.state() == "sum"
    sizes = [len(message) for message in fleet.sent[names[0]]]
    with capsys.disabled():
        print(f"\n{PARAMETERS} numbers, 10 gateways: {', '.join(KINDS)} {sizes}, {sum(sizes)} bytes in all")
    assert sum(sizes) <= MAX_UPDATE_BYTES


def test_settings_of_no_mode_and_a_quorum_above_the_threshold(folder: Path):
    fleet = PrivateFleet(folder, quorum=6)
    to_state(fleet, "masked")
    fleet.stage(NAMES[:5])

    assert fleet.state() == "void"
    with pytest.raises(ValueError, match="no mode"):
        RoundSettings(mode="secret")
    assert DEFAULTS.proximal > 0


# -- a power cut ------------------------------------------------------------------------------------------------------

FEW = NAMES[:3]


def one_round(folder: Path) -> None:
    """Go through round 1 from wherever it is; gateways send again all they ever sent."""
    ledger = Ledger(store_of(folder))
    is_closed = ledger.row("SELECT 1 FROM rounds WHERE state <> 'open'") is not None
    ledger.close()
    if is_closed:
        return
    fleet = PrivateFleet(folder, names=FEW, clip_norm=2.0)
    for name in FEW:
        fleet.members[name].steps[:] = 2
    for kind in KINDS:
        if fleet.masked.advance(now_us=LATER_US) == kind:
            (fleet.keys if kind == "keys" else fleet.answer)(FEW)
            fleet.masked.advance(now_us=LATER_US)
        elif kind == "keys":
            # A gateway that was answered already is where its disk says: it took what the aggregator told it.
            _catch_up(fleet)
    fleet.masked.close(now_us=LATER_US, hold_out=hold_out())


def _catch_up(fleet: PrivateFleet) -> None:
    at = fleet.masked._standing()
    row = fleet.ledger.row("SELECT roster FROM private_rounds")
    for name in FEW if at.state in ("masked", "consent", "unmask") else ():
        fleet.members[name].answer(bytes(row[0]))
    for state in ("masked", "consent"):
        if at.state in KINDS[KINDS.index(state) + 1 :]:
            told = _told_in(fleet, state)
            for name in FEW:
                fleet.members[name].answer(told[name])


def _told_in(fleet: PrivateFleet, state: str) -> dict[str, bytes]:
    """Return what a state before told everybody."""
    fleet.ledger.run("BEGIN")
    fleet.ledger.run("UPDATE private_rounds SET state = ?", state)
    told = fleet.told()
    fleet.ledger.run("ROLLBACK")
    return told


@pytest.mark.parametrize("kill_at", [5, 25, 41, 49, 52, 55, 58, 62, 68, 74, 84])  # from enrolling to closing
def test_a_sigkill_at_any_change_loses_nothing_and_counts_nothing_twice(new_folder: NewFolder, kill_at: int):
    one_round(whole := new_folder("whole"))
    wanted = rounds_at(whole / "aggregator.db", KEY)[1].head.sha256
    folder = new_folder("killed")

    at_change("tests.federation.test_masked_rounds", folder, kill_at)
    one_round(folder)

    ledger, rounds = rounds_at(folder / "aggregator.db", KEY)
    assert rounds.head.sha256 == wanted
    counters = ledger.counters()
    assert [counters[f"accepted {kind}"] for kind in KINDS] == [3] * 5
    assert [row[0] for row in ledger.rows("SELECT state FROM rounds")] == ["adopted"]
    assert MaskedRounds(rounds).outgoing() == []
    assert LATER_US - NOW_US == HOUR_US
