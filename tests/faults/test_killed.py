"""The agent is killed again and again, as by the kernel's memory killer, while no broker answers its alerts."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.broker import Door, Subscriber
from tests.capture.wire import Wire
from tests.faults.figures import Figures, times
from tests.faults.running import PATIENCE_S, Agent, ids_heard, outboxed, play, running, scan_of, signed_bundle, victim

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker, pytest.mark.slow]

AGAIN_S = 3.0


def test_what_was_in_the_outbox_is_delivered_and_packets_are_taken_in_soon(
    wire: Wire, broker, tmp_path: Path, figures: Figures
):
    kills, rng, again_s, safe = times(4, long=200), random.Random(1), [], set()
    bundle, outbox = signed_bundle(tmp_path / "bundle"), tmp_path / "outbox.db"
    running_broker = broker("max_queued_messages 0").start()
    door = Door(to_port=running_broker.port)
    arguments = ("--mqtt", f"mqtt://127.0.0.1:{door.port}", "--outbox", outbox)
    killed_s = time.monotonic()

    for life in range(kills):
        agent = Agent(*arguments, folder=tmp_path, bundle=bundle)
        try:
            agent.watching()
            again_s.append(time.monotonic() - killed_s)
            play(wire, scan_of(victim(life)))
            time.sleep(rng.uniform(0.0, 0.6))
            if life == 0:  # at the others chance decides whether an alert is on disk
                _scan_until_outboxed(agent, wire)
        finally:
            agent.kill()
        killed_s = time.monotonic()
        safe |= outboxed(outbox)
    with (
        Subscriber(running_broker.port).listening() as subscriber,
        running(*arguments, folder=tmp_path, bundle=bundle) as agent,
    ):
        door.open()
        heard = ids_heard(subscriber, safe)
        agent.stop()
    door.shut()

    figures.told(
        fault=f"SIGKILL {kills} times",
        goal="0 outboxed lost, packets again < 3 s",
        kills=kills,
        alerts_seen_in_the_outbox=len(safe),
        lost=len(safe - set(heard)),
        packets_again_after_at_most_s=max(again_s[1:]),
        median_s=sorted(again_s[1:])[len(again_s[1:]) // 2],
    )
    assert safe, "no alert was on disk when the agent was killed: nothing was tried"
    assert safe <= set(heard)


def _scan_until_outboxed(agent: Agent, wire: Wire) -> None:
    """Return when an alert is on disk; what an agent that stood still has lost is sent again."""
    until_s = time.monotonic() + PATIENCE_S
    while agent.facts()["delivery"]["outbox_rows"] == 0:
        assert time.monotonic() < until_s, "no alert came to the outbox"
        play(wire, scan_of(victim(0)))
        again_s = time.monotonic() + 5.0
        while agent.facts()["delivery"]["outbox_rows"] == 0 and time.monotonic() < again_s:
            time.sleep(0.02)
