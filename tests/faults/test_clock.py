"""The wall clock is set an hour on or back, as when a board without a battery hears of the time.

The clock is the test's: this machine's is not touched. Frames are stamped by the same clock, as a kernel stamps them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the cpu extra")

from agent.delivery import Bounds, Outbox
from agent.delivery.outbox import Letter
from tests.agent.live.test_pipeline import World, chunks
from tests.capture.test_several import Scripted
from tests.faults.figures import Figures, times
from tests.faults.running import scan_of, victim
from tests.flowfeatures.packets import START_US
from tests.flowfeatures.ring_memory import Forged

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000


def test_attacks_are_found_after_every_step_and_every_window_is_accounted_for(tmp_path: Path, figures: Figures):
    steps = times(6, long=200)
    world = World(tmp_path, Scripted())
    (point,) = world.pipeline.interfaces.points
    now_us, found_s, uneven = START_US, [], 0

    for number in range(steps):
        step_us = HOUR_US if number % 3 else -HOUR_US
        now_us += step_us
        world.clocks.wall_us += step_us
        frames = scan_of(victim(number), ports=40)
        first_us = frames[0][0]
        made = [Forged(frame, ts_us=now_us + at_us - first_us) for at_us, frame in frames]
        told = len(world.alerts)
        point.source.steps += [*chunks(made), made[-1].ts_us + 1_000_000]
        world.play()
        mine = [alert for alert in world.alerts[told:] if alert.update == 0 and alert.dest_ip == victim(number)]
        found_s.append((mine[0].timestamp_us - now_us) / 1e6 if mine else float("inf"))
        uneven += not world.adds_up()
        passed_us = made[-1].ts_us + MINUTE_US - now_us
        now_us += passed_us
        world.clocks.wall_us += passed_us
        world.clocks.steady_us += passed_us
    world.pipeline.finish()

    figures.told(
        fault="clock set an hour on or back, the agent in a test's time",
        goal="attacks found after each step, accounting exact",
        steps=steps,
        steps_noticed=world.pipeline.interfaces.clock_steps,
        attacks=steps,
        missed=found_s.count(float("inf")),
        evidence_at_most_s=max(found_s),
        uneven_accounts=uneven,
        flows_left_in_the_table=point.meter.counters["live_flows"],
    )
    assert max(found_s) < 5.0
    assert uneven == 0
    assert point.meter.counters["live_flows"] == 0


@pytest.mark.parametrize("step_us", [-HOUR_US, HOUR_US], ids=["back", "on"])
def test_no_alert_leaves_the_outbox_for_an_hour_that_never_passed(tmp_path: Path, figures: Figures, step_us: int):
    now_us = START_US + 365 * 24 * HOUR_US
    letters = [Letter(2, "cellar", "scan", str(number), b"x" * 900) for number in range(1_000)]
    outbox = Outbox(tmp_path / "outbox.db", bounds=Bounds(age_s=7_200.0), clock_us=lambda: now_us)

    outbox.apply(added=letters[:500])
    now_us += step_us
    outbox.apply(added=letters[500:])
    kept = {letter.alert_id for _, letter in outbox.after(0, 2_000)}
    outbox.close()

    figures.told(
        fault=f"clock set an hour {'on' if step_us > 0 else 'back'}, an outbox that keeps for two hours",
        goal="0 lost",
        alerts=len(letters),
        lost=len(letters) - len(kept),
    )
    assert len(kept) == len(letters)
