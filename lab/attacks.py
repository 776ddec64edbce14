"""The catalogue of attacks: for each technique, a function that draws one bounded `Attack` from a scene.

Pure: draws names, rates and arguments, starts nothing. What is drawn spans slow and fast, answered, refused and
silent, inside and outside, since the shipped network learns here what it must recognise elsewhere. The trap: an
attack's `proto` and `ports` must match every packet of it and none of what its attacker otherwise says to its victim.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.plan import ANY_HOST, EVERY_HOME_HOST, Attack, Host, Service
from lab.services import PASSWORD, USER

MOST_FLOOD_PACKETS = 3000  # per attack: keeps a recording below some megabytes
USERS = ("root", "admin", "user", "guest", "support", "ubnt", "service", "supervisor", "tech", "default")
WORDS = (
    "root", "admin", "12345", "123456", "54321", "password", "pass", "1234", "1111", "666666", "888888", "default",
    "xc3511", "vizxv", "anko", "juantech", "7ujMko0admin", "hi3518", "klv123", "dreambox", "realtek", "system", "ikwb",
    "smcadmin", "meinsm", "tech", "00000000", "zlxx.", "Zte521", "cat1029", "GM8182", "ubnt", "support",
)
MIRAI_PORTS = (23, 2323, 8080, 5555, 7547, 37215, 52869, 80, 81, 60001)


@dataclass(frozen=True)
class Scene:
    """What an attack may be drawn from. `silent` are home addresses that nobody answers at."""

    rng: random.Random
    lan: str
    gateway_address: str
    devices: tuple[Host, ...]
    outside: tuple[Host, ...]
    attackers_inside: tuple[Host, ...]
    attackers_outside: tuple[Host, ...]
    silent: tuple[str, ...]

    def attacker(self, *, inside: float = 0.5) -> Host:
        """Draw an attacker, from inside with that probability."""
        return self.rng.choice(self.attackers_inside if self.rng.random() < inside else self.attackers_outside)

    def victim(self, kind: str, *, attacker: Host, inside_too: bool = True) -> tuple[Host, Service]:
        """Draw a home device with a service of a kind; raises NoVictim where there is none but the attacker."""
        found = [
            (host, service) for host in (self.devices if inside_too else ()) for service in host.services
            if service.kind == kind and host.name != attacker.name
        ]
        if not found:
            raise NoVictim(kind)
        return self.rng.choice(found)

    def device(self, *, attacker: Host) -> Host:
        """Draw a home device other than the attacker."""
        return self.rng.choice([host for host in self.devices if host.name != attacker.name])

    def between(self, low: float, high: float) -> float:
        """Draw evenly on a logarithmic scale, so that slow is drawn as often as fast."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def duration_s(self) -> float:
        """Draw how long an attack with a steady rate lasts."""
        return self.between(5.0, 25.0)

    def guesses(self, count: int, *, with_right_one: float = 0.15) -> tuple[str, ...]:
        """Draw user:password lines; sometimes the right one is among them."""
        lines = [f"{self.rng.choice(USERS)}:{self.rng.choice(WORDS)}" for _ in range(count)]
        if self.rng.random() < with_right_one:
            lines[self.rng.randrange(count)] = f"{USER}:{PASSWORD}"
        return tuple(lines)


class NoVictim(Exception):
    """The scene has no device such an attack could be drawn against; another is drawn instead."""


def _bot(kind: str, *, target: str, count: float, rate: float, **options: object) -> tuple[str, ...]:
    argv = [sys.executable, "-m", "lab.bots", kind, "--target", target, "--count", str(max(1, int(count))),
            "--rate", f"{rate:.3f}"]
    for name, value in options.items():
        argv += [f"--{name}", ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]
    return tuple(argv)


