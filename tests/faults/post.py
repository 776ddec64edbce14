"""A process that does nothing but hand alerts to a delivery: `python -m tests.faults.post ORDERS`, orders in JSON.

It publishes `count` alerts, `per_s` a second, over the outbox at `outbox` to the broker at `port`, says on a line when
all are on disk, and, where `drain` is set, waits until the broker has them. Its memory is that of the delivery alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from agent.delivery import Bounds, Delivery, MqttSettings
from benchmarks.harness import first_line_of
from tests.alerts import make_alert

LIMIT_S = 120.0


def resident_mib() -> float:
    """Return the resident memory of this process."""
    return int(first_line_of("/proc/self/status", "VmRSS").split()[0]) / 1024


def say(**what: float) -> None:
    print(json.dumps(what), flush=True)


def main(orders: dict) -> None:
    settings = MqttSettings.from_url(f"mqtt://127.0.0.1:{orders['port']}", gateway="cellar", client_id="cellar")
    count, per_s = orders["count"], orders["per_s"]
    with Delivery(mqtt=settings, outbox=Path(orders["outbox"]), bounds=Bounds(rows=100_000)) as delivery:
        began_s, first_mib, most_mib = time.monotonic(), 0.0, 0.0
        for number in range(count):
            time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
            delivery.publish(make_alert(number))
            if number == min(100, count - 1):
                first_mib = resident_mib()
        most_mib = resident_mib()
        say(published=count, first_mib=first_mib, published_mib=most_mib)
        until_s = time.monotonic() + LIMIT_S
        while left := delivery.drain(0.2):
            most_mib = max(most_mib, resident_mib())
            if time.monotonic() > until_s:
                break
        say(left=left, most_mib=most_mib, end_mib=resident_mib(), dropped=delivery.dropped)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
