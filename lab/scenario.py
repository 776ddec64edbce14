"""Draws a plan from a seed: the network, its hosts, and when which attack runs. What hosts do: `lab.habits`.

Everything random comes from random.Random(seed), so the same arguments give the same plan. The trap: an attack's
ground truth says "attacker to victim, this protocol, these ports, then"; `in_doubt` finds the benign activities
that such a sentence would cover too, and they are left out.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from collections.abc import Sequence
from typing import Any

from lab import habits, roles
from lab.attacks import ORDINARY, TECHNIQUES, NoVictim, Scene
from lab.plan import ANY_HOST, EVERY_HOME_HOST, GATEWAY, Activity, Attack, Host, Plan, Service

INTERNET_PREFIXES = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "198.18.0.0/15")  # RFC 5737, RFC 2544
BEFORE_S, AFTER_S = 12.0, 12.0  # benign traffic alone at both ends of a recording
SILENT_ADDRESSES = 4
WITH_GATEWAY = ("start_up", "lease")  # activities that deal with the gateway without naming it
OUTSIDE = tuple((name, name) for name in roles.OUTSIDE_ROLES)  # each is named as its role


def draw_lan(rng: random.Random) -> ipaddress.IPv4Network:
    """Draw the prefix of a home network, in all three private ranges, mostly a /24."""
    length = rng.choice([24, 24, 24, 24, 23, 22, 20, 16])
    first = rng.choice(
        [
            f"192.168.{rng.choice([0, 1, 1, 2, 8, 10, 50, 88, 178, rng.randrange(256)])}.0",
            f"10.{rng.randrange(256)}.{rng.randrange(256)}.0",
            f"172.{rng.randrange(16, 32)}.{rng.randrange(256)}.0",
        ]
    )
    return ipaddress.IPv4Network(f"{first}/{length}", strict=False)


def _draw_addresses(rng: random.Random, network: ipaddress.IPv4Network, count: int) -> list[str]:
    """Draw distinct host addresses; in a large network they lie within one /24, as DHCP gives them."""
    lowest = int(network.network_address) + (rng.randrange(0, network.num_addresses, 256) if rng.random() < 0.5 else 0)
    return [str(ipaddress.IPv4Address(lowest + last)) for last in rng.sample(range(2, 254), count)]


MAC_VENDORS = ("b8:27:eb", "24:0a:c4", "ec:fa:bc", "00:17:88", "18:b4:30", "50:c7:bf", "44:19:b6", "02:42:ac")


def draw_mac(rng: random.Random, vendors: Sequence[str] = MAC_VENDORS) -> str:
    """Draw a MAC of one of the vendors."""
    first = rng.choice(vendors)
    return first + "".join(f":{rng.randrange(256):02x}" for _ in range(3))


def _draw_kernel(rng: random.Random) -> dict[str, Any]:
    """Draw what a device's network stack is like, so that none of it tells attackers from others."""
    return {
        "ttl": rng.choice([64, 64, 64, 128, 255]),
        "has_tcp_timestamps": rng.random() < 0.6,
        "has_syn_cookies": rng.random() < 0.6,
        "syn_backlog": rng.choice([16, 64, 128, 512]),
        "synack_retries": rng.choice([1, 2, 3]),
        "icmp_ratelimit_ms": rng.choice([0, 100, 1000]),
        "mss": rng.choice([1460, 1460, 1460, 1400, 1360, 536]),
        "receive_window_bytes": rng.choice([131072, 131072, 65536, 16384, 5840]),
    }