def _guess(scene: Scene, *, service: str, mitre: str = "T1110.001") -> Attack:
    """Draw a guessing attack with hydra at one of its speeds."""
    attacker = scene.attacker()
    victim, found = scene.victim(service, attacker=attacker)
    tasks = scene.rng.choice([1, 1, 2, 4, 4, 8, 16])
    limit_s = scene.between(10.0, 30.0)
    words = scene.guesses(int(scene.between(12, 160)))
    module = {"telnet": "telnet", "ssh": "ssh", "ftp": "ftp", "web": "http-get", "small_web": "http-get"}[service]
    argv = ["hydra", "-I", "-q", "-C", "{words}", "-t", str(tasks), "-w", "6", "-s", str(found.port)]
    if tasks == 1 and scene.rng.random() < 0.5:
        argv += ["-c", str(scene.rng.randint(1, 3))]  # hydra waits so many seconds before each attempt
    if scene.rng.random() < 0.5:
        argv.append("-f")
    argv += [victim.address, module] + (["/private/"] if module == "http-get" else [])
    return Attack(
        technique=f"{service}_hydra", label="brute_force", mitre=mitre, attacker=attacker.name, victim=victim.name,
        starts_s=0.0, limit_s=limit_s, argv=tuple(argv), proto="tcp", ports=(found.port,), words=words,
    )


def telnet_hydra(scene: Scene) -> Attack:
    """hydra against a telnet login."""
    return _guess(scene, service="telnet")


def ssh_hydra(scene: Scene) -> Attack:
    """hydra against an SSH server."""
    return _guess(scene, service="ssh")


def ftp_hydra(scene: Scene) -> Attack:
    """hydra against an FTP server."""
    return _guess(scene, service="ftp")


def web_hydra(scene: Scene) -> Attack:
    """hydra against HTTP basic authentication."""
    return _guess(scene, service=scene.rng.choice(["web", "small_web"]))


def _bot_attack(
    scene: Scene, kind: str, *, service: str, label: str, mitre: str, most_per_s: float, most: int,
    least_per_s: float = 0.3, inside: float = 0.5, **options: object,
) -> Attack:
    """Draw an attack by a program of ours on a device's service."""
    attacker = scene.attacker(inside=inside)
    victim, found = scene.victim(service, attacker=attacker)
    rate, limit_s = scene.between(least_per_s, most_per_s), scene.between(10.0, 30.0)
    argv = _bot(kind, target=victim.address, port=found.port, count=min(most, rate * limit_s + 1), rate=rate,
                seed=scene.rng.randrange(10**6), **options)
    return Attack(
        technique=kind, label=label, mitre=mitre, attacker=attacker.name, victim=victim.name, starts_s=0.0,
        limit_s=limit_s, argv=argv, proto="tcp", ports=(found.port,),
    )


def telnet_bot(scene: Scene) -> Attack:
    """A Mirai-like guesser: few default passwords per connection."""
    return _with_words(scene, _bot_attack(
        scene, "telnet_guess", service="telnet", label="brute_force", mitre="T1110.001", most_per_s=12, most=200,
        parallel=scene.rng.choice([1, 2, 4, 10]), hold=scene.rng.randint(1, 3), words="{words}"))


def mqtt_bot(scene: Scene) -> Attack:
    """Passwords tried at a broker, one per connection."""
    return _with_words(scene, _bot_attack(
        scene, "mqtt_guess", service="mqtt", label="brute_force", mitre="T1110.001", most_per_s=40, most=300,
        parallel=scene.rng.choice([1, 2, 4, 8]), words="{words}"))


def _with_words(scene: Scene, attack: Attack) -> Attack:
    return Attack(**{**attack.__dict__, "words": scene.guesses(60, with_right_one=0.0)})


FLOOD_MOST_PER_S = 1500.0  # what two cores forward, delay and record without loss, with room


