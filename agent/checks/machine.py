"""The machine itself: kernel, what this process may do, the board, the clock."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from typing import Final

from agent.checks.patient import Patient
from agent.delivery.clock import MAX_ERROR_US, is_clock_synchronised, kernel_error_us
from agent.monitoring.board import Board
from contracts.findings import Finding, fail, ok, warn

RING_SINCE: Final = (3, 2)  # TPACKET_V3
IGNORE_OUTGOING_SINCE: Final = (4, 20)
CAP_NET_RAW: Final = 13
HOT_CELSIUS: Final = 85.0  # Jetsons slow down from here on
NANO: Final = re.compile(r"^NVIDIA Jetson Nano\b")


def kernel(patient: Patient) -> Iterator[Finding]:
    """Look whether the kernel is new enough for the ring."""
    release = patient.text("proc/sys/kernel/osrelease").strip()
    match = re.match(r"(\d{1,4})\.(\d{1,4})", release)
    if match is None:
        yield warn("kernel", f"release {release!r} is none we know how to read", "penstock needs Linux 3.2 or later")
        return
    version = int(match[1]), int(match[2])
    if version < RING_SINCE:
        yield fail("kernel", f"Linux {release}", "the capture ring needs Linux 3.2 or later: upgrade the kernel")
    elif version < IGNORE_OUTGOING_SINCE:
        remedy = (
            "nothing to do: before 4.20 the agent leaves loopback's second copies out by itself, which costs a little"
        )
        yield warn("kernel", f"Linux {release}", remedy)
    else:
        yield ok("kernel", f"Linux {release}")


def capabilities(patient: Patient) -> Iterator[Finding]:
    """Look whether this process may capture."""
    match = re.search(r"^CapEff:\s+([0-9a-f]{1,16})$", patient.text("proc/self/status"), re.M)
    if match is None:
        yield warn("capabilities", "the kernel does not say which there are", "is /proc mounted?")
    elif int(match[1], 16) >> CAP_NET_RAW & 1:
        yield ok("capabilities", "CAP_NET_RAW")
    else:
        remedy = "sudo penstock doctor; the service has it by AmbientCapabilities=CAP_NET_RAW in its unit"
        yield fail("capabilities", "no CAP_NET_RAW in this process", remedy)


def clock(_: Patient) -> Iterator[Finding]:
    """Look whether the time of day can be believed."""
    error_us = kernel_error_us()
    said = "" if error_us is None or error_us >= MAX_ERROR_US else f", within {error_us / 1e6:.1f} s"
    if is_clock_synchronised():
        yield ok("clock", f"synchronised{said}")
    else:
        remedy = "timedatectl set-ntp true, or install chrony; until then alerts say that their time is unsure"
        yield warn("clock", "no time server was heard", remedy)


def board(patient: Patient) -> Iterator[Finding]:
    """Say which board this is, and look for what is known to go wrong on it."""
    facts = Board(patient.root).look()
    if not facts.model and not facts.l4t:
        yield ok("board", f"no Jetson ({platform.machine()})")
        return
    named = facts.model or "an NVIDIA board"
    mode = f", mode {facts.power_mode}" if facts.power_mode else ", mode not told"
    yield ok("board", f"{named}, L4T {facts.l4t or 'not told'}{mode}")
    if NANO.match(facts.model) and patient.environ.get("OPENBLAS_CORETYPE") != "ARMV8":
        remedy = "export OPENBLAS_CORETYPE=ARMV8 (in the service: systemd/penstock.service.d/jetson-nano.conf)"
        yield warn("board", "OPENBLAS_CORETYPE is not ARMV8; numpy may die of an illegal instruction", remedy)
    hot = [each for each in facts.temperatures_celsius if each.value >= HOT_CELSIUS]
    for reading in hot:
        remedy = "give it air; a board this hot slows its clocks"
        yield warn("board", f"{reading.name} is at {reading.value:.0f} C", remedy)
