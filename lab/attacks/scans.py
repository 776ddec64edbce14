"""Looking for hosts and open ports: in the LAN, from the internet, and from the LAN in the internet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lab.attacks.scene import Scene, bot
from lab.attacks.technique import technique
from lab.plan import ANY_HOST, EVERY_HOME_HOST, Attack, Host

MIRAI_PORTS = (23, 2323, 8080, 5555, 7547, 37215, 52869, 80, 81, 60001)
# fmt: off
KNOWN_PORTS = (
    21, 22, 23, 25, 53, 80, 81, 102, 110, 139, 143, 443, 445, 502, 554, 1433, 1723, 1883, 2323, 3306, 3389, 5000, 5060,
    5432, 5555, 5900, 6379, 7547, 8000, 8080, 8081, 8443, 8883, 8888, 9000, 9100, 9200, 10000, 37777, 49152,
)
# fmt: on
NMAP_KINDS = ("-sS", "-sS", "-sS", "-sT", "-sT", "-sU", "-sN", "-sF", "-sX", "-sA")


# --send-ip and no ARP: a probe must be an IP packet, as one that comes through a router is.
QUIETLY = ("nmap", "-n", "-Pn", "--send-ip", "--disable-arp-ping")
SCAN_LIMIT_S = 25.0


def nmap(
    name: str,
    *options: object,
    attacker: Host,
    victim: str,
    targets: Sequence[str],
    label: str = "port_scan",
    mitre: str = "T1046",
    proto: str | None = "tcp",
    ports: tuple[int, ...] = (),
    limit_s: float = SCAN_LIMIT_S,
) -> Attack:
    """Return a scan by nmap with its options, of targets that the ground truth calls `victim`."""
    return Attack(
        technique=name,
        label=label,
        mitre=mitre,
        attacker=attacker.name,
        victim=victim,
        starts_s=0.0,
        limit_s=limit_s,
        argv=(*QUIETLY, *map(str, options), *targets),
        proto=proto,
        ports=ports,
    )


def max_rate(scene: Scene, low: float, high: float) -> tuple[str, str]:
    """Draw how many probes a second nmap may send."""
    return "--max-rate", f"{scene.between(low, high):.1f}"


def home_targets(scene: Scene, *, least: int, counts: Sequence[int], but: Sequence[str]) -> list[str]:
    """Draw addresses of the LAN: every device, the silent ones, and a run of others that mostly nobody has."""
    base = scene.devices[0].address.rsplit(".", 1)[0]
    targets = [host.address for host in scene.devices] + list(scene.silent)
    first = scene.rng.randint(1, least)
    targets += [f"{base}.{last}" for last in range(first, first + scene.rng.choice(counts))]
    return [target for target in dict.fromkeys(targets) if target not in (*but, scene.gateway_address)]


@technique("port_scan", "port_scan_udp", mitre="T1046", tool="nmap", per_s=(2.0, 5000.0))
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
    return nmap(
        f"nmap{kind}",
        kind,
        *speed,
        *extra,
        *ports,
        attacker=attacker,
        victim=victim.name,
        targets=[victim.address],
        label="port_scan_udp" if kind == "-sU" else "port_scan",
        proto=None if kind == "-sU" else "tcp",
        limit_s=30.0,
    )


@technique("port_scan", mitre="T1046", tool="nmap", per_s=(2.0, 500.0))
def service_scan(scene: Scene) -> Attack:
    """nmap asking what stands behind the ports it finds."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    options = ("-sV", "--version-intensity", scene.rng.randint(0, 4), "--top-ports", scene.rng.choice([20, 50, 100]))
    return nmap("nmap-sV", *options, attacker=attacker, victim=victim.name, targets=[victim.address])


@technique("port_scan", mitre="T1046", tool="nmap", per_s=(3.0, 200.0))
def silent_scan(scene: Scene) -> Attack:
    """nmap over home addresses that never answer: a firewall drops, or nobody is there."""
    attacker = scene.attacker(inside=0.3)
    target = scene.rng.choice(scene.silent)
    per_s = scene.between(3.0, 200.0)
    count = int(min(400, max(15, per_s * scene.duration_s())))
    kind, tries = scene.rng.choice(["-sS", "-sT", "-sF"]), scene.rng.randint(0, 2)
    options = (kind, "--max-rate", f"{per_s:.1f}", "--max-retries", tries, "-p", f"1-{count}")
    return nmap("nmap-silent", *options, attacker=attacker, victim=target, targets=[target])


@technique("port_scan", mitre="T1046", tool="nmap", per_s=(3.0, 150.0))
def horizontal_scan(scene: Scene) -> Attack:
    """nmap for few ports over the addresses of the LAN."""
    attacker = scene.attacker()
    ports = scene.rng.choice([(23, 2323), (23,), (22,), (80, 8080), (1883,), (5555,), (21, 22, 23), (445,)])
    targets = home_targets(scene, least=120, counts=[8, 30, 80], but=[attacker.address])
    return nmap(
        "nmap-horizontal",
        scene.rng.choice(["-sS", "-sT"]),
        *max_rate(scene, 3.0, 150.0),
        "--max-retries",
        1,
        "-p",
        ",".join(map(str, ports)),
        attacker=attacker,
        victim=EVERY_HOME_HOST,
        targets=targets,
        ports=ports,
    )


