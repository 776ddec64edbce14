"""Where a server of the lab starts: network, host, service and the folder it may write to.

The trap: a program started here ends with its namespace, a thread only when `stop` is set.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from lab.network import Network
from lab.plan import Service


@dataclass(frozen=True)
class Site:
    """Where a server starts: network, host, and the folder it may write to."""

    network: Network
    host: str
    service: Service
    folder: Path
    stop: threading.Event

    def start(self, *argv: str) -> None:
        """Start a program on the host; its output goes to a log in the folder."""
        with (self.folder / f"{self.service.kind}-{self.service.port}.log").open("ab") as log:
            self.network.start(self.host, argv, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)

    def write(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Write a file of the server and return its path."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path
