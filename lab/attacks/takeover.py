"""What a taken-over device does: a bot's life, calls to its master, data carried out, a lie about addresses."""

from __future__ import annotations

from lab.attacks.scene import NoVictim, Scene, bot
from lab.attacks.technique import technique
from lab.plan import ANY_HOST, PASSWORD, Attack, Host, Service


def _server(scene: Scene, kind: str) -> tuple[Host, Service]:
    """Return the outside host with a service of a kind; raises NoVictim where there is none."""
    for host in scene.outside:
        for service in host.services:
            if service.kind == kind:
                return host, service
    raise NoVictim(kind)


def _outward(
    name: str,
    *,
    label: str,
    mitre: str,
    attacker: Host,
    server: Host,
    port: int,
    argv: tuple[str, ...],
    limit_s: float,
    proto: str = "tcp",
) -> Attack:
    """Return an attack in which a device at home deals with a server outside."""
    return Attack(
        technique=name,
        label=label,
        mitre=mitre,
        attacker=attacker.name,
        victim=server.name,
        starts_s=0.0,
        limit_s=limit_s,
        argv=argv,
        proto=proto,
        ports=(port,),
    )


@technique("c2", mitre="T1571", tool="lab.bots", per_s=(0.12, 0.7), sides=("inside",), needs=("command",))
def beacon(scene: Scene) -> Attack:
    """A taken-over device calls its command server on an odd port every few seconds."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, service = _server(scene, "command")
    gap_s = scene.between(1.5, 8.0)
    argv = bot(
        "beacon",
        target=server.address,
        port=service.port,
        count=45.0 / gap_s,
        rate=1 / gap_s,
        size=scene.rng.choice([8, 40, 120, 400]),
        seed=scene.rng.randrange(10**6),
    )
    return _outward(
        "beacon",
        label="c2",
        mitre="T1571",
        attacker=attacker,
        server=server,
        port=service.port,
        argv=argv,
        limit_s=50.0,
    )


@technique("beacon", mitre="T1071", tool="lab.bots", per_s=(0.07, 2.0), sides=("inside",), needs=("botmaster",))
def jittered_beacon(scene: Scene) -> Attack:
    """Calls to a master over one connection or many, at gaps spread by a drawn share of themselves."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, service = _server(scene, "botmaster")
    gap_s = scene.between(0.5, 14.0)
    argv = bot(
        "jittered_beacon",
        target=server.address,
        port=service.port,
        count=max(3, 50.0 / gap_s),
        rate=1 / gap_s,
        jitter=scene.rng.choice([0.0, 0.05, 0.2, 0.5, 0.9]),
        hold=scene.rng.choice([1, 5, 1000]),
        size=scene.rng.choice([8, 40, 120, 400]),
        seed=scene.rng.randrange(10**6),
    )
    return _outward(
        "jittered_beacon",
        label="beacon",
        mitre="T1071",
        attacker=attacker,
        server=server,
        port=service.port,
        argv=argv,
        limit_s=60.0,
    )


@technique("beacon", mitre="T1071", tool="lab.bots", per_s=(0.07, 2.0), sides=("inside",), needs=("loader",))
def web_beacon(scene: Scene) -> Attack:
    """Calls to a master that look like a web page being asked for, with jitter."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, service = _server(scene, "loader")
    gap_s = scene.between(0.5, 14.0)
    argv = bot(
        "web_beacon",
        target=server.address,
        port=service.port,
        count=max(3, 50.0 / gap_s),
        rate=1 / gap_s,
        jitter=scene.rng.choice([0.0, 0.1, 0.3, 0.7]),
        size=scene.rng.choice([16, 64, 256]),
        seed=scene.rng.randrange(10**6),
    )
    return _outward(
        "web_beacon",
        label="beacon",
        mitre="T1071",
        attacker=attacker,
        server=server,
        port=service.port,
        argv=argv,
        limit_s=60.0,
    )


@technique("dns_tunnel", mitre="T1048.003", tool="lab.bots", per_s=(3.0, 80.0), sides=("inside",))
def name_tunnel(scene: Scene) -> Attack:
    """Data leaves in the names of DNS questions to a resolver of the attacker's."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, _ = _server(scene, "command")
    rate = scene.between(3.0, 80.0)
    argv = bot(
        "name_tunnel",
        target=server.address,
        count=min(1200, rate * 20),
        rate=rate,
        size=scene.rng.choice([60, 120, 180]),
        seed=scene.rng.randrange(10**6),
    )
    return _outward(
        "name_tunnel",
        label="dns_tunnel",
        mitre="T1048.003",
        attacker=attacker,
        server=server,
        port=53,
        argv=argv,
        limit_s=25.0,
        proto="udp",
    )


