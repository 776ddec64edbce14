"""Looking for hosts and open ports: in the LAN, from the internet, and from the LAN in the internet."""

from __future__ import annotations

from lab.attacks.scene import Scene, bot
from lab.plan import ANY_HOST, EVERY_HOME_HOST, Attack

MIRAI_PORTS = (23, 2323, 8080, 5555, 7547, 37215, 52869, 80, 81, 60001)
KNOWN_PORTS = (
    21,
    22,
    23,
    25,
    53,
    80,
    81,
    102,
    110,
    139,
    143,
    443,
    445,
    502,
    554,
    1433,
    1723,
    1883,
    2323,
    3306,
    3389,
    5000,
    5060,
    5432,
    5555,
    5900,
    6379,
    7547,
    8000,
    8080,
    8081,
    8443,
    8883,
    8888,
    9000,
    9100,
    9200,
    10000,
    37777,
    49152,
)
NMAP_KINDS = ("-sS", "-sS", "-sS", "-sT", "-sT", "-sU", "-sN", "-sF", "-sX", "-sA")


def port_scan(scene: Scene) -> Attack:
    """nmap over the ports of one device: any kind of probe, from 2 a second to as fast as it goes."""
    attacker = scene.attacker()
    outward = attacker.is_inside and scene.rng.random() < 0.3
    victim = scene.rng.choice(scene.outside) if outward else scene.device(attacker=attacker)
    kind = scene.rng.choice(NMAP_KINDS)
    per_s = scene.between(2.0, 500.0)
    count = int(min(per_s * scene.duration_s(), 1000 if kind != "-sU" else 150))
    ports = scene.rng.choice(
        [
            ["--top-ports", str(max(10, count))],
            ["-p", f"1-{max(20, count)}"],
            ["-F"],
            ["-p", ",".join(str(port) for port in sorted(scene.rng.sample(range(1, 65535), max(10, min(count, 300)))))],
        ]
    )
    speed = ["--max-rate", f"{per_s:.1f}"] if scene.rng.random() < 0.6 else [scene.rng.choice(["-T3", "-T4", "-T5"])]
    extra = scene.rng.choice([[], [], ["--max-retries", "0"], ["--max-retries", "1"], ["-r"], ["-f"]])
    if kind == "-sT" and extra == ["-f"]:
        extra = []
    argv = ("nmap", "-n", "-Pn", "--send-ip", "--disable-arp-ping", kind, *speed, *extra, *ports, victim.address)
    label = "port_scan_udp" if kind == "-sU" else "port_scan"
    return Attack(
        technique=f"nmap{kind}",
        label=label,
        mitre="T1046",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=30.0,
        argv=argv,
        proto=None if kind == "-sU" else "tcp",
    )


