"""A server on a socket that no client can stall: bounded in clients, in time and in connections a second.

At most MAX_CLIENTS are served at once, each by a thread of its own that lives MAX_CLIENT_S at most, a client that reads
slowly included; whoever comes beyond that is closed at once and counted. At most MAX_PER_S connections a second are
taken at all, since each costs the pipeline a little of the interpreter; the rest wait in the kernel's queue, which is
short. What is said on a connection stands in who derives from this (`listener`, `status_server`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

MAX_CLIENTS: Final = 8
MAX_CLIENT_S: Final = 5.0
MAX_PER_S: Final = 50
POLL_S: Final = 0.2  # how long the accepting thread may take to notice an end, where closing does not wake it
BACKLOG: Final = 16
RESULTS: Final = ("served", "refused", "malformed", "slow", "busy", "failed")


class BoundedServer:
    """Accepts in one thread, serves in up to MAX_CLIENTS others. `results` counts connections by what came of them."""

    def __init__(self, *, name: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._now_s = now_s
        self._socket: socket.socket | None = None
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._accept_forever, name=name, daemon=True)
        self._lock = threading.Lock()
        self._results = dict.fromkeys(RESULTS, 0)

    @property
    def results(self) -> dict[str, int]:
        """Return how many connections came to what."""
        with self._lock:
            return dict(self._results)

    @property
    def busy(self) -> int:
        """Return how many clients are being served now."""
        return MAX_CLIENTS - self._slots._value

    def serve(self, client: socket.socket, deadline_s: float) -> str:
        """Serve one client until a deadline and return which of RESULTS it came to.

        May raise TimeoutError (`slow`), OSError and ValueError (`failed`).
        """
        raise NotImplementedError

    def accept_on(self, sock: socket.socket) -> None:
        """Begin to accept on a socket that listens, and own it."""
        sock.settimeout(POLL_S)
        self._socket = sock
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody any more; who is being served is not waited for. May be called again."""
        self._is_over.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # on Linux this ends an accept that waits
        if self._thread.is_alive():
            self._thread.join(2 * POLL_S)
        if self._socket is not None:
            self._socket.close()

    def send(self, stream: socket.socket, octets: bytes, deadline_s: float) -> None:
        """Send all of it before a deadline. Raises TimeoutError."""
        rest = memoryview(octets)
        while rest:
            self.hurry(stream, deadline_s)
            rest = rest[stream.send(rest) :]

    def hurry(self, stream: socket.socket, deadline_s: float) -> None:
        """Let the next step take no longer than what is left; a timeout per step would let a trickle go on for ever."""
        if (left_s := deadline_s - self._now_s()) <= 0:
            raise TimeoutError
        stream.settimeout(left_s)

    def _accept_forever(self) -> None:
        assert self._socket is not None
        while not self._is_over.is_set():
            began_s = self._now_s()
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # out of descriptors, or a client gone before it was taken
                if not self._is_over.is_set():
                    self._count("failed")
                    self._is_over.wait(POLL_S)
                continue
            self._take(client)
            if (left_s := 1 / MAX_PER_S - (self._now_s() - began_s)) > 0:
                self._is_over.wait(left_s)

    def _take(self, client: socket.socket) -> None:
        if not self._slots.acquire(blocking=False):
            self._count("busy")
            client.close()
            return
        try:
            threading.Thread(target=self._serve, args=(client,), name=f"{self._name}-client", daemon=True).start()
        except RuntimeError:  # no more threads
            self._slots.release()
            self._count("failed")
            client.close()

    def _serve(self, client: socket.socket) -> None:
        try:
            self._count(self.serve(client, self._now_s() + MAX_CLIENT_S))
        except TimeoutError:
            self._count("slow")
        except (OSError, ValueError):  # it went away, or speaks no TLS
            self._count("failed")
        finally:
            with contextlib.suppress(OSError):
                client.close()
            self._slots.release()

    def _count(self, result: str) -> None:
        with self._lock:
            self._results[result] += 1