def _flood(
    scene: Scene, *, technique: str, label: str, flags: Sequence[str], proto: str | None, ports: tuple[int, ...],
    spoofed: bool, victim: Host, attacker: Host, payload_bytes: int = 0,
) -> Attack:
    """Draw rate and length of a flood by hping3."""
    rate = scene.between(30.0, FLOOD_MOST_PER_S)
    count = int(min(MOST_FLOOD_PACKETS, rate * scene.duration_s()))
    argv = ["hping3", "-q", "-n", *flags, "-i", f"u{int(1e6 / rate)}", "-c", str(count)]
    argv += ["--rand-source"] if spoofed else []
    argv += ["-d", str(payload_bytes)] if payload_bytes else []
    return Attack(
        technique=technique, label=label, mitre="T1498.001", attacker=attacker.name, victim=victim.name, starts_s=0.0,
        limit_s=count / rate * 1.5 + 3.0, argv=(*argv, victim.address), proto=proto, ports=ports, spoofed=spoofed,
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


def syn_flood(scene: Scene) -> Attack:
    """SYNs to one port, from the attacker's own address or from drawn ones, with or without a moving source port."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port, spoofed = _port_of(scene, victim), scene.rng.random() < 0.5
    flags = ["-S", "-p", str(port), "-w", str(scene.rng.choice([64, 512, 1024, 5840, 65535]))]
    if scene.rng.random() < 0.25:
        flags += ["-k", "-s", str(scene.rng.randrange(1024, 60000))]
    return _flood(scene, technique="syn_flood", label="syn_flood", flags=flags, proto="tcp", ports=(port,),
                  spoofed=spoofed, victim=victim, attacker=attacker,
                  payload_bytes=scene.rng.choice([0, 0, 0, 0, 120, 600]))


def odd_flag_flood(scene: Scene) -> Attack:
    """ACKs, FINs, RSTs or everything at once, to a port that knows no such connection."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port, flag = _port_of(scene, victim), scene.rng.choice([["-A"], ["-A", "-P"], ["-F"], ["-R"], ["-F", "-P", "-U"]])
    return _flood(scene, technique="odd_flag_flood", label="ack_flood", flags=[*flag, "-p", str(port)], proto="tcp",
                  ports=(port,), spoofed=scene.rng.random() < 0.4, victim=victim, attacker=attacker,
                  payload_bytes=scene.rng.choice([0, 0, 64, 500]))


def udp_flood(scene: Scene) -> Attack:
    """Datagrams to one port or to many, small or large; closed ports answer with ICMP or not at all."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    port = scene.rng.choice([53, 80, 123, 443, 1900, 5683, 9987, 27015, scene.rng.randrange(1024, 65000)])
    moving = scene.rng.random() < 0.4
    flags = ["-2", "-p", f"{'++' if moving else ''}{port}"]
    return _flood(scene, technique="udp_flood", label="udp_flood", flags=flags, proto=None,
                  ports=(), spoofed=False, victim=victim, attacker=attacker,
                  payload_bytes=scene.rng.choice([0, 1, 32, 64, 512, 1024, 1400]))


def icmp_flood(scene: Scene) -> Attack:
    """Echo requests, small or large."""
    attacker = scene.attacker()
    victim = _flooded(scene, attacker)
    return _flood(scene, technique="icmp_flood", label="icmp_flood", flags=["-1"], proto="icmp", ports=(),
                  spoofed=scene.rng.random() < 0.3, victim=victim, attacker=attacker,
                  payload_bytes=scene.rng.choice([0, 8, 56, 120, 1000, 1400]))


def http_flood(scene: Scene) -> Attack:
    """Requests for pages, far more than a person makes."""
    return _bot_attack(scene, "http_requests", service=scene.rng.choice(["web", "small_web"]), label="http_flood",
                       mitre="T1499.002", least_per_s=30, most_per_s=400, most=1500,
                       parallel=scene.rng.choice([4, 8, 16]), hold=scene.rng.choice([1, 1, 1, 5]))


def mqtt_connect_flood(scene: Scene) -> Attack:
    """Connections to a broker, opened and left."""
    return _bot_attack(scene, "mqtt_connects", service="mqtt", label="mqtt_flood", mitre="T1499.002", least_per_s=20,
                       most_per_s=250, most=1200, parallel=scene.rng.choice([2, 4, 8]))


def mqtt_publish_flood(scene: Scene) -> Attack:
    """Messages to a broker over few connections."""
    return _bot_attack(scene, "mqtt_publishes", service="mqtt", label="dos_malaria", mitre="T1499.002",
                       least_per_s=100, most_per_s=1000, most=4000, parallel=scene.rng.choice([1, 2, 5]),
                       size=scene.rng.choice([20, 100, 1000]))


NMAP_KINDS = ("-sS", "-sS", "-sS", "-sT", "-sT", "-sU", "-sN", "-sF", "-sX", "-sA")


def port_scan(scene: Scene) -> Attack:
    """nmap over the ports of one device: any kind of probe, from 2 a second to as fast as it goes."""
    attacker = scene.attacker()
    outward = attacker.is_inside and scene.rng.random() < 0.3
    victim = scene.rng.choice(scene.outside) if outward else scene.device(attacker=attacker)
    kind = scene.rng.choice(NMAP_KINDS)
    per_s = scene.between(2.0, 500.0)
    count = int(min(per_s * scene.duration_s(), 1000 if kind != "-sU" else 150))
    ports = scene.rng.choice([
        ["--top-ports", str(max(10, count))], ["-p", f"1-{max(20, count)}"], ["-F"],
        ["-p", ",".join(str(port) for port in sorted(scene.rng.sample(range(1, 65535), max(10, min(count, 300)))))],
    ])
    speed = ["--max-rate", f"{per_s:.1f}"] if scene.rng.random() < 0.6 else [scene.rng.choice(["-T3", "-T4", "-T5"])]
    extra = scene.rng.choice([[], [], ["--max-retries", "0"], ["--max-retries", "1"], ["-r"], ["-f"]])
    if kind == "-sT" and extra == ["-f"]:
        extra = []
    argv = ("nmap", "-n", "-Pn", "--send-ip", "--disable-arp-ping", kind, *speed, *extra, *ports, victim.address)
    label = "port_scan_udp" if kind == "-sU" else "port_scan"
    return Attack(technique=f"nmap{kind}", label=label, mitre="T1046", attacker=attacker.name, victim=victim.name,
                  starts_s=0.0, limit_s=30.0, argv=argv, proto=None if kind == "-sU" else "tcp")


def service_scan(scene: Scene) -> Attack:
    """nmap asking what stands behind the ports it finds."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    argv = ("nmap", "-n", "-Pn", "--send-ip", "--disable-arp-ping", "-sV", "--version-intensity",
            str(scene.rng.randint(0, 4)), "--top-ports", str(scene.rng.choice([20, 50, 100])), victim.address)
    return Attack(technique="nmap-sV", label="port_scan", mitre="T1046", attacker=attacker.name, victim=victim.name,
                  starts_s=0.0, limit_s=25.0, argv=argv, proto="tcp")


