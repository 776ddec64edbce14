"""The aggregator's process, killed and started by tests, and what its file says meanwhile."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from federation.aggregator.ledger import Ledger
from federation.aggregator.office import Office
from federation.aggregator.settings import load_config
from tests.federation.killed import ENVIRONMENT, ROOT, through_kills


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

    def state_of(self, number: int) -> str:
        """Return how far a round is: of a private one its state, else how many updates it has."""
        found = self.asked("SELECT state FROM private_rounds WHERE number = ?", number)
        return found[0][0] if found else str(len(self.senders(number, "")))

    def senders(self, number: int, state: str) -> set[str]:
        """Return who has answered in a state of a round."""
        table, more = ("private", "AND kind = ?") if state else ("updates", "")
        values = (number, state) if state else (number,)
        return {name for (name,) in self.asked(f"SELECT gateway FROM {table} WHERE round = ? {more}", *values)}

    def release_through_kills(self) -> None:
        """Run `penstock-aggregator release` killed at one step after the other; the last is behind all."""
        through_kills("release", ["--config", str(self.config)])

    def told(self) -> str:
        """Return how it stands, for a message of failure."""
        tables = {
            "rounds": "SELECT number, state, why FROM rounds",
            "private_rounds": "SELECT number, state, why FROM private_rounds",
            "private": "SELECT round, kind, gateway FROM private",
            "releases": "SELECT number, state, why FROM releases",
            "orders": "SELECT gateway, number, release FROM orders",
            "reports": "SELECT gateway, release, calibration FROM reports",
            "counters": "SELECT what, count FROM counters",
        }
        lines = [f"{name}: {self.asked(question)}" for name, question in tables.items()]
        return "\n".join(["aggregator:", *lines, self.log()[-2000:]])

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
