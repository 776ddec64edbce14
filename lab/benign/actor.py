"""One activity being played on one host: its peers, its settings, its randomness, its patience."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.benign.hours import slowness
from lab.network import Network
from lab.plan import Activity, Host

PATIENCE_S = 3.0


@dataclass
class Actor:
    """One activity being played on one host."""

    network: Network
    activity: Activity
    folder: Path
    stop: threading.Event
    rng: random.Random
    own: Host = field(init=False)
    peers: tuple[str, ...] = field(init=False)
    began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.own = self.network.plan.host(self.activity.host)
        self.began_s = time.monotonic()
        self.peers = tuple(self.rng.choice(self.network.plan.addresses(name)) for name in self.activity.peers)

    def __getitem__(self, setting: str) -> Any:
        return self.activity.settings[setting]

    @property
    def peer(self) -> str:
        """The one it deals with, at the same address every time."""
        return self.peers[0]

    def any_address(self) -> str:
        """Draw one of all addresses of its peers: what has a new connection may be another host of a cloud."""
        return self.rng.choice(self.network.plan.addresses(self.rng.choice(self.activity.peers)))

    def rest(self, seconds: float) -> bool:
        """Wait; return False if the lab stops meanwhile."""
        return not self.stop.wait(max(0.0, seconds))

    def sit_out(self) -> bool:
        """Wait while an attack is near that this could be taken for (`lab.apart`); False if the lab stops."""
        for start_s, end_s in self.activity.settings.get("away", ()):
            now_s = time.monotonic() - self.began_s
            if start_s <= now_s < end_s and not self.rest(end_s - now_s):
                return False
        return True

    def next_turn(self) -> bool:
        """Wait for the next turn, `every_s` apart with the activity's own unsteadiness; False if the lab stops.

        Where the activity has hours, the pause is cut into pieces, so that no busy time is slept through.
        """
        unsteadiness = float(self.activity.settings.get("unsteadiness", 0.1))
        pause_s = float(self["every_s"]) * max(0.05, self.rng.gauss(1.0, unsteadiness))
        hours = self.activity.settings.get("hours")
        if not hours:
            return self.rest(pause_s)
        while pause_s > 1e-6:
            factor = slowness(time.monotonic() - self.began_s, hours)
            step_s = min(pause_s * factor, 1.0)
            if not self.rest(step_s):
                return False
            pause_s -= step_s / factor
        return True

    def run(self, *argv: str, limit_s: float = 30.0) -> None:
        """Run a program on the host to its end, or to the end of the lab or of the limit."""
        process = self.network.start(self.own.name, argv, cwd=self.folder)
        deadline = time.monotonic() + limit_s
        while process.poll() is None:
            if time.monotonic() > deadline or not self.rest(0.05):
                process.terminate()
                process.wait()

    def connect(self, address: str, port: int) -> socket.socket:
        return socket.create_connection((address, port), timeout=PATIENCE_S)


def turns(deed: Callable[[Actor], None]) -> Callable[[Actor], None]:
    """Make one deed an activity: again at every turn, whatever the network said, but not where it must keep away."""

    def activity(actor: Actor) -> None:
        while actor.sit_out():
            with contextlib.suppress(OSError, http.client.HTTPException, subprocess.SubprocessError):
                deed(actor)
            if not actor.next_turn():
                return

    activity.__doc__ = deed.__doc__
    return activity