@technique("host_scan_icmp", mitre="T1018", tool="nmap", per_s=(5.0, 100.0), sides=("outside",))
def ping_sweep(scene: Scene) -> Attack:
    """Echo requests to each address of the LAN, from outside."""
    attacker = scene.rng.choice(scene.attackers_outside)
    targets = home_targets(scene, least=150, counts=[20, 60, 100], but=[])
    attack = nmap(
        "nmap-ping-sweep",
        "-sn",
        "-PE",
        *max_rate(scene, 5.0, 100.0),
        "--max-retries",
        1,
        attacker=attacker,
        victim=EVERY_HOME_HOST,
        targets=targets,
        label="host_scan_icmp",
        mitre="T1018",
        proto="icmp",
    )
    return dataclasses.replace(attack, argv=tuple(word for word in attack.argv if word != "-Pn"))


def _knocks(scene: Scene, name: str, *, gap_s: tuple[float, float], limit_s: tuple[float, float]) -> Attack:
    """Draw plain connections to known ports of one device, one after the other."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    gap, limit = scene.between(*gap_s), scene.between(*limit_s)
    ports = scene.rng.sample(KNOWN_PORTS, 40)
    argv = bot(
        "knock",
        target=victim.address,
        count=max(3, min(40, limit / gap)),
        rate=1 / gap,
        ports=ports,
        parallel=4,
        seed=scene.rng.randrange(10**6),
    )
    return Attack(
        technique=name,
        label="port_scan",
        mitre="T1046",
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=limit,
        argv=argv,
        proto="tcp",
    )


@technique("port_scan", mitre="T1046", tool="lab.bots", per_s=(0.25, 2.5))
def slow_scan(scene: Scene) -> Attack:
    """Plain connections to one port after the other, one in half a second to one in four."""
    return _knocks(scene, "slow_scan", gap_s=(0.4, 4.0), limit_s=(30.0, 60.0))


@technique("port_scan", mitre="T1046", tool="lab.bots", per_s=(0.05, 0.25))
def creeping_scan(scene: Scene) -> Attack:
    """Plain connections to one port after the other, one in four seconds to one in twenty."""
    return _knocks(scene, "creeping_scan", gap_s=(4.0, 20.0), limit_s=(45.0, 90.0))


@technique("iot_botnet_scan", mitre="T1595.001", tool="lab.bots", per_s=(4.0, 300.0), sides=("inside",))
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


STEALTHY = ("-sF", "-sN", "-sX", "-sA", "-sM")
PLAIN = ("-sS", "-sT")


def _of_one(scene: Scene, name: str, kind: str, *, low: float, high: float, most: int, proto: str | None) -> Attack:
    """Draw a scan of one home device at one of its speeds, of as many ports as fit into its time."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    per_s = scene.between(low, high)
    ports = sorted(scene.rng.sample(range(1, 10_000), int(max(5, min(most, per_s * 18)))))
    label = "port_scan_udp" if kind == "-sU" else "port_scan"
    options = (kind, "--max-rate", f"{per_s:.2f}", "--max-retries", 0, "-p", ",".join(map(str, ports)))
    return nmap(
        name, *options, attacker=attacker, victim=victim.name, targets=[victim.address], label=label, proto=proto
    )


@technique("port_scan", mitre="T1046", tool="nmap", per_s=(1.0, 1000.0))
def stealth_scan(scene: Scene) -> Attack:
    """nmap with flags no connection begins with: FIN, NULL, Xmas, ACK, Maimon."""
    return _of_one(scene, "stealth_scan", scene.rng.choice(STEALTHY), low=1.0, high=1000.0, most=900, proto="tcp")


@technique("port_scan_udp", mitre="T1046", tool="nmap", per_s=(1.0, 200.0))
def udp_scan(scene: Scene) -> Attack:
    """nmap over UDP ports; closed ones answer by ICMP, as often as the device's kernel lets them."""
    return _of_one(scene, "udp_scan", "-sU", low=1.0, high=200.0, most=400, proto=None)


@technique("port_scan", mitre="T1046", tool="nmap", per_s=(1.0, 1000.0))
def plain_scan(scene: Scene) -> Attack:
    """nmap by SYN alone or by whole connections, over drawn ports."""
    return _of_one(scene, "plain_scan", scene.rng.choice(PLAIN), low=1.0, high=1000.0, most=900, proto="tcp")


@technique("os_scan", mitre="T1046", tool="nmap", per_s=(10.0, 500.0))
def os_scan(scene: Scene) -> Attack:
    """nmap asking which operating system answers: odd flags, odd options, echo requests, a closed UDP port."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    options = ("-sS", "-O", "--max-os-tries", 1, "--top-ports", scene.rng.choice([10, 30]), "-T4")
    return nmap(
        "os_scan",
        *options,
        attacker=attacker,
        victim=victim.name,
        targets=[victim.address],
        label="os_scan",
        proto=None,
    )


@technique("port_scan", mitre="T1046", tool="nmap", per_s=(2.0, 400.0))
def doors_scan(scene: Scene) -> Attack:
    """nmap over the LAN for the doors that bots come in by: 23, 2323, 5555, 7547."""
    attacker = scene.attacker()
    ports = tuple(sorted(scene.rng.sample((23, 2323, 5555, 7547), scene.rng.randint(2, 4))))
    options = (scene.rng.choice(PLAIN), *max_rate(scene, 2.0, 400.0), "--max-retries", 0)
    return nmap(
        "doors_scan",
        *options,
        "-p",
        ",".join(map(str, ports)),
        attacker=attacker,
        victim=EVERY_HOME_HOST,
        targets=home_targets(scene, least=100, counts=[4, 16, 60], but=[attacker.address]),
        ports=ports,
    )
