"""Runs one kind of attack: `python -m lab.bots KIND --target ADDRESS --count N --rate R ...`.

Every kind is bounded by a count and a rate that the command line must give, carries nothing that would harm, and
refuses to run anywhere but in a namespace that a lab made.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab.bots import connections, leaks, packets
from lab.bots.pace import Told
from lab.network import NAMESPACE_PREFIX
from lab.tools import find

KINDS: dict[str, Callable[[Told], None]] = {
    kind.__name__: kind
    for kind in (
        connections.telnet_guess,
        connections.mqtt_guess,
        connections.mqtt_connects,
        connections.mqtt_publishes,
        connections.mqtt_malformed,
        connections.modbus_misuse,
        connections.http_requests,
        connections.web_trials,
        connections.slow_headers,
        connections.slow_body,
        connections.slow_mqtt,
        connections.knock,
        packets.search_internet,
        packets.reflected,
        leaks.beacon,
        leaks.name_tunnel,
        leaks.upload,
    )
}


def refuse_outside_a_lab() -> None:
    """Exit unless this process stands in a namespace that a lab made."""
    asked = [find("ip"), "netns", "identify", str(os.getpid())]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if not answer.stdout.startswith(NAMESPACE_PREFIX):
        sys.exit("lab.bots: runs only on a host of a lab's own network")


def main() -> None:
    """Run one kind of attack to its end."""
    parser = argparse.ArgumentParser(prog="lab.bots", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ports", type=lambda text: [int(port) for port in text.split(",")])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="turns a second")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="bytes")
    parser.add_argument("--hold", type=float, default=1.0, help="seconds, or turns per connection")
    parser.add_argument("--words", type=lambda path: Path(path).read_text().split(), default=["root:root"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    refuse_outside_a_lab()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # the lab's limit is reached: threads need not agree
    KINDS[arguments.kind](Told(arguments))


if __name__ == "__main__":
    main()
