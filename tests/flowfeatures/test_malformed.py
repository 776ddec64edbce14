"""Captures made to break readers: each is read or refused in bounded time and memory, and what was counted is told.

Run with `-rP` to see how many were refused, by error, and how many frames were not decoded, by reason.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from flowfeatures import UNDECODED_REASONS
from tests.flowfeatures.meters import REPOSITORY
from tests.fuzz import apart
from tests.fuzz.captures import captures
from tests.fuzz.mutations import mutated

NO_CAPTURE = {".txt", ".md", ".csv", ".json"}
HANG_GUARD_S = 300


def read_each_apart(paths: list[Path]) -> list[dict]:
    """Return what became of each, read in a process of its own (tests/fuzz/apart.py)."""
    command = [sys.executable, "-m", "tests.fuzz.apart", *map(str, paths)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=HANG_GUARD_S)
    return [json.loads(line) for line in run.stdout.splitlines()]


def told(outcomes: list[dict]) -> str:
    """Return refusals by error and frames by reason, as text."""
    refused = Counter(each["refused"].partition(":")[0] for each in outcomes if each.get("refused"))
    undecoded, frames = Counter(), Counter()
    for each in outcomes:
        undecoded.update(each["counters"]["undecoded"])
        frames.update(packets=each["counters"]["packets"], decoded=each["counters"]["decoded"])
    return f"{len(outcomes)} captures; refused: {dict(refused)}; frames: {dict(frames)}; undecoded: {dict(undecoded)}"


def test_every_malformed_capture_is_read_or_refused(shared):
    paths = sorted(
        path for path in shared("data/malformed").rglob("*") if path.is_file() and path.suffix not in NO_CAPTURE
    )

    outcomes = read_each_apart(paths)

    assert [each for each in outcomes if "broke" in each] == []
    assert [each["path"] for each in outcomes] == [str(path) for path in paths]
    assert {reason for each in outcomes for reason in each["counters"]["undecoded"]} <= set(UNDECODED_REASONS)
    assert all(each["path"] in each["refused"] for each in outcomes if each["refused"]), "an error names its file"
    print(told(outcomes))


def test_a_whole_capture_is_read_and_a_missing_one_refused(tmp_path: Path):
    good, gone = tmp_path / "good", tmp_path / "gone"
    good.write_bytes(captures()["pcap"])

    whole, missing = read_each_apart([good, gone])

    assert whole["refused"] is None
    assert whole["counters"]["packets"] == 87
    assert missing["refused"].startswith("CaptureNotFound")


@pytest.mark.parametrize(
    ("reads", "broke"),
    [
        (lambda path: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda path: os._exit(3), "ended with 3"),
        (lambda path: bytearray(2 * apart.MORE_BYTES), "MemoryError: "),
        (lambda path: {}["x"], "KeyError: 'x'"),
        (lambda path: time.sleep(60), "SIGALRM"),
    ],
    ids=["crash", "exit", "memory", "exception", "time"],
)
def test_what_breaks_a_reader_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reads, broke: str):
    monkeypatch.setattr(apart, "read", reads)
    monkeypatch.setattr(apart, "LIMIT_S", 1)

    outcome = apart.read_apart(tmp_path)

    assert outcome["broke"] == [broke]


def test_damaged_captures_of_our_own_are_read_or_refused(tmp_path: Path):
    paths = [tmp_path / f"case-{number}" for number in range(200)]
    for number, path in enumerate(paths):
        path.write_bytes(mutated(number)[1])

    outcomes = read_each_apart(paths)

    assert [each for each in outcomes if "broke" in each] == []
    assert len({each["refused"] for each in outcomes}) > 5
    print(told(outcomes))
