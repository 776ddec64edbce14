"""The thread that carries packets hangs while the others live on: the watchdog must starve, or nobody restarts it."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.capture.wire import Wire
from tests.faults.figures import IS_TIMED, Figures
from tests.faults.running import play, running, scan_of, signed_bundle, victim

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

WATCHDOG_S = 2.0
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Manager:
    """The end of $NOTIFY_SOCKET that systemd would hold; it only listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def hear(self, seconds: float, *, until: str | None = None) -> list[tuple[float, str]]:
        """Return what is told in so many seconds, with when; no longer than until something was."""
        heard: list[tuple[float, str]] = []
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                told = self._socket.recv(4096).decode()
            except TimeoutError:
                break
            heard.append((time.monotonic(), told))
            if until is not None and until in told:
                break
        return heard

    def at_hand(self) -> list[str]:
        """Return what was told already."""
        told = []
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                told.append(self._socket.recv(4096).decode())
        return told

    def close(self) -> None:
        self._socket.close()


@contextmanager
def one_thread_stopped(thread_id: int) -> Iterator[None]:
    """Stop one thread of another process, and none of its others, as a lock that is never given back would."""

    def ask(request: int) -> None:
        if _libc.ptrace(request, thread_id, None, None) != 0:
            pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")

    _libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    ask(PTRACE_SEIZE)
    ask(PTRACE_INTERRUPT)
    os.waitpid(thread_id, _WALL)
    try:
        yield
    finally:
        _libc.ptrace(PTRACE_DETACH, thread_id, None, None)


def test_a_thread_that_hangs_starves_the_watchdog_and_one_that_works_feeds_it(
    wire: Wire, tmp_path: Path, figures: Figures
):
    manager = Manager(tmp_path / "notify")
    variables = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    bundle = signed_bundle(tmp_path / "bundle")

    with running(folder=tmp_path, bundle=bundle, variables=variables) as agent:
        started = manager.hear(120.0, until="READY=1")
        assert started
        assert "READY=1" in started[-1][1]
        quiet = [at for at, told in manager.hear(2 * WATCHDOG_S) if "WATCHDOG=1" in told]
        play(wire, scan_of(victim(1), ports=100))
        with one_thread_stopped(agent.process.pid):
            manager.at_hand()  # what it had said before
            stopped_s = time.monotonic()
            hanging = [at - stopped_s for at, told in manager.hear(3 * WATCHDOG_S) if "WATCHDOG=1" in told]
        again = [told for _, told in manager.hear(120.0, until="WATCHDOG=1") if "WATCHDOG=1" in told]
        manager.at_hand()  # its queue is short
        counts = agent.stop()
        ended = manager.at_hand()
    manager.close()

    gaps_s = [later - earlier for earlier, later in pairwise(quiet)]
    figures.told(
        fault="the thread that carries packets hangs",
        goal="the watchdog's datagrams stop, and come again when it goes on",
        watchdog_s=WATCHDOG_S,
        fed_every_at_most_s=max(gaps_s, default=float("inf")),
        datagrams_while_it_hung=len(hanging),
        last_after_s=max(hanging, default=0.0),
        datagrams_once_it_went_on=len(again),
    )
    if IS_TIMED:
        assert max(gaps_s) <= WATCHDOG_S / 2, "systemd asks to be told twice as often as its limit"
    assert max(hanging, default=0.0) < WATCHDOG_S / 2
    assert again
    assert any("STOPPING=1" in told for told in ended)
    assert counts.uneven == 0
