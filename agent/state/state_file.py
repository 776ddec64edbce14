"""State on disk that survives a power cut: written beside its place, synced, moved there; read back bounded.

Only JSON objects; what they must hold is checked by whoever they belong to. Files are 0600: they name devices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contracts.files import open_regular
from contracts.whole_file import write_whole
from detection.state import StateRefused

MAX_STATE_BYTES: Final = 4 << 20


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace a state file, whole or not at all. Raises OutputError where the disk does not take it."""
    write_whole(path, json.dumps(state, separators=(",", ":"), allow_nan=False).encode() + b"\n")


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
