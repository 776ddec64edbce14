"""The list of recordings that training uses, `lab/recordings.txt`: which there are, and making those still missing.

Several labs run at once, each a process of its own. The trap: whoever ends this one must find no lab left, so the
recordings are told to stop and waited for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from contracts.errors import UsageError

DEFAULT_LIST = Path(__file__).with_name("recordings.txt")


def read_series(path: Path) -> dict[int, list[str]]:
    """Return seed -> options of `penstock-lab record`, in the order of the file; raises UsageError."""
    series: dict[int, list[str]] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    for number, line in enumerate(lines, start=1):
        seed, *options = line.partition("#")[0].split() or [""]
        if not seed:
            continue
        if not seed.isdecimal() or int(seed) in series:
            raise UsageError(f"{path}:{number}: {seed!r} is no seed, or stands there twice")
        series[int(seed)] = options
    return series


def folder_of(seed: int, output: Path) -> Path:
    """Return where the recording of a seed lies."""
    return output / f"seed-{seed}"


def still_missing(series: dict[int, list[str]], output: Path) -> list[int]:
    """Return the seeds without a recording; its ground truth is written last, so a half one does not count."""
    return [seed for seed in series if not (folder_of(seed, output) / "ground_truth.json").exists()]


def record_all(
    commands: Mapping[int, Sequence[str]], *, at_once: int, say: Callable[[str], None], tries: int = 2
) -> int:
    """Run `penstock-lab` with these arguments, so many at a time; return 0, or the exit code of one that failed.

    A recording that fails is tried once more when the others are done: a busy machine may have lost packets.
    """
    waiting = [(seed, tries) for seed in commands]
    running: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
    started, code = 0, 0
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                seed, left = waiting.pop(0)
                started += left == tries
                say(f"seed {seed}, {started} of {len(commands)}")
                running[seed] = _start(commands[seed]), left - 1
            for seed, (process, left) in list(running.items()):
                if (ended := process.poll()) is None:
                    continue
                del running[seed]
                if ended and left:
                    waiting.append((seed, left))
                code = code or (0 if left else ended)
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    return code


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a recording in a session of its own, so that Ctrl-C reaches it through us and once."""
    argv = [sys.executable, "-m", "lab.cli", *arguments]
    return subprocess.Popen(argv, start_new_session=True, stdout=sys.stderr)
