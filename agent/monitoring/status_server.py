"""The socket that `penstock status` asks: whoever connects gets the newest facts as one JSON object, then the end.

Nothing is read from a client, so nothing it sends can matter; what it gets was made once for all who ask within a
second. The socket appears under its name with mode 0660 and not before: who may write to it, by owner and group, may
read the addresses of devices and incidents.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.monitoring.bounded_server import BACKLOG, BoundedServer
from agent.monitoring.facts import AgentFacts, FactsBoard
from contracts.errors import ListenError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT: Final = 1
MODE: Final = 0o660
FOLDER_MODE: Final = 0o750


@dataclass(frozen=True, kw_only=True)
class StatusReport:
    """What the socket says. `age_s` is how old the facts are, None before the first; rates are means over 10 s."""

    format: int = FORMAT
    age_s: float | None = None
    packets_per_s: dict[str, float] = field(default_factory=dict)
    """By interface: frames read."""
    drops_per_s: dict[str, float] = field(default_factory=dict)
    windows_per_s: float = 0.0
    cpu_ratio: float = 0.0
    """Of one core."""
    facts: AgentFacts = field(default_factory=AgentFacts)

    @classmethod
    def of(cls, board: FactsBoard) -> StatusReport:
        """Return what a board shows now."""
        facts = board.latest
        names = [interface.name for interface in facts.interfaces]
        return cls(
            age_s=board.age_s,
            packets_per_s={name: _rate(board, name, "read") for name in names},
            drops_per_s={name: _rate(board, name, "dropped") for name in names},
            windows_per_s=board.rate(lambda each: each.windows.scored),
            cpu_ratio=board.rate(lambda each: each.board.cpu_seconds or 0.0),
            facts=facts,
        )


def adapter() -> TypeAdapter[StatusReport]:
    """Return what writes a report as JSON, and reads it back."""
    from pydantic import TypeAdapter

    return TypeAdapter(StatusReport)


class StatusServer(BoundedServer):
    """Answers on a Unix socket. `start` raises ListenError where that cannot be, or another agent answers there."""

    def __init__(self, board: FactsBoard, path: Path) -> None:
        super().__init__(name="penstock-status")
        self._board = board
        self._path = path
        self._inode: tuple[int, int] | None = None
        self._adapter = adapter()
        self._made: tuple[AgentFacts | None, int, bytes] = (None, 0, b"")

    def start(self) -> None:
        """Begin to answer."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        draft = self._path.with_name(f".{os.getpid()}")
        try:
            self._make_folder()
            self._refuse_taken()
            sock.bind(str(draft))
            draft.chmod(MODE)
            sock.listen(BACKLOG)
            draft.replace(self._path)
            seen = self._path.lstat()
        except OSError as exc:
            sock.close()
            with contextlib.suppress(OSError):
                draft.unlink()
            raise ListenError(f"status: cannot answer at {self._path}: {exc.strerror or exc}") from exc
        self._inode = seen.st_dev, seen.st_ino
        self.accept_on(sock)

    def stop(self) -> None:
        """End, and take the socket's name away where it is still ours."""
        super().stop()
        with contextlib.suppress(OSError):
            seen = self._path.lstat()
            if (seen.st_dev, seen.st_ino) == self._inode:
                self._path.unlink()

    def serve(self, client: socket.socket, deadline_s: float) -> str:
        """Say the report and close; what the client says is not read."""
        self.send(client, self._report(), deadline_s)
        return "served"

    def _report(self) -> bytes:
        """Return the report, made once for the same facts and second of age."""
        facts, second = self._board.latest, int(self._board.age_s or 0)
        made, at, octets = self._made
        if made is not facts or at != second:
            octets = self._adapter.dump_json(StatusReport.of(self._board)) + b"\n"
            self._made = facts, second, octets
        return octets

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._path.parent.mkdir(mode=FOLDER_MODE)

    def _refuse_taken(self) -> None:
        """Raise OSError where the name is no socket, or somebody answers there; a dead socket is replaced."""
        try:
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise OSError(errno.EEXIST, "something that is no socket has this name")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(1.0)
            try:
                sock.connect(str(self._path))
            except ConnectionRefusedError:
                return
        raise OSError(errno.EADDRINUSE, "another agent answers there")


def _rate(board: FactsBoard, interface: str, count: str) -> float:
    return board.rate(lambda facts: sum(getattr(each, count) for each in facts.interfaces if each.name == interface))
