"""Two network namespaces and a veth pair between them: a cable nobody else speaks on.

No addresses, no ARP, no IPv6, so that the receiving interface counts our frames alone. Names carry the process id;
both namespaces are removed at the end, and with them the pair and whoever still listens there. Needs root and `ip`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# Before the interfaces are there: neighbour discovery would put frames of its own on the cable. Absent without IPv6.
WITHOUT_IPV6 = "cd /proc/sys/net/ipv6/conf/default 2>/dev/null || exit 0; echo 1 >disable_ipv6"


class CableError(Exception):
    """The cable cannot be laid: what is missing, or what `ip` said."""


class Cable:
    """A context manager; `near` is the sender's end, `far` the receiver's."""

    near, far = "near0", "far0"

    def __init__(self) -> None:
        self._namespaces = {end: f"pbench{os.getpid()}-{end}" for end in (self.near, self.far)}

    def __enter__(self) -> Cable:
        if os.geteuid() != 0:
            raise CableError("network namespaces want root: sudo python -m benchmarks.capture")
        if shutil.which("ip") is None:
            raise CableError("ip is missing: sudo apt-get install iproute2")
        try:
            self._lay()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _lay(self) -> None:
        for namespace in self._namespaces.values():
            _run("ip", "netns", "add", namespace)
        for end in (self.near, self.far):
            _run(*self.inside(end), "sh", "-c", WITHOUT_IPV6)
        near, far = self._namespaces[self.near], self._namespaces[self.far]
        _run("ip", "link", "add", self.near, "netns", near, "type", "veth", "peer", "name", self.far, "netns", far)
        for end, namespace in self._namespaces.items():
            _run("ip", "-n", namespace, "link", "set", end, "arp", "off", "up")

    def _remove(self) -> None:
        for namespace in self._namespaces.values():
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)

    def inside(self, end: str) -> list[str]:
        """Return the words that, put before a command, run it at one end."""
        return ["ip", "netns", "exec", self._namespaces[end]]

    def python(self, end: str, module: str, *arguments: str) -> list[str]:
        """Return the command that runs a module of ours at one end."""
        return [*self.inside(end), sys.executable, "-m", module, *arguments]

    def received(self) -> dict[str, int]:
        """Return the receiving interface's own counters of packets: received, dropped, missed, errors."""
        folder = f"/sys/class/net/{self.far}/statistics"
        names = ("rx_packets", "rx_dropped", "rx_missed_errors", "rx_errors")
        said = _run(*self.inside(self.far), "cat", *(f"{folder}/{name}" for name in names))
        return dict(zip(names, map(int, said.split()), strict=True))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise CableError(f"{' '.join(command)}: {said[0] if said else done.returncode}")
    return done.stdout
