"""A street of gateways around a real broker: houses in the tests' process, an aggregator in one of its own.

A `House` is a gateway whose packets are a test's, a `Townhall` is `penstock-aggregator run`. A `Street` is all of it in
one mode; it drives rounds until they are over, whatever messages a mode takes for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contracts.bundle import default_bundle
from contracts.head import Head, head_of
from contracts.trust import read_public_key
from contracts.update import UpdateHeader, pack_update, read_call
from exporter.sign import make_key
from federation.aggregator.windows import ServerWindows, server_windows
from tests.broker import Broker
from tests.delivery.certificates import Authority
from tests.federation import homes
from tests.federation.homes import DEMO, fill
from tests.federation.house import FLEET, House, Line, until
from tests.federation.townhall import Townhall
from training.variants import Variant, make_variant

NAMES = ("attic", "barn", "cellar", "dairy", "eaves", "forge")
MARKING = NAMES[:3]
OFFLINE, HOSTILE, LATE = "dairy", "eaves", "forge"
PRIVATE_STATES = {"keys", "shares", "masked", "unmask"}  # to be killed in
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


class Street:
    """All of it. Of the six, `members` take part in rounds to some end: three, and the late one."""

    def __init__(self, folder: Path, broker: Broker, authority: Authority, mode: str) -> None:
        self.folder, self.broker, self.authority, self.mode = folder, broker, authority, mode
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
            folder=folder, mode=mode,
        )  # fmt: skip
        self.townhall = Townhall(folder, told)
        self.houses: dict[str, House] = {}
        for name in NAMES:
            line = Line(broker.port, authority.ca, *authority.issue(name), keys)
            (folder / name).mkdir()
            self.houses[name] = House(name, fill(folder / name, now_us=time.time_ns() // 1000), line=line)
        self.members = [self.houses[name] for name in (*MARKING, LATE)]
        with self.townhall.office() as office:
            for name, house in self.houses.items():
                office.rounds.enrol(name, house.key.public_key(), now_us=time.time_ns() // 1000)
        self.answered: dict[int, set[str]] = {}  # by the number of a round: whose own gate let them take part
        self.townhall.start()
        for name, house in self.houses.items():
            if name != OFFLINE:
                house.come_online()

    def close(self) -> None:
        for house in self.houses.values():
            house.close()
        self.townhall.kill()

    def windows(self) -> ServerWindows:
        """Return the aggregator's own windows, as it reads them."""
        told = self.folder / "aggregator" / "windows"
        return server_windows(default_bundle(), homes.engine(), teaching=[DEMO], judging=[self.judging], cache=told)

    def recall(self, head: Head) -> int:
        """Return how many windows of the aggregator's attack hold-out a head finds."""
        return self.windows().judging.found(head)["attacks"][0]

    def head(self) -> Head:
        """Return the fleet's head."""
        ((octets,),) = self.townhall.asked("SELECT head FROM fleet")
        return head_of(np.frombuffer(octets, "<f4").astype(np.float32))

    def pump(self) -> None:
        for house in self.houses.values():
            house.pump()

    def wait(self, is_so: Callable[[], bool], what: str, *, pump: Callable[[], None] | None = None) -> None:
        until(is_so, pump=pump or self.pump, what=what, told=self.told)

    def told(self) -> str:
        """Return how all stand."""
        return "\n".join([self.townhall.told(), *(house.told() for house in self.houses.values())])

    def restart(self) -> None:
        """Kill the aggregator; what is said meanwhile waits at the broker."""
        self.townhall.kill()
        self.pump()
        self.townhall.start()

    # -- rounds -------------------------------------------------------------------------------------------------------

    def open_round(self) -> int:
        """Open a round; return its number once every gateway that is online has its call and anchors."""
        with self.townhall.office() as office:
            number = office.open_round(now_us=time.time_ns() // 1000)
        online = [house for name, house in self.houses.items() if name != OFFLINE]
        self.wait(
            lambda: all(each.has_call(number) and any(each.carrier.inbox.glob("*.anchors")) for each in online),
            f"the call of round {number}",
        )
        return number

    def hold_round(self, *, kills: bool = False) -> str:
        """Hold a round to its end: three learn, one attacks, one's update comes when all is over; return its state.

        With `kills` the aggregator is killed in every state, and a gateway before every file it writes. Whose own gate
        refuses what it learnt is silent: nobody waits for him.
        """
        number, townhall, late = self.open_round(), self.townhall, self.houses[LATE]
        taking_part = self.answered[number] = set()
        answered: dict[str, bytes] = {}
        survived: set[str] = set()
        kept: dict[str, bytes] = {}

        def answer(house: House) -> None:
            if kills and house.name == MARKING[0]:
                house.learn_through_kills()
            else:
                house.learn()
            if any(path.suffix in (".update", ".up") for path in house.carrier.outbox.glob("*")):
                taking_part.add(house.name)
            for path in late.carrier.outbox.glob("*.update"):
                kept[path.name] = path.read_bytes()
                path.unlink()

        def turn() -> None:
            self.pump()
            for house in self.members:
                down = house.carrier.inbox / f"{number:010d}.down"
                if down.exists() and answered.get(house.name) != (octets := down.read_bytes()):
                    answered[house.name] = octets
                    answer(house)
            state = townhall.state_of(number)
            if kills and state not in survived:
                survived.add(state)
                self.restart()
            elif self._wait_no_longer(number, state) and kills and "over" not in survived:
                survived.add("over")
                self.restart()

        if kills:
            survived.add(townhall.state_of(number))  # nothing taken
            self.restart()
        for house in self.members:
            answer(house)
        self.attack(number)
        self.wait(lambda: townhall.open_round() != number, f"the end of round {number}", pump=turn)
        ((state,),) = townhall.asked("SELECT state FROM rounds WHERE number = ?", number)
        refused = self.refused()
        for name, octets in kept.items():
            (late.carrier.outbox / name).write_bytes(octets)
        self.wait(lambda: self.refused() == refused + len(kept), "the late update's refusal")
        if kills:
            wanted = {"0", self._all_taken(number), "over"} if self.mode == "robust" else PRIVATE_STATES
            assert survived >= wanted, survived
            self.restart()
        return state

    def refused(self) -> int:
        return sum(count for what, count in self.townhall.counters().items() if what.startswith("refused: "))

    def _wait_no_longer(self, number: int, state: str) -> bool:
        """Let a time pass where all have answered that will: three, the hostile one in `robust`, the late one early.

        Return whether the whole round is over by that.
        """
        if self.mode == "robust":
            is_over = state == self._all_taken(number)
            if is_over:
                self.townhall.let_the_deadline_pass()
            return is_over
        wanted = self.answered[number] - (set() if state in ("keys", "shares") else {LATE})
        if self.townhall.senders(number, state) >= wanted:
            self.townhall.let_the_state_pass(number, state)
        return False

    def _all_taken(self, number: int) -> str:
        """Return the state in which a round of mode `robust` has every update in time, the hostile one's too."""
        return str(len(self.answered[number] - {LATE}) + 1)

    def release(self, *, kills: bool = False) -> int:
        """Build and sign a bundle of the head that was adopted; return its number."""
        if kills:
            self.townhall.release_through_kills()
        else:
            with self.townhall.office() as office:
                office.release(now_us=time.time_ns() // 1000)
        ((number,),) = self.townhall.asked("SELECT number FROM releases")
        return number

    def roll_out(self, number: int) -> None:
        """Wait until a release serves wherever somebody is online."""
        online = [house for name, house in self.houses.items() if name != OFFLINE]
        self.wait(lambda: all(each.serving.manifest.release == number for each in online), f"release {number}")

    # -- the hostile one ----------------------------------------------------------------------------------------------

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
        sayings = [*((own, each) for each in (longer, b"noise" * 100, longest, longest)), (foreign, longest)]
        heard = sorted(self.answered[number])[:1]  # another gateway, overheard
        for path in (path for name in heard for path in self.houses[name].carrier.outbox.glob("*.up")):
            sayings += [(f"penstock/v1/{HOSTILE}/federation/up/{number}", each) for each in (path.read_bytes(), b"no")]
        self.say_as_hostile(sayings)
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
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trainer keep its priority: lowering it in the tests' own process would add up."""
    monkeypatch.setattr(os, "nice", lambda _: 0)
