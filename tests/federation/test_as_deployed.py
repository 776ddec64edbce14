"""A gateway as it is deployed: `penstock run` on a live interface, from a false alarm to the release that ended it.

Told in mode `robust` and in mode `private` (`tests.federation.deployed` says who takes part). Where a gate says no to
what was learnt, as it may, a story looks at what must hold then, and ends there.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import queue
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.bundle import default_bundle
from contracts.masks import read_header, read_masked, width
from contracts.update import UPDATE_MAGIC
from federation.gateway.private import PRIVATE_FILE
from tests.broker import Subscriber
from tests.capture.conftest import wire as wire  # noqa: PLC0414  (a fixture for the tests here)
from tests.capture.wire import Wire, ip
from tests.e2e.scan import reading_frames
from tests.federation import homes
from tests.federation.deployed import (
    BROKER_PORT,
    FEDERATION,
    OTHERS,
    Fleet,
    a_gate_said_no,
    settings,
    to_mode,
)
from tests.federation.machines import made
from tests.federation.street import calm as calm  # noqa: PLC0414  (a fixture for the tests here)
from training.variants import Variant, make_variant

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]

KINDS = ("keys", "shares", "masked", "consent", "unmask")
EVERYBODY = ("attic", *OTHERS)
NEXT_RELEASE = default_bundle().manifest.release + 1
KILLED_AT = {"masked": 3, "consent": 4}
"""By state: before which file the trainer dies. The first is the wish it takes up, the second its memory of the answer,
the third the answer, the fourth its memory of having given it."""


@pytest.fixture
def fleet(wire: Wire, tmp_path: Path, calm: None, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    for program in ("mosquitto", "openssl", "setpriv", "nsenter", "unshare"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"no {program} here")
    if sys.version_info < (3, 11):
        pytest.skip("the aggregator needs Python 3.11")
    (truth,) = homes.ground_truth.load(homes.DEMO)
    slower = make_variant(truth, Variant("slower", pace=1.3), folder=tmp_path / "variants").path.parent
    captures = tmp_path / "captures"
    shutil.copytree(homes.DEMO.parent, captures / "teaching")
    shutil.copytree(slower, captures / "judging")
    ip("-n", wire.near, "addr", "add", "192.168.1.1/24", "dev", "eth0")
    with made(tmp_path, captures=captures, more=(*OTHERS, "siem", "observer"), interface="eth0") as machines:
        machines.follow(before=settings(request.param))
        all_ = Fleet(tmp_path, wire, machines)
        try:
            for name in OTHERS:
                all_.join(name)
            if request.param == "private":
                all_.introduce()
            all_.age()
            yield all_
        finally:
            all_.close()


@pytest.mark.parametrize("fleet", ["robust"], indirect=True)
def test_a_false_alarm_marked_at_a_deployed_gateway_ends_with_a_release_through_kills_that_lose_nothing(fleet: Fleet):
    fleet.until(lambda: fleet.files("in"), "the call of round 1")

    # an alarm arises, is marked, and is silent at once; an attack is not
    fleet.raise_false_alarm()
    fleet.mark()
    fleet.until(lambda: fleet.wanted() >= {"verdicts"}, "attic to ask for an early run")
    silent = fleet.alerts_of_readings(12)
    muted = fleet.facts()["incidents"]["muted"]
    fleet.scan()

    assert silent == []
    assert muted > 0

    # a round; the agent dies with the call on disk, and with the update on its way
    fleet.kill()
    let_learn(fleet)
    assert fleet.files("out") == ["0000000001.update"], fleet.reports
    fleet.start()
    fleet.until(lambda: not fleet.files("out"), "attic to take the update")
    fleet.kill()
    fleet.start()
    let_houses_learn(fleet, "*.update")
    check_adopted(fleet)

    # its release: the agent dies in the shadow of the bundle before, and on trial
    await_release(fleet)
    fleet.kill()
    fleet.start()
    fleet.until(lambda: fleet.facts()["bundle"]["shadow_release"], "attic to try it again")
    fleet.readings(6)
    take_release(fleet)
    fleet.kill()
    fleet.start()
    assert fleet.facts()["bundle"]["on_probation"]
    confirm_release(fleet)

    check_the_end(fleet)


def check_the_end(fleet: Fleet) -> None:
    """Assert that what was learnt holds, and that nothing was lost and nothing counted twice."""
    after = [each for each, update in fleet.alerts_of_readings(24) if update == 0]
    fleet.scan()
    with Subscriber(BROKER_PORT, tls=fleet.certificate("siem")).listening(topics="penstock/v1/+/status") as heard:
        said = next(json.loads(each.payload) for each in iter(heard.next, None) if "/attic/" in each.topic)
    facts, entries = fleet.attic.json("penstock status --json")["facts"], fleet.audit()

    assert after == []
    assert (facts["bundle"]["release"], facts["bundle"]["trusted_by"]) == (NEXT_RELEASE, "homes-bundles")
    assert (said["bundle"]["release"], said["bundle"]["trial"], said["bundle"]["refused"]) == (NEXT_RELEASE, "", [])
    assert [each["what"] for each in entries].count("opened") == 1
    accepted = [each["gateway"] for each in entries if each["what"] == "accepted"]
    assert sorted(accepted) == sorted(EVERYBODY)
    check_released_once(fleet, entries)
    check_alerts(fleet)


@pytest.mark.parametrize("fleet", ["private"], indirect=True)
def test_in_mode_private_nothing_that_a_deployed_gateway_learnt_leaves_it_but_in_a_sum_whatever_is_killed(fleet: Fleet):
    observer = Subscriber(BROKER_PORT, tls=fleet.certificate("observer"))
    with observer.listening(topics="#"):
        tell_private_story(fleet, observer)


def tell_private_story(fleet: Fleet, observer: Subscriber) -> None:
    fleet.until(lambda: fleet.files("in"), "the call of round 1")
    fleet.raise_false_alarm()
    fleet.mark()
    fleet.until(lambda: fleet.wanted() >= {"verdicts"}, "attic to ask for an early run")

    # attic learns because its agent asks for it, and so do the houses
    fleet.has_path_unit = True
    fleet.until(lambda: fleet.reports, "attic to learn")
    steps = {"attic": steps_of(fleet)}
    fleet.has_path_unit = False
    let_houses_learn(fleet, "*.up")
    steps |= {name: steps_in(house.state / "federation" / PRIVATE_FILE) for name, house in fleet.houses.items()}

    # the agent dies with a roster on disk that nobody was asked to answer yet
    fleet.until(lambda: "0000000001.down" in fleet.files("in"), "the roster at attic")
    fleet.kill_and_start()
    fleet.has_path_unit = True

    # from state to state: the trainer dies with an answer in the making, the agent with it on its way
    heard: dict[str, bytes] = {}
    for kind, answered in (("shares", "roster"), ("masked", "relay"), ("consent", "survivors")):
        if kind in KILLED_AT:
            fleet.kill_next_learning(at_file=KILLED_AT[kind])
        fleet.until(lambda taken=answered: taken in handed(fleet), f"attic's {kind}")
        fleet.kill_and_start()
        fleet.until(lambda: not fleet.files("out") + fleet.files("sending"), f"attic's {kind} to leave")
        answer_at_houses(fleet, heard)
    fleet.until(lambda: not handed(fleet), "attic's unmask")
    answer_at_houses(fleet, heard)
    state, why = fleet.await_end_of_round()
    assert state in ("adopted", "refused"), why
    check_private_round(fleet, steps)

    # its release, and a call of the other mode
    if state == "adopted":
        await_release(fleet)
        fleet.readings(6)
        take_release(fleet)
        confirm_release(fleet)
        fleet.scan()
        serving = fleet.facts()["bundle"]
        assert (serving["release"], serving["trusted_by"]) == (NEXT_RELEASE, "homes-bundles")
        check_released_once(fleet, fleet.audit())
    refuse_a_robust_call(fleet)
    check_what_left(fleet, observer, steps)
    check_alerts(fleet)
    if state == "refused":
        a_gate_said_no(why)


def handed(fleet: Fleet) -> list[str]:
    """Return what attic has answered of round 1; nothing once it has answered all."""
    path = fleet.attic.path(f"{FEDERATION}/{PRIVATE_FILE}")
    try:
        return json.loads(path.read_text())["handed"]
    except FileNotFoundError:
        return []


def steps_in(path: Path) -> NDArray[np.int8]:
    return np.frombuffer(base64.b64decode(json.loads(path.read_text())["steps"]), "i1")


def steps_of(fleet: Fleet) -> NDArray[np.int8]:
    """Return what attic learnt, its verdicts among it; where its gate let nothing out, see to it that nothing left."""
    (report,) = fleet.reports
    if "refused: the local gate" in report:
        assert fleet.files("out") == fleet.files("sending") == []
        a_gate_said_no(report)
    judged = re.search(r"learnt from .* windows: ([0-9]+) judged incidents", report)
    assert judged is not None, report
    assert int(judged[1]) >= 1
    steps = steps_in(fleet.attic.path(f"{FEDERATION}/{PRIVATE_FILE}"))
    assert np.count_nonzero(steps) > len(steps) // 10
    return steps


def answer_at_houses(fleet: Fleet, heard: dict[str, bytes]) -> None:
    """Let each house answer what the aggregator tells it, and has not told it before."""
    for name, house in fleet.houses.items():
        down = house.carrier.inbox / "0000000001.down"
        fleet.until(
            lambda name=name, down=down: down.exists() and down.read_bytes() != heard.get(name), f"a message to {name}"
        )
        heard[name] = down.read_bytes()
        house.learn()


def check_private_round(fleet: Fleet, steps: dict[str, NDArray[np.int8]]) -> None:
    """Assert that the sum is that of what all three learnt, and that nobody answered, or was counted, twice."""
    entries = fleet.audit()
    accepted = Counter((each["gateway"], each.get("kind")) for each in entries if each["what"] == "accepted")
    ((total,),) = fleet.asked("SELECT hex(total) FROM private_rounds WHERE number = 1")

    assert [each["what"] for each in entries].count("opened") == 1
    assert [each["state"] for each in entries if each["what"] == "private"] == [*KINDS[1:], "sum"]
    assert accepted == dict.fromkeys(itertools.product(EVERYBODY, KINDS), 1)
    assert np.array_equal(np.frombuffer(bytes.fromhex(total), "<i4"), sum(each.astype(int) for each in steps.values()))
    assert fleet.asked("SELECT count(*) FROM updates") == [[0]]
    assert fleet.asked("SELECT what FROM counters WHERE what = 'refused: second answer'") == []
    assert fleet.killed_runs == len(KILLED_AT)


def refuse_a_robust_call(fleet: Fleet) -> None:
    """Call a round of mode robust; return once attic's trainer was asked to answer it and has not."""
    before = len(fleet.reports)
    fleet.server.sh(f"{to_mode('robust')}\nsudo systemctl restart penstock-aggregator\nsudo penstock-aggregator open")
    fleet.until(lambda: any("of mode robust" in each for each in fleet.reports[before:]), "attic to refuse the call")

    assert re.search(r"refused in all: .*\b1 mode\b", fleet.reports[-1]), fleet.reports[-1]
    assert fleet.files("out") == fleet.files("sending") == []
    stands = fleet.status()
    assert (stands["round"]["number"], stands["round"]["state"]) == (2, "open")
    assert [each["has_sent"] for each in stands["gateways"] if each["name"] == "attic"] == [False]


