"""Which alerts were written already: a bounded memory, filled at the start from the file they were written to.

QoS 1 means at least once: an agent sends again what it had no PUBACK for, a broker what it had none for from us. An id
counts per gateway, so that no gateway can silence another's alert by using its id first.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

from contracts.alert import Alert

MOST_SEEN: Final = 65_536
TAIL_BYTES: Final = 16 << 20  # of the files written last: some ten thousand lines, more than can be on their way


class Seen:
    """The alerts written last, at most `most` of them."""

    def __init__(self, *, most: int = MOST_SEEN) -> None:
        self._most = most
        self._keys: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, alert: Alert) -> bool:
        return (alert.host, alert.alert_id) in self._keys

    def add(self, host: str, alert_id: str) -> None:
        """Remember one; the oldest beyond `most` is forgotten."""
        self._keys[host, alert_id] = None
        self._keys.move_to_end((host, alert_id))
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)

    def forget(self, alert: Alert) -> None:
        """Forget one that turned out not to be written."""
        self._keys.pop((alert.host, alert.alert_id), None)

    def read(self, path: Path) -> None:
        """Remember the alerts at the end of a file of EVE lines, where there is one; other lines are passed over."""
        try:
            with path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                for line in file:
                    self._take(line)
        except OSError:
            return  # opening it to write says what is wrong with it

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            host, alert_id = told["host"], told["alert"]["context"]["penstock"]["alert_id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if isinstance(host, str) and isinstance(alert_id, str):
            self.add(host, alert_id)
