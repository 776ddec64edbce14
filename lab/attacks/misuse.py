"""What a taken-over device does besides, and requests that a protocol or a page does not allow."""

from __future__ import annotations

from lab.attacks.scene import Scene, bot, bot_attack
from lab.plan import Attack


def beacon(scene: Scene) -> Attack:
    """A taken-over device calls its command server on an odd port every few seconds."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server = next(host for host in scene.outside if host.port_of("command"))
    port = server.port_of("command") or 0
    gap_s = scene.between(1.5, 8.0)
    argv = bot(
        "beacon",
        target=server.address,
        port=port,
        count=45.0 / gap_s,
        rate=1 / gap_s,
        size=scene.rng.choice([8, 40, 120, 400]),
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique="beacon",
        label="c2",
        mitre="T1571",
        attacker=attacker.name,
        victim=server.name,
        starts_s=0.0,
        limit_s=50.0,
        argv=argv,
        proto="tcp",
        ports=(port,),
    )


def name_tunnel(scene: Scene) -> Attack:
    """Data leaves in the names of DNS questions to a resolver of the attacker's."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server = next(host for host in scene.outside if host.port_of("command"))
    rate = scene.between(3.0, 80.0)
    argv = bot(
        "name_tunnel",
        target=server.address,
        count=min(1200, rate * 20),
        rate=rate,
        size=scene.rng.choice([60, 120, 180]),
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique="name_tunnel",
        label="dns_tunnel",
        mitre="T1048.003",
        attacker=attacker.name,
        victim=server.name,
        starts_s=0.0,
        limit_s=25.0,
        argv=argv,
        proto="udp",
        ports=(53,),
    )


def upload(scene: Scene) -> Attack:
    """Some hundred kilobytes to megabytes leave a device for a server on an odd port."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server = next(host for host in scene.outside if host.port_of("command"))
    port, rate = server.port_of("command") or 0, scene.between(50.0, 1000.0)
    size_bytes = int(min(rate * 20, scene.between(300, 3000))) * 1000
    argv = bot("upload", target=server.address, port=port, count=size_bytes // 1000, rate=rate, size=size_bytes)
    return Attack(
        technique="upload",
        label="data_exfiltration",
        mitre="T1048.003",
        attacker=attacker.name,
        victim=server.name,
        starts_s=0.0,
        limit_s=40.0,
        argv=argv,
        proto="tcp",
        ports=(port,),
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
