"""Which messages become lines: what is below alert topics, holds together, and is what its topic says.

A broker with rights as in deploy/mosquitto lets a gateway write below its own name alone, so a topic says who sent a
message; the payload says what the alert is. Both must name one gateway and one class: neither is believed alone. What
is refused is counted by reason; nothing of it is shown but the beginning of its topic.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, Literal, TypeAlias

from agent.bridging.session import Heard
from agent.delivery.broker import alert_topic
from contracts.alert import Alert, is_gateway_id
from contracts.eve_reading import EveRefused, read_eve

Reason: TypeAlias = Literal["topic", "retained", "oversize", "json", "schema", "mismatch"]
REASONS: Final[tuple[Reason, ...]] = ("topic", "retained", "oversize", "json", "schema", "mismatch")

_TOPIC: Final = re.compile(r"penstock/v1/([^/]+)/alert/[^/]+")


class Refused(ValueError):
    """A message that becomes no line; `reason` is one of REASONS."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


def filters_of(gateways: Collection[str]) -> list[str]:
    """Return what to subscribe to: the alerts of these gateways, of all where none is named.

    >>> filters_of([])
    ['penstock/v1/+/alert/+']
    """
    return [alert_topic(gateway, "+") for gateway in sorted(set(gateways))] or [alert_topic("+", "+")]


def admitted(heard: Heard, gateways: Collection[str]) -> Alert:
    """Return the alert a message holds. Raises Refused."""
    found = None if heard.topic is None else _TOPIC.fullmatch(heard.topic)
    if found is None or not is_gateway_id(found[1]) or (gateways and found[1] not in gateways):
        raise Refused("topic", "not the topic of an alert that was asked for")
    if heard.is_retained:
        raise Refused("retained", "an alert is never retained")
    try:
        alert = read_eve(heard.payload)
    except EveRefused as exc:
        raise Refused(exc.reason, str(exc)) from None
    if heard.topic != alert_topic(alert.host, alert.attack_class):
        raise Refused("mismatch", "the alert names another gateway or class than its topic")
    return alert
