"""`penstock run` as a process that a test starts, harms and looks at from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.commands.status import asked
from agent.delivery import Bounds, Outbox
from benchmarks.memory import Memory, cpu_s
from tests.broker import Subscriber
from tests.bundles import sign, write_refusal_bundle
from tests.capture.wire import Wire, put
from tests.conftest import ROOT
from tests.e2e.scan import SCANNER
from tests.faults.limits import Group
from tests.flowfeatures.packets import Conversation, TimedFrame

PATIENCE_S = 120.0  # a guard against hanging
# A ring of as many octets in small blocks, one of which is taken every 20 ms, be it ever so empty: the agent may stand
# still for ten seconds, and no frame is lost where a test sends each of them once.
LASTING_RING = {"PENSTOCK_CAPTURE__BLOCK_BYTES": "65536", "PENSTOCK_CAPTURE__BLOCK_COUNT": "512"}
TRUST = "trust"  # the folder of trusted keys, beside a test's bundle
HOME = "192.168.0.0/16"


class Agent:
    """One life of an agent. `lines` is what it said on stderr so far; a person's status line is not drawn there."""

    def __init__(
        self,
        *arguments: str | Path,
        folder: Path,
        interface: str = "eth0",
        bundle: Path | None = None,
        variables: Mapping[str, str] | None = None,
        group: Group | None = None,
    ) -> None:
        model = [] if bundle is None else ["--bundle", bundle]
        trust = {} if bundle is None else {"PENSTOCK_SCORING__TRUST_DIR": str(bundle.parent / TRUST)}
        words = ["run", "--interface", interface, "--home-net", HOME, "--gateway", "cellar", *model, *arguments]
        self.status = folder / "status.sock"
        own = {"PENSTOCK_STATUS__SOCKET": str(self.status), **trust}
        self.lines: list[str] = []
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", *map(str, words)],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **own, **(variables or {})},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=None if group is None else lambda: group.take(os.getpid()),  # noqa: PLW1509  (it writes a file)
        )
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def said(self, text: str, *, patience_s: float = PATIENCE_S) -> str:
        """Return the first line with this text in it, once there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._line(text) or not self._reader.is_alive(), timeout=patience_s)
        line = self._line(text)
        assert line is not None, f"never said {text!r}, but: {''.join(self.lines[-20:])}"
        return line

    def watching(self) -> Agent:
        """Return when packets are taken in."""
        self.said("watching")
        return self

    def stop(self) -> Counts:
        """Ask it to end; return what it says it saw."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
            self._reader.join(PATIENCE_S)
        finally:
            self.process.kill()
        return Counts.of(self.lines)

    def kill(self) -> None:
        """End it as an oops or the kernel's memory killer would. May be called again."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def facts(self) -> dict[str, Any]:
        """Return what `penstock status --json` says, of the last second."""
        return json.loads(asked(self.status))["facts"]

    def memory_mib(self) -> Memory:
        """Return its memory as of now."""
        return Memory.of(self.process.pid)

    def cpu_s(self) -> float:
        """Return the CPU seconds it has used, its own and the kernel's for it."""
        return cpu_s(self.process.pid)

    def _line(self, text: str) -> str | None:
        return next((line for line in list(self.lines) if text in line), None)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@dataclass(frozen=True)
class Counts:
    """What an agent that ended says of its packets."""

    seen: int
    read: int
    dropped: int
    uneven: int

    @classmethod
    def of(cls, lines: Sequence[str]) -> Counts:
        text = "".join(lines)
        found = re.search(r"([\d,]+) packets seen, ([\d,]+) read, ([\d,]+) dropped", text)
        assert found is not None, f"no counts in what it said: {text[-2000:]}"
        seen, read, dropped = (int(word.replace(",", "")) for word in found.groups())
        return cls(seen, read, dropped, text.count("do not come out even"))


@contextmanager
def running(*arguments: str | Path, folder: Path, **options: object) -> Iterator[Agent]:
    """Give an agent that is watching; it does not outlive the block."""
    agent = Agent(*arguments, folder=folder, **options)  # type: ignore[arg-type]
    try:
        yield agent.watching()
    finally:
        agent.kill()


def signed_bundle(folder: Path) -> Path:
    """Write a bundle that calls refused flows a scan, and trust its signer."""
    return sign(write_refusal_bundle(folder), folder.parent / TRUST)


def victim(number: int) -> str:
    """Return a home address of its own for each number."""
    return f"192.168.{1 + number // 200}.{10 + number % 200}"


def scan_of(address: str, *, ports: int = 12, every_s: float = 0.01) -> list[TimedFrame]:
    """Return refused knocks at so many ports of a device, which the refusal bundle calls a scan."""
    frames: list[TimedFrame] = []
    for number in range(ports):
        source = 20_000 + number % 40_000
        probe = Conversation(device=SCANNER, server=address, device_port=source, server_port=1 + number % 65_000)
        at_s = number * every_s
        frames += probe.out(at_s, "S").back(at_s + 0.001, "RA").frames
    return frames


def play(wire: Wire, frames: Sequence[TimedFrame], *, stop: Callable[[], bool] = lambda: False) -> tuple[float, int]:
    """Send frames at their own pace; return when the first went out, by the monotonic clock, and how many did."""
    began_s, first_us, sent = time.monotonic(), frames[0][0], 0
    with wire.sender() as sock:
        for at_us, frame in frames:
            time.sleep(max(0.0, began_s + (at_us - first_us) / 1e6 - time.monotonic()))
            if stop():
                break
            put(sock, frame)
            sent += 1
    return began_s, sent


def outboxed(path: Path) -> set[str]:
    """Return the ids of the alerts in an outbox that no process has open."""
    if not path.exists():
        return set()
    outbox = Outbox(path, bounds=Bounds(rows=1_000_000, size_bytes=1 << 30))
    try:
        return {letter.alert_id for _, letter in outbox.after(0, 1_000_000)}
    finally:
        outbox.close()


def ids_heard(subscriber: Subscriber, wanted: set[str], *, patience_s: float = PATIENCE_S) -> list[str]:
    """Return the ids of the alerts heard until all that are wanted came, or the patience is at its end."""
    heard: list[str] = []
    until_s = time.monotonic() + patience_s
    while not wanted <= set(heard) and time.monotonic() < until_s:
        if subscriber.heard.empty():
            time.sleep(0.02)
            continue
        message = subscriber.heard.get()
        if "/alert/" in message.topic:
            heard.append(dict(message.properties.UserProperty)["alert_id"])
    return heard
