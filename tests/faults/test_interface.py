"""The interface goes down and up, and is deleted and made again, under an agent that watches it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.broker import Subscriber
from tests.capture.wire import Wire, ip
from tests.faults.figures import Figures, times
from tests.faults.running import play, running, scan_of, signed_bundle, victim

NOT_ALL_DELIVERED = 69  # the last messages of many incidents may still wait in the outbox after a farewell's second

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]


def test_attacks_are_told_after_each_flap_and_each_new_interface(wire: Wire, broker, tmp_path: Path, figures: Figures):
    turns, after_s, number, sent = times(3, long=30), {"flap": [], "new interface": []}, 0, 0
    port = broker().start().port
    bundle = signed_bundle(tmp_path / "bundle")

    with (
        Subscriber(port).listening() as subscriber,
        running("--mqtt", f"mqtt://127.0.0.1:{port}", folder=tmp_path, bundle=bundle) as agent,
    ):
        for turn in range(turns):
            for what, seconds in after_s.items():
                if what == "flap":
                    ip("-n", wire.near, "link", "set", "eth0", "down")
                    time.sleep(0.05 * (turn % 3))
                    ip("-n", wire.near, "link", "set", "eth0", "up")
                else:
                    wire.cut()
                    time.sleep(0.05 * (turn % 3))
                    wire.lay()
                back_s = time.monotonic()
                while subscriber.heard.empty() or not _is_of(subscriber, victim(number)):
                    assert time.monotonic() - back_s < 120, f"no attack is told after turn {turn}, {what}"
                    sent += play(wire, scan_of(victim(number)))[1]
                seconds.append(time.monotonic() - back_s)
                number += 1
        counts = agent.stop()

    figures.told(
        fault=f"interface flaps and is made again, {turns} times each",
        goal="attacks are told again, accounting exact",
        told_after_a_flap_at_most_s=max(after_s["flap"]),
        told_after_a_new_interface_at_most_s=max(after_s["new interface"]),
        frames_sent=sent,
        seen=counts.seen,
        dropped=counts.dropped,
    )
    assert agent.process.returncode in (0, NOT_ALL_DELIVERED)
    assert counts.uneven == 0
    assert 0 < counts.seen <= sent


def _is_of(subscriber: Subscriber, address: str) -> bool:
    """Take what was heard; return whether it tells of an attack on that device."""
    while not subscriber.heard.empty():
        message = subscriber.heard.get()
        if "/alert/" in message.topic and f'"{address}"'.encode() in message.payload:
            return True
    return False
