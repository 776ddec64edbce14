"""Runs one kind of attack: `python -m lab.bots KIND --target ADDRESS --count N --rate R ...`.

Every kind is bounded by a count and a rate that the command line must give, carries nothing that would harm, and
refuses to run anywhere but in a namespace that a lab made, or against an address that the lab has not. The one kind
that names addresses of others, `search_internet`, reaches nobody: the internet of a lab throws away what it has no host
for.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lab.bots import connections, leaks, mirai, mqtt, packets, web
from lab.bots.bounds import OutsideTheLab, own_lab
from lab.bots.pace import Told

KINDS: dict[str, Callable[[Told], None]] = {
    kind.__name__: kind
    for kind in (
        connections.telnet_guess,
        connections.modbus_misuse,
        connections.modbus_storm,
        connections.modbus_mapping,
        connections.slow_headers,
        connections.slow_body,
        connections.knock,
        mqtt.mqtt_guess,
        mqtt.mqtt_connects,
        mqtt.mqtt_publishes,
        mqtt.mqtt_malformed,
        mqtt.mqtt_fuzz,
        mqtt.topic_bombing,
        mqtt.slow_mqtt,
        mqtt.silent_mqtt,
        web.http_requests,
        web.http_posts,
        web.web_trials,
        web.web_scan,
        web.injection,
        packets.search_internet,
        packets.spoofed_datagrams,
        packets.reflected,
        packets.reflected_names,
        leaks.beacon,
        leaks.jittered_beacon,
        leaks.web_beacon,
        leaks.name_tunnel,
        leaks.iodine_tunnel,
        leaks.upload,
        leaks.slow_leak,
        mirai.mirai_life,
    )
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.bots", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ports", type=lambda text: [int(port) for port in text.split(",")])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="turns a second")
    parser.add_argument("--jitter", type=float, default=0.4, help="of the gap between turns, as a share of it")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="bytes")
    parser.add_argument("--hold", type=float, default=1.0, help="seconds, or turns per connection")
    parser.add_argument("--words", type=lambda path: Path(path).read_text().split(), default=["root:root"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=[])
    for name in ("master", "loader", "file", "aim", "domain", "inner", "password"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--record_type", default="NULL", help="of the questions that carry a tunnel")
    return parser


def main() -> None:
    """Run one kind of attack to its end."""
    arguments = _parser().parse_args()
    try:
        told = Told(arguments, bounds=own_lab())
    except OutsideTheLab as exc:
        sys.exit(f"lab.bots: {exc}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # the lab's limit is reached: threads need not agree
    KINDS[arguments.kind](told)


if __name__ == "__main__":
    main()
