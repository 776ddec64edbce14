"""Benign company for hosts that would otherwise be met by attacks alone, so that an address gives nobody away.

Strangers outside visit the home, some devices deal with the very hosts that also command bots or are flooded, people
look at the gateway's own pages, and whoever attacks a host also deals with it at other times. The trap: much of it is
left out again where ground truth could mistake it for an attack, so every host gets more of it than it needs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from lab.nat import activities_through
from lab.plan import GATEWAY, Activity, Attack, Plan, Service
from lab.roles import between

VISITS_EACH = 4  # of a stranger, to devices that it can reach
DEALS_EACH = 5  # devices that deal with each of the outside hosts that attacks meet
MET_OUTSIDE = ("command", "target")


def _web(rng: random.Random) -> tuple[str, dict[str, object]]:
    if rng.random() < 0.3:
        count, parallel = rng.randint(3, 12), rng.choice([1, 2, 3])
        return "http_burst", {"file": "index.html", "count": count, "parallel": parallel, "pause_s": 0.1}
    return "http_poll", {"file": rng.choice(["index.html", "state"])}


MANNERS: Mapping[str, Callable[[random.Random], tuple[str, dict[str, object]]]] = {
    "web": _web,
    "small_web": _web,
    "ssh": lambda rng: ("ssh_visit", {"commands": rng.randint(1, 3), "mistakes": rng.choice([0.0, 0.3])}),
    "telnet": lambda rng: ("telnet_visit", {"commands": rng.randint(1, 3), "mistakes": rng.choice([0.0, 0.3])}),
    "ftp": lambda _: ("ftp_visit", {}),
    "media": lambda rng: ("watch", {"length_s": rng.uniform(1.0, 5.0)}),
    "modbus": lambda rng: ("registers", {"count": rng.randint(1, 5), "registers": rng.randint(1, 20), "pause_s": 0.3}),
    "mqtt": lambda rng: ("mqtt_call", {"qos": rng.choice([0, 1]), "size_bytes": rng.randint(10, 300)}),
    "name_server": lambda _: ("names", {}),
    "datagram_echo": lambda rng: ("datagram_talk", {"count": rng.randint(1, 5), "per_s": 5.0, "size_bytes": 60}),
}


def _visit(rng: random.Random, host: str, peer: str, service: Service) -> Activity:
    kind, settings = MANNERS[service.kind](rng)
    rhythm = {"every_s": between(rng, 8.0, 60.0), "unsteadiness": rng.choice([0.1, 0.5]), "port": service.port}
    guarded = {"guarded": service.settings["guarded"]} if "guarded" in service.settings else {}
    return Activity(kind, host, (peer,), {**rhythm, **guarded, **settings}, starts_s=rng.uniform(0.0, 8.0))


def _open_to(plan: Plan, host: str) -> list[Service]:
    services = plan.gateway_services if host == GATEWAY else plan.host(host).services
    return [service for service in services if service.kind in MANNERS and not service.settings.get("tls")]


def draw_company(plan: Plan) -> list[Activity]:
    """Return the benign company of a plan's hosts, drawn apart so that the rest of the plan does not move."""
    rng = random.Random(f"{plan.name}:{plan.seed}:company")
    return [*_visitors(rng, plan), *_dealings(rng, plan)]


def draw_dealings(plan: Plan, attacks: Sequence[Attack]) -> list[Activity]:
    """Return something benign for each pair of attacker and victim, so that no pair of hosts stands for an attack."""
    rng = random.Random(f"{plan.name}:{plan.seed}:dealings")
    named = {GATEWAY, *(host.name for host in plan.hosts)}
    pairs = dict.fromkeys((attack.attacker, attack.victim) for attack in attacks if attack.victim in named)
    dealings = []
    for host, peer in pairs:
        visits = [_visit(rng, host, peer, service) for service in _open_to(plan, peer)]
        reachable = [visit for visit in visits if activities_through(plan, [visit])]
        dealings.append(rng.choice(reachable or [_ping(host, peer)]))
    return dealings


def _ping(host: str, peer: str) -> Activity:
    return Activity("ping", host, (peer,), {"every_s": 30.0, "count": 2, "pause_s": 0.5, "size_bytes": 56}, 3.0)


def _visitors(rng: random.Random, plan: Plan) -> Iterator[Activity]:
    for host in plan.hosts:
        if not host.role.startswith("stranger"):
            continue
        visits = [
            _visit(rng, host.name, device.name, s) for device in plan.devices for s in _open_to(plan, device.name)
        ]
        visits += [_ping(host.name, device.name) for device in plan.devices]
        # Those the gateway does not let in are not drawn; which port they take is decided later, once.
        reachable = [visit for visit in visits if activities_through(plan, [visit])]
        yield from rng.sample(reachable, min(len(reachable), VISITS_EACH))


def _dealings(rng: random.Random, plan: Plan) -> Iterator[Activity]:
    for peer in (*MET_OUTSIDE, *MET_OUTSIDE, GATEWAY):
        services = _open_to(plan, peer)
        devices = rng.sample(plan.devices, min(len(plan.devices), DEALS_EACH))
        yield from (_visit(rng, device.name, peer, rng.choice(services)) for device in devices if services)
