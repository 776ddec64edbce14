"""Six gateways, a mosquitto with TLS and rights, an aggregator's process: three rounds, a roll-out, and kills.

Told in mode `robust` and in mode `private`. Gateways are `House`s, their packets frames of a test. One is offline, one
hostile, one late.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.bundle import default_bundle
from contracts.head import read_head
from tests.delivery.certificates import Authority
from tests.e2e.scan import reading_frames, scan_frames
from tests.federation.house import Alarm
from tests.federation.street import HOSTILE, LATE, MARKING, NAMES, OFFLINE, Street, calm
from tests.flowfeatures.packets import TimedFrame
from tests.mosquitto_sample import as_sample

pytestmark = [pytest.mark.needs_broker, pytest.mark.slow]
__all__ = ["calm"]

MODES = ("robust", "private")


def readings() -> list[TimedFrame]:
    """Return what the shipped network calls protocol_abuse, and is none."""
    return reading_frames(itertools.count(42_000), count=40, every_s=1.0)


def scan() -> list[TimedFrame]:
    """Return an attack."""
    return sorted(scan_frames(ports=60))


@pytest.fixture
def street(broker, tmp_path: Path, request: pytest.FixtureRequest, calm: None) -> Iterator[Street]:
    authority = Authority(tmp_path)
    made = Street(tmp_path, as_sample(broker(), authority, tmp_path).start(), authority, request.param)
    yield made
    made.close()


def raised(street: Street, frames: list[TimedFrame], names: tuple[str, ...], called: str) -> dict[str, Alarm]:
    """Let houses see something; return the one alarm that each of them has of it."""
    found = {name: street.houses[name].sees(frames) for name in names}
    assert {name: [each.called for each in alarms] for name, alarms in found.items()} == {
        name: [called] for name in names
    }
    return {name: alarms[0] for name, alarms in found.items()}


def check_accounts(street: Street) -> None:
    """Assert that nothing was lost and nothing counted twice."""
    townhall, counters, entries = street.townhall, street.townhall.counters(), street.townhall.audit()
    rounds = len(street.answered)
    accepted = [(each["round"], each["gateway"], each.get("kind")) for each in entries if each["what"] == "accepted"]
    assert len(accepted) == len(set(accepted)), accepted
    if street.mode == "robust":
        wanted = {
            (number, name, None) for number, names in street.answered.items() for name in {*names, HOSTILE} - {LATE}
        }
        assert set(accepted) == wanted
        assert counters["accepted"] == len(wanted)
        assert townhall.asked("SELECT count(*) FROM updates") == [(len(wanted),)]
        assert counters["repeated"] >= rounds  # the hostile one's second copy
        assert (counters["refused: norm"], counters["refused: foreign"]) == (rounds, rounds)
        return
    whole = {number for number, names in street.answered.items() if names == {*MARKING, LATE}}
    for kind, names in (("keys", (*MARKING, LATE)), ("shares", (*MARKING, LATE)), ("masked", MARKING)):
        wanted = {(number, name, kind) for number in whole for name in names}
        assert {each for each in accepted if each[2] == kind and each[0] in whole} == wanted
        assert counters[f"accepted {kind}"] == len([each for each in accepted if each[2] == kind])
    assert {each for each in accepted if each[2] == "unmask"} >= {
        (number, name, "unmask") for number in whole for name in MARKING
    }
    assert counters.get("refused: wrong gateway", 0) == sum(map(bool, street.answered.values()))  # keys overheard
    assert townhall.asked("SELECT count(*) FROM updates") == [(0,)]  # it saw no gateway's update
    assert townhall.asked("SELECT count(*) FROM private") == [(0,)]


@pytest.mark.parametrize("street", MODES, indirect=True)
def test_an_alarm_marked_benign_is_gone_there_at_once_and_after_three_rounds_on_a_sixth_that_marked_nothing(
    street: Street,
):
    sixth, first = street.houses[OFFLINE], street.houses[MARKING[0]]
    alarms = raised(street, readings(), (*MARKING, OFFLINE), "protocol_abuse")

    first.mark(alarms[first.name], "benign")

    assert first.sees(readings()) == []
    raised(street, readings(), (OFFLINE,), "protocol_abuse")
    raised(street, scan(), (MARKING[0], OFFLINE), "scan")

    for name in MARKING[1:]:
        street.houses[name].mark(alarms[name], "benign")
    states = [street.hold_round() for _ in range(3)]
    released = street.release()
    street.roll_out(released)
    assert sixth.serving.manifest_sha256 == default_bundle().manifest_sha256
    sixth.come_online()
    street.wait(lambda: sixth.serving.manifest.release == released, "the sixth")

    assert "adopted" in states
    assert sixth.serving.signer == "bundles"
    assert not json.loads((sixth.state / "rules.json").read_text() if (sixth.state / "rules.json").exists() else "{}")
    assert sixth.sees(readings()) == []
    raised(street, scan(), (OFFLINE,), "scan")
    head, shipped = read_head(sixth.serving.model), read_head(default_bundle().model)
    assert street.recall(head) >= street.recall(shipped) > 0
    check_accounts(street)
    canaries = next(entry for entry in street.townhall.audit() if entry["what"] == "canary")
    assert len(canaries["gateways"]) == 2

    for name in MARKING[:2]:
        street.houses[name].calibration = "drift"
    street.wait(lambda: sixth.serving.manifest_sha256 == default_bundle().manifest_sha256, "the way back")
    assert street.townhall.audit()[-1]["why"] == "2 of 6 gateways: drift"
    assert street.townhall.stop() == 0


@pytest.mark.parametrize("street", MODES, indirect=True)
def test_kills_in_every_state_from_the_call_to_the_last_gateway_lose_nothing_and_count_nothing_twice(street: Street):
    alarms = raised(street, readings(), MARKING, "protocol_abuse")
    for name, alarm in alarms.items():
        street.houses[name].mark(alarm, "benign")
    townhall, sixth = street.townhall, street.houses[OFFLINE]

    state = street.hold_round(kills=True)
    released = street.release(kills=True)
    street.restart()  # among canaries
    street.roll_out(released)
    street.restart()
    kills = sixth.take_bundle_through_kills(released)

    assert state == "adopted"
    assert kills >= 3  # the archive, the store, the wish
    assert sixth.serving.manifest.release == released
    assert sixth.sees(readings()) == []
    check_accounts(street)
    told = [each["what"] for each in townhall.audit()]
    assert [told.count(what) for what in ("opened", "adopted", "canary", "fleet", "rolled back")] == [1, 1, 1, 1, 0]
    assert dict(townhall.asked("SELECT gateway, number FROM orders")) == dict.fromkeys(NAMES, 1)
    assert townhall.counters()["orders"] == len(NAMES)


@pytest.mark.parametrize("street", MODES, indirect=True)
def test_a_single_stolen_verdict_on_a_real_attack_does_not_lower_recall(street: Street):
    alarms = raised(street, scan(), MARKING, "scan")
    for name, verdict in zip(MARKING, ("malicious", "malicious", "benign"), strict=True):  # the last was stolen
        street.houses[name].mark(alarms[name], verdict)
    before = street.recall(street.head())

    states = [street.hold_round() for _ in range(3)]

    is_whole = all(names == {*MARKING, LATE} for names in street.answered.values())  # no gateway's own gate refused
    assert set(states) <= ({"adopted", "refused"} if is_whole else {"adopted", "refused", "void"})
    assert street.recall(street.head()) >= before > 0
    check_accounts(street)


@pytest.mark.parametrize("street", ["robust"], indirect=True)
def test_two_workers_share_the_updates_and_count_none_twice(street: Street):
    townhall = street.townhall
    townhall.kill()
    text = townhall.config.read_text()
    for name in ("first", "second"):
        shared = text.replace("[worker]\n", f'[worker]\nname = "{name}"\nshare = "workers"\n')
        (street.folder / f"{name}.toml").write_text(shared)
        townhall.start("--config", str(street.folder / f"{name}.toml"))
    number = street.open_round()

    state = street.hold_round()

    entries = townhall.audit()
    assert [each["round"] for each in entries if each["what"] == "aggregated"] == [number]
    assert [each["what"] for each in entries].count(state) == 1
    assert townhall.counters()["repeated"] == 1  # the hostile one's second copy, whoever took it
    check_accounts(street)
    assert townhall.stop() == 0
