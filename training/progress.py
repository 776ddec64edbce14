"""A one-line progress bar on a terminal; silence anywhere else."""

from __future__ import annotations

import sys

BAR_WIDTH = 24


class Progress:
    """Draws `title [####    ] 12/40 note` on stderr while it is a terminal. Usable as a context manager."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, max(total, 1), 0
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        self.step(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")

    def step(self, count: int = 1, note: str = "") -> None:
        """Count `count` more as done."""
        self.done += count
        if self._shown:
            filled = BAR_WIDTH * min(self.done, self.total) // self.total
            bar = "#" * filled + " " * (BAR_WIDTH - filled)
            sys.stderr.write(f"\r\x1b[K{self.title} [{bar}] {self.done}/{self.total} {note}"[:160])
            sys.stderr.flush()
