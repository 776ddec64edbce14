"""One target in one process, under the sanitizers: `python -m tests.fuzz.child`, started by `tests.fuzz`.

child fuzz TARGET ARGUMENT...   hand the arguments to libFuzzer
child leaks TARGET FOLDER...    replay what is in the folders and fail where the heap goes on growing
child planted MISTAKE           make a mistake on purpose; ends with 0 where nobody noticed
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import flowfeatures
from tests.fuzz import driver, feeder
from tests.fuzz.guard import guard_captures
from tests.fuzz.targets import TARGETS

PLANTED = {"read_beyond": feeder.read_beyond, "overflow": feeder.overflow, "raise_error": feeder.raise_error}
ROUNDS = 4
GROWTH_BYTES = 64 << 10
"""What a round may leave behind, since caches settle; a hundred octets lost per input come to more."""


def replay(target: str, folders: list[str]) -> int:
    """Return the octets by which the heap grew in the last of some rounds over all inputs."""
    run = TARGETS[target].make()
    paths = [path for folder in folders for path in sorted(Path(folder).iterdir())]
    before = after = 0
    for _ in range(ROUNDS):
        before = after
        for path in paths:
            run(path.read_bytes())
        gc.collect()
        after = driver.heap_bytes()
    print(f"leaks {len(paths)} inputs, heap {after:,} octets, {after - before:+,} in the last round")
    return after - before


def main(job: str, *words: str) -> int:
    """Do one job; what is found ends the process earlier."""
    if ".cache" not in str(flowfeatures.__file__):
        raise ImportError(f"wanted the instrumented package, got {flowfeatures.__file__}")
    guard_captures()
    if job == "leaks":
        return int(replay(words[0], list(words[1:])) > GROWTH_BYTES)
    call = PLANTED[words[0]] if job == "planted" else TARGETS[words[0]].make()
    arguments = ["-runs=10"] if job == "planted" else list(words[1:])
    return driver.fuzz(call, [b"fuzz", *(word.encode() for word in arguments)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
