"""Plays a plan and records it: network up, servers, tcpdump, benign life, attacks in their order, everything down.

The capture is taken on the gateway's bridge, which in promiscuous mode shows each frame once, also those between two
devices. The trap: tcpdump drops silently from our side; what it says it lost is read at the end and raised.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import LabError
from lab.benign import ACTIVITIES, Actor
from lab.flows import FLOW_FILE
from lab.namespaces import make_run_folder
from lab.network import Network
from lab.plan import GATEWAY, Activity, Attack, Plan
from lab.scenario import services_of
from lab.senders import FIRST_ACTIVITY, FIRST_ATTACK, collect, take_group, watch
from lab.services import SERVICES
from lab.site import Site
from lab.tools import find, require_all
from lab.truth import Outcome, write_truth

BUFFER_KIB = 32 * 1024
PROJECT = Path(__file__).parents[1]  # where `-m lab.bots` is found, installed or not
SETTLE_S = 1.5  # servers listen after that, on a busy machine too


@dataclass(frozen=True)
class Recording:
    """What came of playing a plan."""

    capture: Path
    truth: Path
    packets: int
    bytes: int
    intervals: list[dict[str, Any]]


class Stage:
    """A network with its servers and everyone on it, for as long as one recording lasts."""

    def __init__(self, network: Network, *, run: Path, say: Callable[[str], None]) -> None:
        self.network = network
        self.plan = network.plan
        self.run = run
        self.say = say
        self.stop = threading.Event()

    def folder(self, host: str) -> Path:
        path = self.run / host
        path.mkdir(exist_ok=True)
        return path

    def open(self) -> None:
        """Start every server of the plan and wait until they listen."""
        key = self.run / "client_key"
        subprocess.run([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        for host, service in services_of(self.plan):
            site = Site(network=self.network, host=host, service=service, folder=self.folder(host), stop=self.stop)
            SERVICES[service.kind](site)
        time.sleep(SETTLE_S)

    def live(self) -> None:
        """Let every benign activity begin at its time, each with its own randomness."""
        for number, activity in enumerate(self.plan.activities):
            self.network.thread(activity.host, self._life(number, activity), name=f"{activity.host} {activity.kind}")

    def _life(self, number: int, activity: Activity) -> Callable[[], None]:
        def play() -> None:
            take_group(FIRST_ACTIVITY + number)
            actor = Actor(
                network=self.network.seen_by(self.plan.host(activity.host)),
                activity=activity,
                folder=self.folder(activity.host),
                stop=self.stop,
                rng=random.Random(f"{self.plan.seed}:{number}"),
            )
            if actor.rest(activity.starts_s):
                ACTIVITIES[activity.kind](actor)

        return play

    def attack(self, attack: Attack, *, number: int) -> Outcome:
        """Run one attack to its end or to its limit."""
        words = self.run / f"words-{number}"
        words.write_text("\n".join(attack.words) + "\n")
        places = {"{words}": str(words), "{python}": sys.executable}
        argv = [places.get(word, word) for word in attack.argv]
        started_s = time.time()
        with (self.run / f"attack-{number}.log").open("wb") as log:
            process = self.network.start(
                attack.attacker,
                argv,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT if argv[0] == sys.executable else self.run,
                group=FIRST_ATTACK + number,
            )
        exit_code: int | None
        try:
            exit_code = process.wait(timeout=attack.limit_s)
        except subprocess.TimeoutExpired:
            exit_code = None
            for number_of_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                process.send_signal(number_of_signal)
                try:
                    process.wait(timeout=1.0)
                    break
                except subprocess.TimeoutExpired:
                    continue
        return Outcome(attack, started_s, time.time(), exit_code)

    def play_attacks(self) -> list[Outcome]:
        """Run the attacks of the plan at their times; return what came of each."""
        outcomes: list[Outcome] = []
        began_s = time.monotonic()
        threads = []

        def one(number: int, attack: Attack) -> None:
            time.sleep(max(0.0, began_s + attack.starts_s - time.monotonic()))
            self.say(f"{attack.technique}: {attack.attacker} -> {attack.victim}")
            outcomes.append(self.attack(attack, number=number))

        for number, attack in enumerate(self.plan.attacks):
            threads.append(threading.Thread(target=one, args=(number, attack), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if len(outcomes) < len(self.plan.attacks):  # what is not known must not look benign
            raise LabError(
                f"{len(self.plan.attacks) - len(outcomes)} of {len(self.plan.attacks)} attacks did not start"
            )
        time.sleep(max(0.0, began_s + self.plan.duration_s - time.monotonic()))
        return sorted(outcomes, key=lambda outcome: outcome.started_s)


class Capture:
    """tcpdump on the gateway's bridge, from `with` to its end."""

    def __init__(self, network: Network, path: Path, *, snap_bytes: int) -> None:
        self._network = network
        self._path = path
        self._snap_bytes = snap_bytes
        self.packets = 0

    def __enter__(self) -> Capture:
        self._log = tempfile.TemporaryFile()
        self._process = self._network.start(
            GATEWAY,
            [
                "tcpdump",
                "-i",
                "br0",
                "-n",
                "-B",
                str(BUFFER_KIB),
                "-s",
                str(self._snap_bytes),
                "-Z",
                "root",
                "-w",
                str(self._path),
            ],
            stderr=self._log,
        )
        deadline = time.monotonic() + 10.0
        while b"listening on" not in self._said():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"tcpdump did not start: {self._said().decode().strip()}")
            time.sleep(0.05)
        return self

    def _said(self) -> bytes:
        self._log.seek(0)
        return self._log.read()

    def __exit__(self, *error: object) -> None:
        is_cut_short = self._process.poll() is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=20)
        said = self._said().decode()
        self._log.close()
        counts = {name: int(count) for count, name in re.findall(r"(\d+) packets? (captured|dropped by kernel)", said)}
        self.packets = counts.get("captured", 0)
        if is_cut_short and error == (None, None, None):
            raise LabError("tcpdump ended before the recording did: the capture is cut short")
        if counts.get("dropped by kernel") and error == (None, None, None):
            raise LabError(f"tcpdump lost {counts['dropped by kernel']} packets: the machine is too busy, record again")


