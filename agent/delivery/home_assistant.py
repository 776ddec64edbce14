"""How a gateway introduces itself to Home Assistant: one retained message of its MQTT device discovery.

Home Assistant (2024.11 or later) makes a device of it: an event per alert, the last signature and severity, and whether
the agent is there. Nothing more than the alerts themselves is published; the message only says how to read them. Trap:
it stays at the broker when the setting is switched off; docs/siem.md says how to take it back.
"""

from __future__ import annotations

from typing import Final

from agent.delivery.broker import alert_topic
from contracts.eve import canonical_json

PREFIX: Final = "homeassistant"  # Home Assistant's own default
EVENT_TYPES: Final = ("severity_1", "severity_2", "severity_3")

_ATTRIBUTES: Final = {
    "signature": "value_json.alert.signature",
    "source": "value_json.src_ip",
    "destination": "value_json.dest_ip",
    "device": "value_json.alert.context.penstock.device.ip",
    "class": "value_json.alert.context.penstock.class",
    "state": "value_json.alert.context.penstock.state",
    "incident_id": "value_json.alert.context.penstock.incident_id",
}


def discovery_topic(gateway: str) -> str:
    """Return where a gateway introduces itself; Home Assistant takes no dots there.

    >>> discovery_topic("cellar.lan")
    'homeassistant/device/penstock_cellar_2elan/config'
    """
    return f"{PREFIX}/device/{_object_id(gateway)}/config"


def discovery(gateway: str, *, availability_topic: str) -> bytes:
    """Return what a gateway says of itself and of its alerts."""
    ours = _object_id(gateway)
    alerts = alert_topic(gateway, "+")
    told = ", ".join(f"'{name}': {value}" for name, value in _ATTRIBUTES.items())
    event = f"{{{{ {{'event_type': 'severity_' ~ value_json.alert.severity, {told}}} | to_json }}}}"
    message = {
        "device": {
            "identifiers": [ours],
            "name": f"Penstock {gateway}",
            "manufacturer": "Penstock",
            "model": "Intrusion detection",
        },
        "origin": {"name": "penstock"},
        "availability_topic": availability_topic,
        "qos": 1,
        "components": {
            "alert": {
                "platform": "event",
                "unique_id": f"{ours}_alert",
                "name": "Alert",
                "icon": "mdi:shield-alert",
                "state_topic": alerts,
                "event_types": list(EVENT_TYPES),
                "value_template": event,
            },
            "signature": {
                "platform": "sensor",
                "unique_id": f"{ours}_signature",
                "name": "Last alert",
                "icon": "mdi:shield-search",
                "state_topic": alerts,
                "value_template": "{{ value_json.alert.signature[:255] }}",
            },
            "severity": {
                "platform": "sensor",
                "unique_id": f"{ours}_severity",
                "name": "Last severity",
                "icon": "mdi:alert",
                "state_topic": alerts,
                "value_template": "{{ value_json.alert.severity }}",
            },
        },
    }
    return canonical_json(message).encode()


def _object_id(gateway: str) -> str:
    return "penstock_" + gateway.replace(".", "_2e")
