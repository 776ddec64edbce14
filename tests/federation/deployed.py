"""A fleet around a gateway as it is deployed: the gateway `attic`, its server, two houses, and what a SIEM hears.

Server and gateway are made by the installer and its page (`tests.federation.machines`): mosquitto with the shipped
rights, `penstock-aggregator`, the agent as its own user with its one capability, `penstock-finetune` by its unit. Two
more gateways are houses in the tests' process, so that a round has its quorum. Nothing is told to any of them that an
operator could not write into its settings; two things are made: the quiet weeks before, and a board that is not busy.
What is waited for is read from disk and socket: a program that starts for every question takes longer than its answer.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.commands.status import asked
from tests.alerts import alerts_so_far
from tests.capture.wire import Wire, put
from tests.e2e.scan import PHONE, chat_frames, reading_frames
from tests.faults.running import scan_of
from tests.federation import homes
from tests.federation.house import House, Line
from tests.federation.house import until as until_
from tests.federation.killed import PATIENCE_S
from tests.federation.machines import Machines
from tests.flowfeatures.packets import TimedFrame

BROKER_PORT, METRICS_PORT = 8883, 9745
BULB = "192.168.1.30"
OTHERS = ("barn", "cellar")
SHADOW_WINDOWS = 60
TRIES = 5
AGE = (
    "import time; from pathlib import Path; from tests.federation.homes import fill;"
    "fill(Path('/var/lib/penstock'), now_us=time.time_ns() // 1000)"
)
STATE, SERVER_STATE = "/var/lib/penstock", "/var/lib/penstock-aggregator"
FEDERATION = f"{STATE}/federation"
PATH_UNIT = "/usr/local/lib/systemd/system/penstock-finetune.path"
TRAINER = "/opt/penstock/current/bin/penstock-finetune"
ASK = (
    "import json, sqlite3, sys;"
    f"store = sqlite3.connect('file:{SERVER_STATE}/aggregator.db?mode=ro', uri=True, timeout=60);"
    "print(json.dumps(store.execute(sys.argv[1]).fetchall()))"
)
# The trainer, killed before its nth file takes its place; what it is told is what its unit tells it.
KILLED = """cp {trainer} {trainer}.whole
cat >{trainer} <<'END'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -c "import sys; from tests.federation.killed import at_file
at_file({number}); from federation.gateway.program import main; sys.exit(main())" "$@"
END
"""


def settings(mode: str) -> dict[int, str]:
    """Return what is written before a block of the page, by its place.

    Canaries are not watched for a day, and a bundle is tried on few windows. In mode private the broker lets an
    `observer` read everything, and the gateway sends nothing unmasked.
    """
    small = f"[scoring]\\nshadow_windows = {SHADOW_WINDOWS}\\n"
    lines = {3: "sed -i 's/^#canary_h = .*/canary_h = 0.0/' /etc/penstock/aggregator.toml"}
    if mode == "private":
        lines[1] = "printf '\\nuser observer\\ntopic read #\\n' >>/opt/penstock/current/share/penstock/penstock.acl"
        lines[3] += "\n" + to_mode(mode)
        small += "[federation]\\nprivate_only = true\\n"
    return lines | {5: f"printf '{small}' >/etc/penstock/conf.d/small.toml"}


def to_mode(mode: str) -> str:
    """Return what writes the mode of the next rounds into the server's settings."""
    return f"sed -i 's/^#*mode = .*/mode = \"{mode}\"/' /etc/penstock/aggregator.toml"


def play_on_time(wire: Wire, frames: list[TimedFrame]) -> None:
    """Send frames at their own pace."""
    began_s = time.monotonic()
    with wire.sender() as sock:
        for at_us, frame in frames:
            time.sleep(max(0.0, began_s + (at_us - frames[0][0]) / 1e6 - time.monotonic()))
            put(sock, frame)


