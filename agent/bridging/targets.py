"""Where a bridge writes: a file that is forced to disk, standard output, or a syslog server.

A target takes an alert or raises; nothing waits in it, since what is not written stays with the broker. Traps: only the
file can promise anything, as a pipe and a syslog server do not say what became of a line; a file that a power cut left
with half a line at its end loses that half, which was never acknowledged and comes again.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Protocol

from agent.bridging.seen import Seen
from agent.delivery.eve import STDOUT, EveFile
from agent.delivery.queued import Outlet
from agent.delivery.rotated import RotatedFile
from contracts.alert import Alert
from contracts.errors import OutputError
from contracts.eve import MAX_LINE_BYTES, render_eve
from contracts.formats import FORMATS


class Target(Protocol):
    """A way out. Raises OutputError where it cannot write now."""

    def write(self, alert: Alert) -> None:
        """Write one alert."""

    def sync(self) -> None:
        """See to it that what was written stays written, as far as this target can."""

    def tick(self) -> None:
        """Do what is due about once a second."""

    def reopen(self) -> None:
        """Open anew what a log rotation may have moved away."""

    def close(self) -> None:
        """Let go of it."""


class FileTarget:
    """Lines in a file of our own; what stands in it already is put into `seen`."""

    def __init__(self, path: Path, *, rotate_bytes: int, keep_files: int, seen: Seen) -> None:
        cut_torn_line(path)
        self._file = RotatedFile(path, rotate_bytes=rotate_bytes, keep_files=keep_files, is_synced=True)
        for number in (1, 0):
            seen.read(self._file.numbered(number))

    def write(self, alert: Alert) -> None:
        """Write one line, rotating the file where it is full."""
        self._file.write(render_eve(alert))

    def sync(self) -> None:
        """Force the lines to disk."""
        self._file.sync()

    def tick(self) -> None:
        """Follow a file that was moved away."""
        self._file.follow()

    def reopen(self) -> None:
        """Let the next line open the file anew."""
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class StdoutTarget:
    """Lines on standard output. A reader that went away raises BrokenPipeError, as in any program in a pipe."""

    def __init__(self, *, format_name: str) -> None:
        self._render = FORMATS[format_name].render
        self._file = EveFile(STDOUT)

    def write(self, alert: Alert) -> None:
        """Write one line; wait for a reader that is slow."""
        self._file.write(self._render(alert))

    def sync(self) -> None:
        """Force the lines to disk where standard output is a file."""
        self._file.sync()

    def tick(self) -> None:
        """Nothing is due."""

    def reopen(self) -> None:
        """Nothing to open anew."""

    def close(self) -> None:
        """Close our copy of it."""
        self._file.close()


class SyslogTarget:
    """Messages to a syslog server, each from the gateway whose alert it is."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write(self, alert: Alert) -> None:
        """Send one message; may wait some seconds for the server."""
        try:
            self._outlet.send(self._outlet.message(alert))
        except OSError as exc:
            raise OutputError(f"syslog: {exc.strerror or exc}") from exc

    def sync(self) -> None:
        """Nothing more can be done."""

    def tick(self) -> None:
        """Nothing is due."""

    def reopen(self) -> None:
        """Nothing to open anew."""

    def close(self) -> None:
        """Close the connection."""
        self._outlet.close()


LOOK_BACK: Final = 2 * (MAX_LINE_BYTES + 1)


def cut_torn_line(path: Path) -> None:
    """Cut off an unfinished last line. Raises OutputError where a file is not one of lines like ours."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return  # there is none, or opening it to append says what is wrong with it
    try:
        told = os.fstat(fd)
        if not stat.S_ISREG(told.st_mode):
            return
        size = told.st_size
        tail = os.pread(fd, LOOK_BACK, max(0, size - LOOK_BACK))
        if not tail or tail.endswith(b"\n"):
            return
        whole = tail.rfind(b"\n") + 1
        if whole == 0 and size > LOOK_BACK:
            raise OutputError(f"eve: {path}: ends in a line of over {LOOK_BACK} octets: not a file of alerts")
        os.ftruncate(fd, size - len(tail) + whole)
        os.fsync(fd)
    except OSError as exc:
        raise OutputError(f"eve: {path}: cannot be mended: {exc.strerror or exc}") from exc
    finally:
        os.close(fd)
