"""Read captures, each in a process of its own with bounded memory and time: `python -m tests.fuzz.apart FILE...`.

One JSON line a file: its name and what became of it, which is either the counters, `refused` with the error besides
where there was one, or `broke` with what happened. The trap: a limit on address space counts what is mapped, so it is
set above what the interpreter already has.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path

from flowfeatures import FlowMeter, FlowSettings
from tests.fuzz.properties import broken
from tests.fuzz.reading import read_to_the_end

MORE_BYTES = 512 << 20
"""Address space beyond what is mapped before: a table of 65,536 flows, its records, and some."""
LIMIT_S = 120  # of a clock that runs on while others have the processors
CPU_S = 20


def read(path: Path) -> dict[str, object]:
    """Read one capture to its end or its error; return what became of it."""
    meter = FlowMeter(FlowSettings(partials=True))
    chunks, frames, error = read_to_the_end(path, meter)
    refused = None if error is None else f"{type(error).__name__}: {error}"
    problems = broken(chunks, meter.counters, frames=frames)
    return {"refused": refused, "counters": meter.counters} | ({"broke": problems} if problems else {})


def mapped_bytes() -> int:
    """Return the address space this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def read_apart(path: Path) -> dict[str, object]:
    """Read one capture in a child; return what became of it, a crash, a limit or an unforeseen exception included."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes() + MORE_BYTES,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(LIMIT_S)
            os.write(writer, json.dumps(read(path)).encode())
            status = 0
        except BaseException as exc:  # whatever it is, it is what this asks for
            os.write(writer, json.dumps({"broke": [f"{type(exc).__name__}: {exc}"[:2000]]}).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        answer = said.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"broke": [signal.Signals(os.WTERMSIG(status)).name]}
    return json.loads(answer) if answer else {"broke": [f"ended with {os.waitstatus_to_exitcode(status)}"]}


def main(paths: list[str]) -> None:
    """Print one line a capture."""
    for path in paths:
        print(json.dumps({"path": path, **read_apart(Path(path))}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
