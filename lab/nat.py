"""A home behind its gateway's address: what of it the internet side can reach, and under which address and port.

Inside out, the gateway masquerades. Outside in there are forwarded ports of the gateway's own address, and exposed
devices with a public address each, as a line with several addresses or an "exposed host" gives them. The trap: exposed
addresses are exchanged without connection tracking, since a tracked gateway would swallow the odd flags and the
unasked answers that attacks send; and the capture is taken inside, so ground truth speaks of home addresses.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from collections.abc import Iterable

from lab.attacks import NoVictim, Scene
from lab.plan import GATEWAY, Activity, Attack, Forward, Host, Plan, Service

EXPOSED_SHARE = 0.5  # of the devices, two at least
EXPOSED_SILENT = 2  # so many of the silent addresses, too
FORWARDED_SHARE = 0.8  # of the TCP services of the others
FORWARDED = ("telnet", "ssh", "web", "small_web", "mqtt", "mqtt_tls", "media", "ftp", "modbus", "toy_site", "rsync")


def draw_nat(rng: random.Random, plan: Plan) -> Plan:
    """Return the plan with what the gateway lets in, drawn."""
    devices = rng.sample(plan.devices, max(2, round(len(plan.devices) * EXPOSED_SHARE)))
    homes = [device.address for device in devices] + list(plan.silent[:EXPOSED_SILENT])
    taken = {plan.wan_address, plan.internet_gateway, *(host.address for host in plan.hosts)}
    network = ipaddress.IPv4Network(plan.internet)
    free = [str(network[last]) for last in range(2, 254) if str(network[last]) not in taken]
    exposed = tuple(zip(homes, rng.sample(free, len(homes)), strict=True))
    forwards: list[Forward] = []
    for host in plan.devices:
        for service in host.services if host not in devices else ():
            if service.kind not in FORWARDED or rng.random() >= FORWARDED_SHARE:
                continue
            used = {forward.public_port for forward in forwards}
            port = next(p for p in (service.port, *range(8000 + service.port % 1000, 65535)) if p not in used)
            forwards.append(Forward(port, host.name, service.port))
    return dataclasses.replace(plan, has_nat=True, exposed=exposed, forwards=tuple(forwards))


def ruleset(plan: Plan) -> str:
    """Return what `nft -f -` reads on the gateway; nothing where the home is not hidden."""
    if not plan.has_nat:
        return ""
    inward = ", ".join(f"{public} : {home}" for home, public in plan.exposed)
    outward = ", ".join(f"{home} : {public}" for home, public in plan.exposed)
    forwards = "\n".join(
        f'iifname "wan0" ip daddr {plan.wan_address} meta l4proto {{ tcp, udp }} th dport {forward.public_port} '
        f"dnat ip to {plan.address(forward.host)}:{forward.port}"
        for forward in plan.forwards
    )
    return f"""
        table ip home {{
          chain untracked {{
            type filter hook prerouting priority -300
            iifname "wan0" ip daddr {{ {", ".join(public for _, public in plan.exposed)} }} notrack
            iifname "br0" ip saddr {{ {", ".join(home for home, _ in plan.exposed)} }} notrack
            iifname "wan0" ip daddr set ip daddr map {{ {inward} }}
          }}
          chain exposed {{
            type filter hook postrouting priority 90
            oifname "wan0" ip saddr set ip saddr map {{ {outward} }}
          }}
          chain inward {{
            type nat hook prerouting priority -100
            {forwards}
          }}
          chain outward {{
            type nat hook postrouting priority 100
            oifname "wan0" ip saddr {plan.lan} masquerade
          }}
        }}
        """


def seen_from_outside(plan: Plan) -> Plan:
    """Return the plan with the addresses that the internet side knows the devices under."""
    if not plan.has_nat:
        return plan
    public = dict(plan.exposed)
    hosts = tuple(
        dataclasses.replace(host, address=public.get(host.address, plan.wan_address)) if host.is_inside else host
        for host in plan.hosts
    )
    return dataclasses.replace(plan, hosts=hosts, gateway_address=plan.wan_address)


def at_home(plan: Plan, address: str, port: int) -> tuple[str, int]:
    """Return where a packet from outside to an address and port arrives in the home."""
    homes = {public: home for home, public in plan.exposed}
    if address in homes:
        return homes[address], port
    for forward in plan.forwards if address == plan.wan_address else ():
        if forward.public_port == port:
            return plan.address(forward.host), forward.port
    return address, port


@dataclasses.dataclass(frozen=True)
class HomeScene(Scene):
    """A scene whose outside attackers see no more of the home than the gateway lets in.

    With `outward` its inside attackers turn to hosts outside, where there is one that will do, as bots do.
    """

    plan: Plan = dataclasses.field(kw_only=True)
    outward: bool = dataclasses.field(default=False, kw_only=True)

    def victim(self, kind: str, *, attacker: Host, inside_too: bool = True) -> tuple[Host, Service]:
        """Draw a host with a service of a kind that the attacker can reach; raises NoVictim."""
        if attacker.is_inside and self.outward:
            away = [(host, service) for host in self.outside for service in host.services if service.kind == kind]
            if away:
                return self.rng.choice(away)
        if attacker.is_inside or not self.plan.has_nat:
            return super().victim(kind, attacker=attacker, inside_too=inside_too)
        plan, public = self.plan, dict(self.plan.exposed)
        found = [
            (dataclasses.replace(host, address=public[host.address]), service)
            for host in self.devices
            for service in host.services
            if service.kind == kind and host.address in public
        ]
        for forward in plan.forwards:
            host = plan.host(forward.host)
            found += [
                (dataclasses.replace(host, address=plan.wan_address), dataclasses.replace(s, port=forward.public_port))
                for s in host.services
                if s.kind == kind and s.port == forward.port
            ]
        if not found:
            raise NoVictim(kind)
        return self.rng.choice(found)

    def device(self, *, attacker: Host) -> Host:
        """Draw a host other than the attacker, from outside an exposed one under its public address."""
        if attacker.is_inside and self.outward:
            return self.rng.choice(self.outside)
        if attacker.is_inside or not self.plan.has_nat:
            return super().device(attacker=attacker)
        public = dict(self.plan.exposed)
        host = self.rng.choice([host for host in self.devices if host.address in public])
        return dataclasses.replace(host, address=public[host.address])


def attack_through(plan: Plan, attack: Attack) -> Attack:
    """Return an attack from outside as the gateway lets it in; raises NoVictim where it does not.

    Home addresses among several targets become public ones or are left out; ports become those of the victim itself.
    """
    if not plan.has_nat or plan.host(attack.attacker).is_inside:
        return attack
    public, home = dict(plan.exposed), ipaddress.IPv4Network(plan.lan)
    argv: list[str] = []
    named = kept = 0
    for word in attack.argv:  # a word may be a list of addresses
        parts = word.split(",")
        inside = [part for part in parts if _lies_in(part, home)]
        aimed = [public.get(part, part) for part in parts if part in public or part not in inside]
        named += len(inside)
        kept += sum(part in public for part in inside)
        argv += [",".join(aimed)] if aimed else []
    if named and not kept:
        raise NoVictim(attack.technique)
    host = next((device for device in plan.devices if device.name == attack.victim), None)
    ports = attack.ports
    if host is not None and host.address not in public:
        if not ports:  # what is not bound to a forwarded port arrives nowhere
            raise NoVictim(attack.technique)
        own = {forward.public_port: forward.port for forward in plan.forwards if forward.host == host.name}
        if not set(ports) <= set(own):
            raise NoVictim(attack.technique)
        ports = tuple(own[port] for port in ports)
    return dataclasses.replace(attack, argv=tuple(argv), ports=ports)


def _lies_in(word: str, network: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.IPv4Network(word, strict=False).overlaps(network)
    except ValueError:
        return False


def activities_through(plan: Plan, activities: Iterable[Activity]) -> list[Activity]:
    """Return the activities that the gateway lets in, with the ports under which it does so."""
    if not plan.has_nat:
        return list(activities)
    inside, public = {host.name: host for host in plan.devices}, dict(plan.exposed)
    outside = {host.name for host in plan.hosts if not host.is_inside}
    through = []
    for activity in activities:
        hidden = [peer for peer in activity.peers if peer in inside and inside[peer].address not in public]
        if activity.host not in outside or not (hidden or GATEWAY in activity.peers):
            through.append(activity)
            continue
        port = activity.settings.get("port")
        open_ports = [f.public_port for f in plan.forwards if [f.host] == list(activity.peers) and f.port == port]
        if open_ports:
            settings = {**activity.settings, "port": open_ports[0]}
            through.append(dataclasses.replace(activity, settings=settings))
    return through
