"""What this process has open, to be compared before and after: other tests' leavings may be closed at any moment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

OPEN = Path("/proc/self/fd")


def descriptors() -> set[tuple[str, str]]:
    """Return number and file of each; what was opened since is `descriptors() - before`."""
    found = set()
    for name in os.listdir(OPEN):
        with contextlib.suppress(FileNotFoundError):  # that of this look itself
            found.add((name, os.readlink(OPEN / name)))
    return found
