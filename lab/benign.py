"""What the lab's hosts do when nobody attacks: one function per kind of activity, run in a thread on its host.

Rhythms and sizes come from the plan; each function repeats its deed until the lab stops. A peer that does not answer is
part of normal life, so network errors are swallowed here and nowhere else. The trap: threads share one interpreter, so
whatever must be fast or heavy is left to a program (curl, iperf3, mosquitto_pub).
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from lab.network import Network
from lab.plan import Activity, Host
from lab.services import PASSWORD, USER

PATIENCE_S = 3.0


@dataclass
class Actor:
    """One activity being played on one host."""

    network: Network
    activity: Activity
    folder: Path
    stop: threading.Event
    rng: random.Random
    own: Host = field(init=False)
    peers: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.own = self.network.plan.host(self.activity.host)
        self.peers = tuple(self.network.plan.address(name) for name in self.activity.peers)

    def __getitem__(self, setting: str) -> Any:
        return self.activity.settings[setting]

    @property
    def peer(self) -> str:
        return self.peers[0]

    def rest(self, seconds: float) -> bool:
        """Wait; return False if the lab stops meanwhile."""
        return not self.stop.wait(max(0.0, seconds))

    def next_turn(self) -> bool:
        """Wait for the next turn, `every_s` apart with the activity's own unsteadiness; False if the lab stops."""
        unsteadiness = float(self.activity.settings.get("unsteadiness", 0.1))
        return self.rest(float(self["every_s"]) * max(0.05, self.rng.gauss(1.0, unsteadiness)))

    def run(self, *argv: str, limit_s: float = 30.0) -> None:
        """Run a program on the host to its end, or to the end of the lab or of the limit."""
        process = self.network.start(self.own.name, argv, cwd=self.folder)
        deadline = time.monotonic() + limit_s
        while process.poll() is None:
            if time.monotonic() > deadline or not self.rest(0.05):
                process.terminate()
                process.wait()

    def connect(self, address: str, port: int) -> socket.socket:
        return socket.create_connection((address, port), timeout=PATIENCE_S)


def turns(deed: Callable[[Actor], None]) -> Callable[[Actor], None]:
    """Make one deed an activity: again at every turn, whatever the network said."""

    def activity(actor: Actor) -> None:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, subprocess.SubprocessError):
                deed(actor)
            if not actor.next_turn():
                return

    activity.__doc__ = deed.__doc__
    return activity


def mqtt_stay(actor: Actor) -> None:
    """Stay connected to the broker and publish at every turn; a subscriber also hears the others."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"{actor.own.name}-{actor.rng.randrange(9999)}")
    if actor["guarded"]:
        client.username_pw_set(USER, PASSWORD)
    with contextlib.suppress(OSError):
        client.connect(actor.peer, int(actor["port"]), keepalive=int(actor["keepalive_s"]))
    client.loop_start()
    if actor["subscribes"]:
        client.subscribe("home/#")
    while actor.next_turn():
        client.publish(f"home/{actor.own.name}/state", bytes(int(actor["size_bytes"])), qos=int(actor["qos"]))
    client.disconnect()
    client.loop_stop()


@turns
def mqtt_call(actor: Actor) -> None:
    """Connect to the broker, publish once and leave, as sleeping sensors do."""
    login = ["-u", USER, "-P", PASSWORD] if actor["guarded"] else []
    actor.run("mosquitto_pub", "-h", actor.peer, "-p", str(actor["port"]), "-t", f"home/{actor.own.name}",
              "-q", str(actor["qos"]), "-m", "x" * int(actor["size_bytes"]), *login)


def _http(actor: Actor, address: str) -> http.client.HTTPConnection:
    port = int(actor["port"])
    if actor.activity.settings.get("tls"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(address, port, timeout=PATIENCE_S, context=context)
    return http.client.HTTPConnection(address, port, timeout=PATIENCE_S)


@turns
def http_poll(actor: Actor) -> None:
    """Ask a server for a small page, each time over a new connection."""
    connection = _http(actor, actor.rng.choice(actor.peers))
    connection.request("GET", f"/{actor['file']}", headers={"User-Agent": actor.own.role})
    connection.getresponse().read()
    connection.close()


def http_push(actor: Actor) -> None:
    """Send frames to a server at every turn over one connection that is renewed now and then."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _http(actor, actor.peer)
            for _ in range(int(actor["frames_per_connection"])):
                size_bytes = int(actor["size_bytes"]) * actor.rng.uniform(0.7, 1.3)
                connection.request("POST", "/upload", body=bytes(int(size_bytes)))
                connection.getresponse().read()
                if not actor.next_turn():
                    return
            connection.close()
        if not actor.rest(0.5):
            return


