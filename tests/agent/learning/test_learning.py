"""Federation as the service knows it: off unless switched on; the trainer is told who we are, and asked for runs."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config import AgentConfig, load_config
from agent.delivery.inbox import Incoming
from agent.learning.learning import WISHES_APART_S, Learning
from contracts.agent_card import FOLDER, WANTED_FILE, read_card, run_ended, taken_up, want_run, wanted
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.errors import UsageError
from contracts.rollout import MAX_ARCHIVE_BYTES
from tests.bundles import write_refusal_bundle

ROUND, DOWN = "penstock/v1/fleet/homes/round", "penstock/v1/attic/federation/down/1"
ID = "00000000-0000-7000-8000-0000000000a1"


def settings(**changes: object) -> AgentConfig:
    given: dict[str, Any] = {
        "capture.interfaces": ["eth0"], "gateway.id": "attic", "federation.enabled": True, "federation.fleet": "homes",
    }  # fmt: skip
    return load_config(
        None, environ={}, overrides=given | {key.replace("__", "."): val for key, val in changes.items()}
    )


def judged(bundle: Bundle | None = None, *, verdicts: dict[str, str] | None = None, drifts: bool = False) -> Any:
    return SimpleNamespace(bundle=bundle or default_bundle(), verdicts=verdicts or {}, is_drifting=drifts)


def until(is_so: Callable[[], object]) -> None:
    waiting = threading.Event()
    for _ in range(12_000):
        if is_so():
            return
        waiting.wait(0.01)
    raise AssertionError("it never was so")


class Clock:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def learning(state: Path | None, config: AgentConfig | None = None, clock: Clock | None = None) -> Learning:
    return Learning(config or settings(), state_dir=state, post=lambda *_, **__: None, clock_s=clock or Clock())


def turned(one: Learning, seen: Any) -> None:
    one.turn(seen, now_us=1)
    one._aside.wait(120)


def test_it_is_off_by_default_and_then_does_and_keeps_nothing(tmp_path: Path):
    with learning(tmp_path, load_config(None, environ={}, overrides={"capture.interfaces": ["eth0"]})) as one:
        one.turn(judged(), now_us=1)

        assert (one.keeper, one.subscriptions, one.facts().is_enabled) == (None, [], False)
    assert list(tmp_path.iterdir()) == []


def test_switched_off_again_it_takes_its_card_away(tmp_path: Path):
    with learning(tmp_path) as one:
        turned(one, judged())
    assert read_card(tmp_path) is not None
    want_run(tmp_path, {"call"})
    taken_up(tmp_path)  # by a run that is killed
    want_run(tmp_path, {"call"})

    with learning(tmp_path, settings(federation__enabled=False)):
        assert read_card(tmp_path) is None
        assert (
            list((tmp_path / FOLDER).glob("*ed")) + list((tmp_path / FOLDER).glob("*en")) == []
        )  # else systemd would start a run without end, that is skipped without a card


def test_what_waits_for_a_slow_disk_is_bounded_in_octets_and_counted(tmp_path: Path):
    """An inbox is emptied once a second, whether the disk took what came a second before or not."""
    archive = Incoming("penstock/v1/fleet/homes/bundle/" + "0" * 64, bytes(MAX_ARCHIVE_BYTES), {}, False)
    with learning(tmp_path) as one:
        for _ in range(5):
            one.take(archive)
        for _ in range(100):
            one.take(Incoming(ROUND, b"", {}, False))

        assert len(one._incoming) == 64
        assert dict(one.facts().messages) == {"in full": 3 + 100 - 62}


def test_without_a_state_folder_it_is_off_too():
    with learning(None) as one:
        assert (one.keeper, one.subscriptions) == (None, [])


@pytest.mark.parametrize("changes", [{"federation__fleet": None}, {"federation__fleet": "a/b"}])
def test_a_fleet_wants_a_name(changes: dict[str, object]):
    with pytest.raises(UsageError, match="fleet"):
        settings(**changes)


def test_the_trainer_is_told_who_we_are_and_which_bundle_serves(tmp_path: Path):
    other = load_bundle(write_refusal_bundle(tmp_path / "other", release=9))
    with learning(tmp_path) as one:
        turned(one, judged())
        first = read_card(tmp_path)
        turned(one, judged(other))
        second = read_card(tmp_path)

    assert (first.gateway, first.fleet, first.bundle) == ("attic", "homes", None)
    assert first.bundle_sha256 == default_bundle().manifest_sha256
    assert (second.bundle, second.bundle_sha256) == (str(other.path), other.manifest_sha256)


def test_a_run_is_asked_for_where_a_call_comes_an_operator_judges_or_the_site_drifts(tmp_path: Path):
    clock = Clock()
    with learning(tmp_path, clock=clock) as one:
        turned(one, judged(verdicts={ID: "benign"}))
        assert wanted(tmp_path) == set()  # it was said before

        one.take(Incoming(ROUND, b"call", {}, is_retained=True))
        turned(one, judged(verdicts={ID: "benign"}))
        assert taken_up(tmp_path) == {"call"}
        run_ended(tmp_path)

        clock.now_s += WISHES_APART_S
        turned(one, judged(verdicts={ID: "malicious"}, drifts=True))
        assert taken_up(tmp_path) == {"verdicts", "drift"}
        run_ended(tmp_path)

        turned(one, judged(verdicts={ID: "malicious"}, drifts=True))
        assert wanted(tmp_path) == set()
        assert one.facts().wishes == 2


def test_streams_of_verdicts_and_of_calls_ask_for_a_run_now_and_then_and_lose_no_reason(tmp_path: Path):
    clock, runs = Clock(), []
    with learning(tmp_path, clock=clock) as one:
        turned(one, judged())
        for second in range(600):
            clock.now_s += 1.0
            verdicts = {ID.replace("a1", f"{number:02x}"): "benign" for number in range(min(second + 1, 256))}
            if second % 50 == 25:
                one.take(Incoming(ROUND, f"call {second}".encode(), {}, is_retained=True))
            turned(one, judged(verdicts=verdicts))
            if asked := taken_up(tmp_path):  # as the trainer does at once
                runs.append((second, asked))
                run_ended(tmp_path)

    seconds = [second for second, _ in runs]
    assert seconds[0] == 0
    assert min(after - before for before, after in itertools.pairwise(seconds)) == WISHES_APART_S
    assert sum("call" in asked for _, asked in runs) == 12
    assert len(runs) <= 600 / WISHES_APART_S


def test_what_came_just_before_an_agent_was_killed_is_asked_for_by_the_next(tmp_path: Path):
    clock = Clock()
    with learning(tmp_path, clock=clock) as killed:
        killed.take(Incoming(ROUND, b"call", {}, is_retained=True))
        turned(killed, judged())
        taken_up(tmp_path)
        run_ended(tmp_path)
        killed.take(Incoming(DOWN, b"roster", {}, is_retained=False))
        turned(killed, judged())
    assert wanted(tmp_path) == set()  # not yet

    with learning(tmp_path, clock=clock) as one:
        one.take(Incoming(ROUND, b"call", {}, is_retained=True))
        turned(one, judged())
        assert wanted(tmp_path) == set()  # an agent that is killed again and again asks for nothing

        clock.now_s += WISHES_APART_S
        turned(one, judged())
        assert wanted(tmp_path) == {"call", "down"}

        taken_up(tmp_path)
        run_ended(tmp_path)
        clock.now_s += WISHES_APART_S
        turned(one, judged())
        assert wanted(tmp_path) == set()  # once


def test_a_run_that_was_killed_is_asked_for_once_more_and_one_that_ended_is_not(tmp_path: Path):
    want_run(tmp_path, {"down"})
    killed = taken_up(tmp_path)
    again = taken_up(tmp_path)
    want_run(tmp_path, {"drift"})
    after = taken_up(tmp_path)
    run_ended(tmp_path)

    assert (killed, again, after, taken_up(tmp_path)) == ({"down"}, {"down"}, {"drift"}, set())


def test_what_is_asked_for_while_a_wish_is_taken_up_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    want_run(tmp_path, {"call"})
    replace = os.replace

    def late(source: Path, target: Path) -> None:
        if Path(source).name == WANTED_FILE:
            want_run(tmp_path, {"drift"})
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)

    assert taken_up(tmp_path) == {"call", "drift"}
    assert wanted(tmp_path) == set()


def test_a_wish_made_while_a_killed_run_waits_holds_the_reasons_of_both(tmp_path: Path):
    want_run(tmp_path, {"down"})
    taken_up(tmp_path)
    want_run(tmp_path, {"drift"})

    assert taken_up(tmp_path) == {"down", "drift"}


def test_what_a_full_disk_did_not_let_be_asked_is_asked_later(tmp_path: Path):
    (tmp_path / FOLDER).write_bytes(b"a file where the folder should be")
    with learning(tmp_path) as one:
        turned(one, judged())
        turned(one, judged(drifts=True))
        assert one.facts().trouble
        (tmp_path / FOLDER).unlink()

        turned(one, judged(drifts=True))

    assert wanted(tmp_path) == {"drift"}


def test_a_wish_says_only_known_words_and_keeps_those_of_before(tmp_path: Path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / WANTED_FILE).write_text("call and\x00 something else\n")

    with learning(tmp_path) as one:
        turned(one, judged())
        turned(one, judged(drifts=True))

    assert (tmp_path / FOLDER / WANTED_FILE).read_text() == "call drift\n"


def test_the_thread_of_the_packets_never_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hangs = threading.Event()
    with learning(tmp_path) as one:
        monkeypatch.setattr(one._carrier, "turn", lambda: hangs.wait(120))
        for _ in range(3):
            one.take(Incoming(ROUND, b"call", {}, is_retained=True))
            one.turn(judged(), now_us=1)

        assert one.facts().is_enabled
        hangs.set()
        one._aside.wait(120)


def test_a_card_that_is_none_is_refused_by_name(tmp_path: Path):
    from contracts.agent_card import CARD_FILE, CardRefused

    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / CARD_FILE).write_text('{"gateway": "attic"}')

    with pytest.raises(CardRefused, match=r"agent\.json"):
        read_card(tmp_path)
