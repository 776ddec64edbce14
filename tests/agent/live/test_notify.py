"""What a service manager hears, on a socket of our own in its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.live.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_each_state_is_one_datagram(manager: socket.socket):
    notifier = Notifier(environment(manager), now_us=lambda: 42)

    notifier.ready("watching eth0")
    notifier.reloading()
    notifier.status("quiet")
    notifier.stopping()

    assert heard(manager) == [
        "READY=1\nSTATUS=watching eth0",
        "RELOADING=1\nMONOTONIC_USEC=42",
        "STATUS=quiet",
        "STOPPING=1",
    ]


def test_a_socket_may_have_a_name_without_a_file():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"penstock-test-{os.getpid()}"
        sock.bind(f"\0{name}")

        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()

        assert sock.recv(100) == b"READY=1"


def test_progress_feeds_the_watchdog_thrice_within_its_time(manager: socket.socket):
    now_us = 1_000_000
    notifier = Notifier(environment(manager, WATCHDOG_USEC="3000000"), now_us=lambda: now_us)

    for now_us in range(1_000_000, 4_000_001, 10_000):  # noqa: B007  (the notifier reads it)
        notifier.progressed()

    assert heard(manager) == ["WATCHDOG=1"] * 4
    assert notifier.feeds == 4


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}], ids=str
)
def test_a_watchdog_that_is_not_ours_is_not_fed(manager: socket.socket, more: dict[str, str]):
    notifier = Notifier(environment(manager, **more))

    notifier.progressed()

    assert heard(manager) == []
    assert not notifier.is_watched


def test_a_watchdog_that_names_this_process_is_fed(manager: socket.socket):
    notifier = Notifier(environment(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())))

    notifier.progressed()

    assert heard(manager) == ["WATCHDOG=1"]


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/notify"], ids=repr)
def test_without_a_manager_nothing_is_said_and_nothing_fails(name: str):
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})

    notifier.ready()
    notifier.progressed()