@technique("dns_tunnel", mitre="T1048.003", tool="iodine", per_s=(0.5, 60.0), sides=("inside",), needs=("tunnel_end",))
def iodine_tunnel(scene: Scene) -> Attack:
    """iodine carries IP in DNS questions; through it go datagrams at a drawn rate."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, service = _server(scene, "tunnel_end")
    rate, limit_s = scene.between(0.5, 60.0), scene.between(18.0, 35.0)
    argv = bot(
        "iodine_tunnel",
        target=server.address,
        port=service.port,
        count=min(1500, rate * limit_s),
        rate=rate,
        size=scene.rng.choice([40, 200, 600]),
        domain=service.settings["domain"],
        inner=service.settings["inner"],
        password=PASSWORD,
        record_type=scene.rng.choice(["NULL", "TXT", "CNAME"]),
        seed=scene.rng.randrange(10**6),
    )
    return _outward(
        "iodine_tunnel",
        label="dns_tunnel",
        mitre="T1048.003",
        attacker=attacker,
        server=server,
        port=service.port,
        argv=argv,
        limit_s=limit_s,
        proto="udp",
    )


@technique("data_exfiltration", mitre="T1048.003", tool="lab.bots", per_s=(50.0, 1000.0), sides=("inside",))
def upload(scene: Scene) -> Attack:
    """Some hundred kilobytes to megabytes leave a device for a server on an odd port."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, service = _server(scene, "command")
    rate = scene.between(50.0, 1000.0)
    size_bytes = int(min(rate * 20, scene.between(300, 3000))) * 1000
    argv = bot("upload", target=server.address, port=service.port, count=size_bytes // 1000, rate=rate, size=size_bytes)
    return _outward(
        "upload",
        label="data_exfiltration",
        mitre="T1048.003",
        attacker=attacker,
        server=server,
        port=service.port,
        argv=argv,
        limit_s=40.0,
    )


@technique("data_theft", mitre="T1048.003", tool="lab.bots", per_s=(0.1, 5.0), sides=("inside",), needs=("command",))
def slow_leak(scene: Scene) -> Attack:
    """A device gives away some kilobytes at a time, one connection each, low and slow."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server, service = _server(scene, "command")
    rate = scene.between(0.1, 5.0)
    argv = bot(
        "slow_leak",
        target=server.address,
        port=service.port,
        count=max(3, min(120, rate * 40)),
        rate=rate,
        size=scene.rng.choice([1000, 4000, 20_000]),
        seed=scene.rng.randrange(10**6),
    )
    return _outward(
        "slow_leak",
        label="data_theft",
        mitre="T1048.003",
        attacker=attacker,
        server=server,
        port=service.port,
        argv=argv,
        limit_s=50.0,
    )


@technique("mirai", mitre="T1584.005", tool="lab.bots", per_s=(1.0, 60.0), sides=("inside",), needs=("botmaster",))
def mirai_life(scene: Scene) -> Attack:
    """A bot's life: its program fetched, a master called, telnet doors sought and tried, an attack on command."""
    attacker = scene.rng.choice(scene.attackers_inside)
    master, calls = _server(scene, "botmaster")
    loader, files = _server(scene, "loader")
    victim = next(host for host in scene.outside if host.role == "target")
    others = [host.address for host in scene.devices if host.name != attacker.name] + list(scene.silent)
    scene.rng.shuffle(others)
    port, rate, limit_s = scene.rng.choice([80, 81, 8081]), scene.between(1.0, 60.0), scene.between(25.0, 45.0)
    argv = bot(
        "mirai_life",
        target=victim.address,
        port=port,
        count=min(1500, rate * limit_s),
        rate=rate,
        ports=(23, 2323),
        targets=others,
        master=f"{master.address}:{calls.port}",
        loader=f"{loader.address}:{files.port}",
        file=scene.rng.choice(sorted(files.settings["files"])),
        hold=scene.between(1.0, 4.0),
        jitter=scene.rng.choice([0.0, 0.1, 0.4]),
        words="{words}",
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique="mirai_life",
        label="mirai",
        mitre="T1584.005",
        attacker=attacker.name,
        victim=ANY_HOST,
        starts_s=0.0,
        limit_s=limit_s,
        argv=argv,
        proto=None,
        ports=(23, 2323, calls.port, files.port, port),
        words=scene.guesses(40),
    )


@technique("arp_spoof", mitre="T1557.002", tool="arpspoof", per_s=(0.5, 1.0), sides=("inside",), spoofed="always")
def arp_spoof(scene: Scene) -> Attack:
    """arpspoof tells one device that another has the attacker's MAC: no IP flow, what the ground truth calls outside.

    arpspoof repeats its lie every two seconds and takes it back when it is interrupted, which needs some seconds more.
    It would ask for the MACs of both by a datagram, so that the two are told to its kernel first.
    """
    attacker = scene.rng.choice(scene.attackers_inside)
    victim = scene.device(attacker=attacker)
    claimed = scene.device(attacker=attacker)
    while claimed.name == victim.name:
        claimed = scene.device(attacker=attacker)
    length_s = int(scene.between(6, 30))
    both_ways = "-r " if scene.rng.random() < 0.4 else ""
    known = "; ".join(f"ip neigh replace {host.address} lladdr {host.mac} dev eth0" for host in (victim, claimed))
    lie = f"timeout -s INT {length_s} arpspoof -i eth0 -c host {both_ways}-t {victim.address} {claimed.address}"
    return Attack(
        technique="arp_spoof",
        label="arp_spoof",
        mitre="T1557.002",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=length_s + 12.0,
        argv=("sh", "-c", f"{known}; exec {lie}"),
        proto="arp",
        spoofed=True,
    )
