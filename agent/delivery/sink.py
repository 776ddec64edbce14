"""What every way out beside the broker is: takes an alert at once, never raises, never waits for a reader.

A sink that cannot write now keeps a bounded number of lines and tries again; what it must let go is counted. What is
wrong is logged when it begins and when it ends, not once per alert.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert

MOST_WAITING: Final = 1_000  # lines of at most 2 KB each
CLOSE_S: Final = 1.0  # for what waits, at the end

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """One way out. `write`, `tick`, `reopen` and `close` are called by one thread at a time, `facts` by any."""

    name: str

    def write(self, alert: Alert) -> None:
        """Take one alert."""

    def tick(self) -> None:
        """Do what is due about once a second: try again, look whether the file is still the one at its path."""

    def reopen(self) -> None:
        """Open anew what a log rotation may have moved away."""

    def facts(self) -> SinkFacts:
        """Return what was written and lost so far, and what is wrong now."""

    def close(self) -> None:
        """Write what waits if that takes no longer than CLOSE_S, count the rest as lost. May be called again."""


class Tally:
    """What one sink counts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written = 0
        self.failed = 0
        self.trouble = ""

    def went_wrong(self, trouble: str) -> None:
        """Remember what is wrong; say it if all was well before."""
        if not self.trouble:
            _log.warning("%s: %s", self.name, trouble)
        self.trouble = trouble

    def went_well(self) -> None:
        """Remember that all is well; say it if it was not."""
        if self.trouble:
            _log.warning("%s: writes again, %d alerts lost so far", self.name, self.failed)
        self.trouble = ""

    def facts(self, *, waiting: int) -> SinkFacts:
        """Return the counts."""
        return SinkFacts(
            name=self.name, written=self.written, failed=self.failed, waiting=waiting, trouble=self.trouble
        )
