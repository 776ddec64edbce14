"""Too much of something: packets, connections, requests, answers nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence

from lab.attacks.scene import Scene, bot, bot_attack
from lab.attacks.technique import technique
from lab.plan import Attack, Host

MOST_FLOOD_PACKETS = 3000  # per attack: keeps a recording below some megabytes
FLOOD_MOST_PER_S = 1500.0  # what two cores forward, delay and record without loss, with room


def _flood(
    scene: Scene,
    *,
    technique: str,
    label: str,
    flags: Sequence[str],
    proto: str | None,
    ports: tuple[int, ...],
    spoofed: bool,
    victim: Host,
    attacker: Host,
    payload_bytes: int = 0,
    least_per_s: float = 30.0,
) -> Attack:
    """Draw rate and length of a flood by hping3."""
    rate = scene.between(least_per_s, FLOOD_MOST_PER_S)
    count = int(min(MOST_FLOOD_PACKETS, rate * scene.duration_s()))
    argv = ["hping3", "-q", "-n", *flags, "-i", f"u{int(1e6 / rate)}", "-c", str(count)]
    argv += ["--rand-source"] if spoofed else []
    argv += ["-d", str(payload_bytes)] if payload_bytes else []
    return Attack(
        technique=technique,
        label=label,
        mitre="T1498.001",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=count / rate * 1.5 + 3.0,
        argv=(*argv, victim.address),
        proto=proto,
        ports=ports,
        spoofed=spoofed,
    )


def _flooded(scene: Scene, attacker: Host) -> Host:
    """Draw whom a flood meets: a home device, or, from inside, often a host outside."""
    if attacker.is_inside and scene.rng.random() < 0.5:
        return scene.rng.choice(scene.outside)
    return scene.device(attacker=attacker)


def _port_of(scene: Scene, victim: Host) -> int:
    """Draw an open TCP port, or one that is closed."""
    tcp = [service.port for service in victim.services if service.kind in TCP_SERVICES]
    closed = scene.rng.choice([25, 81, 110, 445, 5000, 6668, 7000, 9999, 30005])
    return scene.rng.choice(tcp) if tcp and scene.rng.random() < 0.7 else closed


TCP_SERVICES = ("telnet", "ssh", "web", "small_web", "mqtt", "push_channel", "media", "ftp", "modbus")


@technique("syn_flood", mitre="T1498.001", tool="hping3", per_s=(30.0, FLOOD_MOST_PER_S), spoofed="sometimes")
def syn_flood(scene: Scene) -> Attack:
    """SYNs to one port, from the attacker's own address or from drawn ones, with or without a moving source port."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port, spoofed = _port_of(scene, victim), scene.rng.random() < 0.5
    flags = ["-S", "-p", str(port), "-w", str(scene.rng.choice([64, 512, 1024, 5840, 65535]))]
    if scene.rng.random() < 0.25:
        flags += ["-k", "-s", str(scene.rng.randrange(1024, 60000))]
    return _flood(
        scene,
        technique="syn_flood",
        label="syn_flood",
        flags=flags,
        proto="tcp",
        ports=(port,),
        spoofed=spoofed,
        victim=victim,
        attacker=attacker,
        payload_bytes=scene.rng.choice([0, 0, 0, 0, 120, 600]),
    )


@technique("ack_flood", mitre="T1498.001", tool="hping3", per_s=(30.0, FLOOD_MOST_PER_S), spoofed="sometimes")
def odd_flag_flood(scene: Scene) -> Attack:
    """ACKs, FINs, RSTs or everything at once, to a port that knows no such connection."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port, flag = _port_of(scene, victim), scene.rng.choice([["-A"], ["-A", "-P"], ["-F"], ["-R"], ["-F", "-P", "-U"]])
    return _flood(
        scene,
        technique="odd_flag_flood",
        label="ack_flood",
        flags=[*flag, "-p", str(port)],
        proto="tcp",
        ports=(port,),
        spoofed=scene.rng.random() < 0.4,
        victim=victim,
        attacker=attacker,
        payload_bytes=scene.rng.choice([0, 0, 64, 500]),
    )


@technique("udp_flood", mitre="T1498.001", tool="hping3", per_s=(30.0, FLOOD_MOST_PER_S))
def udp_flood(scene: Scene) -> Attack:
    """Datagrams to one port or to many, small or large; closed ports answer with ICMP or not at all."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port = scene.rng.choice([53, 80, 123, 443, 1900, 5683, 9987, 27015, scene.rng.randrange(1024, 65000)])
    moving = scene.rng.random() < 0.4
    flags = ["-2", "-p", f"{'++' if moving else ''}{port}"]
    return _flood(
        scene,
        technique="udp_flood",
        label="udp_flood",
        flags=flags,
        proto=None,
        ports=(),
        spoofed=False,
        victim=victim,
        attacker=attacker,
        payload_bytes=scene.rng.choice([0, 1, 32, 64, 512, 1024, 1400]),
    )