def check_what_left(fleet: Fleet, observer: Subscriber, steps: dict[str, NDArray[np.int8]]) -> None:
    """Assert by all that crossed the broker that attic gave five answers, each one once, and its steps in none."""
    heard = []
    with contextlib.suppress(queue.Empty):
        while True:
            heard.append(observer.heard.get_nowait())
    ups = {
        (each.topic, each.payload) for each in heard
        if re.match(r"penstock/v1/attic/(update|federation/up)/", each.topic)
    }  # fmt: skip
    by_kind = {read_header(payload)[0]: (topic, payload) for topic, payload in ups}
    masked = read_masked(by_kind["masked"][1], members=len(EVERYBODY), count=len(steps["attic"])).values
    plain = steps["attic"].astype(int) % (1 << width(len(EVERYBODY)))

    assert len(ups) == len(by_kind) == len(KINDS)
    assert set(by_kind) == set(KINDS)
    assert {topic.rpartition("/")[2] for topic, _ in ups} == {"1"}
    assert np.count_nonzero(masked == plain) < len(plain) // 20  # chance alone has one in 1,024
    assert not [each.topic for each in heard if UPDATE_MAGIC in each.payload]
    for own in steps.values():
        assert not [each.topic for each in heard if own.tobytes() in each.payload]


