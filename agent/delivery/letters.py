"""What the outbox keeps: an alert, rendered once, when it is taken, so that what is resent is the same to the octet.

Besides, opaque messages of other parts of penstock (`Delivery.post`): nobody here opens them, alerts go before them.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Final

from agent.delivery.outbox import Letter
from contracts.alert import Alert
from contracts.formats import FORMATS

OPAQUE_SEVERITY: Final = 4  # below any alert: where there is no room, these leave first
MAX_OPAQUE_BYTES: Final = 1 << 20


class Posted:
    """What became of an opaque message: `is_durable` once the outbox has it on disk, `is_lost` where it never will."""

    def __init__(self) -> None:
        self.is_durable = False
        self.is_lost = False
        self._is_known = threading.Event()

    def settle(self, *, is_durable: bool) -> None:
        """Say what became of it."""
        self.is_durable, self.is_lost = is_durable, not is_durable
        self._is_known.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is on disk or lost; return whether it is on disk."""
        self._is_known.wait(timeout_s)
        return self.is_durable


def opaque_letter(gateway: str, topic: str, payload: bytes, *, content_type: str) -> Letter:
    """Return an opaque message for a topic of this gateway's own. Raises ValueError for another one, or too large."""
    level = topic.removeprefix(f"penstock/v1/{gateway}/")
    if level == topic or not level or set("+#\0") & set(topic):
        raise ValueError(f"topic {topic!r}, wanted one below penstock/v1/{gateway}/")
    if len(payload) > MAX_OPAQUE_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes, wanted at most {MAX_OPAQUE_BYTES}")
    name = hashlib.sha256(f"{topic}\0{content_type}\0".encode() + payload).hexdigest()
    return Letter(OPAQUE_SEVERITY, gateway, "", name, payload, content_type, True, topic)


def letter_of(alert: Alert, format_name: str) -> Letter:
    """Return an alert in one of contracts.formats, ready to be kept and sent."""
    return Letter(
        alert.severity,
        alert.host,
        alert.attack_class,
        alert.alert_id,
        FORMATS[format_name].render(alert).encode(),
        format_name,
        alert.clock == "synchronised",
    )
