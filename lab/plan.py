"""What one recording is made of: hosts, services, benign activities, attacks. Plain frozen values, no behaviour.

A plan is drawn from a seed by `lab.scenario.draw_plan`, built by `lab.network`, played by `lab.record`. The same seed
gives the same plan on every machine; the packets that come of it are a real kernel's and differ from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GATEWAY = "gateway"
USER, PASSWORD = "admin", "correct-horse"  # of the lab's own hosts: the benign logins use them
EVERY_HOME_HOST = "lan"  # as a victim: whoever has an address in the LAN's prefix
AWAY_PREFIX = "203.0.113.0/24"  # RFC 5737: where hosts are that benign activities seek in vain
ANY_HOST = "any"  # as a victim: addresses drawn by the tool


@dataclass(frozen=True)
class Service:
    """A server on a host: `kind` names an entry of `lab.services.SERVICES`."""

    kind: str
    port: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """One host with one address. `delay_ms` 0 is a plain cable without delay, jitter or limit."""

    name: str
    role: str
    is_inside: bool
    address: str
    mac: str
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_mbit_per_s: float = 100.0
    ttl: int = 64
    has_tcp_timestamps: bool = True
    has_syn_cookies: bool = True
    syn_backlog: int = 128
    synack_retries: int = 2
    icmp_ratelimit_ms: int = 1000
    mss: int = 1460
    receive_window_bytes: int = 131072
    drops_closed_ports: bool = False
    services: tuple[Service, ...] = ()
    aliases: tuple[str, ...] = ()  # further addresses: a cloud is many hosts to those who watch
    loss_percent: float = 0.0  # of the frames in each direction of its cable

    def port_of(self, kind: str) -> int | None:
        """Return the port of the host's first service of a kind."""
        return next((service.port for service in self.services if service.kind == kind), None)


@dataclass(frozen=True)
class Activity:
    """Something benign that a host does all the time: `kind` names an entry of `lab.benign.ACTIVITIES`."""

    kind: str
    host: str
    peers: tuple[str, ...]
    settings: Mapping[str, Any]
    starts_s: float


@dataclass(frozen=True)
class Attack:
    """One attack, bounded in time by `limit_s` and in count by its own arguments.

    `argv` may hold {python} (the interpreter) and {words} (the file with `words`, one a line). `ports` empty and
    `proto` None match all of what passes between attacker and victim; `spoofed` says the sources are drawn. `ports` are
    those of the victim itself, also where the gateway forwards others to them. `drawn_as` is its name in the catalogue.
    """

    technique: str
    label: str
    mitre: str
    attacker: str
    victim: str
    starts_s: float
    limit_s: float
    argv: tuple[str, ...]
    proto: str | None = None
    ports: tuple[int, ...] = ()
    spoofed: bool = False
    words: tuple[str, ...] = ()
    drawn_as: str = ""


@dataclass(frozen=True)
class Forward:
    """A port of the gateway's public address that leads to a device."""

    public_port: int
    host: str
    port: int


@dataclass(frozen=True)
class Plan:
    """Everything that one recording consists of. Times are seconds from the first activity."""

    seed: int
    duration_s: float
    lan: str
    gateway_address: str
    gateway_mac: str
    gateway_services: tuple[Service, ...]
    internet: str
    internet_gateway: str
    wan_address: str
    hosts: tuple[Host, ...]
    activities: tuple[Activity, ...]
    attacks: tuple[Attack, ...]
    silent: tuple[str, ...] = ()  # home addresses that take packets and never answer
    name: str = ""  # of the plan file it was drawn from
    has_nat: bool = False  # the home is hidden behind the gateway's address; see `lab.nat`
    forwards: tuple[Forward, ...] = ()
    exposed: tuple[tuple[str, str], ...] = ()  # (home address, public address) that stand for each other, all ports
    beyond: tuple[str, ...] = ()  # prefixes far apart in which the outside hosts have their addresses

    @property
    def internet_prefix_length(self) -> int:
        return int(self.internet.split("/")[1])

    @property
    def devices(self) -> tuple[Host, ...]:
        """The hosts on the LAN."""
        return tuple(host for host in self.hosts if host.is_inside)

    def prefix_length(self, host: Host) -> int:
        """Return the prefix length of the network a host stands in."""
        return int((self.lan if host.is_inside else self.internet).split("/")[1])

    def host(self, name: str) -> Host:
        """Return the host of that name; raises KeyError where there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def addresses(self, name: str) -> tuple[str, ...]:
        """Return every address of a host or of the gateway, the first being its own."""
        return (self.gateway_address,) if name == GATEWAY else (self.host(name).address, *self.host(name).aliases)

    def address(self, name: str) -> str:
        """Return the address of a host or of the gateway, on the side of the LAN."""
        return self.gateway_address if name == GATEWAY else self.host(name).address
