"""Six gateways, a mosquitto with TLS and rights, an aggregator's process: three rounds, a roll-out, and kills.

Gateways are `House`s: windows of the demo capture, everything else as it runs. One is offline, one hostile, one late.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contracts.bundle import default_bundle
from contracts.head import head_of, read_head
from contracts.trust import read_public_key
from contracts.update import UpdateHeader, pack_update, read_call
from exporter.sign import make_key
from federation.aggregator.windows import ServerWindows, server_windows
from federation.verdict import is_over
from tests.broker import Broker
from tests.delivery.certificates import Authority
from tests.federation import homes
from tests.federation.homes import DEMO, FALSE_ALARM, Windows, attacks, fill, shipped_thresholds, uploads
from tests.federation.street import FLEET, House, Townhall, calm, copy_state, until
from tests.mosquitto_sample import as_sample
from training.variants import Variant, make_variant

pytestmark = [pytest.mark.needs_broker, pytest.mark.slow]
__all__ = ["calm"]

NAMES = ("attic", "barn", "cellar", "dairy", "eaves", "forge")
OFFLINE, HOSTILE, LATE = "dairy", "eaves", "forge"
SETTINGS = """
[fleet]
name = "homes"

[broker]
url = "mqtts://127.0.0.1:{port}"
ca = "{ca}"
cert = "{cert}"
key = "{key}"

[keys]
calls = "{keys}/calls.pem"
bundles = "{keys}/bundles.pem"

[windows]
teaching = ["{teaching}"]
judging = ["{judging}"]

[rounds]
every_h = 0.0
is_automatic = false
mode = "{mode}"

[rollout]
is_automatic = false
canary_share = 0.3
canary_h = 0.0

[worker]
state_dir = "{folder}/aggregator"

