"""Ctrl-C and SIGTERM as a request: the loop ends between two steps, and what was read is still reported."""

from __future__ import annotations

import signal
from types import FrameType

FIRST_SIGNAL_CODE = 128  # what a shell reports for a process a signal ended


class StopRequest:
    """A context in which the first signal only asks; the second ends the process, but lets it take its drafts away."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, signal.Handlers] = {}

    def __bool__(self) -> bool:
        """Return whether the process was asked to stop."""
        return self.signal_number != 0

    @property
    def exit_code(self) -> int:
        """Return the exit code of a process that was asked to stop: 130 for Ctrl-C."""
        return FIRST_SIGNAL_CODE + self.signal_number

    def __enter__(self) -> StopRequest:
        self._previous = {number: signal.signal(number, self._ask) for number in self.SIGNALS}  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        is_second = self.signal_number != 0
        previous = self._previous.get(number)
        if is_second:
            self._restore()
        else:
            self.signal_number = number
        if is_second and callable(previous):
            previous(number, frame)
        elif is_second:
            raise SystemExit(FIRST_SIGNAL_CODE + number)  # SIGTERM: by itself it would leave half-written files

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class HangUp:
    """A context in which SIGHUP asks for the settings to be read anew; `taken` tells of it once."""

    def __init__(self) -> None:
        self._is_asked = False
        self._previous: signal.Handlers | int | None = None

    def taken(self) -> bool:
        """Return whether it was asked since the last look."""
        was_asked, self._is_asked = self._is_asked, False
        return was_asked

    def __enter__(self) -> HangUp:
        self._previous = signal.signal(signal.SIGHUP, self._ask)  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGHUP, self._previous)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True
