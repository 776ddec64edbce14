"""The power is cut while the outbox is being written: a copy of the disk at that moment is all that is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.delivery import Bounds, Outbox
from agent.delivery.outbox import Letter
from tests.conftest import ROOT
from tests.faults.figures import IS_TIMED, Figures, times
from tests.faults.mounts import make_image, mounted, still_copy

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

IMAGE_BYTES = 12 << 20
RECOVERED_S = 1.0

# Puts letters in and takes older ones out, as a delivery does, and says after each commit what is now on disk, the
# highest number that was put in; and before each, below which number letters may be gone from then on. It is the line
# that makes a letter acknowledged.
WRITER = """
import sys
from itertools import count
from pathlib import Path
from agent.delivery import Bounds, Outbox
from agent.delivery.outbox import Letter

outbox = Outbox(Path(sys.argv[1]), bounds=Bounds(rows=100_000))
number, oldest = 0, 1  # ids begin with 1 and rise by one
for turn in count():
    added = [Letter(2, "cellar", "scan", str(number + 1 + each), b"x" * 900) for each in range(1 + turn % 7)]
    number += len(added)
    removed = range(oldest, max(oldest, number - 400))
    oldest = removed.stop
    print("removing", oldest, flush=True)
    outbox.apply(added=added, removed=removed)
    print("added", number, flush=True)
"""


class Writer:
    """The process that writes; what it said is read only while it stands still."""

    def __init__(self, outbox: Path) -> None:
        self.added = 0  # so many letters were acknowledged
        self.removed_below = 1  # letters with a lower id may be gone
        command = [sys.executable, "-c", WRITER, str(outbox)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""

    def stand_still(self) -> None:
        """Stop it wherever it is, and take what it has said by then."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)
        self._hear()

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def listen(self, seconds: float) -> None:
        """Let it write so long; a pipe that is full would stop it."""
        assert self._process.poll() is None, "the writer ended"
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            time.sleep(min(0.005, max(0.0, until_s - time.monotonic())))
            self._hear()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _hear(self) -> None:
        while piece := self._process.stdout.read(65_536):
            self._rest += piece
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            word, number = line.split()
            if word == b"added":
                self.added = int(number)
            else:
                self.removed_below = int(number)


def test_no_acknowledged_alert_is_lost_and_the_outbox_opens_at_once(tmp_path: Path, figures: Figures):
    cuts, rng = times(10, long=100), random.Random(1)
    image = make_image(tmp_path / "disk.img", size_bytes=IMAGE_BYTES)
    lost, recoveries_s, seen, torn, unclear = 0, [], 0, 0, 0

    with mounted(image, tmp_path / "disk") as disk:
        writer = Writer(disk / "outbox.db")
        try:
            while writer.added < 500:
                writer.listen(0.05)
            while len(recoveries_s) < cuts:
                writer.listen(rng.uniform(0.0, 0.06))
                writer.stand_still()
                if not still_copy(image, tmp_path / "cut.img"):
                    unclear += 1
                    writer.go_on()
                    continue
                with mounted(tmp_path / "cut.img", tmp_path / "cut") as left:
                    torn += (left / "outbox.db-wal").stat().st_size > 0
                    began_s = time.monotonic()
                    outbox = Outbox(left / "outbox.db", bounds=Bounds(rows=100_000))
                    recoveries_s.append(time.monotonic() - began_s)
                    kept = {int(letter.alert_id) for _, letter in outbox.after(0, 1_000_000)}
                    outbox.apply(added=[Letter(2, "cellar", "scan", "after", b"x")])  # it takes letters again
                    outbox.close()
                lost += len(set(range(writer.removed_below, writer.added + 1)) - kept)
                seen += writer.added - writer.removed_below + 1
                writer.go_on()
        finally:
            writer.go_on()
            writer.end()

    figures.told(
        fault=f"power cut at {cuts} random moments while the outbox writes",
        goal="0 acknowledged alerts lost, recovery < 1 s",
        cuts=cuts,
        with_a_log_to_replay=torn,
        acknowledged_alerts_looked_for=seen,
        lost=lost,
        recovery_at_most_ms=1000 * max(recoveries_s),
        recovery_median_ms=1000 * sorted(recoveries_s)[cuts // 2],
        moments_without_a_still_copy=unclear,
    )
    assert lost == 0
    assert torn > 0, "every cut fell between two writes: nothing was tried"
    if IS_TIMED:
        assert max(recoveries_s) < RECOVERED_S