@turns
def http_burst(actor: Actor) -> None:
    """Load a page with many parts at once: many short connections in a second or two."""

    def fetch(count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = _http(actor, actor.peer)
                connection.request("GET", f"/{actor['file']}")
                connection.getresponse().read()
                connection.close()
                if not actor.rest(actor.rng.expovariate(1 / float(actor["pause_s"]))):
                    return

    parallel = int(actor["parallel"])
    threads = [threading.Thread(target=fetch, args=(int(actor["count"]) // parallel + 1,)) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@turns
def download(actor: Actor) -> None:
    """Fetch a large file with curl, at the rate of a slow line or a fast one."""
    scheme = "https" if actor.activity.settings.get("tls") else "http"
    actor.run("curl", "-s", "-k", "-o", "/dev/null", "-m", "40", "--limit-rate", str(actor["bytes_per_s"]),
              f"{scheme}://{actor.peer}:{actor['port']}/{actor['file']}", limit_s=45.0)


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
    _ask(actor, actor.peer, port=123, request=b"\x23" + bytes(47))


@turns
def lease(actor: Actor) -> None:
    """Ask for the address again with busybox udhcpc, which changes nothing here."""
    actor.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-s", "/bin/true", limit_s=8.0)


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
        client.connect((actor.peer, int(actor["port"])))
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


def stay_connected(actor: Actor) -> None:
    """Keep one TCP connection to the cloud and exchange small messages at every turn."""
    while True:
        with contextlib.suppress(OSError), actor.connect(actor.peer, int(actor["port"])) as channel:
            while actor.next_turn():
                channel.sendall(bytes(int(actor["size_bytes"])))
                channel.recv(8192)
        if not actor.rest(2.0):
            return


@turns
def watch(actor: Actor) -> None:
    """Look at a camera's TCP stream for a while."""
    with actor.connect(actor.peer, int(actor["port"])) as stream:
        stream.sendall(b"PLAY rtsp://camera/1 RTSP/1.0\r\n\r\n")
        end_s = time.monotonic() + float(actor["length_s"])
        while time.monotonic() < end_s and not actor.stop.is_set():
            stream.recv(65536)


@turns
def registers(actor: Actor) -> None:
    """Read registers over Modbus/TCP, some times over one connection."""
    with actor.connect(actor.peer, int(actor["port"])) as line:
        for turn in range(int(actor["count"])):
            line.sendall(struct.pack(">HHHBBHH", turn, 0, 6, 1, 3, 100, int(actor["registers"])))
            line.recv(260)
            if not actor.rest(float(actor["pause_s"])):
                return


@turns
def ping(actor: Actor) -> None:
    """Ping a host some times."""
    actor.run("ping", "-n", "-c", str(actor["count"]), "-i", str(actor["pause_s"]), "-s", str(actor["size_bytes"]),
              "-W", "1", actor.rng.choice(actor.peers), limit_s=20.0)


@turns
def knock_in_vain(actor: Actor) -> None:
    """Try a port nobody listens on, or a host that is away."""
    target = str(actor["address"]) or actor.peer
    actor.connect(target, int(actor["port"])).close()


@turns
def look_round(actor: Actor) -> None:
    """Open and close the known port of each device in turn, as home automation and monitoring do."""
    for address, port in zip(actor.peers, actor["ports"], strict=True):
        with contextlib.suppress(OSError), actor.connect(address, int(port)) as door:
            if actor["says_something"]:
                door.sendall(b"GET / HTTP/1.0\r\n\r\n")
                door.recv(2048)
        if not actor.rest(actor.rng.uniform(0.0, float(actor["pause_s"]))):
            return


@turns
def speed_test(actor: Actor) -> None:
    """Send a bounded number of bytes as fast as allowed with iperf3, over TCP or UDP."""
    udp = ["-u"] if actor["udp"] else []
    back = ["-R"] if actor["reverse"] else []
    actor.run("iperf3", "-c", actor.peer, "-p", str(actor["port"]), "-n", str(actor["bytes"]), "-b",
              f"{actor['mbit_per_s']}M", "--connect-timeout", "2000", *udp, *back, limit_s=15.0)


@turns
def ssh_visit(actor: Actor) -> None:
    """Log in over SSH and run a command; sometimes try passwords that are wrong first."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=4",
               "-o", "LogLevel=ERROR", "-p", str(actor["port"])]
    for _ in range(int(actor["commands"])):
        if actor.rng.random() < float(actor["mistakes"]):
            actor.run("ssh", *options, "-o", "BatchMode=yes", "-i", "/dev/null", f"root@{actor.peer}", "ls",
                      limit_s=10.0)
        actor.run("ssh", *options, "-i", str(actor.folder.parent / "client_key"), f"root@{actor.peer}", "ls",
                  limit_s=10.0)
        if not actor.rest(actor.rng.uniform(0.5, 4.0)):
            return


def _type_in(actor: Actor, line: socket.socket, text: str) -> None:
    """Send a line as a person types it (or at once, as a pasted one)."""
    pasted = actor.rng.random() < 0.2
    for part in [text + "\r\n"] if pasted else [*text, "\r\n"]:
        line.sendall(part.encode())
        actor.rest(actor.rng.uniform(0.05, 0.3))


def _read_until(line: socket.socket, ending: bytes) -> bytes:
    """Read up to a prompt, refusing every telnet option that is asked for."""
    seen = b""
    while not seen.rstrip().endswith(ending):
        if not (chunk := line.recv(2048)):
            raise ConnectionResetError("the other side hung up")
        for at, byte in enumerate(chunk[:-2]):
            if byte == 255 and chunk[at + 1] in (251, 253):
                line.sendall(bytes([255, 254 if chunk[at + 1] == 251 else 252, chunk[at + 2]]))
        seen += chunk
    return seen


@turns
def telnet_visit(actor: Actor) -> None:
    """Log in over telnet as a person would, mistype now and then, look at some listings, and leave."""
    with actor.connect(actor.peer, int(actor["port"])) as line:
        line.settimeout(8.0)
        for attempt in range(2):
            _read_until(line, b"login:")
            _type_in(actor, line, USER)
            _read_until(line, b"Password:")
            wrong = attempt == 0 and actor.rng.random() < float(actor["mistakes"])
            _type_in(actor, line, "corect-horse" if wrong else PASSWORD)
            if not wrong:
                break
        for _ in range(int(actor["commands"])):
            _read_until(line, b"#")
            _type_in(actor, line, actor.rng.choice(["ls -l /", "ps", "cat /proc/uptime", "ifconfig eth0"]))
            actor.rest(actor.rng.uniform(0.3, 3.0))
        _read_until(line, b"#")
        _type_in(actor, line, "exit")


@turns
def web_login(actor: Actor) -> None:
    """Open a guarded page; a mistyped password gives a few refusals first."""
    words: Sequence[str] = [PASSWORD]
    if actor.rng.random() < float(actor["mistakes"]):
        words = ["wrong"] * actor.rng.randint(1, 3) + [PASSWORD]
    for word in words:
        actor.run("curl", "-s", "-o", "/dev/null", "-m", "5", "-u", f"{USER}:{word}",
                  f"http://{actor.peer}:{actor['port']}/private/")
        if not actor.rest(actor.rng.uniform(0.5, 3.0)):
            return


@turns
def ftp_visit(actor: Actor) -> None:
    """Log in over FTP, ask for a file and leave."""
    with actor.connect(actor.peer, int(actor["port"])) as line:
        for text in (None, f"USER {USER}", f"PASS {PASSWORD}", "RETR firmware.bin", "QUIT"):
            if text:
                line.sendall(f"{text}\r\n".encode())
            line.recv(1024)
            actor.rest(actor.rng.uniform(0.01, 0.4))


ACTIVITIES: dict[str, Callable[[Actor], None]] = {
    "mqtt_stay": mqtt_stay,
    "mqtt_call": mqtt_call,
    "http_poll": http_poll,
    "http_push": http_push,
    "http_burst": http_burst,
    "download": download,
    "names": names,
    "names_burst": names_burst,
    "dig": dig,
    "clock": clock,
    "lease": lease,
    "announce": announce,
    "datagram_talk": datagram_talk,
    "datagram_stream": datagram_stream,
    "stay_connected": stay_connected,
    "watch": watch,
    "registers": registers,
    "ping": ping,
    "knock_in_vain": knock_in_vain,
    "look_round": look_round,
    "speed_test": speed_test,
    "ssh_visit": ssh_visit,
    "telnet_visit": telnet_visit,
    "web_login": web_login,
    "ftp_visit": ftp_visit,
}