def service_scan(scene: Scene) -> Attack:
    """nmap asking what stands behind the ports it finds."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    argv = (
        "nmap",
        "-n",
        "-Pn",
        "--send-ip",
        "--disable-arp-ping",
        "-sV",
        "--version-intensity",
        str(scene.rng.randint(0, 4)),
        "--top-ports",
        str(scene.rng.choice([20, 50, 100])),
        victim.address,
    )
    return Attack(
        technique="nmap-sV",
        label="port_scan",
        mitre="T1046",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=25.0,
        argv=argv,
        proto="tcp",
    )


def silent_scan(scene: Scene) -> Attack:
    """nmap over home addresses that never answer: a firewall drops, or nobody is there."""
    attacker = scene.attacker(inside=0.3)
    target = scene.rng.choice(scene.silent)
    per_s = scene.between(3.0, 200.0)
    count = int(min(400, max(15, per_s * scene.duration_s())))
    argv = (
        "nmap",
        "-n",
        "-Pn",
        "--send-ip",
        "--disable-arp-ping",
        scene.rng.choice(["-sS", "-sT", "-sF"]),
        "--max-rate",
        f"{per_s:.1f}",
        "--max-retries",
        str(scene.rng.randint(0, 2)),
        "-p",
        f"1-{count}",
        target,
    )
    return Attack(
        technique="nmap-silent",
        label="port_scan",
        mitre="T1046",
        attacker=attacker.name,
        victim=target,
        starts_s=0.0,
        limit_s=25.0,
        argv=argv,
        proto="tcp",
    )


def horizontal_scan(scene: Scene) -> Attack:
    """nmap for few ports over the addresses of the LAN."""
    attacker = scene.attacker()
    ports = scene.rng.choice([(23, 2323), (23,), (22,), (80, 8080), (1883,), (5555,), (21, 22, 23), (445,)])
    base = scene.devices[0].address.rsplit(".", 1)[0]
    targets = [host.address for host in scene.devices if host.name != attacker.name] + list(scene.silent)
    first = scene.rng.randint(1, 120)
    targets += [f"{base}.{last}" for last in range(first, first + scene.rng.choice([8, 30, 80]))]
    targets = [target for target in dict.fromkeys(targets) if target not in (attacker.address, scene.gateway_address)]
    argv = (
        "nmap",
        "-n",
        "-Pn",
        "--send-ip",
        "--disable-arp-ping",
        scene.rng.choice(["-sS", "-sT"]),
        "--max-rate",
        f"{scene.between(3.0, 150.0):.1f}",
        "--max-retries",
        "1",
        "-p",
        ",".join(map(str, ports)),
        *targets,
    )
    return Attack(
        technique="nmap-horizontal",
        label="port_scan",
        mitre="T1046",
        attacker=attacker.name,
        victim=EVERY_HOME_HOST,
        starts_s=0.0,
        limit_s=25.0,
        argv=argv,
        proto="tcp",
        ports=ports,
    )


def ping_sweep(scene: Scene) -> Attack:
    """Echo requests to each address of the LAN, from outside."""
    attacker = scene.rng.choice(scene.attackers_outside)
    base = scene.devices[0].address.rsplit(".", 1)[0]
    targets = [host.address for host in scene.devices] + list(scene.silent)
    first = scene.rng.randint(1, 150)
    targets += [f"{base}.{last}" for last in range(first, first + scene.rng.choice([20, 60, 100]))]
    argv = (
        "nmap",
        "-n",
        "-sn",
        "-PE",
        "--send-ip",
        "--disable-arp-ping",
        "--max-rate",
        f"{scene.between(5.0, 100.0):.1f}",
        "--max-retries",
        "1",
        *(target for target in dict.fromkeys(targets) if target != scene.gateway_address),
    )
    return Attack(
        technique="nmap-ping-sweep",
        label="host_scan_icmp",
        mitre="T1018",
        attacker=attacker.name,
        victim=EVERY_HOME_HOST,
        starts_s=0.0,
        limit_s=25.0,
        argv=argv,
        proto="icmp",
    )


def slow_scan(scene: Scene) -> Attack:
    """Plain connections to one port after the other, one in half a second to one in five."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    gap_s, limit_s = scene.between(0.4, 4.0), scene.between(30.0, 60.0)
    ports = scene.rng.sample(KNOWN_PORTS, 40)
    argv = bot(
        "knock",
        target=victim.address,
        count=min(40, limit_s / gap_s),
        rate=1 / gap_s,
        ports=ports,
        parallel=4,
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique="slow_scan",
        label="port_scan",
        mitre="T1046",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=limit_s,
        argv=argv,
        proto="tcp",
    )


def mirai_search(scene: Scene) -> Attack:
    """A taken-over device looks for others on the internet: SYNs to random addresses, few ports, hardly an answer."""
    attacker = scene.rng.choice(scene.attackers_inside)
    rate = scene.between(4.0, 300.0)
    ports = tuple(dict.fromkeys([23, 2323, *scene.rng.sample(MIRAI_PORTS, scene.rng.choice([0, 0, 2, 4]))]))
    if scene.rng.random() < 0.25:
        ports = tuple(scene.rng.sample(MIRAI_PORTS, 2))
    argv = bot(
        "search_internet",
        target=attacker.address,
        count=min(2500, rate * scene.duration_s()),
        rate=rate,
        ports=ports,
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique="search_internet",
        label="iot_botnet_scan",
        mitre="T1595.001",
        attacker=attacker.name,
        victim=ANY_HOST,
        starts_s=0.0,
        limit_s=40.0,
        argv=argv,
        proto="tcp",
        ports=ports,
    )