# -- both stories -----------------------------------------------------------------------------------------------------


def let_learn(fleet: Fleet) -> None:
    """Let attic's trainer run; where its gate lets nothing out, nothing is there to leave."""
    if "refused: the local gate" in fleet.learn():
        assert fleet.files("out") == []
        a_gate_said_no(fleet.reports[-1])


def let_houses_learn(fleet: Fleet, answer: str) -> None:
    """Let each house see the false alarm, mark it and learn from that."""
    for name, house in fleet.houses.items():
        (alarm,) = house.sees(reading_frames(itertools.count(42_000), every_s=1.0, count=40))
        house.mark(alarm, "benign")
        house.learn()
        if not any(house.carrier.outbox.glob(answer)):
            a_gate_said_no(f"the local gate of {name}")


def check_adopted(fleet: Fleet) -> None:
    """Go on where the release gate let the new head through; where not, nothing is released."""
    state, why = fleet.await_end_of_round()
    assert state in ("adopted", "refused"), why
    if state == "refused":
        assert fleet.status()["rollout"] is None
        a_gate_said_no(why)


def await_release(fleet: Fleet) -> None:
    """Return when attic tries the release beside its bundle."""
    fleet.until(
        lambda: fleet.facts()["bundle"]["shadow_release"] or fleet.metric("refused_releases_total"),
        "attic to try the release",
    )
    if fleet.metric("refused_releases_total"):
        a_gate_said_no(fleet.server.log("penstock-aggregator")[-1000:])


