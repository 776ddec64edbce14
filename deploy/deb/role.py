"""What differs between the two packages: a gateway's, and that of the server which holds a fleet's rounds.

One machine is one or the other, as with deploy/install.sh, so that the packages conflict and may own the same paths
below /opt and /etc. The maintainer scripts are the same files in both: dpkg tells them which package they serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

KINDS: Final = frozenset({".service", ".timer", ".path"})


@dataclass(frozen=True)
class Role:
    """One of the packages, by its name and what it holds besides the wheels."""

    name: str
    package: str  # also its first unit, its user, and the one command in /usr/bin
    other: str  # the package it does not stand beside
    extra: str  # of our own wheel
    settings: str  # in deploy/, and below /etc/penstock
    shared: tuple[str, ...]  # what of the sources stands in its folder below /usr/share, "a file -> its name there"
    relations: tuple[tuple[str, str], ...]
    description: str

    @property
    def unit_folder(self) -> str:
        """Where systemd finds a package's units."""
        return "usr/lib/systemd/system"

    @property
    def share(self) -> str:
        """Where pages and samples stand."""
        return f"usr/share/{self.package}"

    @property
    def doc(self) -> str:
        """Where Debian wants copyright and changelog."""
        return f"usr/share/doc/{self.package}"

    @property
    def wheels(self) -> str:
        """Where postinst finds what it makes the environment of."""
        return f"usr/lib/{self.package}/wheels"

    @property
    def conffile(self) -> str:
        """The one file that dpkg keeps for whoever changed it."""
        return f"etc/penstock/{self.settings}"

    def units(self, source: Path) -> list[Path]:
        """Return this role's units among the sources': the aggregator's bear its name, all others are a gateway's."""
        found = (path for path in sorted((source / "systemd").glob("penstock*.*")) if path.suffix in KINDS)
        is_server = self.package == AGGREGATOR.package
        return [path for path in found if path.name.startswith(AGGREGATOR.package) == is_server]


GATEWAY: Final = Role(
    name="gateway",
    package="penstock",
    other="penstock-aggregator",
    extra="cpu",
    settings="agent.toml",
    shared=(
        "systemd/penstock.service.d -> drop-ins",
        "detection/tensorrt_worker.py -> tensorrt/tensorrt_worker.py",
        "detection/tensorrt_build.py -> tensorrt/tensorrt_build.py",
        "docs/service.md -> service.md",
        "docs/tensorrt.md -> tensorrt.md",
        "docs/federation.md -> federation.md",
    ),
    relations=(("Recommends", "ethtool"),),
    description="intrusion detection for IoT gateways\n"
    " Watches the flows through a gateway and says, within a second, which device is\n"
    " under attack or has been taken over. Alerts leave as EVE, ECS, OCSF or CEF, by\n"
    " MQTT, syslog or file; no packet leaves the box.\n",
)
AGGREGATOR: Final = Role(
    name="aggregator",
    package="penstock-aggregator",
    other="penstock",
    extra="cpu,postgres",
    settings="aggregator.toml",
    shared=(
        "docs/aggregator.md -> aggregator.md",
        "docs/federation.md -> federation.md",
        "deploy/aggregator.toml -> aggregator.toml",
        "deploy/mosquitto/penstock.acl -> penstock.acl",
        "deploy/mosquitto/penstock.conf -> penstock.conf",
    ),
    relations=(("Suggests", "mosquitto, postgresql"),),
    description="server that holds the learning rounds of a fleet of gateways\n"
    " Asks the gateways that run penstock for what they learnt, averages it, tries\n"
    " the result on labelled captures of its own, and releases it to a few gateways\n"
    " first. It sees no packet and no alert.\n",
)
ROLES: Final = {role.name: role for role in (GATEWAY, AGGREGATOR)}
