"""The broker sample in deploy/mosquitto, with nothing changed but paths and the port."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from tests.broker import Broker
from tests.delivery.certificates import Authority

SAMPLE = Path(__file__).resolve().parents[1] / "deploy" / "mosquitto"


def as_sample(made: Broker, authority: Authority, folder: Path) -> Broker:
    """Give a broker that has not started the sample's settings and rights."""
    cert, key = authority.issue("broker")
    acl = folder / "acl"
    acl.write_text((SAMPLE / "penstock.acl").read_text())
    acl.chmod(0o600)
    places = {
        "/etc/mosquitto/certs/ca.pem": authority.ca,
        "/etc/mosquitto/certs/broker.crt": cert,
        "/etc/mosquitto/certs/broker.key": key,
        "/etc/mosquitto/penstock.acl": acl,
    }
    text = (SAMPLE / "penstock.conf").read_text()
    for place, file in places.items():
        assert place in text
        text = text.replace(place, str(file))
    assert "\nlistener 8883\n" in text
    text = text.replace("\nlistener 8883\n", f"\nlistener {made.port} 127.0.0.1\n")
    (made.folder / "mosquitto.conf").write_text(f"user {pwd.getpwuid(os.getuid()).pw_name}\n{text}")
    return made
