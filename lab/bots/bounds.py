"""Where attack programs of ours may speak to: the networks of the lab they stand in, and nothing else.

The lab is known by the namespace of this process, its networks by the routes of its own gateway and internet side. The
trap: this is a second fence. The first is that no namespace of a lab leads anywhere.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Iterable

from lab.namespaces import NAMESPACE_PREFIX
from lab.tools import find

ROUTERS = ("gateway", "internet")


class OutsideTheLab(Exception):
    """A program of ours stands outside a lab, or was told to speak to an address that its lab does not have."""


class Bounds:
    """The networks of one lab."""

    def __init__(self, networks: Iterable[str]) -> None:
        self.networks = tuple(ipaddress.IPv4Network(network) for network in networks)

    def check(self, address: str) -> str:
        """Return the address; raises OutsideTheLab where it is a name, no IPv4 address, or one the lab has not.

        >>> Bounds(["198.51.100.0/24"]).check("198.51.100.7")
        '198.51.100.7'
        """
        try:
            number = ipaddress.IPv4Address(address)
        except ValueError as exc:
            raise OutsideTheLab(f"{address!r} is no IPv4 address") from exc
        if not any(number in network for network in self.networks):
            raise OutsideTheLab(f"{address} lies outside the networks of this lab")
        return address


def networks_in(routes: str) -> list[str]:
    """Return the networks that lines of `ip route` lead to, without the default and what is thrown away.

    >>> networks_in("blackhole default \\n10.1.2.0/24 via 198.18.0.254 dev inet \\n198.18.0.0/15 dev inet scope link")
    ['10.1.2.0/24', '198.18.0.0/15']
    """
    first_words = [line.split()[0] for line in routes.splitlines() if line.split()]
    return [word for word in first_words if word[0].isdigit() and word != "0.0.0.0/0"]


def _ip(*arguments: str) -> str:
    return subprocess.run([find("ip"), *arguments], capture_output=True, text=True, check=False).stdout


def own_lab() -> Bounds:
    """Return the bounds of the lab this process stands in; raises OutsideTheLab where it stands in none."""
    namespace = _ip("netns", "identify", str(os.getpid())).strip()
    if not namespace.startswith(NAMESPACE_PREFIX):
        raise OutsideTheLab("runs only on a host of a lab's own network")
    tag = "-".join(namespace.split("-")[:2])
    return Bounds(network for router in ROUTERS for network in networks_in(_ip("-n", f"{tag}-{router}", "route")))
