"""Write docs/results/faults.md from what the fault tests measured here: `python -m tests.faults`."""

from __future__ import annotations

import sys

from tests.faults.page import write

if __name__ == "__main__":
    try:
        print(write())
    except ValueError as exc:
        sys.exit(str(exc))
