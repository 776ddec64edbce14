"""A private round through files, as the agent would carry them, `penstock-finetune` at one end."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.agent_card import AgentCard, write_card
from contracts.anchors import pack_anchors
from contracts.errors import OutputError
from contracts.masks import read_header
from detection.state import StateRefused
from federation.aggregator.anchors import choose
from federation.aggregator.masked_rounds import MaskedRounds
from federation.gateway import private as private_module
from federation.gateway.desk import Desk, Learnt
from federation.gateway.identity import own_key
from federation.gateway.private import PRIVATE_FILE, PrivateDesk
from federation.gateway.program import main
from tests.federation.homes import (
    FLEET,
    NOW_US,
    attacks,
    bundle,
    call_of,
    demo,
    fill,
    hold_out,
    rounds_at,
    shipped_thresholds,
    trust,
)
from tests.federation.private_fleet import HOUR_US, KEY, PrivateFleet, key_of

NAMES = ("attic", "barn", "cellar", "dairy")


class Home:
    """A gateway's folders, and what the agent does there: take what lies in `out/`, lay what comes into `in/`."""

    def __init__(self, folder: Path, name: str, aggregators: Path) -> None:
        self.name, self.aggregators = name, aggregators
        self.state = fill(folder / name, alarm=attacks("flood"), called="flood")
        self.federation = self.state / "federation"

    def lay(self, name: str, content: bytes) -> None:
        (self.federation / "in").mkdir(parents=True, exist_ok=True)
        (self.federation / "in" / name).write_bytes(content)

    def run(self, *more: str) -> int:
        places = ["--state-dir", str(self.state), "--aggregators", str(self.aggregators)]
        peers = ["--peers", str(self.state / "peers.d")]
        return main([*places, *peers, "--fleet", FLEET, "--gateway", self.name, "--now", *more])

    def sent(self) -> list[bytes]:
        paths = sorted((self.federation / "out").glob("*.u*"))
        found = [path.read_bytes() for path in paths]
        for path in paths:
            path.unlink()
        return found


def pinned(home: Home, homes: list[Home]) -> None:
    folder = home.state / "peers.d"
    folder.mkdir(mode=0o755)
    for other in homes:
        key = own_key(other.federation).public_key()
        path = folder / f"{other.name}.pub"
        path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        path.chmod(0o644)


def test_four_homes_sum_what_they_learnt_though_one_goes_silent_and_one_loses_its_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
    aggregators = trust(tmp_path / "aggregators", KEY)
    ledger, rounds = rounds_at(tmp_path / "aggregator.db", KEY, mode="private", lasts_us=24 * HOUR_US)
    masked = MaskedRounds(rounds)
    homes = [Home(tmp_path, name, aggregators) for name in NAMES]
    for home in homes:
        rounds.enrol(home.name, own_key(home.federation).public_key(), now_us=NOW_US)
    pinned(homes[0], homes)
    call = rounds.open(now_us=NOW_US)
    windows = demo().where(demo().label >= 0)
    chosen = choose(windows.embedding, windows.label, head=rounds.head, thresholds=shipped_thresholds())
    anchors = pack_anchors(chosen, fleet=FLEET, bundle_sha256=bundle().manifest_sha256, key=KEY)

    def deliver(who: list[Home]) -> list[str]:
        kinds = []
        for home in who:
            for message in home.sent():
                masked.submit(message, sender=home.name, now_us=NOW_US)
                kinds.append(read_header(message)[0])
        masked.advance(now_us=NOW_US)
        for name, message in masked.outgoing():
            next(home for home in homes if home.name == name).lay("0000000001.down", message)
        return kinds

    for home in homes:
        home.lay("1.call", call)
        home.lay("1.anchors", anchors)
        home.run()
    steps = {
        home.name: np.frombuffer(private_module._octets(json.loads(private_of(home))["steps"]), "i1") for home in homes
    }
    assert deliver(homes) == ["keys"] * 4
    for home in homes:
        home.run()
    assert deliver(homes) == ["shares"] * 4
    cut(monkeypatch, homes[1])  # the power goes when the answer stands on disk and not in out/
    assert homes[1].run() == 0
    for home in homes[:3]:
        home.run()
        home.run()  # nothing is answered twice
    assert deliver(homes[:3]) == ["masked"] * 3
    (until_us,) = ledger.row("SELECT until_us FROM private_rounds")
    masked.advance(now_us=until_us)
    deliver([])
    for home in homes[:3]:
        home.run()
    assert deliver(homes[:3]) == ["consent"] * 3
    for home in homes[:3]:
        home.run()
    assert deliver(homes[:3]) == ["unmask"] * 3

    assert masked.is_due()
    (total,) = ledger.row("SELECT total FROM private_rounds")
    assert np.array_equal(np.frombuffer(total, "<i4"), sum(steps[name].astype(int) for name in NAMES[:3]))
    assert masked.close(now_us=NOW_US + HOUR_US, hold_out=hold_out()).updates == 3
    assert not (homes[0].federation / PRIVATE_FILE).exists()
    assert (homes[3].federation / PRIVATE_FILE).exists()  # until the round's end
    monkeypatch.setattr("time.time_ns", lambda: (NOW_US + 24 * HOUR_US) * 1000)
    homes[3].run()
    assert not (homes[3].federation / PRIVATE_FILE).exists()
    assert "private round 1: unmask of" in capsys.readouterr().out


