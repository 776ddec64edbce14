"""A file that is there whole or not at all: written beside its place, synced, moved there; read back bounded."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from contracts.errors import OutputError
from contracts.files import open_regular


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file by this content; a power cut leaves the old one or the new one. Raises OutputError.

    Written by root it belongs to whoever its folder belongs to: a command by hand must not lock a service out.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            give_to_owner_of(path.parent, descriptor)
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc


def read_bounded(path: Path, *, most_bytes: int) -> bytes:
    """Return a file's content. Raises OSError, also where it is larger than that or is no regular file."""
    with open_regular(path, follow_link=False) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(27, f"larger than {most_bytes} bytes", str(path))
    return content


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """Where root writes, let a file belong to whoever its folder belongs to."""
    if os.geteuid() == 0:
        facts = folder.stat()
        with contextlib.suppress(OSError):
            os.fchown(descriptor, facts.st_uid, facts.st_gid)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
