"""`penstock status`: what the running agent sees, judges and delivers, asked over its socket."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

from agent.config import conf_d_of, default_file, load_config
from agent.console.outfile import printing
from agent.monitoring.status_page import write_status
from agent.monitoring.status_server import FORMAT, StatusReport, adapter
from contracts.errors import ConfigError, ListenError, UsageError
from contracts.terminal import printable

SOCKET: Final = Path("/run/penstock/status.sock")
WAIT_S: Final = 5.0
MAX_REPORT_BYTES: Final = 4 << 20

EPILOG = """\
examples:
  sudo penstock status
  penstock status --json | jq .facts.delivery
  watch -n 2 penstock status --socket /tmp/penstock.sock

Ends with 0 where the agent answers and its pipeline moves, with 69 where nobody answers, or its numbers are old.
"""
STALE_S: Final = 10.0  # facts are posted once a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock status`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object with every number")
    socket_help = f"where the agent answers (default the configuration's status.socket, {SOCKET})"
    add("--socket", type=Path, metavar="PATH", help=socket_help)


def run(args: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    path = args.socket or configured_socket()
    octets = asked(path)
    report = read_report(octets, path)
    with printing() as stream:
        if args.json:
            stream.write(octets.decode(errors="replace").rstrip("\n") + "\n")
        else:
            write_status(report, stream, now_us=time.time_ns() // 1000)
    if report.age_s is None or report.age_s > STALE_S:
        age = "never made" if report.age_s is None else f"{report.age_s:.0f} s old"
        sys.stdout.flush()
        raise ListenError(f"status: the agent answers, but its numbers are {age}: the pipeline does not move")
    return 0


def configured_socket() -> Path:
    """Return the socket that the configuration names; the usual one where it cannot be read, which is no error here."""
    try:
        file = default_file()
        return load_config(file, conf_d=conf_d_of(file), environ=os.environ, overrides={}).status.socket
    except (ConfigError, UsageError, OSError):
        return SOCKET


def asked(path: Path) -> bytes:
    """Return what the agent says. Raises ListenError where nobody answers in time."""
    deadline_s = time.monotonic() + WAIT_S
    octets = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(WAIT_S)
            _connect(sock, path, deadline_s)
            while more := sock.recv(65536):
                octets += more
                if len(octets) > MAX_REPORT_BYTES or time.monotonic() > deadline_s:
                    raise ListenError(f"status: {printable(str(path))}: an answer without an end")
        except PermissionError as exc:
            wanted = "wanted a member of the socket's group, or sudo"
            raise ListenError(f"status: {printable(str(path))}: not allowed, {wanted}") from exc
        except (OSError, ValueError) as exc:
            why = getattr(exc, "strerror", None) or exc
            raise ListenError(f"status: no agent answers at {printable(str(path))}: {why}") from exc
    return bytes(octets)


def _connect(sock: socket.socket, path: Path, deadline_s: float) -> None:
    """Connect, waiting for a place in the queue: a Unix socket whose queue is full says so at once."""
    while True:
        try:
            sock.connect(str(path))
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


def read_report(octets: bytes, path: Path) -> StatusReport:
    """Return the report in an answer. Raises ListenError for what is none."""
    if not octets:
        raise ListenError(f"status: {printable(str(path))}: the agent is busy with others who ask, try again")
    try:
        report = adapter().validate_json(octets)
    except ValueError as exc:
        raise ListenError(f"status: {printable(str(path))}: what answers there is no penstock agent") from exc
    if report.format != FORMAT:
        raise ListenError(f"status: {printable(str(path))}: format {report.format}, wanted {FORMAT}: another version")
    return report