def silent_scan(scene: Scene) -> Attack:
    """nmap over home addresses that never answer: a firewall drops, or nobody is there."""
    attacker = scene.attacker(inside=0.3)
    target = scene.rng.choice(scene.silent)
    per_s = scene.between(3.0, 200.0)
    count = int(min(400, max(15, per_s * scene.duration_s())))
    argv = ("nmap", "-n", "-Pn", "--send-ip", "--disable-arp-ping", scene.rng.choice(["-sS", "-sT", "-sF"]),
            "--max-rate", f"{per_s:.1f}", "--max-retries", str(scene.rng.randint(0, 2)), "-p", f"1-{count}", target)
    return Attack(technique="nmap-silent", label="port_scan", mitre="T1046", attacker=attacker.name, victim=target,
                  starts_s=0.0, limit_s=25.0, argv=argv, proto="tcp")


def horizontal_scan(scene: Scene) -> Attack:
    """nmap for few ports over the addresses of the LAN."""
    attacker = scene.attacker()
    ports = scene.rng.choice([(23, 2323), (23,), (22,), (80, 8080), (1883,), (5555,), (21, 22, 23), (445,)])
    base = scene.lan.split("/")[0].rsplit(".", 1)[0]
    targets = [host.address for host in scene.devices if host.name != attacker.name] + list(scene.silent)
    first = scene.rng.randint(1, 120)
    targets += [f"{base}.{last}" for last in range(first, first + scene.rng.choice([8, 30, 80]))]
    targets = [target for target in dict.fromkeys(targets) if target not in (attacker.address, scene.gateway_address)]
    argv = ("nmap", "-n", "-Pn", "--send-ip", "--disable-arp-ping", scene.rng.choice(["-sS", "-sT"]), "--max-rate",
            f"{scene.between(3.0, 150.0):.1f}", "--max-retries", "1", "-p", ",".join(map(str, ports)), *targets)
    return Attack(technique="nmap-horizontal", label="port_scan", mitre="T1046", attacker=attacker.name,
                  victim=EVERY_HOME_HOST, starts_s=0.0, limit_s=25.0, argv=argv, proto="tcp", ports=ports)


