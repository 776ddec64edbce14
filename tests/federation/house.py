"""A house of the street: a gateway whose packets are frames of a test, everything behind them as it runs there.

`sees` carries frames through flow table, windows and the agent's judging, with its rules, its record of incidents and
its samples; `pump` does what an agent does once a second; `learn` is `penstock-finetune`, `mark` `penstock feedback`.
Started as a program it is such a gateway in a process of its own, which takes the bundle it is ordered to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.bundles.store import Store
from agent.config import load_config
from agent.delivery import Delivery, MqttSettings
from agent.learning.carrying import Carrier
from agent.learning.keeping import Keeper
from agent.learning.rollout import Rollout
from agent.live.judging import Judging
from agent.state.incident_record import RECORD_FILE, IncidentRecord
from agent.stopwatch import Stopwatch
from contracts.bundle import Bundle, default_bundle
from contracts.classes import NAMES
from contracts.samples import SAMPLES_FILE, SampleBook
from detection.incidents import IncidentUpdate
from federation.gateway.identity import own_key
from federation.gateway.program import main
from flowfeatures import DeviceWindows, FlowMeter, FlowSettings
from flowfeatures.frames import FrameBlock
from tests.federation.killed import ENVIRONMENT, PATIENCE_S, ROOT, through_kills
from tests.flowfeatures.packets import TimedFrame

FLEET = "homes"
HOME = "192.168.1.0/24"
BEGUN_US, APART_US = 1_200_000_000, 400_000_000  # what is seen first was a while ago; incidents close in between


class Alarm(NamedTuple):
    """An incident that opened."""

    incident_id: str
    called: str


class Line(NamedTuple):
    """How a house reaches the broker, and who it trusts."""

    port: int
    ca: Path
    cert: Path
    key: Path
    keys: Path


class House:
    """One gateway."""

    def __init__(self, name: str, state: Path, *, line: Line) -> None:
        self.name, self.state, self.line = name, state, line
        self.trust, self.aggregators = line.keys / "trust.d", line.keys / "aggregators.d"
        self.key = own_key(state / "federation")
        self.calibration = "calibrated"
        self._settings = MqttSettings.from_url(
            f"mqtts://127.0.0.1:{line.port}", gateway=name, client_id=name, ca=line.ca, cert=line.cert, key=line.key
        )
        self._delivery: Delivery | None = None
        self._seen_us: int | None = None
        self._told = ""
        self.carrier = Carrier(state, gateway=name, fleet=FLEET, post=self._post)
        self._book = SampleBook(state / SAMPLES_FILE, write=True)
        self._record = IncidentRecord(state / RECORD_FILE)
        self.awake()

    def awake(self) -> None:
        """Start what an agent builds anew with every start, from what it finds on disk."""
        keeper = Keeper(self._book.add, self._let_go)
        given = {"capture.interfaces": ["eth0"], "scoring.trust_dir": self.trust, "scoring.shadow_windows": 0}
        self.judging = Judging(
            load_config(None, environ={}, overrides=given), state_dir=self.state, home_nets=[HOME], never_ban=(),
            stopwatch=Stopwatch(), observer=keeper,
        )  # fmt: skip
        self.rollout = Rollout(
            self.state, gateway=self.name, fleet=FLEET, aggregators=self.aggregators,
            store=lambda: Store(self.state / "models", trust=self.trust), serving=lambda: self.serving,
        )  # fmt: skip

    @property
    def serving(self) -> Bundle:
        return self.judging.bundle

    def come_online(self) -> None:
        subscriptions = [*self.carrier.subscriptions, *self.rollout.subscriptions]
        self._delivery = Delivery(
            mqtt=self._settings, outbox=self.state / "outbox.db", subscriptions=subscriptions
        ).__enter__()
        self._told = ""
        self._tell()

    def go_offline(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
        self._delivery = None

    def close(self) -> None:
        self.go_offline()
        self._book.close()
        self._record.close()

    def pump(self) -> None:
        """Do what an agent does about once a second."""
        if self._delivery is None:
            return
        messages = self._delivery.incoming()
        self.carrier.lay(messages)
        for message in messages:
            self.rollout.take(message)
        self.carrier.turn()
        self.judging.look()
        self._tell()

    # -- packets ----------------------------------------------------------------------------------------------------

    def sees(self, frames: Sequence[TimedFrame]) -> list[Alarm]:
        """Let frames go by, the first ones a while ago, others now; return the incidents that opened."""
        now_us = time.time_ns() // 1000
        begin_us = now_us - BEGUN_US if self._seen_us is None else max(now_us, self._seen_us + APART_US)
        times_us = [at_us - frames[0][0] + begin_us for at_us, _ in frames]
        self._seen_us = times_us[-1]
        self.judging.look()
        opened = self._told_of(self.judging.detector.advance(begin_us))
        meter, windows = FlowMeter(FlowSettings(partials=True)), DeviceWindows(home_nets=[HOME])
        block = FrameBlock.of([frame for _, frame in frames], times_us)
        records = [*meter.add(block), *meter.flush()]
        for batch in [*(batch for each in records for batch in windows.add(each)), *windows.flush()]:
            opened += self._told_of(self.judging.detector.add(batch))
            self.judging.swap.judged(batch)
        return opened

    def _told_of(self, updates: Sequence[IncidentUpdate]) -> list[Alarm]:
        for update in updates:
            self._record.add(update, bundle_sha256=self.serving.manifest_sha256)
        return [Alarm(each.incident_id, NAMES[each.class_index]) for each in updates if each.update == 0]

    def _let_go(self, device: bytes, from_us: int, to_us: int) -> None:
        self._book.let_go(device, from_us=from_us, to_us=to_us)

    # -- the operator, and what is learnt -----------------------------------------------------------------------------

    def mark(self, alarm: Alarm, verdict: str) -> None:
        """Say what an alarm was, by the operator's command."""
        words = ["feedback", alarm.incident_id, verdict, "--state-dir", str(self.state)]
        command = [sys.executable, "-m", "agent.cli", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=ENVIRONMENT, timeout=PATIENCE_S, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{self.name}: {done.stderr}"

    def learn(self) -> None:
        """Run `penstock-finetune` to its end, in this process."""
        assert main(self._words()) == 0

    def learn_through_kills(self) -> None:
        """Run it in processes of its own, killed before every file it writes, until one comes to its end."""
        through_kills("trainer", self._words())

    def take_bundle_through_kills(self, release: int) -> int:
        """Be online in processes of their own, killed before every file, until a release serves; return the kills."""
        self.go_offline()
        line = [str(each) for each in self.line]
        kills = through_kills("agent", [self.name, str(self.state), str(release), *line])
        self.awake()
        return kills

    def has_call(self, number: int) -> bool:
        return any(f'"round":{number},'.encode() in path.read_bytes() for path in self.carrier.inbox.glob("*.call"))

    def told(self) -> str:
        """Return how it stands, for a message of failure."""
        folders = {each.name: sorted(path.name for path in each.glob("*")) for each in
                   (self.carrier.inbox, self.carrier.outbox, self.carrier.sending)}  # fmt: skip
        state = "offline" if self._delivery is None else self._delivery.facts().broker_state
        told = f"release {self.serving.manifest.release}, order {self.rollout.number} {self.rollout.outcome}"
        return f"{self.name}: {state}, {told}, {dict(self.carrier.counts)}, {folders}"

    def _words(self) -> list[str]:
        words = ["--state-dir", str(self.state), "--aggregators", str(self.aggregators), "--trust", str(self.trust)]
        if self.serving.manifest_sha256 != default_bundle().manifest_sha256:
            words += ["--bundle", str(self.serving.path)]
        return [*words, "--fleet", FLEET, "--gateway", self.name, "--now"]

    def _post(self, topic: str, payload: bytes, *, content_type: str):
        return None if self._delivery is None else self._delivery.post(topic, payload, content_type=content_type)

    def _tell(self) -> None:
        """Publish what `status_text` does, as far as an aggregator reads it."""
        manifest = self.serving.manifest
        bundle = {
            "name": manifest.name, "release": manifest.release, "sha256": self.serving.manifest_sha256,
            "refused": list(self.rollout.refused),
        }  # fmt: skip
        assert self._delivery is not None
        told = json.dumps({"gateway": self.name, "bundle": bundle, "calibration": self.calibration}, sort_keys=True)
        if told != self._told:
            self._told = told
            self._delivery.status(told)


def until(
    is_so: Callable[[], bool],
    *,
    pump: Callable[[], None] = lambda: None,
    what: str,
    told: Callable[[], str] = lambda: "",
) -> None:
    """Wait until something is so; `pump` is called in between, `told` says how all stand where it never is."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:.0f} s for: {what}\n{told()}"
        pump()
        time.sleep(0.05)


def serve(words: Sequence[str]) -> int:
    """Be a gateway until a release serves."""
    parser = argparse.ArgumentParser()
    for name, kind in (("name", str), ("state", Path), ("release", int), ("port", int)):
        parser.add_argument(name, type=kind)
    for name in ("ca", "cert", "key", "keys"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(words)
    house = House(args.name, args.state, line=Line(args.port, args.ca, args.cert, args.key, args.keys))
    house.come_online()
    until(lambda: house.serving.manifest.release == args.release, pump=house.pump, what=house.told())
    house.close()
    return 0
