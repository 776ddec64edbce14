"""An alert as the outbox keeps it: rendered once, when it is taken, so that what is resent is the same to the octet."""

from __future__ import annotations

from agent.delivery.outbox import Letter
from contracts.alert import Alert
from contracts.formats import FORMATS


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