def record(
    plan: Plan,
    folder: Path,
    *,
    snap_bytes: int = 262144,
    say: Callable[[str], None],
    began: Callable[[], None] = lambda: None,
) -> Recording:
    """Play a plan and write capture.pcap, flows.csv, plan.json and ground_truth.json to a folder.

    `began` is called when the capture runs. Raises NeedsRoot, MissingTool, LabError. Nothing is left of the network,
    whatever happens.
    """
    require_all()
    folder.mkdir(parents=True, exist_ok=True)
    run = make_run_folder()
    capture = run / "capture.pcap"
    try:
        with Network(plan) as network:
            say(f"network of {len(plan.devices)} devices on {plan.lan}")
            stage = Stage(network, run=run, say=say)
            stage.open()
            watch(network)
            try:
                with Capture(network, capture, snap_bytes=snap_bytes) as taken:
                    began()
                    stage.live()
                    outcomes = stage.play_attacks()
            finally:
                stage.stop.set()
            sent = collect(network)
        entry = write_truth(plan, outcomes, capture=capture, sent=sent)[0]
        (run / "plan.json").write_text(json.dumps(dataclasses.asdict(plan), indent=1) + "\n")
        for name in (
            "capture.pcap",
            FLOW_FILE,
            "plan.json",
            "ground_truth.json",
        ):  # the last one says that the others are whole
            shutil.copyfile(run / name, folder / name)
        return Recording(
            capture=folder / "capture.pcap",
            truth=folder / "ground_truth.json",
            packets=taken.packets,
            bytes=capture.stat().st_size,
            intervals=entry.get("intervals", []),
        )
    finally:
        shutil.rmtree(run, ignore_errors=True)
