"""Values of command-line options, checked while they are read."""

from __future__ import annotations

import argparse
import ipaddress
import math


def seconds(text: str) -> float:
    """Return a finite number of seconds, not negative."""
    value = seconds_or_inf(text)
    if math.isinf(value):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a finite number of seconds")
    return value


def seconds_or_inf(text: str) -> float:
    """Return a number of seconds, not negative, or infinity."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted seconds, 0 or more")
    return value


def speed(text: str) -> float | None:
    """Return the factor of packet time a replay runs at; None for `max`."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted max or a factor above 0")
    return factor


def network(text: str) -> str:
    """Return a CIDR or a single address."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a network as 192.168.1.0/24, or an address") from None
