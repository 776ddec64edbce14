"""Windows to samples.db, in a thread of its own: a slow or full disk never holds scoring, and what it costs is counted.

The file is opened when the first window comes and again some time after it failed. One of another schema, or no file of
samples at all, is set aside: windows of other columns mean something else (docs/federation.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.backlog import Backlog
from agent.delivery.outbox import set_aside
from contracts.errors import OutputError
from contracts.samples import SAMPLES_FILE, Sample, SampleBook, SamplesRefused

MOST_WAITING: Final = 512  # windows and wishes: 3.4 MB at most
RETRY_S: Final = 60.0
COUNT_S: Final = 10.0  # counting reads every row
END_S: Final = 1.0
SKIPPED: Final = ("enough", "waiting", "unfit")

_LetGo = tuple[bytes, int, int]
_log = logging.getLogger(__name__)


class Sampler:
    """A context manager that writes. `put` and `let_go` return at once; all counts only rise, but those of the book."""

    def __init__(
        self,
        state_dir: Path,
        *,
        most_bytes: int,
        open_book: Callable[..., SampleBook] = SampleBook,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kept = 0
        self.pinned = 0
        self.let_go_again = 0
        self.failed = 0
        self.skipped = dict.fromkeys(SKIPPED, 0)
        self.book_windows = 0
        self.book_bytes = 0
        self.trouble = ""
        self._path = state_dir / SAMPLES_FILE
        self._most_bytes = most_bytes
        self._open_book = open_book
        self._clock_s = clock_s
        self._book: SampleBook | None = None
        self._retry_at_s = self._count_at_s = float("-inf")
        self._waiting: Backlog[Sample | _LetGo] = Backlog(
            "penstock-samples", self._write_forever, most=MOST_WAITING, end_s=END_S
        )

    def put(self, sample: Sample) -> None:
        """Let a window be kept soon."""
        self._offer(sample)

    def let_go(self, device: bytes, from_us: int, to_us: int) -> None:
        """Let a device's windows outside incidents between two times be deleted soon."""
        self._offer((device, from_us, to_us))

    def _offer(self, what: Sample | _LetGo) -> None:
        if not self._waiting.offer(what):
            self.skipped["waiting"] += 1

    def __enter__(self) -> Sampler:
        self._waiting.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        for what in self._waiting:
            book = self._opened()
            if book is None:
                self.failed += 1
                continue
            try:
                self._write(book, what)
            except (SamplesRefused, OutputError) as exc:
                self._note(str(exc))
        if self._book is not None:
            self._book.close()

    def _write(self, book: SampleBook, what: Sample | _LetGo) -> None:
        if isinstance(what, tuple):
            self.let_go_again += book.let_go(what[0], from_us=what[1], to_us=what[2])
        else:
            try:
                is_kept = book.add(what)
            except ValueError:  # a number that is none, say
                self.skipped["unfit"] += 1
                return
            if not is_kept:
                self.skipped["enough"] += 1
            elif what.incident_id is None:
                self.kept += 1
            else:
                self.pinned += 1
        if self._clock_s() >= self._count_at_s:
            self._count_at_s = self._clock_s() + COUNT_S
            self.book_windows, self.book_bytes = len(book), book.size_bytes

    def _opened(self) -> SampleBook | None:
        """Return the open file; None where it failed not long ago."""
        if self._book is not None:
            return self._book
        if self._clock_s() < self._retry_at_s:
            return None
        try:
            self._book = self._opened_or_anew()
        except (SamplesRefused, OutputError, OSError) as exc:
            self._note(str(exc))
            return None
        self.trouble = ""
        return self._book

    def _opened_or_anew(self) -> SampleBook:
        try:
            return self._open_book(self._path, write=True, most_bytes=self._most_bytes)
        except SamplesRefused as exc:
            if not exc.is_other or not self._path.is_file():
                raise
            aside = set_aside(self._path)
            _log.warning("%s; it stands now in %s", exc, aside)
        return self._open_book(self._path, write=True, most_bytes=self._most_bytes)

    def _note(self, complaint: str) -> None:
        """Count a failure and leave the disk alone for some time; tell it once."""
        self.failed += 1
        if complaint != self.trouble:
            _log.warning("samples: %s", complaint)
        self.trouble = complaint
        self._retry_at_s = self._clock_s() + RETRY_S
        if self._book is not None:
            self._book.close()
            self._book = None
