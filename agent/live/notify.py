"""What systemd is told: ready, reloading, stopping, and that work goes on (sd_notify and its watchdog).

One datagram to the socket that `NOTIFY_SOCKET` names; without it nothing is sent. The watchdog is fed by whoever has
just made progress, never by a timer of its own: a thread that pats it while the pipeline hangs would guard nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


class Notifier:
    """Tell the service manager; silent, and never failing, where there is none.

    `feeds` counts how often the watchdog was fed.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        now_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self.feeds = 0
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._now_us = now_us
        self._feed_every_us = _watchdog_us(environ) // 3  # thrice within the time: one may come late
        self._fed_us = 0

    @property
    def is_watched(self) -> bool:
        """Return whether a watchdog waits to be fed."""
        return self._address is not None and self._feed_every_us > 0

    def ready(self, status: str = "") -> None:
        """Say that the service is up: packets are read."""
        self._tell(READY, status)

    def reloading(self) -> None:
        """Say that settings are being read anew; `ready` ends it. systemd wants the time, of the clock nobody sets."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={self._now_us()}")

    def stopping(self) -> None:
        """Say that the service is ending in order."""
        self._tell(STOPPING)

    def status(self, text: str) -> None:
        """Say in one line what the service does; `systemctl status` shows it."""
        self._tell(f"STATUS={text}")

    def progressed(self) -> None:
        """Feed the watchdog, if its time has come: work was done just now."""
        if self.is_watched and self._now_us() - self._fed_us >= self._feed_every_us:
            self._fed_us = self._now_us()
            self.feeds += 1
            self._tell(WATCHDOG)

    def _tell(self, state: str, status: str = "") -> None:
        if self._address is None:
            return
        text = f"{state}\nSTATUS={status}" if status else state
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError:
            return  # nobody listens any more; that is no reason to stop watching


def _address(name: str) -> str | None:
    """Return the socket's address: a path, or behind an @ a name without a file."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_us(environ: Mapping[str, str]) -> int:
    """Return within what time the watchdog wants to be fed, 0 where it is not meant for this process."""
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return 0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) if text.isascii() and text.isdigit() else 0
