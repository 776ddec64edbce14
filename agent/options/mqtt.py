"""The options that say who speaks to which broker, and how it is let in."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agent.delivery import MqttSettings
from contracts.alert import is_gateway_id
from contracts.errors import UsageError

PASSWORD_VARIABLE = "PENSTOCK_MQTT_PASSWORD"


def gateway(text: str) -> str:
    """Return a gateway id: it names alerts, an MQTT client and a level of a topic."""
    if not is_gateway_id(text):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted 1 to 64 letters, digits, dots, dashes or underscores")
    return text


def add_mqtt_arguments(parser: argparse.ArgumentParser, *, purpose: str = "send alerts here") -> None:
    """Add where the broker is and how to be let in."""
    add = parser.add_argument
    add("--mqtt", metavar="URL", help=f"{purpose}: mqtt://[USER@]HOST[:PORT], or mqtts:// with TLS")
    add("--mqtt-ca", type=Path, metavar="FILE", help="certificates that may have signed the broker's")
    add("--mqtt-cert", type=Path, metavar="FILE", help="our certificate, where the broker wants one")
    add("--mqtt-key", type=Path, metavar="FILE", help="its key")
    password_help = f"file that holds the broker's password (or set {PASSWORD_VARIABLE})"
    add("--mqtt-password-file", type=Path, metavar="FILE", help=password_help)
    plaintext_help = "allow mqtt:// to another host, where everyone between can read the alerts"
    add("--mqtt-allow-plaintext", action="store_true", help=plaintext_help)


def mqtt_settings(
    args: argparse.Namespace, *, client_id: str | None = None, max_backoff_s: float = 2.0
) -> MqttSettings | None:
    """Return how to reach the broker; None where none was asked for. Raises UsageError.

    `client_id`: who is no gateway, and only listens.
    """
    if args.mqtt is None:
        return None
    if args.mqtt_cert is None and args.mqtt_key is not None:
        raise UsageError("--mqtt-key is of no use without --mqtt-cert")
    file = args.mqtt_password_file
    return MqttSettings.from_url(
        args.mqtt,
        gateway=args.gateway if client_id is None else client_id,
        client_id=client_id,
        password=None if file else os.environ.get(PASSWORD_VARIABLE),
        password_file=file,
        allow_plaintext=args.mqtt_allow_plaintext,
        ca=args.mqtt_ca,
        cert=args.mqtt_cert,
        key=args.mqtt_key,
        max_backoff_s=max_backoff_s,
    )


def mqtt_files(args: argparse.Namespace) -> tuple[Path, ...]:
    """Return the files these options name."""
    named = (args.mqtt_ca, args.mqtt_cert, args.mqtt_key, args.mqtt_password_file)
    return tuple(path for path in named if path is not None)
