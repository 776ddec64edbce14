"""One attack in the lab and the agent that watches its bridge: how long until the alert is at the broker, and why.

The lab's home lives; mosquitto and the agent run on the gateway; tcpdump is the witness of the first packet. Each
attack meets an agent that has just begun, so that no incident of an earlier one swallows it. The trap: all times are of
one machine's wall clock, which nobody may set meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.memory import Memory
from lab.attacks import TECHNIQUES
from lab.frames import read_frames
from lab.matching import Matcher
from lab.namespaces import entered
from lab.plan import ANY_HOST, EVERY_HOME_HOST, GATEWAY, Attack, Plan
from lab.record import Capture, Stage
from lab.senders import FIRST_ATTACK
from lab.tools import find
from lab.truth import Outcome, interval_of

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("first record", "window", "score", "commit", "broker")
PATIENCE_S = 60.0
SNAP_BYTES = 96
QUIET_S = 2.0  # of benign life before an attack
LINGER_S = 2.0  # for an alert after the attack has ended
LEAST_S = 2.0


@dataclass(frozen=True)
class Told:
    """One alert as a subscriber heard it."""

    at_us: int
    alert_id: str
    ends: frozenset[str]
    attack_class: str
    severity: int
    update: int


@dataclass(frozen=True)
class Found:
    """One attack and what became of it. Seconds are None where it was missed, a stage where it cannot be known."""

    technique: str
    attack_class: str
    label: str
    packets: int
    packets_per_s: float
    to_alert_s: float | None
    said_class: str | None
    stages_s: Mapping[str, float | None]
    others: int  # incidents that open meanwhile and are not of this attack
    watched_s: float
    resident_mib: float
    ring_mib: float


class Subscriber:
    """Hears the alerts of one agent, from inside the namespace the broker lives in."""

    def __init__(self, namespace: str, port: int) -> None:
        self.heard: list[Told] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("penstock/+/+/alert/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            with entered(namespace), contextlib.suppress(ConnectionRefusedError):  # a socket stays where it was made
                self._client.connect("127.0.0.1", port)
                break
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no broker listens on port {port}")
            time.sleep(0.1)
        self._client.loop_start()
        if not self._ready.wait(PATIENCE_S):
            raise RuntimeError("the broker takes no subscription")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        at_us = time.time_ns() // 1000
        alert = json.loads(message.payload)
        own = alert["alert"]["context"]["penstock"]
        self.heard.append(
            Told(
                at_us=at_us,
                alert_id=own["alert_id"],
                ends=frozenset({alert["src_ip"], alert["dest_ip"], own["device"]["ip"]}),
                attack_class=own["class"],
                severity=alert["alert"]["severity"],
                update=own["update"],
            )
        )


@dataclass
class Watch:
    """A broker and an agent on the gateway of a stage. `heard` are the alerts so far, `resident` the most memory."""

    stage: Stage
    folder: Path
    agent: subprocess.Popen[str]
    subscriber: Subscriber
    trace: Path
    resident: float = 0.0
    ring: float = 0.0
    began_s: float = field(default_factory=time.monotonic)

    @property
    def heard(self) -> list[Told]:
        return self.subscriber.heard

    def look(self) -> None:
        """Take the memory of this moment into account. Raises RuntimeError where the agent has ended."""
        if self.agent.poll() is not None:
            raise RuntimeError(f"the agent ended with {self.agent.returncode}")
        memory = Memory.of(self.agent.pid)
        self.resident, self.ring = max(self.resident, memory.resident), max(self.ring, memory.ring)

    def events(self) -> list[dict[str, Any]]:
        """Return what the stop watch in the agent wrote."""
        lines = self.trace.read_text(encoding="utf-8").splitlines() if self.trace.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]


@contextlib.contextmanager
def watching(stage: Stage, folder: Path, *, port: int, is_traced: bool) -> Iterator[Watch]:
    """Give a stage whose bridge is watched by an agent that speaks to a broker."""
    folder.mkdir(parents=True, exist_ok=True)
    namespace, trace = stage.network.namespace(GATEWAY), folder / "trace.jsonl"
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
    program = ["benchmarks.watched_run", str(trace)] if is_traced else ["agent.cli"]
    options = ["--interface", "br0", "--home-net", stage.plan.lan, "--outbox", str(folder / "outbox.db")]
    command = [sys.executable, "-m", *program, "run", *options, "--mqtt", f"mqtt://127.0.0.1:{port}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as ends:
        broker = stage.network.start(GATEWAY, [find("mosquitto"), "-c", str(config)])
        ends.callback(_end, broker)
        time.sleep(0.3)
        subscriber = Subscriber(namespace, port)
        ends.callback(subscriber.close)
        with (folder / "agent.log").open("w") as log, entered(namespace):
            agent = subprocess.Popen(command, cwd=folder, env=environment, stderr=log, text=True)
        ends.callback(_end, agent)
        deadline_s = time.monotonic() + PATIENCE_S
        while "watching br0" not in (folder / "agent.log").read_text():
            if agent.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"penstock run does not begin: {(folder / 'agent.log').read_text()[-1000:]}")
            time.sleep(0.02)
        yield Watch(stage, folder, agent, subscriber, trace)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def attacked(stage: Stage, attack: Attack, *, number: int, folder: Path, limit_s: float) -> Found | None:
    """Play one attack against a watched home until it is told; return what became of it, None where it sent nothing."""
    ends = frozenset().union(*ends_of(stage.plan, attack))
    with watching(stage, folder, port=21_000 + number, is_traced=True) as watch:
        time.sleep(QUIET_S)
        with Capture(stage.network, folder / "wire.pcap", snap_bytes=SNAP_BYTES):
            outcome = _played(stage, attack, watch, ends=ends, number=number, limit_s=min(limit_s, attack.limit_s))
        watched_s = time.monotonic() - watch.began_s
        return _found(stage.plan, outcome, watch, watched_s=watched_s)


def _played(
    stage: Stage, attack: Attack, watch: Watch, *, ends: frozenset[str], number: int, limit_s: float
) -> Outcome:
    """Run an attack's tool until it is told, it ends, or its time is over; an alert may come a little after that.

    What is told before LEAST_S is over may be another alarm of the same device: tools take time for a first packet.
    """
    words = watch.folder / "words"
    words.write_text("\n".join(attack.words) + "\n")
    places = {"{words}": str(words), "{python}": sys.executable}
    argv = [places.get(word, word) for word in attack.argv]
    before, started_s, until_s = len(watch.heard), time.time(), time.monotonic() + limit_s
    tool = stage.network.start(
        attack.attacker, argv, cwd=ROOT if argv[0] == sys.executable else watch.folder, group=FIRST_ATTACK + number
    )
    least_us = round((started_s + LEAST_S) * 1e6)
    while time.monotonic() < until_s + LINGER_S and not any(
        told.ends & ends and time.time_ns() // 1000 > least_us for told in watch.heard[before:]
    ):
        if tool.poll() is not None:
            until_s = min(until_s, time.monotonic())
        elif time.monotonic() >= until_s:
            _end(tool)
        watch.look()
        time.sleep(0.1)
    exit_code = tool.poll()
    _end(tool)
    return Outcome(attack, started_s, time.time(), exit_code)


def _found(plan: Plan, outcome: Outcome, watch: Watch, *, watched_s: float) -> Found | None:
    interval = interval_of(plan, outcome)
    matcher = Matcher(interval)
    times_s = [
        frame.time_s
        for frame in read_frames(watch.folder / "wire.pcap")
        if frame.time_s >= matcher.start_s and matcher.is_sent(frame)
    ]
    if not times_s:
        return None
    first_us = round(times_s[0] * 1e6)
    attackers, victims = ends_of(plan, outcome.attack)
    ends = attackers | victims
    opened = [told for told in list(watch.heard) if told.update == 0]
    mine = sorted((told for told in opened if told.ends & ends and told.at_us >= first_us), key=lambda told: told.at_us)
    technique = outcome.attack.drawn_as or outcome.attack.technique
    return Found(
        technique=technique,
        attack_class=TECHNIQUES[technique].attack_class if technique in TECHNIQUES else "scan",
        label=outcome.attack.label,
        packets=len(times_s),
        packets_per_s=len(times_s) / max(0.001, times_s[-1] - times_s[0]),
        to_alert_s=(mine[0].at_us - first_us) / 1e6 if mine else None,
        said_class=mine[0].attack_class if mine else None,
        stages_s=stages_of(watch.events(), mine[0], first_us=first_us, sides=(attackers, victims)) if mine else {},
        others=len(opened) - len(mine),
        watched_s=watched_s,
        resident_mib=watch.resident,
        ring_mib=watch.ring,
    )


def ends_of(plan: Plan, attack: Attack) -> tuple[frozenset[str], frozenset[str]]:
    """Return the attacker's and the victim's addresses, by which an alert may name this attack; empty: any."""
    attackers = frozenset() if attack.spoofed else frozenset({plan.address(attack.attacker)})
    if attack.victim in plan.silent:
        victims = frozenset({attack.victim})
    elif attack.victim not in (ANY_HOST, EVERY_HOME_HOST):
        victims = frozenset(plan.addresses(attack.victim))
    else:
        victims = frozenset(host.address for host in plan.devices) if attack.spoofed else frozenset()
    return attackers, victims


def stages_of(
    events: Sequence[Mapping[str, Any]], told: Told, *, first_us: int, sides: Sequence[frozenset[str]]
) -> dict[str, float | None]:
    """Return the seconds each stage took, one after the other: they add up to the whole."""
    seen = [
        event["due_us"]
        for event in events
        if event["event"] == "pair"
        and event["due_us"] >= first_us
        and all(side & set(event["ends"]) for side in sides if side)
    ]
    mine = {event["event"]: event for event in events if event.get("alert_id") == told.alert_id}
    scored, committed = mine.get("scored"), mine.get("committed")
    marks = [
        min(seen) if seen else None,
        scored["due_us"] if scored else None,
        scored["at_us"] if scored else None,
        committed["at_us"] if committed else None,
        told.at_us,
    ]
    stages: dict[str, float | None] = {}
    before: int | None = first_us
    for name, mark in zip(STAGES, marks, strict=True):
        stages[name] = None if mark is None or before is None else max(0.0, (mark - before) / 1e6)
        before = mark
    return stages
