"""Who does the newer chores of a home, and at which hours: drawn, not played (`lab.benign.chores` plays them).

Each kind of `lab.benign.FURTHER` is drawn for the hosts it fits, at least once where one fits. The trap: many need a
service of `lab.benign.offers`; without it nobody does them.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from lab.plan import GATEWAY, Activity, Host, Plan, Service
from lab.roles import between

MOST_ATTEMPTS = 40  # of drawing a kind that is seldom; what needs a service nobody has is not found in any number
PEOPLE = ("laptop", "phone")
MACHINES = ("sensor", "thermostat", "plug", "bulb", "camera", "recorder", "speaker", "printer", "controller", "hub")
Settings = dict[str, object]
# One way to do a chore: who, with whom, how.
Chance = tuple[Host, tuple[str, ...], Settings]


def draw_hours(rng: random.Random, *, role: str, day_s: float) -> dict[str, float]:
    """Draw when a host is busy: people by day and by evening, most machines hardly ever less."""
    if role in PEOPLE:
        start = rng.uniform(0.0, 0.5)
        return {
            "day_s": day_s,
            "busy_from": start,
            "busy_until": start + rng.uniform(0.3, 0.45),
            "idle": between(rng, 6, 30),
        }
    start = rng.uniform(0.0, 1.0)
    return {
        "day_s": day_s,
        "busy_from": start,
        "busy_until": (start + rng.uniform(0.4, 0.9)) % 1.0,
        "idle": between(rng, 1.2, 4.0),
    }


def with_hours(activity: Activity, plan: Plan) -> Activity:
    """Return the activity with the hours of its host; all that a host does has the same."""
    rng = random.Random(f"{plan.seed}:{activity.host}:hours")
    role = next((host.role for host in plan.hosts if host.name == activity.host), "")
    hours = draw_hours(rng, role=role, day_s=max(120.0, plan.duration_s))
    return dataclasses.replace(activity, settings={**activity.settings, "hours": hours})


@dataclass(frozen=True)
class _Rota:
    """The hosts of a plan as those who do chores."""

    rng: random.Random
    plan: Plan

    def of_role(self, *roles: str) -> list[Host]:
        return [host for host in self.plan.devices if host.role in roles]

    def serving(self, kind: str) -> Iterator[tuple[str, Service]]:
        """Give every host, inside and outside, with a service of a kind."""
        for host in self.plan.hosts:
            for service in host.services:
                if service.kind == kind:
                    yield host.name, service

    def of(self, kind: str, clients: list[Host], **settings: Callable[[], object]) -> list[Chance]:
        """Return each client with each server of a kind, and settings drawn for each."""
        return [
            (client, (name,), {"port": service.port, **{key: draw() for key, draw in settings.items()}})
            for name, service in self.serving(kind)
            for client in clients
            if client.name != name
        ]

    def sessions(self, kind: str, *, tls: bool) -> list[Chance]:
        rng = self.rng
        chances: list[Chance] = []
        for name, service in self.serving(kind):
            for client in self.of_role("sensor", "thermostat", "plug", "bulb", "controller"):
                settings: Settings = {
                    "port": service.port,
                    "tls": tls,
                    "guarded": bool(service.settings.get("guarded")),
                    "keepalive_s": rng.choice([5, 15, 60]),
                    "messages": rng.choice([1, 3, 12, 10_000]),
                    "qos": rng.choice([[0], [1], [2], [0, 1, 2]]),
                    "size_bytes": rng.randint(4, 700),
                }
                chances.append((client, (name,), settings))
        return chances

    def firmware(self) -> list[Chance]:
        rng = self.rng
        return [
            (
                client,
                ("cloud",),
                {
                    "port": 443 if tls else 80,
                    "tls": tls,
                    "chance": rng.choice([0.1, 0.3, 1.0]),
                    "bytes_per_s": int(between(rng, 40_000, 1_000_000)),
                    "in_ranges": rng.random() < 0.3,
                },
            )
            for client in self.of_role(*MACHINES)
            for tls in (rng.random() < 0.5,)
        ]

    def pushes(self) -> list[Chance]:
        rng = self.rng
        return [
            (
                camera,
                ("cloud",),
                {
                    "port": 443,
                    "tls": True,
                    "size_bytes": int(between(rng, 2_000, 60_000)),
                    "frames_per_connection": rng.choice([1, 10, 100]),
                },
            )
            for camera in self.of_role("camera", "recorder")
        ]

    def inventories(self) -> list[Chance]:
        rng = self.rng
        chances: list[Chance] = []
        for operator in self.of_role("laptop"):
            devices = [host for host in self.plan.devices if host.services and host.name != operator.name]
            met = rng.sample(devices, max(1, int(len(devices) * rng.uniform(0.4, 1.0))))
            ports = sorted({service.port for host in met for service in host.services} | {22, 80, 443})
            settings: Settings = {
                "ports": ports[: rng.randint(4, 14)],
                "asks_versions": rng.random() < 0.4,
                "max_rate": rng.choice([2, 5, 20, 50]),
            }
            chances.append((operator, tuple(host.name for host in met), settings))
        return chances


def chances_of(rng: random.Random, plan: Plan) -> dict[str, tuple[list[Chance], tuple[float, float]]]:
    """Return per kind who could do it how, and how far apart its turns may lie in seconds."""
    rota = _Rota(rng, plan)
    hub, people = rota.of_role("hub"), rota.of_role(*PEOPLE)
    watchers = hub + people
    browsers: list[Chance] = [(host, (GATEWAY,), {"copies": rng.choice([1, 2, 3])}) for host in watchers]
    seekers: list[Chance] = [(host, (GATEWAY,), {"copies": rng.choice([1, 1, 2, 3])}) for host in watchers]
    return {
        "mqtt_sessions": (rota.sessions("mqtt", tls=False), (0.5, 12)),
        "mqtt_tls": (rota.sessions("mqtt_tls", tls=True), (0.5, 12)),
        "https_push": (rota.pushes(), (0.5, 8)),
        "coap_read": (rota.of("coap", watchers + rota.of_role("thermostat", "sensor")), (1, 15)),
        "coap_write": (rota.of("coap", watchers), (3, 25)),
        "coap_observe": (rota.of("coap", watchers, length_s=lambda: rng.uniform(4, 20)), (8, 40)),
        "firmware": (rota.firmware(), (15, 90)),
        "backup": (
            rota.of(
                "rsync",
                rota.of_role("laptop", "recorder", "camera"),
                files=lambda: rng.randint(2, 12),
                size_bytes=lambda: int(between(rng, 2_000, 150_000)),
                kbytes_per_s=lambda: int(between(rng, 50, 2000)),
            ),
            (20, 120),
        ),
        "web_admin": (
            rota.of(
                "toy_site",
                people,
                mistakes=lambda: rng.choice([0.0, 0.2, 0.5]),
                pages=lambda: rng.randint(2, 8),
            ),
            (10, 60),
        ),
        "inventory": (rota.inventories(), (40, 180)),
        "setpoint": (rota.of("modbus", hub), (4, 40)),
        "mdns_browse": (browsers, (8, 60)),
        "ssdp_search": (seekers, (8, 60)),
    }


def draw_chores(plan: Plan, kinds: Collection[str]) -> list[Activity]:
    """Draw the newer chores of a plan, those of the kinds alone; each is done by one host that fits, or by some."""
    rng = random.Random(f"{plan.seed}:chores")
    drawn = []
    for kind, (chances, apart_s) in chances_of(rng, plan).items():
        # All draws are made whatever was asked for, so that asking for one kind more leaves the others as they are.
        picked = rng.sample(chances, min(len(chances), rng.choice([1, 2, 3])))
        for host, peers, settings in picked:
            every_s, starts_s = between(rng, *apart_s), rng.uniform(0.0, 8.0)
            unsteadiness = rng.choice([0.02, 0.1, 0.5])
            if kind in kinds:
                rhythm = {"every_s": every_s, "unsteadiness": unsteadiness}
                drawn.append(Activity(kind, host.name, peers, {**rhythm, **settings}, starts_s=starts_s))
    return drawn


def one_of_each(
    kinds: Collection[str], draw: Callable[[random.Random | None], list[Activity]], *, plan: Plan
) -> list[Activity]:
    """Return the activities of these kinds that `draw(None)` gives, and one of each that only another draw gives."""
    first = draw(None)
    drawn = [activity for activity in first if activity.kind in kinds]
    for attempt in range(MOST_ATTEMPTS):
        known = {activity.kind for activity in drawn}
        for activity in draw(random.Random(f"{plan.seed}:{attempt}:kinds")):
            if activity.kind in kinds and activity.kind not in known:
                known.add(activity.kind)
                drawn.append(activity)
    return drawn