[metrics]
is_enabled = false
"""


class Story(NamedTuple):
    """What happened in every house, what it was called there, and how rounds are held."""

    alarm: Windows
    called: str
    mode: str = "robust"


class Street:
    """All of it."""

    def __init__(self, folder: Path, broker: Broker, authority: Authority, story: Story) -> None:
        self.folder, self.broker, self.authority = folder, broker, authority
        keys = folder / "keys"
        for name, place in (("calls", "aggregators.d"), ("bundles", "trust.d")):
            (keys / place).mkdir(parents=True, mode=0o755)
            make_key(keys / f"{name}.pem")
            (keys / place / f"{name}.pub").write_bytes((keys / f"{name}.pem.pub").read_bytes())
        self.calls_key = read_public_key(keys / "calls.pem.pub")
        (truth,) = homes.ground_truth.load(DEMO)
        slower = make_variant(truth, Variant("slower", pace=1.3), folder=folder / "captures")
        self.judging = slower.path.parent / "ground_truth.json"
        cert, key = authority.issue("aggregator")
        told = SETTINGS.format(
            port=broker.port, ca=authority.ca, cert=cert, key=key, keys=keys, teaching=DEMO, judging=self.judging,
            folder=folder, mode=story.mode,
        )  # fmt: skip
        self.townhall = Townhall(folder, told)
        (folder / "first").mkdir()
        first = fill(folder / "first", alarm=story.alarm, called=story.called, now_us=time.time_ns() // 1000)
        self.houses = {
            name: House(name, copy_state(first, folder / name), port=broker.port, authority=authority, keys=keys)
            for name in NAMES
        }
        with self.townhall.office() as office:
            for name, house in self.houses.items():
                office.rounds.enrol(name, house.key.public_key(), now_us=time.time_ns() // 1000)
        self.townhall.start()
        for name, house in self.houses.items():
            if name != OFFLINE:
                house.come_online()

    def close(self) -> None:
        for house in self.houses.values():
            house.go_offline()
        self.townhall.kill()

    def windows(self) -> ServerWindows:
        """Return the aggregator's own windows, as it reads them."""
        told = self.folder / "aggregator" / "windows"
        return server_windows(default_bundle(), homes.engine(), teaching=[DEMO], judging=[self.judging], cache=told)

    def pump(self) -> None:
        for house in self.houses.values():
            house.pump()

    def open_round(self) -> int:
        """Open a round; return its number once every gateway that is online has its call and anchors."""
        with self.townhall.office() as office:
            number = office.open_round(now_us=time.time_ns() // 1000)
        online = [house for name, house in self.houses.items() if name != OFFLINE]
        until(
            lambda: all(each.has_call(number) and any(each.carrier.inbox.glob("*.anchors")) for each in online),
            pump=self.pump, what=f"the call of round {number}",
        )  # fmt: skip
        return number

    def taken(self) -> int:
        return self.townhall.counters().get("accepted", 0)

    def close_round(self, number: int) -> str:
        """Let the deadline pass; return what became of the round."""
        self.townhall.let_the_deadline_pass()
        until(lambda: self.townhall.open_round() != number, pump=self.pump, what=f"the end of round {number}")
        ((state,),) = self.townhall.asked("SELECT state FROM rounds WHERE number = ?", number)
        return state

    def hold_round(self, taken: int) -> str:
        """Hold a round to its end: three learn, one attacks, one is late; `taken` updates in all were taken then."""
        number = self.open_round()
        for name in ("attic", "barn", "cellar", LATE):
            self.houses[name].learn()
        late = self.houses[LATE]
        kept = {path.name: path.read_bytes() for path in late.carrier.outbox.glob("*.update")}
        for path in late.carrier.outbox.glob("*.update"):
            path.unlink()
        self.attack(number)
        until(lambda: self.taken() == taken, pump=self.pump, what=f"{taken} updates, {self.townhall.log()}")
        state = self.close_round(number)
        expired = self.townhall.counters().get("refused: expired round", 0)
        for name, octets in kept.items():
            (late.carrier.outbox / name).write_bytes(octets)
        until(
            lambda: self.townhall.counters().get("refused: expired round", 0) == expired + 1,
            pump=self.pump, what="the late update's refusal",
        )  # fmt: skip
        return state

    def hold_private_round(self, *, kills: bool) -> str:
        """Hold a private round to its end: four take part, one of them drops out before its sum; return its state.

        With `kills` the aggregator is killed in every state.
        """
        number, townhall, late = self.open_round(), self.townhall, self.houses[LATE]
        members = [self.houses[name] for name in ("attic", "barn", "cellar", LATE)]
        for house in members:
            house.learn()
        (keys,) = members[0].carrier.outbox.glob("*.up")  # of another gateway, as a broker's eavesdropper has them
        topic = f"penstock/v1/{HOSTILE}/federation/up/{number}"
        self.say_as_hostile([(topic, keys.read_bytes()), (topic, b"noise" * 100)])
        answered: dict[str, bytes] = {}
        survived: set[str] = set()
        wanted = {"keys": 4, "masked": 3}  # then whoever is missing is not waited for

        def turn() -> None:
            self.pump()
            for house in members:
                down = house.carrier.inbox / f"{number:010d}.down"
                if down.exists() and answered.get(house.name) != (octets := down.read_bytes()):
                    answered[house.name] = octets
                    house.learn()
            for path in late.carrier.outbox.glob("*.update"):
                path.rename(late.state / f"late-{path.name}")
            ((state,),) = townhall.asked("SELECT state FROM private_rounds WHERE number = ?", number)
            if kills and state not in survived:
                survived.add(state)
                townhall.kill()
                townhall.start()
            held = townhall.asked("SELECT count(*) FROM private WHERE round = ? AND kind = ?", number, state)
            if held == [(wanted.get(state),)]:
                townhall.let_the_state_pass(number, state)

        until(lambda: townhall.open_round() != number, pump=turn, what=f"the end of round {number}, {townhall.log()}")
        ((state,),) = townhall.asked("SELECT state FROM rounds WHERE number = ?", number)
        return state

    def attack(self, number: int) -> None:
        """Send the longest update against all attacks, a longer one, noise, and one on somebody else's topic."""
        house = self.houses[HOSTILE]
        (octets,) = (
            path.read_bytes()
            for path in house.carrier.inbox.glob("*.call")
            if f'"round":{number},'.encode() in path.read_bytes()
        )
        call = read_call(octets, [self.calls_key])
        towards_benign = np.concatenate([np.zeros(call.head.weight.size), -np.ones(len(call.head.bias))])
        towards_benign[call.head.weight.size] = 1.0
        length = call.header.clip_norm / np.linalg.norm(towards_benign)
        steps = np.rint(towards_benign * length / call.header.scale).clip(-127, 127).astype(np.int8)
        header = UpdateHeader(
            fleet=FLEET, round=number, gateway=HOSTILE, call_sha256=call.sha256, examples=1 << 20,
            made_us=time.time_ns() // 1000,
        )  # fmt: skip
        longest = pack_update(header, steps, house.key)
        longer = pack_update(header, np.full(call.header.kept, 127, np.int8), house.key)
        own, foreign = f"penstock/v1/{HOSTILE}/update/{number}", f"penstock/v1/attic/update/{number}"
        self.say_as_hostile([*((own, each) for each in (longer, b"noise" * 100, longest, longest)), (foreign, longest)])
        self.say_as_hostile([(f"penstock/v1/fleet/{FLEET}/round", b"")])  # the broker says no to this and to foreign

    def say_as_hostile(self, sayings: list[tuple[str, bytes]]) -> None:
        client = Client(CallbackAPIVersion.VERSION2, client_id="hostile", protocol=MQTTProtocolVersion.MQTTv5)
        cert, key = self.authority.issue(HOSTILE)
        client.tls_set(ca_certs=str(self.authority.ca), certfile=str(cert), keyfile=str(key))
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        for topic, octets in sayings:
            client.publish(topic, octets, qos=1, retain=True).wait_for_publish(60)
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def street(broker, tmp_path: Path, request: pytest.FixtureRequest, calm: None) -> Iterator[Street]:
    authority = Authority(tmp_path)
    made = Street(tmp_path, as_sample(broker(), authority, tmp_path).start(), authority, request.param())
    yield made
    made.close()


def false_alarms() -> Story:
    """Benign windows that the shipped bundle calls an attack."""
    return Story(uploads(), "exfiltration")


def false_alarms_in_private() -> Story:
    return Story(uploads(), "exfiltration", mode="private")


def floods() -> Story:
    return Story(attacks("flood"), "flood")


@pytest.mark.parametrize("street", [false_alarms], indirect=True)
def test_what_three_of_five_mark_benign_is_gone_on_the_sixth_after_the_roll_out(street: Street):
    alarm = uploads()
    for name in ("attic", "barn", "cellar"):
        street.houses[name].judge(FALSE_ALARM, "benign")

    states = [street.hold_round(taken=4 * (turn + 1)) for turn in range(3)]
    with street.townhall.office() as office:
        released = office.release(now_us=time.time_ns() // 1000).number
    online = [house for name, house in street.houses.items() if name not in (OFFLINE,)]
    until(
        lambda: all(house.serving.manifest.release == released for house in online),
        pump=street.pump, what="the roll-out, canaries first",
    )  # fmt: skip
    sixth = street.houses[OFFLINE]
    sixth.come_online()
    until(lambda: sixth.serving.manifest.release == released, pump=street.pump, what="the sixth")

    assert "adopted" in states
    thresholds = shipped_thresholds()
    head, shipped = read_head(sixth.serving.model), read_head(default_bundle().model)
    assert is_over(shipped, alarm.embedding, thresholds).all()
    assert not is_over(head, alarm.embedding, thresholds).any()
    judging = street.windows().judging
    assert judging.found(head)["attacks"][0] >= judging.found(shipped)["attacks"][0]
    assert sixth.serving.signer == "bundles"
    counters = street.townhall.counters()
    assert (counters["accepted"], counters["refused: norm"], counters["refused: foreign"]) == (12, 3, 3)
    assert counters["refused: expired round"] == 3
    assert counters["repeated"] >= 3  # the hostile one's second copy
    assert street.townhall.asked("SELECT count(*) FROM updates") == [(12,)]
    canaries = next(entry for entry in street.townhall.audit() if entry["what"] == "canary")
    assert len(canaries["gateways"]) == 2

    for name in ("attic", "barn"):
        street.houses[name].calibration = "drift"
    until(
        lambda: all(house.serving.manifest_sha256 == default_bundle().manifest_sha256 for house in online),
        pump=street.pump, what=f"the way back, {street.townhall.log()}",
    )  # fmt: skip
    assert street.townhall.audit()[-1]["why"] == "2 of 6 gateways: drift"
    assert street.townhall.stop() == 0


@pytest.mark.parametrize("street", [floods], indirect=True)
def test_kills_at_each_state_lose_nothing_and_a_stolen_verdict_blinds_nobody(street: Street):
    for name in ("attic", "barn"):
        street.houses[name].judge(FALSE_ALARM, "malicious")
    street.houses["cellar"].judge(FALSE_ALARM, "benign")  # the stolen account
    townhall = street.townhall

    number = street.open_round()
    townhall.kill()  # open, nothing taken
    attic = street.houses["attic"]
    for at_write in (1, 2, 3):  # before it is known, before it lies in out/, before that is known
        assert attic.learn_until_killed(at_write=at_write) == -9
        street.pump()
    attic.learn()
    street.houses["barn"].learn()
    until(lambda: not any(attic.carrier.sending.iterdir()), pump=street.pump, what="the broker has it")
    townhall.start()  # what was sent meanwhile waits at the broker
    until(lambda: street.taken() == 2, pump=street.pump, what=f"two updates, {townhall.log()}")
    townhall.kill()  # some taken
    townhall.start()
    street.houses["cellar"].learn()
    street.attack(number)
    until(lambda: street.taken() == 4, pump=street.pump, what=f"four updates, {townhall.log()}")
    townhall.let_the_deadline_pass()
    townhall.kill()  # over, perhaps closed just now, perhaps not
    townhall.start()
    state = street.close_round(number)

    assert state in {"adopted", "refused"}
    entries = townhall.audit()
    assert [each["what"] for each in entries].count("accepted") == 4
    assert townhall.asked("SELECT count(*) FROM updates") == [(4,)]
    assert townhall.counters()["accepted"] == 4
    assert [each.get("round") for each in entries if each["what"] == "aggregated"] == [number]
    judging, shipped = street.windows().judging, read_head(default_bundle().model)
    ((octets,),) = townhall.asked("SELECT head FROM fleet")
    head = head_of(np.frombuffer(octets, "<f4").astype(np.float32))
    assert judging.found(head)["attacks"][0] >= judging.found(shipped)["attacks"][0]


@pytest.mark.parametrize("street", [false_alarms_in_private], indirect=True)
def test_three_private_rounds_with_a_drop_out_and_kills_in_every_state(street: Street):
    alarm = uploads()
    for name in ("attic", "barn", "cellar", LATE):
        street.houses[name].judge(FALSE_ALARM, "benign")

    states = [street.hold_private_round(kills=turn == 1) for turn in range(3)]

    townhall = street.townhall
    assert "adopted" in states
    ((octets,),) = townhall.asked("SELECT head FROM fleet")
    head, shipped = head_of(np.frombuffer(octets, "<f4").astype(np.float32)), read_head(default_bundle().model)
    assert not is_over(head, alarm.embedding, shipped_thresholds()).any()
    judging = street.windows().judging
    assert judging.found(head)["attacks"][0] >= judging.found(shipped)["attacks"][0]
    accepted = [each["kind"] for each in townhall.audit() if each["what"] == "accepted"]
    kinds = ("keys", "shares", "masked", "consent", "unmask")
    assert [accepted.count(kind) for kind in kinds] == [12, 12, 9, 9, 9]  # who dropped out is asked for nothing more
    counters = townhall.counters()
    assert {kind: counters[f"accepted {kind}"] for kind in set(accepted)} == {
        kind: accepted.count(kind) for kind in set(accepted)
    }
    assert (counters["refused: wrong gateway"], counters["refused: foreign"]) == (3, 3)  # the hostile one
    assert townhall.asked("SELECT count(*) FROM updates") == [(0,)]  # it saw no gateway's update
    assert townhall.asked("SELECT count(*) FROM private") == [(0,)]


@pytest.mark.parametrize("street", [floods], indirect=True)
def test_two_workers_share_the_updates_and_count_none_twice(street: Street):
    townhall = street.townhall
    townhall.kill()
    text = townhall.config.read_text()
    for name in ("first", "second"):
        shared = text.replace("[worker]\n", f'[worker]\nname = "{name}"\nshare = "workers"\n')
        (street.folder / f"{name}.toml").write_text(shared)
        townhall.start("--config", str(street.folder / f"{name}.toml"))
    number = street.open_round()
    for name in ("attic", "barn", "cellar"):
        street.houses[name].learn()
    street.attack(number)
    until(lambda: street.taken() == 4, pump=street.pump, what=f"four updates, {townhall.log()}")
    state = street.close_round(number)

    entries = townhall.audit()
    assert [each["what"] for each in entries].count("accepted") == 4
    assert [each["round"] for each in entries if each["what"] == "aggregated"] == [number]
    assert [each["what"] for each in entries].count(state) == 1
    assert townhall.counters()["repeated"] == 1  # the hostile one's second copy, whoever took it
    assert townhall.stop() == 0
