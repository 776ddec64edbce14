"""`penstock run` with a stop watch in it: `python -m benchmarks.watched_run TRACE ARGUMENTS...` writes JSON lines.

What an agent does not say of itself: when a pair of ends first stood in a window, when the windows that opened an
incident were scored, and when its alert was on disk. Times are microseconds of the clock that stamps packets. The trap:
this wraps three methods of the agent by name; a line costs some microseconds and stands in the times after it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

MOST_PAIRS = 20_000  # of ends, so that a spoofed flood cannot fill a disk


class Trace:
    """Writes what happened; one line, one event."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._pairs: set[bytes] = set()

    def write(self, event: str, **what: Any) -> None:
        self._file.write(json.dumps({"event": event, "at_us": time.time_ns() // 1000, **what}) + "\n")
        self._file.flush()

    def windows(self, batch: Any) -> None:
        """Note each pair of ends the first time a record of theirs is new in a window."""
        from flowfeatures import address_text

        if len(self._pairs) > MOST_PAIRS:
            return
        for row, place in zip(*np.nonzero(batch.is_new), strict=True):
            flow = batch.flows[row, place]
            pair = bytes(flow["src"]) + bytes(flow["dst"])
            if pair not in self._pairs:
                self._pairs.add(pair)
                ends = [address_text(bytes(flow[end])) for end in ("src", "dst")]
                self.write("pair", ends=ends, due_us=int(batch.due_us[row]))


def after(owner: Any, name: str, do: Callable[..., None]) -> None:
    """Let `do` see what a method was given and what it returned."""
    method = getattr(owner, name)

    def wrapped(self: Any, *given: Any, **named: Any) -> Any:
        answer = method(self, *given, **named)
        do(answer, *given, **named)
        return answer

    setattr(owner, name, wrapped)


def watch(trace: Trace) -> None:
    """Put the watch in."""
    from agent.delivery.outbox import Outbox
    from detection.detector import Detector

    def judged(updates: Any, batch: Any) -> None:
        trace.windows(batch)
        for update in updates:
            if update.update == 0:
                trace.write("scored", alert_id=update.alert_id, due_us=update.opened_us)

    def committed(_: Any, *, added: Any = (), **__: Any) -> None:
        for letter in added:
            trace.write("committed", alert_id=letter.alert_id)

    after(Detector, "add", judged)
    after(Outbox, "apply", committed)


def main(arguments: list[str]) -> int:
    from agent.cli import main as penstock

    with Path(arguments[0]).open("w", encoding="utf-8") as file:
        watch(Trace(file))
        return penstock(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
