"""A gateway as it is deployed: `penstock run` on a live interface, from a false alarm to the release that ended it.

Server and gateway are made by the installer and its page (`tests.federation.machines`): mosquitto with the shipped
rights, `penstock-aggregator`, the agent as its own user with its one capability, `penstock-finetune` by its unit. Two
more gateways are houses in the tests' process, so that a round has its quorum. Nothing is told to any of them that an
operator could not write into its settings; two things are made: the quiet weeks before, and a board that is not busy.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.commands.status import asked
from contracts.bundle import default_bundle
from tests.broker import Subscriber
from tests.capture.conftest import wire as wire  # noqa: PLC0414  (a fixture for the test here)
from tests.capture.wire import Wire, ip
from tests.e2e.scan import CAMERA, PHONE, chat_frames
from tests.faults.running import scan_of
from tests.federation import homes
from tests.federation.house import House, Line
from tests.federation.house import until as until_
from tests.federation.machines import Machines, made
from tests.federation.street import calm as calm  # noqa: PLC0414  (a fixture for the test here)
from tests.flowfeatures.packets import Conversation, TimedFrame
from training.variants import Variant, make_variant

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]

BROKER_PORT = 8883
BULB = "192.168.1.30"
OTHERS = ("barn", "cellar")
SHADOW_WINDOWS = 60
TRIES, MOST_LATE_S = 5, 0.1
SETTINGS = {  # before a block of the page: canaries are not watched for a day, and a bundle is tried on few windows
    3: "sed -i 's/^#canary_h = .*/canary_h = 0.0/' /etc/penstock/aggregator.toml",
    5: f"printf '[scoring]\\nshadow_windows = {SHADOW_WINDOWS}\\n' >/etc/penstock/conf.d/small.toml",
}
AGE = (
    "import time; from pathlib import Path; from tests.federation.homes import fill;"
    "fill(Path('/var/lib/penstock'), now_us=time.time_ns() // 1000)"
)
FEDERATION = "/var/lib/penstock/federation"


def readings(ports: Iterator[int], *, count: int, every_s: float = 0.25) -> list[TimedFrame]:
    """Return what an app does that connects to a broker at home for every handful of readings, and hangs up again."""
    frames: list[TimedFrame] = []
    for number in range(count):
        at_s = every_s * number
        line = Conversation(device=PHONE, server=CAMERA, device_port=next(ports), server_port=1883)
        line.out(at_s, "S").back(at_s + 0.005, "SA").out(at_s + 0.006, "A")
        for place in range(6):
            line.out(at_s + 0.01 + 0.01 * place, "PA", 20)
        line.out(at_s + 0.3, "FA").back(at_s + 0.31, "FA")
        frames += line.frames
    return sorted(frames)


def play_on_time(wire: Wire, frames: list[TimedFrame]) -> float:
    """Send frames at their own pace; return by how many seconds the latest was late."""
    began_s, late_s = time.monotonic(), 0.0
    with wire.sender() as sock:
        for at_us, frame in frames:
            due_s = began_s + (at_us - frames[0][0]) / 1e6
            time.sleep(max(0.0, due_s - time.monotonic()))
            late_s = max(late_s, time.monotonic() - due_s)
            sock.send(frame)
    return late_s


class Fleet:
    """The deployed gateway `attic`, its server, two houses, and what a SIEM hears of all."""

    def __init__(self, folder: Path, wire: Wire, machines: Machines) -> None:
        self.wire, self.server, self.attic = wire, machines.server, machines.gateway
        self.desk, self.folder = machines.desk, folder
        self.houses: dict[str, House] = {}
        self._ports = itertools.count(42_000)
        self._eve = self.attic.path("/var/log/penstock/eve.json")

    def join(self, name: str) -> None:
        """Let a house take part, as the page has it for the next gateway."""
        keys, issued, state = self.folder / "keys", self.desk / "authority", self.folder / name
        for each, place in (("homes-calls", "aggregators.d"), ("homes-bundles", "trust.d")):
            (keys / place).mkdir(parents=True, exist_ok=True, mode=0o755)
            shutil.copy(self.desk / "attic" / f"{each}.pub", keys / place)
        state.mkdir()
        line = Line(BROKER_PORT, issued / "ca.pem", issued / f"{name}.crt", issued / f"{name}.key", keys)
        self.houses[name] = house = House(name, homes.fill(state, now_us=time.time_ns() // 1000), line=line)
        shutil.copy(state / "federation" / "key.pub", self.desk / "fleet.example" / f"{name}.pub")
        self.server.sh(f"sudo penstock-aggregator enrol {name} {name}.pub")
        house.come_online()

    def close(self) -> None:
        for house in self.houses.values():
            house.close()

    # -- attic --------------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what attic's agent says of itself, without a program that has to start for it."""
        folder = os.open(self.attic.path("/run/penstock"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return json.loads(asked(Path(f"/proc/self/fd/{folder}/status.sock")))["facts"]
        finally:
            os.close(folder)

    def alerts(self) -> list[dict[str, Any]]:
        text = self._eve.read_text() if self._eve.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def opened(self) -> list[tuple[str, str]]:
        """Return class and id of every incident that attic told of."""
        told = [each["alert"]["context"]["penstock"] for each in self.alerts()]
        return [(each["class"], each["incident_id"]) for each in told if each["update"] == 0]

    def goes_by(self, frames: list[TimedFrame]) -> float:
        """Let frames cross the wire, wait until attic has judged them; return by how much the latest was late."""
        before = self.facts()
        late_s = play_on_time(self.wire, frames)

        def is_judged() -> bool:
            facts = self.facts()
            read = facts["interfaces"][0]["read"] - before["interfaces"][0]["read"]
            windows = facts["windows"]
            return read >= len(frames) and windows["due"] == windows["scored"] > before["windows"]["scored"]

        self.until(is_judged, "attic to judge what went by")
        time.sleep(1.5)  # the last window is due after its last record
        return late_s

    def readings(self, count: int) -> float:
        return self.goes_by(readings(self._ports, count=count))

    def alerts_of_readings(self, count: int) -> list[tuple[str, int]]:
        """Return class and update of every alert of readings that went by in time.

        Where this machine stood still meanwhile they were bursts and pauses, and another thing to a network.
        """
        for _ in range(TRIES):
            told = len(self.alerts())
            late_s = self.readings(count)
            found = [each["alert"]["context"]["penstock"] for each in self.alerts()[told:]]
            if not found or late_s < MOST_LATE_S:
                break
            self.mark()
        return [(each["class"], each["update"]) for each in found]

    def mark(self) -> None:
        """Call every incident of the phone benign that is open; return when they are closed."""
        open_ = [each for each in self.facts()["incidents"]["recent"] if each["is_open"] and each["device"] == PHONE]
        for each in open_:
            self.attic.sh(f"sudo penstock feedback {each['incident_id']} benign")
        names = {each["incident_id"] for each in open_}

        def is_closed() -> bool:
            recent = self.facts()["incidents"]["recent"]
            return not any(each["is_open"] for each in recent if each["incident_id"] in names)

        self.until(is_closed, "the incidents to close")

    def chat(self) -> None:
        """Let the phone talk with its cloud: windows for a bundle on trial."""
        self.goes_by([(at_us // 5, frame) for at_us, frame in chat_frames(times=12)])

    def scan(self) -> None:
        self.goes_by(scan_of(BULB, ports=60))

    def start(self) -> None:
        """Start attic's agent, whatever became of the one before, by the command an operator has for it."""
        self.attic.sh("sudo systemctl start penstock")

    def kill(self) -> None:
        self.attic.kill("penstock")

    def age(self) -> None:
        """Let attic have kept windows for two quiet weeks."""
        self.attic.stop("penstock")
        user = "setpriv --reuid=penstock --regid=penstock --init-groups"
        self.attic.sh(f'PYTHONPATH=/src {user} {sys.executable} -c "{AGE}"')
        self.start()

    def files(self, place: str) -> list[str]:
        return sorted(each.name for each in self.attic.path(f"{FEDERATION}/{place}").glob("[0-9a-f]*"))

    def wanted(self) -> set[str]:
        """Return why attic's agent asks for an early run: what penstock-finetune.path looks for."""
        path = self.attic.path(f"{FEDERATION}/wanted")
        return set(path.read_text().split()) if path.exists() else set()

    # -- all ----------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what `penstock-aggregator status --json` says."""
        return self.server.json("penstock-aggregator status --json")

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.server.sh("penstock-aggregator log --json").stdout.splitlines()]

    def until(self, is_so: Callable[[], object], what: str) -> None:
        until_(lambda: bool(is_so()), pump=self.pump, what=what, told=self.told)

    def pump(self) -> None:
        for house in self.houses.values():
            house.pump()

    def told(self) -> str:
        """Return how all stand."""
        said = [self.attic.log("penstock")[-3000:], self.server.log("penstock-aggregator")[-3000:]]
        facts = self.facts()
        asked = [json.dumps({name: facts[name] for name in ("bundle", "federation", "delivery", "windows")})]
        return "\n".join([*said, *asked, json.dumps(self.status()), *(each.told() for each in self.houses.values())])

    def siem(self) -> ssl.SSLContext:
        """Return what a SIEM connects with."""
        issued = self.desk / "authority"
        context = ssl.create_default_context(cafile=str(issued / "ca.pem"))
        context.load_cert_chain(issued / "siem.crt", issued / "siem.key")
        return context


@pytest.fixture
def fleet(wire: Wire, tmp_path: Path, calm: None) -> Iterator[Fleet]:
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
    with made(tmp_path, captures=captures, more=(*OTHERS, "siem"), interface="eth0") as machines:
        machines.follow(before=SETTINGS)
        all_ = Fleet(tmp_path, wire, machines)
        try:
            for name in OTHERS:
                all_.join(name)
            all_.age()
            yield all_
        finally:
            all_.close()


def test_a_false_alarm_marked_at_a_deployed_gateway_ends_with_a_release_through_kills_that_lose_nothing(fleet: Fleet):
    fleet.until(lambda: fleet.files("in"), "the call of round 1")

    # an alarm arises, is marked, and is silent at once; an attack is not
    fleet.readings(40)
    called = [each for each, _ in fleet.opened()]
    fleet.mark()
    fleet.until(lambda: fleet.wanted() >= {"verdicts"}, "attic to ask for an early run")
    silent = fleet.alerts_of_readings(12)
    muted = fleet.facts()["incidents"]["muted"]
    fleet.scan()

    assert called
    assert silent == []
    assert muted > 0
    assert "scan" in [each for each, _ in fleet.opened()]

    # a round; the agent dies with the call on disk, and with the update on its way
    fleet.kill()
    fleet.attic.sh("sudo systemctl start penstock-finetune")
    assert fleet.files("out") == ["0000000001.update"]
    fleet.start()
    fleet.until(lambda: not fleet.files("out"), "attic to take the update")
    fleet.kill()
    fleet.start()
    for house in fleet.houses.values():
        (alarm,) = house.sees(readings(itertools.count(42_000), every_s=1.0, count=40))
        house.mark(alarm, "benign")
        house.learn()
    fleet.until(lambda: fleet.status()["round"]["state"] != "open", "the end of round 1")
    assert fleet.status()["round"]["state"] == "adopted", fleet.audit()[-1]

    # its release: the agent dies in the shadow of the bundle before, and on trial
    fleet.until(lambda: fleet.facts()["bundle"]["shadow_release"], "attic to try the release")
    fleet.kill()
    fleet.start()
    fleet.until(lambda: fleet.facts()["bundle"]["shadow_release"], "attic to try it again")
    release = default_bundle().manifest.release + 1
    fleet.readings(6)
    fleet.until(lambda: fleet.chat() or fleet.facts()["bundle"]["release"] == release, "attic to take it")
    fleet.kill()
    fleet.start()
    assert fleet.facts()["bundle"]["on_probation"]
    fleet.until(lambda: fleet.chat() or not fleet.facts()["bundle"]["on_probation"], "its trial to end")
    fleet.until(lambda: fleet.status()["rollout"]["running"] == 3, "the release everywhere")

    check_the_end(fleet, release)


def check_the_end(fleet: Fleet, release: int) -> None:
    """Assert that what was learnt holds, and that nothing was lost and nothing counted twice."""
    after = [each for each, update in fleet.alerts_of_readings(24) if update == 0]
    told = len(fleet.opened())
    fleet.scan()
    with Subscriber(BROKER_PORT, tls=fleet.siem()).listening(topics="penstock/v1/+/status") as heard:
        said = next(json.loads(each.payload) for each in iter(heard.next, None) if "/attic/" in each.topic)
    facts, entries = fleet.attic.json("penstock status --json")["facts"], fleet.audit()

    assert after == []
    assert "scan" in [each for each, _ in fleet.opened()[told:]]
    assert (facts["bundle"]["release"], facts["bundle"]["trusted_by"]) == (release, "homes-bundles")
    assert (said["bundle"]["release"], said["bundle"]["trial"], said["bundle"]["refused"]) == (release, "", [])
    assert [each["what"] for each in entries].count("opened") == 1
    accepted = [each["gateway"] for each in entries if each["what"] == "accepted"]
    assert sorted(accepted) == ["attic", *OTHERS]
    assert [each["what"] for each in entries if each.get("release") == release] == ["canary", "fleet", "ordered"]
    assert fleet.status()["counters"]["orders"] == 3
    ids = [each["alert"]["context"]["penstock"]["alert_id"] for each in fleet.alerts()]
    assert len(ids) == len(set(ids))
    verdicts = fleet.attic.sh("penstock feedback --log").stdout.splitlines()
    assert len(verdicts) == len(set(verdicts)) >= 1
