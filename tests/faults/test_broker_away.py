"""The broker is away while an hour's worth of alerts is made, then comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.broker import Door, Subscriber
from tests.conftest import ROOT
from tests.faults.figures import Figures, times

pytestmark = [pytest.mark.needs_broker, pytest.mark.slow]

FLAT_MIB = 16.0  # what thousands of alerts more may add to the process; each is some 900 bytes


def test_an_hour_of_alerts_waits_on_disk_and_all_of_it_arrives(broker, tmp_path: Path, figures: Figures):
    count = times(3_600, long=10_000)  # one a second; the long form fills an outbox of the default size
    running = broker("max_queued_messages 0").start()
    door = Door(to_port=running.port)  # shut: nobody answers there
    orders = {"count": count, "per_s": 2_000, "port": door.port, "outbox": str(tmp_path / "outbox.db")}

    with Subscriber(running.port).listening() as subscriber:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.post", json.dumps(orders)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            published = json.loads(process.stdout.readline())
            door.open()
            messages = subscriber.next_alerts(1)
            began_s = time.monotonic()
            messages += subscriber.next_alerts(count - 1)
            took_s = time.monotonic() - began_s
            ended = json.loads(process.stdout.readline())
            process.wait(timeout=120)
        finally:
            process.kill()
            door.shut()

    heard = [dict(message.properties.UserProperty)["alert_id"] for message in messages]
    figures.told(
        fault=f"broker away for {count:,} alerts, then back",
        goal="0 lost, >= 1,000/s drained, memory flat",
        alerts=count,
        lost=count - len(set(heard)),
        duplicates=len(heard) - len(set(heard)),
        drained_per_s=(count - 1) / took_s,
        memory_after_100_alerts_mib=published["first_mib"],
        memory_at_most_mib=max(ended["most_mib"], published["published_mib"]),
    )
    assert len(set(heard)) == count
    assert (ended["left"], ended["dropped"]) == (0, 0)
    assert ended["most_mib"] - published["first_mib"] < FLAT_MIB
