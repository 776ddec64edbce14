"""What the hosts of a home do all day: drawn, not played (`lab.benign` plays it).

On purpose there is much among it that resembles an attack: bursts of short connections, password mistakes, speed
tests, monitors that open every device's port, peers that are away.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from contracts.errors import UsageError
from contracts.terminal import brief
from lab.benign import ACTIVITIES
from lab.benign.rota import draw_chores, one_of_each, with_hours
from lab.plan import AWAY_PREFIX, GATEWAY, Activity, Host, Plan
from lab.roles import between

# Where devices say something to all: mDNS, SSDP, LLMNR, two vendors' broadcasts.
ALL = "255.255.255.255"
GROUPS = (("224.0.0.251", 5353), ("239.255.255.250", 1900), ("224.0.0.252", 5355), (ALL, 6666), (ALL, 56700))
AWAY_ADDRESS = AWAY_PREFIX.replace("0/24", "250")


class _Habits:
    """Draws the activities of a plan's hosts, one after the other."""

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        self.rng = rng
        self.plan = plan
        self.pace = between(random.Random(f"{plan.seed}:pace"), 0.7, 6.0)  # of the whole home: hectic to calm
        self.drawn: list[Activity] = []
        self.hub = next(host for host in plan.devices if host.role == "hub")
        broker = next((service for service in plan.gateway_services if service.kind == "mqtt"), None)
        hubs = next(service for service in self.hub.services if service.kind == "mqtt")
        self.brokers = [(self.hub.name, hubs), ("broker", plan.host("broker").services[0])]
        self.brokers += [(GATEWAY, broker)] if broker else []
        self.main_broker = rng.choice(self.brokers)
        self.media_port = plan.host("cloud").port_of("datagram_echo")
        self.name_server = rng.choice([GATEWAY, GATEWAY, GATEWAY, "cloud"])

    def does(self, host: Host, kind: str, *peers: str, every_s: tuple[float, float], **settings: object) -> None:
        """Note an activity; its turns lie `every_s` (drawn between the two) apart."""
        self.drawn.append(
            Activity(
                kind,
                host.name,
                peers,
                {
                    "every_s": between(self.rng, *every_s) * self.pace,
                    "unsteadiness": self.rng.choice([0.01, 0.1, 0.5]),
                    **settings,
                },
                starts_s=self.rng.uniform(0.0, 6.0),
            )
        )

    def some(self, chance: float) -> bool:
        return self.rng.random() < chance

    def everybody(self, host: Host) -> None:
        """What every device does: names, time, an address, some talk to all."""
        rng = self.rng
        self.does(host, rng.choice(["names", "names", "dig"]), self.name_server, every_s=(3, 40), port=53)
        if self.some(0.7):
            self.does(host, "clock", "clock", every_s=(4, 60), port=123)
        if self.some(0.5):
            self.does(host, "lease", every_s=(20, 90))
        if self.some(0.6):
            group, port = rng.choice(GROUPS)
            self.does(
                host,
                "announce",
                every_s=(3, 40),
                group=group,
                port=port,
                size_bytes=rng.randint(40, 420),
                copies=rng.choice([1, 1, 2, 3, 6]),
                from_same_port=rng.random() < 0.5,
            )
        if self.some(0.25):
            self.does(
                host,
                "ping",
                rng.choice([GATEWAY, "cloud"]),
                every_s=(5, 60),
                count=rng.choice([1, 3, 5]),
                pause_s=rng.choice([0.2, 0.5, 1]),
                size_bytes=rng.choice([16, 56, 200]),
            )
        if self.some(0.5):
            self.cloud(host)
        if self.some(0.3):
            self.failure(host)
        if self.some(0.25):
            self.does(host, "start_up", "cloud", "clock", every_s=(30, 120), port=443, count=rng.randint(2, 12))

    def cloud(self, host: Host) -> None:
        """A device's tie to its vendor: a channel that stays, or calls now and then."""
        rng, cloud = self.rng, self.plan.host("cloud")
        if self.some(0.5):
            self.does(
                host,
                "stay_connected",
                "cloud",
                every_s=(1, 30),
                port=cloud.port_of("push_channel"),
                size_bytes=rng.choice([2, 20, 90, 500]),
            )
        else:
            tls = self.some(0.6)
            self.does(
                host,
                "http_poll",
                "cloud",
                every_s=(2, 30),
                port=443 if tls else 80,
                tls=tls,
                file=rng.choice(["state", "index.html", "photo"]),
            )

    def failure(self, host: Host) -> None:
        """Something that never works: a port that is closed, a host that is away, a resolver that is silent."""
        rng = self.rng
        if self.some(0.2):
            self.does(host, "clock", "target", every_s=(4, 30), port=123)
            return
        away = self.some(0.4)
        target = rng.choice([self.hub.name, "cloud", "broker", GATEWAY])
        silent = rng.choice([*self.plan.silent, AWAY_ADDRESS]) if away else ""
        port = rng.choice([80, 443, 8883, 9100, 5000, 445, 554])
        self.does(host, "knock_in_vain", target, every_s=(2, 20), port=port, address=silent)

    def camera(self, host: Host) -> None:
        """Frames go out, people look in."""
        rng = self.rng
        server, port = rng.choice([("cloud", 80), (self.hub.name, self.hub.port_of("web"))])
        self.does(
            host,
            "http_push",
            server,
            every_s=(0.5, 6),
            port=port,
            size_bytes=int(between(rng, 2_000, 40_000)),
            frames_per_connection=rng.choice([1, 5, 50]),
        )
        if self.some(0.3):
            size_bytes = int(between(rng, 100_000, 1_500_000))
            self.does(
                host, "http_push", server, every_s=(20, 60), port=port, size_bytes=size_bytes, frames_per_connection=1
            )
        if self.some(0.4):
            self.does(
                host,
                "datagram_stream",
                "cloud",
                every_s=(10, 40),
                port=self.media_port,
                per_s=rng.choice([20, 50, 90]),
                size_bytes=rng.randint(160, 1200),
                length_s=rng.uniform(2, 6),
            )

    def sensor(self, host: Host) -> None:
        """Small readings to the broker."""
        rng = self.rng
        name, service = self.main_broker if self.some(0.7) else rng.choice(self.brokers)
        guarded = bool(service.settings["guarded"])
        if self.some(0.6):
            self.does(
                host,
                "mqtt_stay",
                name,
                every_s=(0.5, 15),
                port=service.port,
                guarded=guarded,
                keepalive_s=rng.choice([5, 15, 60]),
                qos=rng.choice([0, 1, 1, 2]),
                size_bytes=rng.randint(4, 500),
                subscribes=self.some(0.3),
            )
        else:
            size = {"qos": rng.choice([0, 1]), "size_bytes": rng.randint(4, 300)}
            self.does(host, "mqtt_call", name, every_s=(1.5, 15), port=service.port, guarded=guarded, **size)

    def person(self, host: Host) -> None:
        """A person's device: pages, names in bursts, films, a look at the devices, speed tests."""
        rng = self.rng
        tls = self.some(0.5)
        self.does(
            host,
            "http_burst",
            "cloud",
            every_s=(5, 30),
            port=443 if tls else 80,
            tls=tls,
            count=rng.randint(8, 60),
            parallel=rng.randint(2, 8),
            pause_s=between(rng, 0.002, 0.2),
            file=rng.choice(["index.html", "state", "photo"]),
        )
        self.does(
            host,
            "names_burst",
            self.name_server,
            every_s=(6, 40),
            port=53,
            count=rng.randint(10, 120),
            per_s=between(rng, 10, 200),
        )
        self.does(
            host,
            "datagram_talk",
            "cloud",
            every_s=(4, 30),
            port=self.media_port,
            count=rng.randint(5, 80),
            per_s=between(rng, 5, 100),
            size_bytes=rng.randint(30, 1200),
        )
        self.does(
            host,
            "download",
            "cloud",
            every_s=(15, 60),
            port=80,
            file="film",
            bytes_per_s=int(between(rng, 30_000, 2_000_000)),
        )
        if self.some(0.5):
            self.does(
                host,
                "speed_test",
                rng.choice(["cloud", self.hub.name]),
                every_s=(40, 120),
                port=5201,
                bytes=int(between(rng, 200_000, 2_000_000)),
                mbit_per_s=rng.choice([2, 10, 50]),
                udp=self.some(0.4),
                reverse=self.some(0.4),
            )
        self.visits(host)

    def visits(self, host: Host) -> None:
        """A person looks after the devices: logs in, mistypes, looks at pictures, lets a monitor run."""
        rng = self.rng
        self.looks_in(
            host,
            lambda: {
                "telnet": "telnet_visit",
                "ssh": "ssh_visit",
                "ftp": "ftp_visit",
                "media": "watch",
                "small_web": rng.choice(["http_poll", "web_login", "http_burst"]),
                "web": "web_login",
            },
            lambda: {
                "mistakes": rng.choice([0.0, 0.3, 0.6]),
                "commands": rng.randint(1, 5),
                "length_s": rng.uniform(1, 8),
                "file": "state",
                "count": rng.randint(5, 25),
                "parallel": 2,
                "pause_s": 0.02,
            },
            every_s=(8, 60),
        )

    def looks_in(
        self,
        host: Host,
        kinds: Callable[[], dict[str, str]],
        settings: Callable[[], dict[str, object]],
        *,
        every_s: tuple[float, float],
    ) -> None:
        """Note that a host deals with some of the devices' services, each in the manner drawn for its kind."""
        for device in self.plan.devices:
            if device.name == host.name:
                continue
            for service in device.services:
                manner = kinds().get(service.kind)
                if manner and self.some(0.3):
                    self.does(host, manner, device.name, every_s=every_s, port=service.port, **settings())

    def watchman(self, host: Host) -> None:
        """Home automation: opens the known port of each device in turn, and talks to those that speak its protocol."""
        rng = self.rng
        doors = [
            (device.name, service.port)
            for device in self.plan.devices
            for service in device.services
            if device.name != host.name and service.kind in ("small_web", "media", "modbus", "ssh", "ftp")
        ]
        if doors and self.some(0.7):
            self.does(
                host,
                "look_round",
                *(name for name, _ in doors),
                every_s=(2, 30),
                says_something=self.some(0.5),
                ports=[port for _, port in doors],
                pause_s=rng.choice([0.0, 0.1, 1.0]),
            )
        for device in self.plan.devices:
            if device.port_of("modbus") and device.name != host.name:
                self.does(
                    host,
                    "registers",
                    device.name,
                    every_s=(1, 8),
                    port=502,
                    count=rng.choice([1, 5, 20]),
                    registers=rng.randint(1, 60),
                    pause_s=rng.choice([0.1, 0.5]),
                )
            # Turns apart, datagrams a turn at most, a second, sizes: of vendors' protocols, and of discovery.
            for kind, every_s, most, per_s, sizes in (
                ("datagram_echo", (1.0, 10.0), 5, 10.0, (10, 200)),
                ("discovery_responder", (3.0, 20.0), 4, 20.0, (40, 110)),
            ):
                if port := device.port_of(kind):
                    count, size_bytes = rng.randint(1, most), rng.randint(*sizes)
                    pace = {"count": count, "per_s": per_s, "size_bytes": size_bytes}
                    self.does(host, "datagram_talk", device.name, every_s=every_s, port=port, **pace)

    def remote(self, host: Host) -> None:
        """Somebody of the household, away from home: looks in through the gateway."""
        rng = self.rng
        self.looks_in(
            host,
            lambda: {"small_web": "http_poll", "media": "watch", "ssh": "ssh_visit", "web": "http_burst"},
            lambda: {
                "file": "index.html",
                "length_s": rng.uniform(1, 5),
                "mistakes": 0.2,
                "commands": 2,
                "count": rng.randint(4, 30),
                "parallel": 3,
                "pause_s": 0.05,
            },
            every_s=(6, 40),
        )

    def stranger(self, host: Host) -> None:
        """An outside host that attacks also asks for a page now and then, as everybody may."""
        web = [
            (device.name, service.port)
            for device in self.plan.devices
            for service in device.services
            if service.kind in ("small_web", "web")
        ]
        name, port = self.rng.choice(web)
        self.does(host, "http_poll", name, every_s=(8, 30), port=port, file="index.html")