@technique("icmp_flood", mitre="T1498.001", tool="hping3", per_s=(30.0, FLOOD_MOST_PER_S), spoofed="sometimes")
def icmp_flood(scene: Scene) -> Attack:
    """Echo requests, small or large."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    return _flood(
        scene,
        technique="icmp_flood",
        label="icmp_flood",
        flags=["-1"],
        proto="icmp",
        ports=(),
        spoofed=scene.rng.random() < 0.3,
        victim=victim,
        attacker=attacker,
        payload_bytes=scene.rng.choice([0, 8, 56, 120, 1000, 1400]),
    )


@technique("http_flood", mitre="T1499.002", tool="lab.bots", per_s=(30.0, 400.0), needs=("web", "small_web"))
def http_flood(scene: Scene) -> Attack:
    """Requests for pages, far more than a person makes."""
    return bot_attack(
        scene,
        "http_requests",
        service=scene.rng.choice(["web", "small_web"]),
        label="http_flood",
        mitre="T1499.002",
        least_per_s=30,
        most_per_s=400,
        most=1500,
        parallel=scene.rng.choice([4, 8, 16]),
        hold=scene.rng.choice([1, 1, 1, 5]),
    )


@technique("mqtt_flood", mitre="T1499.002", tool="lab.bots", per_s=(20.0, 250.0), needs=("mqtt",))
def mqtt_connect_flood(scene: Scene) -> Attack:
    """Connections to a broker, opened and left."""
    return bot_attack(
        scene,
        "mqtt_connects",
        service="mqtt",
        label="mqtt_flood",
        mitre="T1499.002",
        least_per_s=20,
        most_per_s=250,
        most=1200,
        parallel=scene.rng.choice([2, 4, 8]),
    )


@technique("dos_malaria", mitre="T1499.002", tool="lab.bots", per_s=(100.0, 1000.0), needs=("mqtt",))
def mqtt_publish_flood(scene: Scene) -> Attack:
    """Messages to a broker over few connections."""
    return bot_attack(
        scene,
        "mqtt_publishes",
        service="mqtt",
        label="dos_malaria",
        mitre="T1499.002",
        least_per_s=100,
        most_per_s=1000,
        most=4000,
        parallel=scene.rng.choice([1, 2, 5]),
        size=scene.rng.choice([20, 100, 1000]),
    )


def _answers(scene: Scene, kind: str, *, port: int) -> Attack:
    """Draw large answers nobody asked for, from many reflectors, to one home device."""
    attacker = scene.rng.choice(scene.attackers_outside)
    victim = scene.device(attacker=attacker)
    rate = scene.between(30.0, 1000.0)
    argv = bot(
        kind,
        target=victim.address,
        port=port or scene.rng.choice([53, 123, 161, 389, 1900, 11211, 19, 500, 3702]),
        count=min(2500, rate * scene.duration_s()),
        rate=rate,
        parallel=scene.rng.choice([4, 20, 100, 400]),
        size=scene.rng.choice([300, 460, 800, 1200, 1400]),
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique=kind,
        label="amplification",
        mitre="T1498.002",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=40.0,
        argv=argv,
        proto=None,
        spoofed=True,
    )


REFLECTED = technique(
    "amplification",
    mitre="T1498.002",
    tool="lab.bots",
    per_s=(30.0, 1000.0),
    sides=("outside",),
    spoofed="always",
)


@REFLECTED
def reflection(scene: Scene) -> Attack:
    """Large answers nobody asked for come in from many reflectors, from one of the ports that reflect."""
    return _answers(scene, "reflected", port=0)


@REFLECTED
def name_reflection(scene: Scene) -> Attack:
    """Well-formed DNS answers of many records nobody asked for, from open resolvers."""
    return _answers(scene, "reflected_names", port=53)


@technique("udp_flood", mitre="T1498.001", tool="lab.bots", per_s=(5.0, 1000.0), spoofed="always")
def spoofed_udp_flood(scene: Scene) -> Attack:
    """Datagrams to one port from drawn sources, none of them multicast, as hping3 would draw."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    rate = scene.between(5.0, 1000.0)
    argv = bot(
        "spoofed_datagrams",
        target=victim.address,
        port=scene.rng.choice([53, 80, 123, 443, 5683, 27015, scene.rng.randrange(1024, 65000)]),
        count=min(MOST_FLOOD_PACKETS, rate * scene.duration_s()),
        rate=rate,
        size=scene.rng.choice([1, 32, 512, 1400]),
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique="spoofed_udp_flood",
        label="udp_flood",
        mitre="T1498.001",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=40.0,
        argv=argv,
        proto="udp",
        spoofed=True,
    )


@technique("syn_flood", mitre="T1498.001", tool="hping3", per_s=(5.0, FLOOD_MOST_PER_S), spoofed="sometimes")
def carpet_flood(scene: Scene) -> Attack:
    """SYNs to one port after the other of a host, slow at times, so that no single port sees many."""
    attacker = scene.attacker()
    return _flood(
        scene,
        technique="carpet_flood",
        label="syn_flood",
        flags=["-S", "-p", f"++{scene.rng.randrange(1, 20_000)}"],
        proto="tcp",
        ports=(),
        spoofed=scene.rng.random() < 0.5,
        victim=_flooded(scene, attacker),
        attacker=attacker,
        least_per_s=5.0,
    )


@technique("rst_flood", mitre="T1498.001", tool="hping3", per_s=(5.0, FLOOD_MOST_PER_S), spoofed="sometimes")
def reset_flood(scene: Scene) -> Attack:
    """Resets to a port, as somebody sends who wants to end the connections of others."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port = _port_of(scene, victim)
    return _flood(
        scene,
        technique="reset_flood",
        label="rst_flood",
        flags=["-R", "-p", str(port)],
        proto="tcp",
        ports=(port,),
        spoofed=scene.rng.random() < 0.5,
        victim=victim,
        attacker=attacker,
        least_per_s=5.0,
    )


@technique("http_flood", mitre="T1499.002", tool="lab.bots", per_s=(5.0, 200.0), needs=("web", "small_web"))
def http_post_flood(scene: Scene) -> Attack:
    """Forms sent to a page, far more than a person sends, each with some bytes to chew on."""
    return bot_attack(
        scene,
        "http_posts",
        service=scene.rng.choice(["web", "small_web"]),
        label="http_flood",
        mitre="T1499.002",
        least_per_s=5,
        most_per_s=200,
        most=1000,
        parallel=scene.rng.choice([2, 4, 8, 16]),
        size=scene.rng.choice([40, 400, 4000]),
    )
