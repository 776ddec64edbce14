"""Making an alert's text short enough: what may be missing is cut, what a rule matches on never is.

First the device's name loses its end, then all of it goes, then the least column leaves, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from contracts.alert import Alert

ELLIPSIS: Final = "..."


def fitted(alert: Alert, render: Callable[[Alert], str], *, most_bytes: int) -> str:
    """Return the text of an alert in at most that many bytes, as long as its name and columns suffice to get there.

    `render` gives a text that never becomes longer where the name becomes shorter.
    """

    def fits(text: str) -> bool:
        return len(text.encode()) <= most_bytes

    text = render(alert)
    if not fits(text) and (name := alert.device.name) is not None:
        kept, least = 0, 1
        most = len(name) - 1
        while least <= most:  # the longest beginning that fits; 0 where none does
            middle = (least + most) // 2
            if fits(render(_named(alert, name[:middle] + ELLIPSIS))):
                kept, least = middle, middle + 1
            else:
                most = middle - 1
        alert = _named(alert, name[:kept] + ELLIPSIS if kept else None)
        text = render(alert)
    for columns in range(len(alert.columns) - 1, -1, -1):
        if fits(text):
            break
        alert = alert.model_copy(update={"columns": alert.columns[:columns]})
        text = render(alert)
    return text


def _named(alert: Alert, name: str | None) -> Alert:
    return alert.model_copy(update={"device": alert.device.model_copy(update={"name": name})})