def take_release(fleet: Fleet) -> None:
    """Return when attic judges by the release, and long before its trial is over."""
    bundle: dict[str, Any] = {}

    def is_decided() -> bool:
        bundle.update(fleet.facts()["bundle"])
        return bundle["release"] == NEXT_RELEASE or bundle["refused"] > 0

    fleet.until(lambda: fleet.chat(10) or is_decided(), "attic to take the release")
    if bundle["release"] != NEXT_RELEASE:
        a_gate_said_no(bundle["last_refusal"])


def confirm_release(fleet: Fleet) -> None:
    """Return when the release has passed its trial at attic, and serves everywhere."""
    fleet.until(lambda: fleet.chat(30) or not fleet.facts()["bundle"]["on_probation"], "its trial to end")
    bundle = fleet.facts()["bundle"]
    if bundle["release"] != NEXT_RELEASE:
        a_gate_said_no(bundle["last_refusal"])
    fleet.until(lambda: fleet.metric("rollout_gateways", kind="running") == len(EVERYBODY), "the release everywhere")


def check_released_once(fleet: Fleet, entries: list[dict[str, Any]]) -> None:
    assert [each["what"] for each in entries if each.get("release") == NEXT_RELEASE] == ["canary", "fleet", "ordered"]
    assert fleet.status()["counters"]["orders"] == len(EVERYBODY)


def check_alerts(fleet: Fleet) -> None:
    """Assert that no alert was told twice, and no verdict taken twice."""
    ids = [each["alert"]["context"]["penstock"]["alert_id"] for each in fleet.alerts()]
    assert len(ids) == len(set(ids))
    verdicts = fleet.attic.sh("penstock feedback --log").stdout.splitlines()
    assert len(verdicts) == len(set(verdicts)) >= 1