def ping_sweep(scene: Scene) -> Attack:
    """Echo requests to each address of the LAN, from outside."""
    attacker = scene.rng.choice(scene.attackers_outside)
    base = scene.lan.split("/")[0].rsplit(".", 1)[0]
    targets = [host.address for host in scene.devices] + list(scene.silent)
    first = scene.rng.randint(1, 150)
    targets += [f"{base}.{last}" for last in range(first, first + scene.rng.choice([20, 60, 100]))]
    argv = ("nmap", "-n", "-sn", "-PE", "--send-ip", "--disable-arp-ping", "--max-rate",
            f"{scene.between(5.0, 100.0):.1f}", "--max-retries", "1",
            *(target for target in dict.fromkeys(targets) if target != scene.gateway_address))
    return Attack(technique="nmap-ping-sweep", label="host_scan_icmp", mitre="T1018", attacker=attacker.name,
                  victim=EVERY_HOME_HOST, starts_s=0.0, limit_s=25.0, argv=argv, proto="icmp")


def slow_scan(scene: Scene) -> Attack:
    """Plain connections to one port after the other, one in half a second to one in five."""
    attacker = scene.attacker()
    victim = scene.device(attacker=attacker)
    gap_s, limit_s = scene.between(0.4, 4.0), scene.between(30.0, 60.0)
    ports = scene.rng.sample([21, 22, 23, 25, 53, 80, 81, 102, 110, 139, 143, 443, 445, 502, 554, 1433, 1723, 1883, 2323,
                              3306, 3389, 5000, 5060, 5432, 5555, 5900, 6379, 7547, 8000, 8080, 8081, 8443, 8883, 8888,
                              9000, 9100, 9200, 10000, 37777, 49152], 40)
    argv = _bot("knock", target=victim.address, count=min(40, limit_s / gap_s), rate=1 / gap_s, ports=ports,
                parallel=4, seed=scene.rng.randrange(10**6))
    return Attack(technique="slow_scan", label="port_scan", mitre="T1046", attacker=attacker.name, victim=victim.name,
                  starts_s=0.0, limit_s=limit_s, argv=argv, proto="tcp")


def mirai_search(scene: Scene) -> Attack:
    """A taken-over device looks for others on the internet: SYNs to random addresses, few ports, hardly an answer."""
    attacker = scene.rng.choice(scene.attackers_inside)
    rate = scene.between(4.0, 300.0)
    ports = tuple(dict.fromkeys([23, 2323, *scene.rng.sample(MIRAI_PORTS, scene.rng.choice([0, 0, 2, 4]))]))
    if scene.rng.random() < 0.25:
        ports = tuple(scene.rng.sample(MIRAI_PORTS, 2))
    argv = _bot("search_internet", target=attacker.address, count=min(2500, rate * scene.duration_s()), rate=rate,
                ports=ports, seed=scene.rng.randrange(10**6))
    return Attack(technique="search_internet", label="iot_botnet_scan", mitre="T1595.001", attacker=attacker.name,
                  victim=ANY_HOST, starts_s=0.0, limit_s=40.0, argv=argv, proto="tcp", ports=ports)


def reflection(scene: Scene) -> Attack:
    """Large answers nobody asked for come in from many reflectors."""
    attacker = scene.rng.choice(scene.attackers_outside)
    victim = scene.device(attacker=attacker)
    rate = scene.between(30.0, 1000.0)
    port = scene.rng.choice([53, 123, 161, 389, 1900, 11211, 19, 500, 3702])
    argv = _bot("reflected", target=victim.address, port=port, count=min(2500, rate * scene.duration_s()), rate=rate,
                parallel=scene.rng.choice([4, 20, 100, 400]), size=scene.rng.choice([300, 460, 800, 1200, 1400]),
                seed=scene.rng.randrange(10**6))
    return Attack(technique="reflected", label="amplification", mitre="T1498.002", attacker=attacker.name,
                  victim=victim.name, starts_s=0.0, limit_s=40.0, argv=argv, proto=None, spoofed=True)


