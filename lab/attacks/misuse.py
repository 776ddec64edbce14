"""Requests that a protocol or a page does not allow, and far too many that it does."""

from __future__ import annotations

from lab.attacks.scene import Scene, bot_attack
from lab.attacks.technique import technique
from lab.plan import Attack

MISUSE_PER_S = (1.0, 30.0)


@technique(
    "malformed_mqtt", "modbus_write", mitre="T1499.004", tool="lab.bots", per_s=MISUSE_PER_S, needs=("mqtt", "modbus")
)
def misuse(scene: Scene) -> Attack:
    """Packets that a protocol does not allow, to a broker or a controller."""
    kind, service = scene.rng.choice([("mqtt_malformed", "mqtt"), ("modbus_misuse", "modbus")])
    label = "malformed_mqtt" if service == "mqtt" else "modbus_write"
    return bot_attack(
        scene,
        kind,
        service=service,
        label=label,
        mitre="T1499.004",
        least_per_s=1,
        most_per_s=30,
        most=300,
        parallel=scene.rng.choice([1, 2, 4]),
    )


@technique("web_attack", mitre="T1190", tool="lab.bots", per_s=(1.0, 20.0), needs=("web", "small_web"))
def web_attack(scene: Scene) -> Attack:
    """Requests that try well-known holes of web pages."""
    return bot_attack(
        scene,
        "web_trials",
        service=scene.rng.choice(["web", "small_web"]),
        label="web_attack",
        mitre="T1190",
        least_per_s=1,
        most_per_s=20,
        most=250,
        parallel=scene.rng.choice([1, 2, 4]),
    )


@technique("modbus_write", mitre="T0855", tool="lab.bots", per_s=(0.5, 300.0), needs=("modbus",))
def modbus_storm(scene: Scene) -> Attack:
    """Writes to coils and registers of a controller, over and over, from one in two seconds to hundreds a second."""
    return bot_attack(
        scene,
        "modbus_storm",
        service="modbus",
        label="modbus_write",
        mitre="T0855",
        least_per_s=0.5,
        most_per_s=300,
        most=2000,
        parallel=scene.rng.choice([1, 1, 2, 4]),
        hold=scene.rng.choice([1, 20, 2000]),
    )


@technique("characterization", mitre="T0846", tool="lab.bots", per_s=(0.5, 60.0), needs=("modbus",))
def modbus_mapping(scene: Scene) -> Attack:
    """Every unit and register block of a controller read in turn, to learn what it steers."""
    return bot_attack(
        scene,
        "modbus_mapping",
        service="modbus",
        label="characterization",
        mitre="T0846",
        least_per_s=0.5,
        most_per_s=60,
        most=600,
        hold=scene.rng.choice([10, 100]),
    )


@technique("malformed_mqtt", mitre="T1499.004", tool="lab.bots", per_s=(0.3, 60.0), needs=("mqtt",))
def mqtt_fuzz(scene: Scene) -> Attack:
    """MQTT packets with one thing wrong each: lengths, flags, versions, names, order."""
    return bot_attack(
        scene,
        "mqtt_fuzz",
        service="mqtt",
        label="malformed_mqtt",
        mitre="T1499.004",
        least_per_s=0.3,
        most_per_s=60,
        most=500,
        parallel=scene.rng.choice([1, 2, 4]),
    )


@technique("mqtt_flood", mitre="T1499.002", tool="lab.bots", per_s=(1.0, 400.0), needs=("mqtt",))
def topic_bombing(scene: Scene) -> Attack:
    """Subscriptions and messages to thousands of deep topics that nobody else uses, kept by the broker."""
    return bot_attack(
        scene,
        "topic_bombing",
        service="mqtt",
        label="mqtt_flood",
        mitre="T1499.002",
        least_per_s=1,
        most_per_s=400,
        most=2500,
        parallel=scene.rng.choice([1, 2, 3]),
        size=scene.rng.choice([20, 200, 900]),
    )


WEB_KINDS = ("web", "small_web", "toy_site")


@technique("web_attack", mitre="T1595.003", tool="lab.bots", per_s=(0.3, 100.0), needs=WEB_KINDS)
def web_scan(scene: Scene) -> Attack:
    """Pages asked for that a device might have and should not show: a short list of our own, most are not there."""
    return bot_attack(
        scene,
        "web_scan",
        service=scene.rng.choice(WEB_KINDS),
        label="web_attack",
        mitre="T1595.003",
        least_per_s=0.3,
        most_per_s=100,
        most=400,
        parallel=scene.rng.choice([1, 1, 2, 6]),
    )


@technique(
    "sql_injection", "xss", "command_injection", mitre="T1190", tool="lab.bots", per_s=(0.3, 40.0), needs=("toy_site",)
)
def injection(scene: Scene) -> Attack:
    """Fields of a page filled with SQL, script or shell that the toy site answers and never interprets."""
    label = scene.rng.choice(["sql_injection", "xss", "command_injection"])
    return bot_attack(
        scene,
        "injection",
        service="toy_site",
        label=label,
        mitre="T1190",
        least_per_s=0.3,
        most_per_s=40,
        most=300,
        parallel=scene.rng.choice([1, 1, 2, 4]),
        aim=label,
    )
