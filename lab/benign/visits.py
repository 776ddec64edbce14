"""People who log in somewhere: they type, mistype, look round and leave."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from lab.benign.actor import Actor, turns
from lab.plan import PASSWORD, USER


@turns
def ssh_visit(actor: Actor) -> None:
    """Log in over SSH and run a command; sometimes try passwords that are wrong first."""
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ConnectTimeout=4",
        "-o",
        "LogLevel=ERROR",
        "-p",
        str(actor["port"]),
    ]
    for _ in range(int(actor["commands"])):
        if actor.rng.random() < float(actor["mistakes"]):
            actor.run(
                "ssh", *options, "-o", "BatchMode=yes", "-i", "/dev/null", f"root@{actor.peer}", "ls", limit_s=10.0
            )
        actor.run(
            "ssh", *options, "-i", str(actor.folder.parent / "client_key"), f"root@{actor.peer}", "ls", limit_s=10.0
        )
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
        actor.run(
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-m",
            "5",
            "-u",
            f"{USER}:{word}",
            f"http://{actor.peer}:{actor['port']}/private/",
        )
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