def slow_dos(scene: Scene) -> Attack:
    """Connections to a web server or broker that are kept open by as little as possible."""
    kind, service = scene.rng.choice(
        [("slow_headers", "web"), ("slow_headers", "small_web"), ("slow_body", "web"), ("slow_mqtt", "mqtt")])
    attack = _bot_attack(scene, kind, service=service, label="slow_dos", mitre="T1499.002", least_per_s=5,
                         most_per_s=60, most=250, hold=scene.between(15, 30))
    return Attack(**{**attack.__dict__, "limit_s": 35.0})


def beacon(scene: Scene) -> Attack:
    """A taken-over device calls its command server on an odd port every few seconds."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server = next(host for host in scene.outside if host.port_of("command"))
    port = server.port_of("command") or 0
    gap_s = scene.between(1.5, 8.0)
    argv = _bot("beacon", target=server.address, port=port, count=45.0 / gap_s, rate=1 / gap_s,
                size=scene.rng.choice([8, 40, 120, 400]), seed=scene.rng.randrange(10**6))
    return Attack(technique="beacon", label="c2", mitre="T1571", attacker=attacker.name, victim=server.name,
                  starts_s=0.0, limit_s=50.0, argv=argv, proto="tcp", ports=(port,))


def name_tunnel(scene: Scene) -> Attack:
    """Data leaves in the names of DNS questions to a resolver of the attacker's."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server = next(host for host in scene.outside if host.port_of("command"))
    rate = scene.between(3.0, 80.0)
    argv = _bot("name_tunnel", target=server.address, count=min(1200, rate * 20), rate=rate,
                size=scene.rng.choice([60, 120, 180]), seed=scene.rng.randrange(10**6))
    return Attack(technique="name_tunnel", label="dns_tunnel", mitre="T1048.003", attacker=attacker.name,
                  victim=server.name, starts_s=0.0, limit_s=25.0, argv=argv, proto="udp", ports=(53,))


def upload(scene: Scene) -> Attack:
    """Some hundred kilobytes to megabytes leave a device for a server on an odd port."""
    attacker = scene.rng.choice(scene.attackers_inside)
    server = next(host for host in scene.outside if host.port_of("command"))
    port, rate = server.port_of("command") or 0, scene.between(50.0, 1000.0)
    size_bytes = int(min(rate * 20, scene.between(300, 3000))) * 1000
    argv = _bot("upload", target=server.address, port=port, count=size_bytes // 1000, rate=rate, size=size_bytes)
    return Attack(technique="upload", label="data_exfiltration", mitre="T1048.003", attacker=attacker.name,
                  victim=server.name, starts_s=0.0, limit_s=40.0, argv=argv, proto="tcp", ports=(port,))


def misuse(scene: Scene) -> Attack:
    """Packets that a protocol does not allow, to a broker or a controller."""
    kind, service = scene.rng.choice([("mqtt_malformed", "mqtt"), ("modbus_misuse", "modbus")])
    label = "malformed_mqtt" if service == "mqtt" else "modbus_write"
    return _bot_attack(scene, kind, service=service, label=label, mitre="T1499.004", least_per_s=1, most_per_s=30,
                       most=300, parallel=scene.rng.choice([1, 2, 4]))


def web_attack(scene: Scene) -> Attack:
    """Requests that try well-known holes of web pages."""
    return _bot_attack(scene, "web_trials", service=scene.rng.choice(["web", "small_web"]), label="web_attack",
                       mitre="T1190", least_per_s=1, most_per_s=20, most=250, parallel=scene.rng.choice([1, 2, 4]))


TECHNIQUES: dict[str, Callable[[Scene], Attack]] = {
    draw.__name__: draw
    for draw in (
        telnet_hydra, telnet_bot, syn_flood, port_scan, horizontal_scan, mirai_search, ssh_hydra, ftp_hydra, web_hydra,
        mqtt_bot, udp_flood, icmp_flood, odd_flag_flood, http_flood, mqtt_connect_flood, mqtt_publish_flood,
        service_scan, silent_scan, slow_scan, ping_sweep, reflection, slow_dos, beacon, name_tunnel, upload, misuse,
        web_attack,
    )
}