class Fleet:
    """All of it, in one mode."""

    def __init__(self, folder: Path, wire: Wire, machines: Machines) -> None:
        self.wire, self.server, self.attic = wire, machines.server, machines.gateway
        self.desk, self.folder = machines.desk, folder
        self.houses: dict[str, House] = {}
        self.reports: list[str] = []
        """What attic's trainer said, run by run."""
        self.killed_runs = 0
        self.has_path_unit = False
        self._watched = re.findall(r"^PathExists=(.*)$", self.attic.sh(f"cat {PATH_UNIT}").stdout, re.MULTILINE)
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

    def introduce(self) -> None:
        """Let attic know the keys of the houses, brought by hand."""
        names = " ".join(f"{each}.pub" for each in self.houses)
        self.attic.sh(
            "sudo install -d -m 0755 /etc/penstock/peers.d\n"
            f"cd /desk/fleet.example; sudo install -m 0644 {names} /etc/penstock/peers.d/"
        )

    def close(self) -> None:
        for house in self.houses.values():
            house.close()

    # -- attic --------------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what attic's agent says of itself."""
        folder = os.open(self.attic.path("/run/penstock"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return json.loads(asked(Path(f"/proc/self/fd/{folder}/status.sock")))["facts"]
        finally:
            os.close(folder)

    def alerts(self) -> list[dict[str, Any]]:
        return alerts_so_far(self._eve)

    def opened(self) -> list[tuple[str, str]]:
        """Return class and id of every incident that attic told of."""
        told = [each["alert"]["context"]["penstock"] for each in self.alerts()]
        return [(each["class"], each["incident_id"]) for each in told if each["update"] == 0]

    def goes_by(self, frames: list[TimedFrame]) -> None:
        """Let frames cross the wire; return when attic has judged them."""
        before = self.facts()
        play_on_time(self.wire, frames)

        def is_judged() -> bool:
            facts = self.facts()
            read = facts["interfaces"][0]["read"] - before["interfaces"][0]["read"]
            windows = facts["windows"]
            return read >= len(frames) and windows["due"] == windows["scored"] > before["windows"]["scored"]

        self.until(is_judged, "attic to judge what went by")

    def readings(self, count: int) -> None:
        self.goes_by(reading_frames(self._ports, count=count))
        time.sleep(1.5)  # the last window is due after its last record

    def raise_false_alarm(self) -> None:
        """Let readings go by until an incident of the phone is open, which on a machine that stands still may wait."""
        for _ in range(TRIES):
            self.readings(40)
            if self.open_of_phone():
                return
        pytest.fail(f"no alarm of readings, {TRIES} times:\n{self.told()}")

    def alerts_of_readings(self, count: int) -> list[tuple[str, int]]:
        """Return class and update of every alert of readings.

        Where this machine, or the agent on it, stood still meanwhile, they were bursts and pauses, and another thing to
        a network: another alarm, to be marked as well. One that is told however often it was marked is returned.
        """
        for _ in range(TRIES):
            told = len(self.alerts())
            self.readings(count)
            found = [each["alert"]["context"]["penstock"] for each in self.alerts()[told:]]
            if not found:
                break
            self.mark()
        return [(each["class"], each["update"]) for each in found]

    def open_of_phone(self) -> list[str]:
        """Return the ids of the phone's incidents that are open."""
        recent = self.facts()["incidents"]["recent"]
        return [each["incident_id"] for each in recent if each["is_open"] and each["device"] == PHONE]

    def mark(self) -> None:
        """Call every incident of the phone benign that is open; return when they are closed."""
        names = set(self.open_of_phone())
        for each in names:
            self.attic.sh(f"sudo penstock feedback {each} benign")
        self.until(lambda: not names & set(self.open_of_phone()), "the incidents to close")

    def chat(self, times: int) -> None:
        """Let the phone talk with its cloud so often: windows for a bundle on trial, two of each talk."""
        self.goes_by([(at_us // 10, frame) for at_us, frame in chat_frames(times=times)])

    def scan(self) -> None:
        """Let somebody scan the bulb; return once that is told."""
        told = len(self.opened())
        self.goes_by(scan_of(BULB, ports=60))
        self.until(lambda: "scan" in [each for each, _ in self.opened()[told:]], "attic to tell of a scan")

    def start(self) -> None:
        """Start attic's agent, whatever became of the one before, by the command an operator has for it."""
        self.attic.sh("sudo systemctl start penstock")

    def kill(self) -> None:
        self.attic.kill("penstock")

    def kill_and_start(self) -> None:
        """Kill attic's agent; return when the next one hears what is said to it: it has what the broker retains."""
        self.kill()
        self.start()
        self.until(lambda: self.facts()["delivery"]["received"], "attic to hear the broker")

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

    def learn(self) -> str:
        """Run attic's trainer by its unit, as its timer does; return what it said."""
        done = self.attic.sh("sudo systemctl start penstock-finetune", is_ok=False)
        self.reports.append(done.stdout)
        if done.returncode:
            self.killed_runs += 1
            self.attic.sh(f"mv {TRAINER}.whole {TRAINER}")
        return done.stdout

    def kill_next_learning(self, *, at_file: int) -> None:
        """Let attic's trainer be killed before its nth file takes its place, in the next run that writes as many."""
        self.attic.sh(KILLED.format(trainer=TRAINER, number=at_file))

    def _by_path_unit(self) -> None:
        """Do what systemd does by penstock-finetune.path."""
        if any(self.attic.path(each).exists() for each in self._watched):
            self.learn()

    # -- all ----------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what `penstock-aggregator status --json` says."""
        return self.server.json("penstock-aggregator status --json")

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.server.sh("penstock-aggregator log --json").stdout.splitlines()]

    def asked(self, question: str) -> list[list[Any]]:
        """Return what the server's store says. SQLite follows a path by its name, so it is asked over there."""
        return self.server.json(f'{sys.executable} -IS -c "{ASK}" "{question}"')

    def metric(self, name: str, **labels: str) -> float:
        """Return what the server's metrics say now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=PATIENCE_S) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        found = [each for family in families for each in family.samples if each.name == f"penstock_aggregator_{name}"]
        return next(each.value for each in found if each.labels == labels)

    def await_end_of_round(self) -> tuple[str, str]:
        """Return the state of the newest round once it is over, and why it is that."""
        self.until(lambda: not self.metric("round_open"), "the end of the round")
        ((state, why),) = self.asked("SELECT state, why FROM rounds ORDER BY number DESC LIMIT 1")
        return state, why

    def until(self, is_so: Callable[[], object], what: str) -> None:
        until_(lambda: bool(is_so()), pump=self.pump, what=what, told=self.told)

    def pump(self) -> None:
        for house in self.houses.values():
            house.pump()
        if self.has_path_unit:
            self._by_path_unit()

    def told(self) -> str:
        """Return how all stand."""
        lines = [self.attic.log("penstock")[-3000:], self.server.log("penstock-aggregator")[-3000:]]
        try:
            facts = self.facts()
            lines.append(json.dumps({name: facts[name] for name in ("bundle", "federation", "delivery", "windows")}))
        except Exception as exc:
            lines.append(f"attic's agent does not answer: {exc}")
        folders = {place: self.files(place) for place in ("in", "out", "sending")}
        lines.append(f"attic: wanted {self.wanted()}, {folders}, trainer said {self.reports[-3:]}")
        states = self.asked("SELECT number, state FROM private_rounds")
        answers = self.asked("SELECT round, kind, gateway FROM private")
        lines.append(f"private rounds {states}, answers {answers}")
        return "\n".join([*lines, json.dumps(self.status()), *(each.told() for each in self.houses.values())])

    def certificate(self, name: str) -> ssl.SSLContext:
        """Return what a SIEM, or an observer, connects with."""
        issued = self.desk / "authority"
        context = ssl.create_default_context(cafile=str(issued / "ca.pem"))
        context.load_cert_chain(issued / f"{name}.crt", issued / f"{name}.key")
        return context


def a_gate_said_no(why: str) -> NoReturn:
    """End a story that a gate ended: it may, for what it looks at was learnt from packets that came when they came."""
    pytest.skip(f"a gate said no, as it may: {why}")