def draw_activities(rng: random.Random, plan: Plan, kinds: Collection[str] | None = None) -> list[Activity]:
    """Draw what every host of a plan does apart from attacking.

    `kinds` None draws the ordinary ones as chance has it. Names of kinds draw these alone, each at least once where a
    host fits, with busy and idle hours; raises UsageError for a name that there is not.
    """
    if kinds is None:
        return _ordinary(rng, plan)
    unknown = sorted(set(kinds) - set(ACTIVITIES))
    if unknown:
        raise UsageError(f"no benign kind named {', '.join(map(brief, unknown))}; there are {', '.join(ACTIVITIES)}")
    drawn = one_of_each(kinds, lambda again: _ordinary(again or rng, plan), plan=plan)
    return [with_hours(activity, plan) for activity in (*drawn, *draw_chores(plan, kinds))]


def _ordinary(rng: random.Random, plan: Plan) -> list[Activity]:
    habits = _Habits(rng, plan)
    by_role: dict[str, tuple[Callable[[Host], None], ...]] = {
        "camera": (habits.camera,),
        "recorder": (habits.camera,),
        "sensor": (habits.sensor,),
        "thermostat": (habits.sensor, habits.cloud),
        "plug": (habits.cloud,),
        "bulb": (habits.cloud,),
        "speaker": (habits.cloud, habits.cloud),
        "laptop": (habits.person,),
        "phone": (habits.person,),
        "hub": (habits.watchman, habits.cloud),
        "printer": (),
        "controller": (habits.sensor,),
        "remote": (habits.remote,),
        "stranger1": (habits.stranger,),
        "stranger2": (habits.stranger,),
    }
    for host in plan.hosts:
        if host.is_inside:
            habits.everybody(host)
        for habit in by_role.get(host.role, ()):
            habit(host)
    return habits.drawn
