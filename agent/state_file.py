"""State on disk that survives a power cut: written beside its place, synced, moved there; read back bounded.

Only JSON objects; what they must hold is checked by whoever they belong to. Files are 0600: they name devices.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contracts.errors import OutputError
from contracts.files import open_regular
from detection.state import StateRefused

MAX_STATE_BYTES: Final = 4 << 20


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace a state file, whole or not at all. Raises OutputError where the disk does not take it."""
    raw = json.dumps(state, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
            _keep_owner(path, descriptor)
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc


def load_state(path: Path) -> dict[str, Any] | None:
    """Return what a state file holds; None where there is none. Raises StateRefused where it is no JSON object."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_STATE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StateRefused(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if len(raw) > MAX_STATE_BYTES:
        raise StateRefused(f"{path}: larger than {MAX_STATE_BYTES} bytes")
    try:
        state = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise StateRefused(f"{path}: is not JSON: {exc}") from exc
    if not isinstance(state, dict):
        raise StateRefused(f"{path}: holds a JSON {type(state).__name__}, wanted an object")
    return state


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give the new file the folder's owner: root's command must not lock out the agent, which is somebody else."""
    if os.geteuid() == 0:
        facts = path.parent.stat()
        with contextlib.suppress(OSError):
            os.fchown(descriptor, facts.st_uid, facts.st_gid)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