def test_a_gateway_that_knows_its_peers_answers_no_round_of_mode_robust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
    home = Home(tmp_path, "attic", trust(tmp_path / "aggregators", KEY))
    pinned(home, [home])
    home.lay("1.call", call_of(KEY, mode="robust")[0])

    assert home.run() == 0

    assert home.sent() == []
    assert "(mode): of mode robust" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["the option", "the agent's card"])
def test_where_only_private_rounds_are_answered_a_robust_one_is_refused_counted_and_told(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
    home = Home(tmp_path, "attic", trust(tmp_path / "aggregators", KEY))
    home.lay("1.call", call_of(KEY, mode="robust")[0])
    if by == "the agent's card":
        card = AgentCard(
            gateway="attic", fleet=FLEET, bundle=None, bundle_sha256="0" * 64, trust="/etc/penstock/trust.d",
            aggregators=str(home.aggregators), private_only=True,
        )  # fmt: skip
        write_card(home.state, card)

    assert home.run("--json", *(["--private-only"] if by == "the option" else [])) == 0

    report = json.loads(capsys.readouterr().out)
    assert (report["private_only"], report["refused"], report["outcome"]) == (True, {"mode": 1}, "idle")
    assert "of mode robust, which shows what one gateway learnt" in report["refused_calls"][0]
    assert home.sent() == []
    home.lay("2.call", call_of(KEY, mode="private")[0])
    assert home.run(*(["--private-only"] if by == "the option" else [])) == 0
    assert [read_header(message)[0] for message in home.sent()] == ["keys"]


def test_an_unmasked_update_from_before_that_setting_does_not_leave_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
    home = Home(tmp_path, "attic", trust(tmp_path / "aggregators", KEY))
    home.lay("1.call", call_of(KEY, mode="robust")[0])
    assert home.run() == 0
    (path,) = (home.federation / "out").glob("*.update")
    update = path.read_bytes()
    desk = Desk(home.state)
    desk.remember(desk.learnt().model_copy(update={"is_handed": False}))  # as a power cut leaves it

    assert home.run("--private-only", "--json") == 0

    report = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert report["refused"] == {"mode": 1, "unmasked": 2}
    assert home.sent() == []
    assert update not in (home.federation / "learnt.json").read_bytes()
    assert home.run() == 0  # the setting taken back: that round stays answered
    assert home.sent() == []


def private_of(home: Home) -> bytes:
    path = home.federation / PRIVATE_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_bytes()


def cut(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    """Let the next answer be remembered and not handed over."""

    def lost(self: PrivateDesk, state: object, participant: object, kind: str) -> int:
        monkeypatch.undo()
        monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
        return 0

    monkeypatch.setattr(PrivateDesk, "_hand", lost)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.inbox.mkdir(parents=True)
    return made


def begun(desk: Desk) -> PrivateDesk:
    message, call = call_of(KEY, mode="private")
    private = PrivateDesk(desk, key=own_key(desk.folder), aggregators=[KEY.public_key()])
    private.begin(call, message, np.ones(100, np.int8), Learnt(round=1, call_sha256=call.sha256), gateway="attic")
    return private


def test_a_round_that_is_begun_counts_as_answered(desk: Desk):
    private = begun(desk)

    assert desk.learnt().round == 1
    assert [path.name for path in desk.outbox.iterdir()] == ["0000000001.up"]
    assert private.told == ["round 1: keys of 271 bytes"]


def test_a_round_that_the_power_kept_from_being_remembered_is_gone_on_with_and_not_begun_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    def gone(self: Desk, learnt: Learnt) -> None:
        raise OutputError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(Desk, "remember", gone)
        with pytest.raises(OutputError):
            begun(desk)
    seeds = json.loads((desk.folder / PRIVATE_FILE).read_bytes())["seeds"]
    assert (desk.learnt().round, desk.outbox.exists()) == (0, False)

    PrivateDesk(desk, key=own_key(desk.folder), aggregators=[KEY.public_key()]).go_on(now_us=NOW_US)

    assert desk.learnt().round == 1
    assert [path.name for path in desk.outbox.iterdir()] == ["0000000001.up"]
    assert json.loads((desk.folder / PRIVATE_FILE).read_bytes())["seeds"] == seeds


def test_what_is_no_message_of_the_round_is_told_and_not_answered(desk: Desk):
    private = begun(desk)
    before = (desk.folder / PRIVATE_FILE).read_bytes()
    (desk.inbox / "1.down").write_bytes(b"PSR2" + bytes(200))
    (desk.inbox / "2.down").write_bytes(b"of another round")
    (desk.inbox / "what.down").write_bytes(b"of none")

    private.go_on(now_us=NOW_US)

    assert len(private.refused) == 1
    assert "message refused" in private.refused[0]
    assert (desk.folder / PRIVATE_FILE).read_bytes() == before


def test_a_round_whose_aggregator_is_no_longer_trusted_is_given_up_and_the_next_one_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The file stayed, and every run of the trainer ended at it, also after the round's end."""
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
    home = Home(tmp_path, "attic", trust(tmp_path / "aggregators", KEY))
    home.lay("1.call", call_of(KEY, mode="private")[0])
    assert home.run() == 0
    newer = Ed25519PrivateKey.generate()
    trust(home.aggregators, newer)
    home.sent()

    assert home.run("--json") == 0

    report = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert report["refused"] == {"signature": 2}
    assert "is given up: message refused (signature)" in report["refused_calls"][-1]
    assert not (home.federation / PRIVATE_FILE).exists()
    home.lay("2.call", call_of(newer, mode="private", round=2)[0])
    assert home.run() == 0
    assert [read_header(message)[0] for message in home.sent()] == ["keys"]


def test_an_answer_that_the_power_kept_back_is_not_given_to_who_is_no_peer_any_more(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "fleet").mkdir()
    fleet = PrivateFleet(tmp_path / "fleet")
    member = fleet.members["attic"]
    peers = {name: key_of(name).public_key() for name in fleet.names}
    told = {"key": member.key, "aggregators": [KEY.public_key()]}
    private = PrivateDesk(desk, peers=peers, **told)
    private.begin(fleet.call, fleet.message, member.steps, Learnt(round=1), gateway="attic")
    fleet.submit("attic", (desk.outbox / "0000000001.up").read_bytes())
    fleet.stage(fleet.names[1:])
    (desk.inbox / "0000000001.down").write_bytes(fleet.told()["attic"])
    with monkeypatch.context() as patched:
        patched.setattr(PrivateDesk, "_hand", lambda self, state, participant, kind: 0)
        private.go_on(now_us=NOW_US)
    (desk.outbox / "0000000001.up").unlink()
    del peers["barn"]

    again = PrivateDesk(desk, peers=peers, **told)
    again.go_on(now_us=NOW_US)

    assert "barn is in the roster and not among the known peers" in again.refused[0]
    assert [*desk.outbox.iterdir()] == []
    assert not (desk.folder / PRIVATE_FILE).exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format":1}', b"null"])
def test_a_broken_file_is_refused_in_one_line(desk: Desk, content: bytes):
    private = begun(desk)
    (desk.folder / PRIVATE_FILE).write_bytes(content)

    with pytest.raises(StateRefused, match=r"private\.json"):
        private.go_on(now_us=NOW_US)


def test_a_disk_that_takes_nothing_sends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, content: bytes, **_: object) -> None:
        raise OutputError(f"{path}: cannot be written: no space left")

    monkeypatch.setattr(private_module, "write_whole", full)

    with pytest.raises(OutputError):
        begun(desk)

    assert not desk.outbox.exists()
