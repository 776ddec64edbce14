"""Arrays of a .npz file, read without trusting it: shapes are known before memory is taken.

numpy's own reader takes as much memory as a header asks for. Here the headers are read first, the caller says which
shapes it wants, and a member is read to that many bytes. Only float32, no pickle.
The trap: a zip may hold one name twice, or unpack to a thousand times its size; both are refused.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from contracts.files import open_regular
from contracts.terminal import brief

MAX_FILE_BYTES: Final = 64 << 20
MAX_MEMBERS: Final = 256
MAX_DIMENSIONS: Final = 4
FLOAT: Final = np.dtype("<f4")
SUFFIX: Final = ".npy"
# numpy reads a header as a Python literal, and gives up in as many ways as Python does.
_HEADER_ERRORS: Final = (KeyError, MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError)
_READERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NotStored(ValueError):
    """The file holds no arrays that could be read, or other ones than were asked for."""


@dataclass(frozen=True)
class StoredArrays:
    """An open .npz: the shape of every array in it."""

    shapes: dict[str, tuple[int, ...]]
    _archive: zipfile.ZipFile

    def read(self, name: str) -> NDArray[np.float32]:
        """Return one array; the caller has found its shape good. Raises NotStored where it holds less or more."""
        shape = self.shapes[name]
        wanted = math.prod(shape) * FLOAT.itemsize
        with self._archive.open(name + SUFFIX) as member:
            _, is_fortran = _header(name, member)
            content = member.read(wanted)
            if len(content) != wanted or member.read(1):
                raise NotStored(f"{brief(name)} does not hold the {wanted} bytes of its shape {shape}")
        flat = np.frombuffer(content, FLOAT).astype(np.float32)
        return flat.reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def stored_arrays(path: Path) -> Iterator[StoredArrays]:
    """Open a .npz file. Raises OSError, or NotStored for whatever is wrong with it, also while it is open."""
    try:
        with open_regular(path) as file:
            if (size := file.seek(0, 2)) > MAX_FILE_BYTES:
                raise NotStored(f"{path.name} has {size} bytes, at most {MAX_FILE_BYTES} are read")
            with zipfile.ZipFile(file) as archive:
                yield StoredArrays(_shapes(archive), archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
        raise NotStored(f"{path.name}: {exc}") from exc


def _shapes(archive: zipfile.ZipFile) -> dict[str, tuple[int, ...]]:
    members = archive.namelist()
    if len(members) > MAX_MEMBERS:
        raise NotStored(f"holds {len(members)} arrays, at most {MAX_MEMBERS} are read")
    if len(set(members)) != len(members):
        raise NotStored("holds one name twice")
    shapes = {}
    for member in members:
        if not member.endswith(SUFFIX):
            raise NotStored(f"holds {brief(member)}, which is no array")
        name = member.removesuffix(SUFFIX)
        with archive.open(member) as file:
            shapes[name], _ = _header(name, file)
    return shapes


def _header(name: str, member: IO[bytes]) -> tuple[tuple[int, ...], bool]:
    try:
        read: Any = _READERS[npy.read_magic(member)]
        shape, is_fortran, dtype = read(member)
    except _HEADER_ERRORS as exc:
        raise NotStored(f"{brief(name)} is no stored array") from exc
    if dtype != FLOAT:
        raise NotStored(f"{brief(name)} holds {dtype}, wanted float32")
    if len(shape) > MAX_DIMENSIONS or any(axis < 0 for axis in shape):
        raise NotStored(f"{brief(name)} has shape {brief(shape)}, which no array here has")
    return tuple(int(axis) for axis in shape), is_fortran
