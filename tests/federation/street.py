"""A street of gateways around a real broker: agents' own parts, the real trainer, an aggregator in its own process.

A `House` is a gateway without packets: its windows were put there, everything else is what runs on a gateway: delivery
with its outbox, carrier, roll-out, store of bundles, `penstock-finetune`. A `Townhall` is `penstock-aggregator run`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.bundles.store import Store
from agent.delivery import Delivery, MqttSettings
from agent.learning.carrying import Carrier
from agent.learning.rollout import Rollout
from contracts.bundle import Bundle, default_bundle
from federation.aggregator.ledger import Ledger
from federation.aggregator.office import Office
from federation.aggregator.settings import load_config
from federation.gateway.identity import own_key
from federation.gateway.program import main
from tests.delivery.certificates import Authority

FLEET = "homes"
PATIENCE_S = 300.0  # a guard against hanging
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}


def until(is_so: Callable[[], bool], *, pump: Callable[[], None] = lambda: None, what: str) -> None:
    """Wait until something is so; `pump` is called in between."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:.0f} s for: {what}"
        pump()
        time.sleep(0.05)


class House:
    """One gateway."""

    def __init__(self, name: str, state: Path, *, port: int, authority: Authority, keys: Path) -> None:
        self.name, self.state = name, state
        self.trust, self.aggregators = keys / "trust.d", keys / "aggregators.d"
        self.key = own_key(state / "federation")
        self.serving: Bundle = default_bundle()
        self.calibration = "calibrated"
        cert, key = authority.issue(name)
        self._settings = MqttSettings.from_url(
            f"mqtts://127.0.0.1:{port}", gateway=name, client_id=name, ca=authority.ca, cert=cert, key=key
        )
        self._delivery: Delivery | None = None
        self.carrier = Carrier(state, gateway=name, fleet=FLEET, post=self._post)
        self.rollout = Rollout(
            state, gateway=name, fleet=FLEET, aggregators=self.aggregators, store=self.store,
            serving=lambda: self.serving,
        )  # fmt: skip

    def store(self) -> Store:
        return Store(self.state / "models", trust=self.trust)

    def come_online(self) -> None:
        subscriptions = [*self.carrier.subscriptions, *self.rollout.subscriptions]
        self._delivery = Delivery(
            mqtt=self._settings, outbox=self.state / "outbox.db", subscriptions=subscriptions
        ).__enter__()
        self._tell()

    def go_offline(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
        self._delivery = None

    def pump(self) -> None:
        """Do what an agent does about once a second."""
        if self._delivery is None:
            return
        messages = self._delivery.incoming()
        self.carrier.lay(messages)
        for message in messages:
            self.rollout.take(message)
        self.carrier.turn()
        store = self.store()
        if (wish := store.wish()) is not None:
            self.serving = store.load(wish.name)
            store.activated(self.serving, trial=False, rollback=wish.rollback)
        self._tell()

    def learn(self) -> None:
        """Run `penstock-finetune` to its end, in this process."""
        assert main(self._words()) == 0

    def learn_until_killed(self, *, at_write: int) -> int:
        """Run it in a process of its own that is killed at its nth write; return how it ended."""
        script = (
            "import os, signal, sys\n"
            "os.nice = lambda _: 0\n"
            "from contracts import whole_file\n"
            "from federation.gateway import desk, program\n"
            "whole, written = whole_file.write_whole, []\n"
            "def dying(path, content, **options):\n"
            "    written.append(path)\n"
            f"    if len(written) == {at_write}:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    whole(path, content, **options)\n"
            "desk.write_whole = dying\n"
            "sys.exit(program.main(sys.argv[1:]))\n"
        )
        command = [sys.executable, "-c", script, *self._words()]
        return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, timeout=PATIENCE_S, check=False).returncode

    def judge(self, incident_id: str, verdict: str) -> None:
        (self.state / "rules.json").write_text(json.dumps({"verdicts": {incident_id: verdict}}))

    def has_call(self, number: int) -> bool:
        return any(f'"round":{number},'.encode() in path.read_bytes() for path in self.carrier.inbox.glob("*.call"))

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
        if told != getattr(self, "_told", None):
            self._told = told
            self._delivery.status(told)


class Townhall:
    """The aggregator's process, or several on one file."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.state = folder / "aggregator"
        self.config = folder / "aggregator.toml"
        self.config.write_text(settings)
        self._log = folder / "aggregator.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str) -> None:
        told = more or ("--config", str(self.config))
        command = [sys.executable, "-m", "federation.aggregator.program", "run", *told]
        with self._log.open("ab") as log:
            self._processes.append(subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log))

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as systemd would; return its exit code."""
        return self._end(signal.SIGTERM)

    @contextlib.contextmanager
    def office(self) -> Iterator[Office]:
        """Give an office on the same file, as a command beside the service has one."""
        office = Office(load_config(self.config))
        try:
            yield office
        finally:
            office.close()

    def asked(self, question: str, *values: object) -> list[tuple]:
        with sqlite3.connect(self.state / "aggregator.db", timeout=30) as db:
            return db.execute(question, values).fetchall()

    def open_round(self) -> int:
        found = self.asked("SELECT number FROM rounds WHERE state = 'open'")
        return found[0][0] if found else 0

    def counters(self) -> dict[str, int]:
        return dict(self.asked("SELECT what, count FROM counters"))

    def let_the_deadline_pass(self) -> None:
        with sqlite3.connect(self.state / "aggregator.db", timeout=30) as db:
            db.execute("UPDATE rounds SET deadline_us = opened_us + 1 WHERE state = 'open'")

    def let_the_state_pass(self, number: int, state: str) -> None:
        """Wait no longer for who has not answered in a state of a private round, if it is in that still."""
        with sqlite3.connect(self.state / "aggregator.db", timeout=30) as db:
            db.execute("UPDATE private_rounds SET until_us = 1 WHERE number = ? AND state = ?", (number, state))

    def audit(self) -> list[dict]:
        ledger = Ledger(self.state / "aggregator.db")
        try:
            return ledger.audit()
        finally:
            ledger.close()

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def _end(self, number: int) -> int:
        code = 0
        for process in self._processes:
            process.send_signal(number)
            code = process.wait(60)
        self._processes.clear()
        return code


def copy_state(first: Path, target: Path) -> Path:
    """Give a house the windows of another one."""
    shutil.copytree(first, target)
    return target


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trainer keep its priority: lowering it in the tests' own process would add up."""
    monkeypatch.setattr(os, "nice", lambda _: 0)
