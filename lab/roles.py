"""Which roles a home has and what the devices of a role serve: drawn, not started (`lab.services` starts them)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from lab.plan import Service

ALWAYS = ("camera", "sensor", "sensor", "laptop", "hub", "plug")
SOMETIMES = (
    "camera",
    "sensor",
    "sensor",
    "plug",
    "bulb",
    "printer",
    "thermostat",
    "phone",
    "controller",
    "recorder",
    "speaker",
    "phone",
)
OUTSIDE_ROLES = ("cloud", "broker", "clock", "remote", "target", "command", "stranger1", "stranger2")
ROLES = tuple(dict.fromkeys(ALWAYS + SOMETIMES))
WEAK_ROLES = ("camera", "plug", "bulb", "printer", "recorder", "thermostat", "speaker", "sensor")
BANNERS = ("", "BusyBox v1.19.4", "DVR login", "Welcome to HiLinux.", "(none) 3.10.14 mips")


def between(rng: random.Random, low: float, high: float) -> float:
    """Draw evenly on a logarithmic scale."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def draw_roles(rng: random.Random, devices: int) -> list[str]:
    """Draw the roles of so many devices, six of them always the same."""
    return list(ALWAYS) + [rng.choice(SOMETIMES) for _ in range(max(0, devices - len(ALWAYS)))]


def draw_weighted_roles(rng: random.Random, devices: int, *, weights: Mapping[str, float]) -> list[str]:
    """Draw the roles of so many devices: each that has a weight once while there is room, the rest by weight.

    A hub is always there, since the home's habits turn about one.
    """
    wanted = [role for role, weight in weights.items() if weight > 0 and role != "hub"]
    once = rng.sample(wanted, min(len(wanted), devices - 1))
    more = rng.choices(wanted, [weights[role] for role in wanted], k=devices - 1 - len(once))
    return ["hub", *once, *more]


def _telnet(rng: random.Random) -> Service:
    return Service(
        "telnet",
        rng.choice([23, 23, 23, 2323]),
        {"banner": rng.choice(BANNERS), "tries": rng.randint(1, 5), "delay_s": rng.choice([0, 1, 1, 2, 3])},
    )


def _ssh(rng: random.Random) -> Service:
    return Service(
        "ssh",
        rng.choice([22, 22, 22, 2222]),
        {"max_startups": rng.choice(["10:30:100", "100"]), "reply_bytes": rng.choice([40, 400, 4000])},
    )


def _files(rng: random.Random) -> dict[str, int]:
    return {
        "index.html": rng.choice([200, 900, 4000]),
        "state": rng.choice([60, 300]),
        "photo": int(between(rng, 8_000, 60_000)),
        "film": int(between(rng, 100_000, 1_500_000)),
    }


def _web(rng: random.Random, kind: str, ports: tuple[int, ...]) -> Service:
    return Service(kind, rng.choice(ports), {"files": _files(rng)})


def _mqtt(rng: random.Random) -> Service:
    return Service("mqtt", rng.choice([1883, 1883, 1883, 8883]), {"guarded": rng.random() < 0.4})


def _ftp(rng: random.Random) -> Service:
    return Service("ftp", 21, {"delay_s": rng.choice([0.0, 0.5, 2.0])})


def _media(rng: random.Random) -> Service:
    return Service(
        "media",
        rng.choice([554, 554, 8554]),
        {"frame_bytes": rng.randint(500, 6000), "frames_per_s": rng.choice([5, 12, 20])},
    )


def _echo(rng: random.Random, ports: tuple[int, ...]) -> Service:
    return Service("datagram_echo", rng.choice(ports), {"reply_bytes": rng.choice([10, 60, 300, 1000])})


def draw_services(rng: random.Random, role: str) -> tuple[Service, ...]:
    """Draw what a host of a role serves."""
    devices_web = (80, 80, 8080, 81, 8000)
    sure: dict[str, list[Callable[[], Service]]] = {
        "camera": [lambda: _web(rng, "small_web", devices_web), lambda: _media(rng), lambda: _telnet(rng)],
        "recorder": [lambda: _telnet(rng), lambda: _web(rng, "small_web", (80, 8000)), lambda: _ftp(rng)],
        "hub": [
            lambda: _ssh(rng),
            lambda: _web(rng, "web", (80, 8123, 8080)),
            lambda: _mqtt(rng),
            lambda: Service("bulk", 5201),
        ],
        "printer": [
            lambda: _web(rng, "small_web", (80,)),
            lambda: _ftp(rng),
            lambda: Service("discovery_responder", 161, {"replies": 1, "reply_bytes": 240}),
        ],
        "plug": [lambda: _web(rng, "small_web", (80,)), lambda: _echo(rng, (9999, 6667))],
        "controller": [lambda: Service("modbus", 502), lambda: _telnet(rng)],
        "bulb": [lambda: _echo(rng, (5683, 56700))],
        "cloud": [
            lambda: Service("web", 80, {"files": _files(rng)}),
            lambda: Service("web", 443, {"files": _files(rng), "tls": True}),
            lambda: Service(
                "push_channel", rng.choice([5223, 8883, 443 + 8000, 5228]), {"reply_bytes": rng.choice([8, 40, 200])}
            ),
            lambda: Service("datagram_echo", rng.choice([3478, 8801, 4500]), {"reply_bytes": 200}),
            lambda: Service("name_server", 53, {"answer": "203.0.113.9"}),
            lambda: Service("bulk", 5201),
        ],
        "broker": [lambda: Service("mqtt", 1883, {"guarded": rng.random() < 0.4})],
        "clock": [lambda: Service("time_server", 123), lambda: Service("time_server", 1123)],
        "command": [
            lambda: Service(
                "command",
                rng.choice([4444, 6667, 48101, 1337, 5034, 23, 666]),
                {"reply_bytes": rng.choice([4, 30, 150])},
            ),
            lambda: Service("name_server", 53, {"answer": "198.51.100.7"}),
        ],
        "target": [lambda: Service("web", 80, {"files": _files(rng)}), lambda: _ssh(rng)],
    }
    maybe: dict[str, list[tuple[float, Callable[[], Service]]]] = {
        "camera": [(0.3, lambda: _ssh(rng)), (0.3, lambda: _ftp(rng))],
        "plug": [(0.6, lambda: _telnet(rng))],
        "hub": [(0.4, lambda: _telnet(rng))],
        "sensor": [(0.3, lambda: _telnet(rng)), (0.2, lambda: _web(rng, "small_web", (80,)))],
        "thermostat": [(0.5, lambda: _web(rng, "small_web", (80,))), (0.3, lambda: _telnet(rng))],
        "speaker": [
            (0.6, lambda: _web(rng, "small_web", (8008, 8080))),
            (0.6, lambda: Service("discovery_responder", 1900, {"replies": 3, "reply_bytes": 320})),
        ],
        "laptop": [(0.4, lambda: _ssh(rng))],
    }
    services = [make() for make in sure.get(role, [])]
    services += [make() for chance, make in maybe.get(role, []) if rng.random() < chance]
    return tuple(services)


def draw_gateway_services(rng: random.Random, *, broker: bool) -> tuple[Service, ...]:
    """Draw what the gateway serves: names and addresses always, a page or a broker sometimes."""
    services = [Service("name_server", 53, {"answer": "203.0.113.9", "forward": "cloud", "dhcp": True})]
    if broker:
        services.append(Service("mqtt", 1883, {"guarded": False}))
    if rng.random() < 0.5:
        services.append(Service("web", 80, {"files": _files(rng)}))
    return tuple(services)
