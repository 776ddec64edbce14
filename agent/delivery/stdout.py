"""Alerts on standard output, one per line, for a journal or another program to read."""

from __future__ import annotations

import os
import sys

from agent.delivery.queued import QueuedSink
from contracts.alert import Alert
from contracts.formats import FORMATS


class StdoutSink(QueuedSink):
    """Writes in a thread of its own: a reader that stalls costs lines, not packets."""

    def __init__(self, *, format: str = "eve") -> None:
        super().__init__("stdout", _Stdout(format))


class _Stdout:
    def __init__(self, format_name: str) -> None:
        self._render = FORMATS[format_name].render
        sys.stdout.flush()
        self._fd = os.dup(sys.stdout.fileno())

    def message(self, alert: Alert) -> bytes:
        return f"{self._render(alert)}\n".encode()

    def send(self, message: bytes) -> None:
        rest = memoryview(message)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def close(self) -> None:
        os.close(self._fd)
