"""The disk that outbox and eve.json stand on is full for a while."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.broker import Door, Subscriber
from tests.capture.wire import Wire
from tests.faults.figures import Figures, times
from tests.faults.mounts import small_disk
from tests.faults.running import LASTING_RING, play, running, scan_of, signed_bundle, victim

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]

DISK_BYTES = 2 << 20


def fill(folder: Path) -> Path:
    """Take every octet that is left; return the file that holds them."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            while True:
                try:
                    if file.write(bytes(size)) < size:
                        break
                except OSError:
                    break
    return filler


def eve_victims(path: Path) -> set[str]:
    """Return the victims that whole lines of eve.json tell of. Raises ValueError where a line is broken."""
    return {json.loads(line)["dest_ip"] for line in path.read_text().splitlines()}


def test_capture_goes_on_and_alerts_are_written_again_once_there_is_room(
    wire: Wire, broker, tmp_path: Path, figures: Figures
):
    before, meanwhile, after = (times(count, long=10 * count) for count in (2, 4, 2))
    running_broker = broker("max_queued_messages 0").start()
    door, bundle, sent = Door(to_port=running_broker.port), signed_bundle(tmp_path / "bundle"), 0

    with small_disk(tmp_path / "disk", size_bytes=DISK_BYTES) as disk:
        arguments = (
            "--mqtt",
            f"mqtt://127.0.0.1:{door.port}",
            "--outbox",
            disk / "outbox.db",
            "--eve",
            disk / "eve.json",
        )
        with (
            Subscriber(running_broker.port).listening() as subscriber,
            running(*arguments, folder=tmp_path, bundle=bundle, variables=LASTING_RING) as agent,
        ):
            for number in range(before):
                sent += play(wire, scan_of(victim(number)))[1]
            time.sleep(0.7)
            filler = fill(disk)
            for number in range(before, before + meanwhile):
                sent += play(wire, scan_of(victim(number)))[1]
            time.sleep(0.7)
            free_while_full = os.statvfs(disk).f_bavail
            assert agent.process.poll() is None, f"it ended: {''.join(agent.lines[-3:])}"
            filler.unlink()
            room_s = time.monotonic()
            for number in range(before + meanwhile, before + meanwhile + after):
                sent += play(wire, scan_of(victim(number)))[1]
            door.open()
            wanted = {victim(number) for number in range(before + meanwhile + after)}
            heard: set[str] = set()
            while not wanted <= heard and time.monotonic() < room_s + 120:
                if subscriber.heard.empty():
                    time.sleep(0.02)
                    continue
                message = subscriber.heard.get()
                if "/alert/" in message.topic:
                    heard.add(json.loads(message.payload)["dest_ip"])
            delivered_s = time.monotonic() - room_s
            counts = agent.stop()
        written = eve_victims(disk / "eve.json")
    door.shut()

    figures.told(
        fault="disk full for a while",
        goal="capture goes on, counted, resumes",
        attacks=len(wanted),
        of_them_while_full=meanwhile,
        alerts_lost_to_the_broker=len(wanted - heard),
        all_delivered_after_there_was_room_s=delivered_s,
        missing_in_eve_json=len(wanted - written),
        frames_sent=sent,
        read=counts.read,
        dropped=counts.dropped,
    )
    assert free_while_full == 0
    assert (counts.read, counts.dropped, counts.uneven) == (sent, 0, 0)
    assert wanted <= heard
    assert {victim(number) for number in range(before + meanwhile, before + meanwhile + after)} <= written