def _draw_inside_link(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.35:
        return {}
    return {
        "delay_ms": rng.uniform(0.3, 6.0),
        "jitter_ms": rng.uniform(0.05, 3.0),
        "rate_mbit_per_s": rng.choice([5.0, 20.0, 50.0, 100.0]),
    }


def _draw_outside_link(rng: random.Random) -> dict[str, Any]:
    return {
        "delay_ms": rng.choice([rng.uniform(2, 15), rng.uniform(10, 60), rng.uniform(50, 140)]),
        "jitter_ms": rng.uniform(0.05, 4.0),
        "rate_mbit_per_s": rng.choice([10.0, 50.0, 200.0]),
    }


def draw_hosts(
    rng: random.Random,
    *,
    lan: ipaddress.IPv4Network,
    internet: str,
    inside_roles: Sequence[str],
    outside: Sequence[tuple[str, str]] = OUTSIDE,
    vendors: Sequence[str] = MAC_VENDORS,
) -> tuple[tuple[Host, ...], str, tuple[str, ...]]:
    """Return the hosts, the gateway's address on the LAN, and home addresses where nobody answers.

    `outside` holds (name, role) of the hosts on the internet side.
    """
    inside = _draw_addresses(rng, lan, len(inside_roles) + SILENT_ADDRESSES + 1)
    gateway = str(lan.network_address + 1) if rng.random() < 0.7 else inside.pop()
    inside = [address for address in inside if address != gateway]
    free = _draw_addresses(rng, ipaddress.IPv4Network(internet), len(outside) + 2)
    free = [address for address in free if not address.endswith((".1", ".254"))]
    hosts = []
    counts: dict[str, int] = {}
    named = [("", role) for role in inside_roles]
    for name, role in (*named, *outside):
        counts[role] = counts.get(role, 0) + 1
        link = _draw_outside_link(rng) if name else _draw_inside_link(rng)
        hosts.append(
            Host(
                name=name or f"{role}{counts[role]}",
                role=role,
                is_inside=not name,
                address=(free if name else inside).pop(),
                mac=draw_mac(rng, vendors),
                drops_closed_ports=rng.random() < 0.3,
                services=roles.draw_services(rng, role),
                **_draw_kernel(rng),
                **link,
            )
        )
    return tuple(hosts), gateway, tuple(inside[:SILENT_ADDRESSES])


def _with_aliases(hosts: Sequence[Host], *, internet: str, seed: int) -> tuple[Host, ...]:
    """Give the cloud and the clock many addresses, drawn apart so that the rest of a plan does not move."""
    rng = random.Random(f"{seed}:aliases")
    taken = {host.address for host in hosts}
    free = [
        address
        for address in _draw_addresses(rng, ipaddress.IPv4Network(internet), 120)
        if address not in taken and not address.endswith((".1", ".254"))
    ]
    counts = {"cloud": rng.randint(12, 40), "clock": rng.randint(0, 4)}
    named = []
    for host in hosts:
        mine, free = free[: counts.get(host.name, 0)], free[counts.get(host.name, 0) :]
        named.append(dataclasses.replace(host, aliases=tuple(mine)))
    return tuple(named)


def draw_plan(
    seed: int, *, duration_s: float = 90.0, attacks: Sequence[str] | None = None, count: int = 4, devices: int = 0
) -> Plan:
    """Return the plan of a seed.

    `attacks` names techniques to run, in that order; None draws `count` of them, an empty list none. `duration_s` is
    what the recording lasts at least: attacks that need more time get it. `devices` 0 draws six to eleven.
    """
    rng = random.Random(seed)
    lan, internet = draw_lan(rng), rng.choice(INTERNET_PREFIXES)
    inside_roles = roles.draw_roles(rng, devices or rng.randint(6, 11))
    hosts, gateway, silent = draw_hosts(rng, lan=lan, internet=internet, inside_roles=inside_roles)
    outside_net = ipaddress.IPv4Network(internet)
    broker_on_gateway = rng.random() < 0.4
    plan = Plan(
        seed=seed,
        duration_s=duration_s,
        lan=str(lan),
        gateway_address=gateway,
        gateway_mac=draw_mac(rng),
        gateway_services=roles.draw_gateway_services(rng, broker=broker_on_gateway),
        internet=internet,
        internet_gateway=str(outside_net.network_address + 1),
        wan_address=str(outside_net.network_address + 254),
        hosts=_with_aliases(hosts, internet=internet, seed=seed),
        activities=(),
        attacks=(),
        silent=silent,
    )
    drawn = _draw_attacks(rng, plan, attacks=attacks, count=count)
    end_s = max([attack.starts_s + attack.limit_s + AFTER_S for attack in drawn], default=0.0)
    activities = habits.draw_activities(rng, plan)
    return dataclasses.replace(
        plan,
        duration_s=max(duration_s, end_s),
        attacks=drawn,
        activities=tuple(activity for activity in activities if not in_doubt(plan, activity, drawn)),
    )


def _draw_attacks(rng: random.Random, plan: Plan, *, attacks: Sequence[str] | None, count: int) -> tuple[Attack, ...]:
    scene = draw_scene(rng, plan)
    if attacks is None:
        # The three that every recording is about come up more often than the rest.
        weights = [
            3 if name in ("telnet_hydra", "telnet_bot", "syn_flood", "port_scan", "mirai_search") else 1
            for name in ORDINARY
        ]
        wanted = [rng.choices(ORDINARY, weights)[0] for _ in range(count)]
    else:
        wanted = list(attacks)
    drawn: list[Attack] = []
    starts_s = BEFORE_S + rng.uniform(0.0, 8.0)
    for name in wanted:
        attack = _draw_one(rng, scene, name=name, earlier=drawn, is_fixed=attacks is not None)
        drawn.append(dataclasses.replace(attack, starts_s=round(starts_s, 1)))
        starts_s += attack.limit_s + rng.uniform(8.0, 20.0)
    return tuple(drawn)


def _draw_one(rng: random.Random, scene: Scene, *, name: str, earlier: Sequence[Attack], is_fixed: bool) -> Attack:
    """Draw an attack between hosts that have not met in an earlier one, where that can be had."""
    for attempt in range(40):
        try:
            attack = TECHNIQUES[name](scene)
        except NoVictim:
            if not is_fixed or attempt > 20:
                name = rng.choice(ORDINARY)
            continue
        ends = {attack.attacker, attack.victim}
        if attempt > 30 or not any(ends == {other.attacker, other.victim} for other in earlier):
            return dataclasses.replace(attack, drawn_as=name)
    raise NoVictim(name)


def draw_scene(rng: random.Random, plan: Plan) -> Scene:
    """Return what attacks of a plan are drawn from; one or two of its devices are taken over."""
    weak = [host for host in plan.devices if host.role in roles.WEAK_ROLES]
    return Scene(
        rng=rng,
        lan=plan.lan,
        gateway_address=plan.gateway_address,
        devices=plan.devices,
        outside=tuple(plan.host(name) for name in ("cloud", "target", "command")),
        attackers_inside=tuple(rng.sample(weak, min(2, len(weak)))),
        attackers_outside=(plan.host("stranger1"), plan.host("stranger2")),
        silent=plan.silent,
    )


def in_doubt(plan: Plan, activity: Activity, attacks: Sequence[Attack]) -> bool:
    """Would an attack's ground truth cover this activity too?"""
    ends = {activity.host, *activity.peers}
    ports = {activity.settings.get("port"), *activity.settings.get("ports", ())}
    at_home = {host.name for host in plan.devices}
    for attack in attacks:
        if attack.attacker not in ends:
            continue
        others = ends - {attack.attacker}
        if activity.kind in WITH_GATEWAY:
            others.add(GATEWAY)
        if attack.victim in others:
            # Who attacks one port of the gateway still asks it for names.
            apart = attack.victim == GATEWAY and attack.ports and ports != {None} and not ports & set(attack.ports)
            if not apart or activity.kind in WITH_GATEWAY:
                return True
        meets_all = attack.victim == ANY_HOST or (attack.victim == EVERY_HOME_HOST and others & at_home)
        is_covered = not attack.ports or ports & set(attack.ports)
        if meets_all and is_covered and (attack.proto != "icmp" or activity.kind == "ping"):
            return True
    return False


def services_of(plan: Plan) -> list[tuple[str, Service]]:
    """Return every service with the host that offers it, the gateway's first."""
    return [("gateway", service) for service in plan.gateway_services] + [
        (host.name, service) for host in plan.hosts for service in host.services
    ]
