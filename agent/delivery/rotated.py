"""A file of lines that is set aside at a size, and followed when another program moves it.

Rotation renames eve.json to eve.json.1, that to eve.json.2, and so on; `keep_files` of them stay. A log rotation of the
system works as well: it renames the file and either signals (`reopen`) or waits for the next `follow`. Trap: with
`is_synced`, a file is forced to disk before it is set aside, and so is the folder that holds the new one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.delivery.eve import EveFile
from contracts.errors import OutputError


class RotatedFile:
    """Appends lines; `rotate_bytes` 0 never rotates. Raises OutputError where it cannot be opened or written."""

    def __init__(self, path: Path, *, rotate_bytes: int = 0, keep_files: int = 5, is_synced: bool = False) -> None:
        self.path = path
        self._rotate_bytes = rotate_bytes
        self._keep_files = keep_files
        self._is_synced = is_synced
        self._file: EveFile | None = None
        self.open()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def open(self) -> None:
        """Open the file at the path if it is not open."""
        if self._file is not None:
            return
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise OutputError(f"eve: {self.path}: not a regular file: a pipe or device could stop the agent")
            is_new = False
        except (OSError, ValueError):
            is_new = True  # opening says what is wrong with it
        self._file = EveFile(str(self.path), append=True, mode=0o640)
        if is_new and self._is_synced:
            self._sync_folder()

    def write(self, line: str) -> None:
        """Write one line whole, into a new file where it would make the old one too large."""
        self.open()
        self._rotate_for(len(line) + 1)
        assert self._file is not None
        self._file.write(line)

    def sync(self) -> None:
        """Force what was written to disk. Where that fails the file is opened anew: nobody knows what it kept."""
        if self._file is not None:
            try:
                self._file.sync()
            except OutputError:
                self.close()
                raise

    def follow(self) -> None:
        """Let go of a file that was moved or deleted; the next write makes another."""
        if self._file is not None and not self._file.is_at(self.path):
            self.close()

    def close(self) -> None:
        """Close the file. May be called again, and written to again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def numbered(self, number: int) -> Path:
        """Return the path of the file set aside that many files ago; 0 is the file itself."""
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")

    def _rotate_for(self, size: int) -> None:
        """Begin a new file where this line would make the old one too large; an empty one takes any line."""
        if self._file is None or not self._rotate_bytes:
            return
        filled = self._file.size_bytes
        if filled == 0 or filled + size <= self._rotate_bytes:
            return
        if self._is_synced:
            self.sync()
        try:
            for number in range(self._keep_files - 1, -1, -1):
                older, newer = self.numbered(number + 1), self.numbered(number)
                if newer.exists():
                    os.replace(newer, older)
            if self._keep_files == 0:
                self.path.unlink(missing_ok=True)
        except OSError as exc:
            raise OutputError(f"eve: {self.path}: cannot be rotated: {exc.strerror or exc}") from exc
        self.close()
        self.open()

    def _sync_folder(self) -> None:
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as exc:
            raise OutputError(f"eve: {self.path}: cannot be forced to disk: {exc.strerror or exc}") from exc
