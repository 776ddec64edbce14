"""Where the octets of a capture come from: a regular file, a pipe, standard input, plain or decompressed on the way.

A source fills the room it is given with the next octets and holds no more than a chunk itself, so a file that unpacks
to terabytes costs no memory. `open_source` tells compression by the first octets, never by a suffix. The trap: a read
from a pipe waits for its writer; it wakes every WAKE_S to let signal handlers run and to ask whether it was stopped.
"""

from __future__ import annotations

import io
import os
import select
import stat
from collections.abc import Callable
from typing import Protocol

from flowfeatures.errors import CaptureFormatError, CaptureNotFound, CaptureTruncated
from flowfeatures.unpacking import compression_of, open_decoder

STDIN = "-"
CHUNK_BYTES = 1 << 16  # compressed octets at a time; what a pipe holds by default
HEAD_BYTES = 6  # the longest magic number, that of xz
WAKE_S = 0.2


class Source(Protocol):
    """The next octets, and how far along what lies on disk they are."""

    @property
    def compression(self) -> str | None:
        """Return what unpacks it: gzip, xz, zstd, or None."""
        ...

    @property
    def size_bytes(self) -> int:
        """Return the octets on disk; 0 where nobody knows."""
        ...

    @property
    def position_bytes(self) -> int:
        """Return how many octets on disk, or of the pipe, were read so far."""
        ...

    @property
    def is_stopped(self) -> bool:
        """Return whether reading ended because somebody asked for it."""
        ...

    def readinto(self, room: memoryview) -> int:
        """Fill the room from the front with at least one octet and return how many; 0 at the end."""
        ...

    def skip(self, octets: int) -> int:
        """Pass over that many octets without reading them where that can be done; return how many were."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class RegularFile:
    """A file as long as it was when it was opened: what is appended meanwhile is not read.

    `stopped` is asked before every read: a file may go on for terabytes without a frame that comes to anything.
    """

    compression: str | None = None

    def __init__(self, file: io.FileIO, name: str, stopped: Callable[[], bool] | None) -> None:
        self._file = file
        self._name = name
        self._stopped = stopped
        self.is_stopped = False
        # Standard input may have been read from before; what was is not part of the capture.
        self.size_bytes = max(0, os.fstat(file.fileno()).st_size - file.tell())
        self.position_bytes = 0

    def readinto(self, room: memoryview) -> int:
        """Read what the room holds, but for the end. Raises CaptureTruncated if the file lost its tail meanwhile."""
        left = self.size_bytes - self.position_bytes
        if left == 0:
            return 0
        if self._stopped is not None and self._stopped():
            self.is_stopped = True
            return 0
        got = _read(self._file, room[:left], self._name)
        if not got:
            raise CaptureTruncated(
                f"{self._name}: octet {self.position_bytes}: the file shrank below its {self.size_bytes} octets"
                " while it was read"
            )
        self.position_bytes += got
        return got

    def skip(self, octets: int) -> int:
        """Seek."""
        skipped = min(octets, self.size_bytes - self.position_bytes)
        self._file.seek(skipped, os.SEEK_CUR)
        self.position_bytes += skipped
        return skipped

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()


class Pipe:
    """What a writer sends while it sends it. `stopped` is asked whenever there is nothing to read."""

    compression: str | None = None
    size_bytes = 0

    def __init__(self, file: io.FileIO, name: str, stopped: Callable[[], bool] | None) -> None:
        self._file = file
        self._name = name
        self._stopped = stopped
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)
        self.position_bytes = 0
        self.is_stopped = False

    def readinto(self, room: memoryview) -> int:
        """Wait until there is something, and read that; 0 when the writer has closed, or a stop was asked for."""
        while True:
            # Not before poll says so: a named pipe that no writer has opened yet reads as if it were at its end.
            if self._poll.poll(WAKE_S * 1000):
                got = _read(self._file, room, self._name)
                if got is not None:
                    self.position_bytes += got
                    return got
            if self._stopped is not None and self._stopped():
                self.is_stopped = True
                return 0

    def skip(self, octets: int) -> int:
        """Skip nothing: a pipe must be read."""
        return 0

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()


class Unpacked:
    """What a compressed source holds: its members or frames one after the other, zeros between them passed over."""

    def __init__(self, packed: Source, head: bytes, *, compression: str, name: str) -> None:
        self.compression = compression
        self._packed = packed
        self._name = name
        self._chunk = memoryview(bytearray(CHUNK_BYTES))
        self._decoder = open_decoder(compression, name=name)
        self._members = 0
        self._is_between = True
        self._feed(head)

    @property
    def size_bytes(self) -> int:
        """Return the compressed size."""
        return self._packed.size_bytes

    @property
    def position_bytes(self) -> int:
        """Return how many compressed octets were read."""
        return self._packed.position_bytes

    @property
    def is_stopped(self) -> bool:
        """Return whether the source below was."""
        return self._packed.is_stopped

    def readinto(self, room: memoryview) -> int:
        """Unpack what comes next. Raises CaptureTruncated, or CaptureFormatError where it is damaged."""
        while True:
            if not self._is_between:
                octets = self._unpack(len(room))
                if octets:
                    room[: len(octets)] = octets
                    return len(octets)
                if self._decoder.is_done:
                    self._is_between = True
                    self._feed(self._decoder.rest)
                    continue
            got = self._packed.readinto(self._chunk)
            if got == 0:
                if self._is_between or self.is_stopped:
                    return 0
                raise CaptureTruncated(
                    f"{self._name}: octet {self.position_bytes}: the file ends inside its {self.compression} data"
                )
            self._feed(bytes(self._chunk[:got]))

    def _feed(self, octets: bytes) -> None:
        if self._is_between:
            octets = octets.lstrip(b"\0")
            if not octets:
                return
            self._decoder.begin()
            self._members += 1
            self._is_between = False
        self._decoder.feed(octets)

    def _unpack(self, most: int) -> bytes:
        try:
            return self._decoder.take(most)
        except self._decoder.errors as exc:
            raise CaptureFormatError(
                f"{self._name}: octet {self.position_bytes} or before: damaged {self.compression} data,"
                f" part {self._members}: {str(exc) or type(exc).__name__}"
            ) from exc

    def skip(self, octets: int) -> int:
        """Skip nothing: it must be unpacked."""
        return 0

    def close(self) -> None:
        """Close the source below."""
        self._packed.close()


def open_source(path: str, *, stopped: Callable[[], bool] | None = None) -> tuple[Source, bytes]:
    """Open what `path` names, `-` being standard input; return the source and its first octets, taken already.

    Raises CaptureNotFound where nothing can be read, CaptureFormatError for a compression that is not known, or one
    within the other.
    """
    name = name_of(path)
    source = _open_plain(path, name, stopped)
    try:
        head = read_head(source)
        compression = compression_of(head, name=name)
        if compression is None:
            return source, head
        return _unpack(source, head, compression=compression, name=name)
    except BaseException:
        source.close()
        raise


def _unpack(packed: Source, head: bytes, *, compression: str, name: str) -> tuple[Source, bytes]:
    source = Unpacked(packed, head, compression=compression, name=name)
    head = read_head(source)
    within = compression_of(head, name=name)
    if within is not None:
        raise CaptureFormatError(f"{name}: {within} inside {compression}, wanted a capture compressed once")
    return source, head


def name_of(path: str) -> str:
    """Return what messages call the path."""
    return "standard input" if path == STDIN else path


def read_head(source: Source) -> bytes:
    """Return the first HEAD_BYTES octets, fewer where there are no more."""
    head, room = b"", memoryview(bytearray(HEAD_BYTES))
    while len(head) < HEAD_BYTES:
        got = source.readinto(room[len(head) :])
        if got == 0:
            break
        head = bytes(room[: len(head) + got])
    return head


def _open_plain(path: str, name: str, stopped: Callable[[], bool] | None) -> Source:
    # O_NONBLOCK: open() would wait for a named pipe's writer without asking anybody.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = io.FileIO(path, opener=lambda named, _: os.dup(0) if path == STDIN else os.open(named, flags))
    except (OSError, ValueError) as exc:
        raise CaptureNotFound(f"{name}: cannot be read: {exc.strerror if isinstance(exc, OSError) else exc}") from exc
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return RegularFile(file, name, stopped)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return Pipe(file, name, stopped)
    kind = "a terminal" if file.isatty() else "a device"
    file.close()
    raise CaptureNotFound(f"{name}: {kind}, wanted a regular file or a pipe")


def _read(file: io.FileIO, room: memoryview, name: str) -> int | None:
    """Return how many octets were read; None if there are none for now: another reader was faster."""
    try:
        return file.readinto(room)
    except OSError as exc:
        raise CaptureNotFound(f"{name}: cannot be read: {exc.strerror}") from exc
