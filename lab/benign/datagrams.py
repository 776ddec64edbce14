"""Names, time, addresses, announcements and other talk over UDP."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

from lab.benign.actor import Actor, turns


def _query(rng: random.Random, name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", rng.randrange(65536), 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)


def _ask(actor: Actor, address: str, *, port: int, request: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.5)
        client.sendto(request, (address, port))
        client.recv(4096)


def _some_name(rng: random.Random) -> str:
    host = rng.choice(["www", "api", "time", "cdn", "mqtt", "fw", "eu1.events", "a7.stats"])
    return f"{host}.{rng.choice(['vendor', 'cloud-things', 'weather', 'example', 'updates'])}{rng.randrange(40)}.com"


@turns
def names(actor: Actor) -> None:
    """Look up a name, its IPv6 address often too."""
    name = _some_name(actor.rng)
    for kind in (1, 28) if actor.rng.random() < 0.5 else (1,):
        _ask(actor, actor.peer, port=53, request=_query(actor.rng, name, kind))


@turns
def names_burst(actor: Actor) -> None:
    """Look up many names in a few seconds, as a browser or a start-up does."""
    for _ in range(int(actor["count"])):
        with contextlib.suppress(OSError):
            _ask(actor, actor.peer, port=53, request=_query(actor.rng, _some_name(actor.rng), 1))
        if not actor.rest(actor.rng.expovariate(float(actor["per_s"]))):
            return


@turns
def dig(actor: Actor) -> None:
    """Ask for a name with dig, which also shows how resolvers with EDNS ask."""
    actor.run("dig", "+tries=1", "+time=2", f"@{actor.peer}", _some_name(actor.rng), limit_s=5.0)


@turns
def clock(actor: Actor) -> None:
    """Ask a server for the time (NTP mode 3)."""
    _ask(actor, actor.any_address(), port=123, request=b"\x23" + bytes(47))


@turns
def lease(actor: Actor) -> None:
    """Ask for the address again with busybox udhcpc, which changes nothing here."""
    actor.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-s", "/bin/true", limit_s=8.0)


@turns
def start_up(actor: Actor) -> None:
    """Come up as after a loss of power: an address, names, the time, and many connections to the vendor at once."""
    actor.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-s", "/bin/true", limit_s=8.0)
    cloud, clock_server = actor.peers
    for _ in range(int(actor["count"])):
        with contextlib.suppress(OSError):
            name = _some_name(actor.rng)
            _ask(actor, actor.network.plan.gateway_address, port=53, request=_query(actor.rng, name, 1))
            _ask(actor, clock_server, port=123, request=b"\x23" + bytes(47))
            with actor.connect(cloud, int(actor["port"])) as channel:
                channel.sendall(bytes(actor.rng.randint(20, 600)))
        actor.rest(actor.rng.uniform(0.0, 0.5))


@turns
def announce(actor: Actor) -> None:
    """Say something to a multicast group or to everyone (mDNS, SSDP, LLMNR, vendors' broadcasts)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        speaker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        speaker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        if actor["from_same_port"]:
            speaker.bind(("0.0.0.0", int(actor["port"])))
        for _ in range(int(actor["copies"])):
            speaker.sendto(bytes(int(actor["size_bytes"])), (str(actor["group"]), int(actor["port"])))
            actor.rest(actor.rng.uniform(0.02, 0.3))


@turns
def datagram_talk(actor: Actor) -> None:
    """Exchange some datagrams with a server over one socket (CoAP, QUIC-like, vendors' protocols)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        client.connect((actor.any_address(), int(actor["port"])))
        for _ in range(int(actor["count"])):
            client.send(bytes(int(actor["size_bytes"])))
            client.recv(4096)
            if not actor.rest(actor.rng.expovariate(float(actor["per_s"]))):
                return


@turns
def datagram_stream(actor: Actor) -> None:
    """Send datagrams in one direction at a steady rate for a while (sound, picture)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((actor.peer, int(actor["port"])))
        for _ in range(int(float(actor["per_s"]) * float(actor["length_s"]))):
            client.send(bytes(int(actor["size_bytes"])))
            if not actor.rest(1 / float(actor["per_s"])):
                return
