"""One connection to the TensorRT worker: messages over a socket, arrays in memory shared by descriptor.

Everything that can go wrong on it is a `LinkBroken` with a reason of one word; after one, close it. Each connection has
memory of its own: a worker that wakes up late writes into memory that nobody reads any more. The trap: the worker can
change the memory at any time, so answers are copied before they are looked at.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import select
import socket
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detection import tensorrt_worker as wire
from detection.engine import Scores

REASONS: Final = {
    wire.BAD_REQUEST: "refused",
    wire.BAD_MODEL: "refused",
    wire.OUT_OF_MEMORY: "out_of_memory",
    wire.FAILED: "failed",
}


class LinkBroken(Exception):
    """The worker did not score; `reason` is one word, to be counted."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(f"{reason}: {text}" if text else reason)
        self.reason = reason


class Link:
    """A connection; raises LinkBroken where nobody listens, or a user who is not to be believed."""

    def __init__(self, path: str, shape: wire.Shape, *, uids: frozenset[int]) -> None:
        self.told = ""
        self._shape, self._sequence = shape, 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._memory: mmap.mmap | None = None
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
            uid = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        except OSError as exc:
            self.close()
            raise LinkBroken("unavailable", f"{path}: {exc.strerror or exc}") from exc
        if uid not in uids:
            self.close()
            raise LinkBroken("stranger", f"{path}: the worker runs as user {uid}, wanted one of {sorted(uids)}")

    def open(self, model: bytes, precision: str) -> None:
        """Hand over model and memory. The answer is looked for by `is_opened`."""
        size = self._shape.offsets()[""]
        descriptors: list[int] = []
        try:
            descriptors.append(_sealed("model", model, len(model), fcntl.F_SEAL_WRITE))
            descriptors.append(_sealed("arrays", b"", size, 0))
            self._memory = mmap.mmap(descriptors[1], size)
            facts = hashlib.sha256(model).digest(), len(model), *self._shape, wire.PRECISIONS.index(precision)
            self._send(wire.OPEN, wire.OPEN_BODY.pack(*facts), descriptors)
        except (OSError, AttributeError) as exc:  # AttributeError: a Python built for a C library without memfd_create
            raise LinkBroken("unavailable", f"no memory to share: {exc}") from exc
        finally:
            for each in descriptors:
                os.close(each)

    def is_opened(self) -> bool:
        """Tell whether the worker has its plan, without waiting; raises LinkBroken where it never will."""
        while (answer := self._answer(0.0)) is not None:
            status, _, self.told = answer
            if status == wire.OK:
                return True
        return False

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32], *, deadline_s: float) -> Scores:
        """Return the scores of float32[B, W, F] under float32[B, W]; the deadline bounds all waiting in it."""
        count = len(windows)
        self._array("windows", count)[:] = windows
        self._array("mask", count)[:] = mask
        self._send(wire.SCORE, wire.SCORE_BODY.pack(count))
        answer = self._answer(deadline_s)
        if answer is None:
            raise LinkBroken("late", f"no scores in {deadline_s:g} s")
        if answer[:2] != (wire.OK, count):
            raise LinkBroken("garbage", f"an answer for {answer[1]} windows, asked for {count}")
        return Scores(*(self._array(name, count).copy() for name in Scores._fields))

    def wait(self, within_s: float) -> None:
        """Return when the worker has said something, or after a time."""
        select.select([self._socket], [], [], within_s)

    def close(self) -> None:
        self._socket.close()
        self._memory = None

    def _array(self, name: str, count: int) -> NDArray[np.float32]:
        shape = (count, *self._shape.arrays()[name])
        assert self._memory is not None
        flat = np.frombuffer(self._memory, np.float32, int(np.prod(shape)), self._shape.offsets()[name])
        return flat.reshape(shape)

    def _send(self, kind: int, body: bytes, descriptors: list[int] | None = None) -> None:
        self._sequence += 1
        message = wire.HEADER.pack(wire.MAGIC, wire.VERSION, kind, self._sequence) + body
        try:
            socket.send_fds(self._socket, [message], descriptors or [])
        except OSError as exc:
            raise LinkBroken("died", exc.strerror or "") from exc

    def _answer(self, within_s: float) -> tuple[int, int, str] | None:
        """Return status, count and text of the next answer, or None if none came; raises LinkBroken."""
        try:
            self._socket.settimeout(within_s)
            message = self._socket.recv(wire.MAX_MESSAGE_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as exc:
            raise LinkBroken("died", exc.strerror or "") from exc
        if not message:
            raise LinkBroken("died", "the worker hung up")
        wanted = wire.HEADER.pack(wire.MAGIC, wire.VERSION, wire.ANSWER, self._sequence)
        if len(message) != len(wanted) + wire.ANSWER_BODY.size or not message.startswith(wanted):
            raise LinkBroken("garbage", "an answer that is none")
        status, count, text = wire.ANSWER_BODY.unpack(message[len(wanted) :])
        told = text.rstrip(b"\0").decode("ascii", "replace")
        if status not in (wire.OK, wire.BUILDING):
            raise LinkBroken(REASONS.get(status, "garbage"), told)
        return status, count, told


def _sealed(name: str, content: bytes, size: int, seals: int) -> int:
    """Return a descriptor of new memory of a size that nobody can change."""
    descriptor = os.memfd_create(f"penstock-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, content, 0)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
