"""What systemd is told of a worker: ready, alive, ending. Silent where nobody asked (no NOTIFY_SOCKET)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1"


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send one state to the service manager; never failing, for want of a listener is no reason to stop."""
    name = environ.get("NOTIFY_SOCKET", "")
    address = "\0" + name[1:] if name.startswith("@") else name
    if not name.startswith(("@", "/")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(state.encode(), address)
    except OSError:
        return
