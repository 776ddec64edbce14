"""What the hosts of a plan serve besides, for the newer activities and techniques: drawn, not started.

With randomness of its own, so that a plan's other draws stay what they were. The trap: call it before attacks and
activities are drawn, since both look for the services that hosts have.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from lab.plan import Host, Plan, Service

ORDERS = ("udp", "syn", "get")
DOMAINS = ("t.example-cdn.net", "n.updates-eu.org", "x.q7.io")


def _site(rng: random.Random, _: Plan) -> Service:
    return Service("toy_site", rng.choice([8088, 8090, 8880]))


def _coap(rng: random.Random, _: Plan) -> Service:
    return Service("coap", rng.choice([5683, 5683, 5685]))


def _backups(_: random.Random, __: Plan) -> Service:
    return Service("rsync", 873)


def _mqtt_tls(rng: random.Random, _: Plan) -> Service:
    return Service("mqtt_tls", rng.choice([8883, 8884]))


def _botmaster(rng: random.Random, _: Plan) -> Service:
    orders = rng.sample(ORDERS, len(ORDERS))
    return Service("botmaster", rng.choice([2023, 5555 + 4, 48102, 9375]), {"orders": orders, "after": 2})


def _loader(rng: random.Random, _: Plan) -> Service:
    files = {name: rng.randint(40_000, 160_000) for name in ("arm7", "mips", "x86")}
    return Service("loader", rng.choice([8089, 8443, 9000]), {"files": files})


def _tunnel(rng: random.Random, plan: Plan) -> Service:
    # Inside the tunnel no address of the home may be met again.
    first = "172.30" if plan.lan.startswith("10.") else "10.99"
    return Service("tunnel_end", 53, {"inner": f"{first}.{rng.randrange(256)}.1", "domain": rng.choice(DOMAINS)})


def _ssdp(_: random.Random, __: Plan) -> Service:
    return Service("ssdp", 1900)


def _mdns(_: random.Random, __: Plan) -> Service:
    return Service("mdns", 5353)


OFFERS: dict[str, tuple[Callable[[random.Random, Plan], Service], ...]] = {
    "hub": (_site, _backups, _mqtt_tls, _mdns),
    "plug": (_coap,),
    "bulb": (_coap,),
    "thermostat": (_coap, _site),
    "camera": (_mdns,),
    "speaker": (_ssdp, _mdns),
    "printer": (_ssdp, _mdns),
    "recorder": (_ssdp, _site),
    "cloud": (_mqtt_tls, _backups),
    "command": (_botmaster, _loader),
    "target": (_tunnel,),
}


def with_offers(plan: Plan) -> Plan:
    """Return the plan whose hosts serve what their role offers besides, where the port is free."""
    rng = random.Random(f"{plan.seed}:offers")
    return dataclasses.replace(plan, hosts=tuple(_more(host, rng=rng, plan=plan) for host in plan.hosts))


def _more(host: Host, *, rng: random.Random, plan: Plan) -> Host:
    services = list(host.services)
    for make in OFFERS.get(host.role, ()):
        service = make(rng, plan)
        if service.port not in {other.port for other in services}:
            services.append(service)
    return dataclasses.replace(host, services=tuple(services))
