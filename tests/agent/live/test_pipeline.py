"""The live path with forged interfaces, real flows and windows, and scores that can be read off them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.alerts import AlertWriter
from agent.capture.several import Point, Several
from agent.live.overload import WaitingWindows
from agent.live.pipeline import LivePipeline
from agent.stopwatch import Stopwatch
from contracts.alert import Alert
from contracts.bundle import load_bundle
from contracts.errors import BundleCorrupt, BundleError
from detection.detector import Detector
from detection.onnx_engine import OnnxEngine
from flowfeatures import DEFAULT_HOME_NETS, DeviceWindows, FlowMeter, FlowSettings, HomeNets, WindowBatch
from tests.bundles import write_refusal_bundle
from tests.capture.test_several import Clocks, Scripted
from tests.e2e.scan import scan_frames
from tests.flowfeatures.packets import START_US
from tests.flowfeatures.ring_memory import Forged

pytest.importorskip("onnxruntime")


class Broken:
    """An engine that fails until it is mended."""

    name = provider = "broken"

    def __init__(self, engine: OnnxEngine) -> None:
        self.engine = engine
        self.is_broken = False

    def score(self, windows: np.ndarray, mask: np.ndarray):
        if self.is_broken:
            raise BundleCorrupt("gave 7 as probabilities")
        return self.engine.score(windows, mask)


class World:
    """A live pipeline over interfaces whose frames and clocks the test holds."""

    def __init__(self, folder: Path, *scripts: Scripted, max_waiting: int = 4096) -> None:
        bundle = load_bundle(write_refusal_bundle(folder / "bundle"))
        self.clocks = Clocks()
        self.engine = Broken(OnnxEngine(bundle))
        self.alerts: list[Alert] = []
        self.windows_seen = 0
        points = [
            Point(interface=f"wire{number}", source=script, meter=FlowMeter(FlowSettings(partials=True)))
            for number, script in enumerate(scripts)
        ]
        clocks = self.clocks
        self.now_s = 0.0
        self.pipeline = LivePipeline(
            interfaces=Several(points, now_us=lambda: clocks.wall_us, steady_us=lambda: clocks.steady_us),
            new_windows=lambda: DeviceWindows(window=bundle.manifest.window),
            waiting=WaitingWindows(now_s=self.now, max_waiting=max_waiting),
            detector=Detector(bundle, self.engine),
            alerts=AlertWriter(bundle.manifest, gateway="cellar", home=HomeNets(DEFAULT_HOME_NETS)),
            publish=self.alerts.append,
            stopwatch=Stopwatch(),
            watcher=self,
            now_s=self.now,
        )

    def now(self) -> float:
        return self.now_s

    def judged(self, batch: WindowBatch) -> None:
        self.windows_seen += len(batch)

    def failed(self, error: BundleError) -> None:
        self.engine.is_broken = False

    def turn(self, *, after_s: float = 0.05) -> None:
        self.now_s += after_s
        self.pipeline.turn()

    def play(self) -> None:
        """Turn until all that the interfaces have to give was judged."""
        while any(point.source.steps for point in self.pipeline.interfaces.points):
            self.turn()
        self.turn()

    def adds_up(self) -> bool:
        pipeline = self.pipeline
        return (
            pipeline.windows_due
            == pipeline.detector.windows + pipeline.waiting.shed + len(pipeline.waiting)
            == pipeline.waiting.due
        )


def scan(*, ports: int = 40, begin_s: float = 0.0) -> list[Forged]:
    frames = scan_frames(ports=ports, begin_s=begin_s, every_s=0.01)
    first_us = frames[0][0]
    return [Forged(frame, ts_us=START_US + at_us - first_us) for at_us, frame in frames]


def chunks(frames: list[Forged], size: int = 10) -> list[list[Forged] | int]:
    """Return blocks of frames, each followed by a moment in which the wire is quiet."""
    steps: list[list[Forged] | int] = []
    for at in range(0, len(frames), size):
        part = frames[at : at + size]
        steps += [part, part[-1].ts_us + 1]
    return steps


def test_an_attack_is_told_while_it_goes_on_and_closed_at_the_end(tmp_path: Path):
    frames = scan()
    world = World(tmp_path, Scripted(*chunks(frames), frames[-1].ts_us + 10**6), Scripted(START_US + 10**9))

    world.play()
    while_going_on = [alert.update for alert in world.alerts]
    world.pipeline.finish()

    assert while_going_on[:1] == [0]
    assert {alert.attack_class for alert in world.alerts} == {"scan"}
    assert world.alerts[-1].state == "closed"
    assert world.adds_up()
    assert world.windows_seen == world.pipeline.detector.windows > 0


def test_the_accounts_of_windows_come_out_even_after_every_turn(tmp_path: Path):
    steps = chunks(scan(ports=100), size=3)
    world = World(tmp_path, Scripted(*steps), max_waiting=1)

    checks = []
    for _ in steps:
        world.turn(after_s=0.001)
        checks.append(world.adds_up())

    assert all(checks)


def test_no_incident_closes_while_a_window_of_before_still_waits(tmp_path: Path):
    frames = scan()
    world = World(tmp_path, Scripted(frames, frames[-1].ts_us + 400 * 10**6))
    world.engine.score = lambda windows, mask: pytest.fail("scored before its time")

    world.turn(after_s=0.0)

    assert len(world.pipeline.waiting) > 0
    assert world.alerts == []


def test_a_bundle_that_fails_costs_no_window(tmp_path: Path):
    frames = scan()
    world = World(tmp_path, Scripted(*chunks(frames), frames[-1].ts_us + 10**6))
    world.engine.is_broken = True

    world.play()

    assert not world.engine.is_broken
    assert world.alerts
    assert world.adds_up()


@pytest.mark.parametrize("step_us", [-3_600_000_000, 3_600_000_000], ids=["back", "on"])
def test_an_attack_is_found_again_after_the_clock_was_set(tmp_path: Path, step_us: int):
    before, after = scan(), scan()
    later = [Forged(each.octets, ts_us=each.ts_us + step_us) for each in after]
    world = World(tmp_path, Scripted(*chunks(before)))
    world.play()
    found_before = len({alert.incident_id for alert in world.alerts})
    world.pipeline.interfaces.points[0].source.steps += [*chunks(later), later[-1].ts_us + 10**6]
    world.clocks.wall_us += step_us

    world.play()
    world.pipeline.finish()

    assert found_before == 1
    assert len({alert.incident_id for alert in world.alerts}) == 2
    assert world.adds_up()
    assert world.pipeline.interfaces.points[0].meter.counters["live_flows"] == 0
