"""What attacks are drawn from, and the draws that several of them share."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from lab.plan import PASSWORD, USER, Attack, Host, Service

PYTHON = "{python}"  # the interpreter of the machine that plays the plan: a plan names no machine
USERS = ("root", "admin", "user", "guest", "support", "ubnt", "service", "supervisor", "tech", "default")
WORDS = (
    "root",
    "admin",
    "12345",
    "123456",
    "54321",
    "password",
    "pass",
    "1234",
    "1111",
    "666666",
    "888888",
    "default",
    "xc3511",
    "vizxv",
    "anko",
    "juantech",
    "7ujMko0admin",
    "hi3518",
    "klv123",
    "dreambox",
    "realtek",
    "system",
    "ikwb",
    "smcadmin",
    "meinsm",
    "tech",
    "00000000",
    "zlxx.",
    "Zte521",
    "cat1029",
    "GM8182",
    "ubnt",
    "support",
)


@dataclass(frozen=True)
class Scene:
    """What an attack may be drawn from. `silent` are home addresses that nobody answers at."""

    rng: random.Random
    lan: str
    gateway_address: str
    devices: tuple[Host, ...]
    outside: tuple[Host, ...]
    attackers_inside: tuple[Host, ...]
    attackers_outside: tuple[Host, ...]
    silent: tuple[str, ...]

    def attacker(self, *, inside: float = 0.5) -> Host:
        """Draw an attacker, from inside with that probability."""
        return self.rng.choice(self.attackers_inside if self.rng.random() < inside else self.attackers_outside)

    def victim(self, kind: str, *, attacker: Host, inside_too: bool = True) -> tuple[Host, Service]:
        """Draw a home device with a service of a kind; raises NoVictim where there is none but the attacker."""
        found = [
            (host, service)
            for host in (self.devices if inside_too else ())
            for service in host.services
            if service.kind == kind and host.name != attacker.name
        ]
        if not found:
            raise NoVictim(kind)
        return self.rng.choice(found)

    def device(self, *, attacker: Host) -> Host:
        """Draw a home device other than the attacker."""
        return self.rng.choice([host for host in self.devices if host.name != attacker.name])

    def between(self, low: float, high: float) -> float:
        """Draw evenly on a logarithmic scale, so that slow is drawn as often as fast."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def duration_s(self) -> float:
        """Draw how long an attack with a steady rate lasts."""
        return self.between(5.0, 25.0)

    def guesses(self, count: int, *, with_right_one: float = 0.15) -> tuple[str, ...]:
        """Draw user:password lines; sometimes the right one is among them."""
        lines = [f"{self.rng.choice(USERS)}:{self.rng.choice(WORDS)}" for _ in range(count)]
        if self.rng.random() < with_right_one:
            lines[self.rng.randrange(count)] = f"{USER}:{PASSWORD}"
        return tuple(lines)


class NoVictim(Exception):
    """The scene has no device such an attack could be drawn against; another is drawn instead."""


def bot(kind: str, *, target: str, count: float, rate: float, **options: object) -> tuple[str, ...]:
    argv = [
        PYTHON,
        "-m",
        "lab.bots",
        kind,
        "--target",
        target,
        "--count",
        str(max(1, int(count))),
        "--rate",
        f"{rate:.3f}",
    ]
    for name, value in options.items():
        argv += [f"--{name}", ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]
    return tuple(argv)


def bot_attack(
    scene: Scene,
    kind: str,
    *,
    service: str,
    label: str,
    mitre: str,
    most_per_s: float,
    most: int,
    least_per_s: float = 0.3,
    **options: object,
) -> Attack:
    """Draw an attack by a program of ours on a device's service."""
    attacker = scene.attacker()
    victim, found = scene.victim(service, attacker=attacker)
    rate, limit_s = scene.between(least_per_s, most_per_s), scene.between(10.0, 30.0)
    argv = bot(
        kind,
        target=victim.address,
        port=found.port,
        count=min(most, rate * limit_s + 1),
        rate=rate,
        seed=scene.rng.randrange(10**6),
        **options,
    )
    return Attack(
        technique=kind,
        label=label,
        mitre=mitre,
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=limit_s,
        argv=argv,
        proto="tcp",
        ports=(found.port,),
    )
