"""The loop over all hops, with real flows and windows and scores that can be read off them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.alerts import AlertWriter
from agent.capture.replay import CaptureFiles
from agent.console.pace import Pace
from agent.pipeline import Pipeline
from agent.stopping import StopRequest
from agent.stopwatch import Stopwatch
from contracts.alert import Alert
from contracts.bundle import load_bundle
from detection.detector import Detector
from detection.onnx_engine import OnnxEngine
from flowfeatures import DEFAULT_HOME_NETS, DeviceWindows, FlowMeter, FlowSettings, HomeNets
from tests.bundles import write_refusal_bundle
from tests.e2e.scan import write_scan


class Recorder:
    """Remembers in which order times were waited for and alerts went out."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def wait_for(self, packet_us: int) -> None:
        self.events.append(("wait", packet_us))

    def publish(self, alert: Alert) -> None:
        self.events.append(("publish", alert.update))


@pytest.fixture
def pipeline_and_recorder(tmp_path: Path) -> tuple[Pipeline, Recorder]:
    pytest.importorskip("onnxruntime")
    bundle = load_bundle(write_refusal_bundle(tmp_path / "bundle"))
    recorder = Recorder()
    pipeline = Pipeline(
        meter=FlowMeter(FlowSettings(partials=True)),
        windows=DeviceWindows(window=bundle.manifest.window),
        detector=Detector(bundle, OnnxEngine(bundle)),
        alerts=AlertWriter(bundle.manifest, gateway="cellar", home=HomeNets(DEFAULT_HOME_NETS)),
        publish=recorder.publish,
        stopwatch=Stopwatch(),
        wait_for=recorder.wait_for,
    )
    return pipeline, recorder


def run(pipeline: Pipeline, *captures: Path) -> None:
    stop = StopRequest()
    pipeline.run(CaptureFiles(captures, stop=stop, pace=Pace(None, stop=stop)))


def test_every_message_waits_for_its_time_and_then_goes_out(
    pipeline_and_recorder: tuple[Pipeline, Recorder], tmp_path: Path
):
    pipeline, recorder = pipeline_and_recorder

    run(pipeline, write_scan(tmp_path / "scan.pcap"))

    kinds = [kind for kind, _ in recorder.events]
    assert kinds == ["wait", "publish"] * pipeline.alerts_made
    times = [value for kind, value in recorder.events if kind == "wait"]
    assert times == sorted(times)


def test_everything_that_entered_is_accounted_for(pipeline_and_recorder: tuple[Pipeline, Recorder], tmp_path: Path):
    pipeline, _ = pipeline_and_recorder

    run(pipeline, write_scan(tmp_path / "scan.pcap"))

    meter = pipeline.meter.counters
    assert meter["packets"] == meter["decoded"] == 240
    assert meter["live_flows"] == 0
    assert pipeline.windows.counters["windows"] == pipeline.detector.windows > 0
    assert pipeline.alerts_made == sum(incident.update + 1 for incident in pipeline.detector.incidents)


def test_every_stage_is_timed(pipeline_and_recorder: tuple[Pipeline, Recorder], tmp_path: Path):
    pipeline, _ = pipeline_and_recorder

    run(pipeline, write_scan(tmp_path / "scan.pcap"))

    assert set(pipeline.stopwatch.seconds) == {"flows", "windows", "decisions", "delivery", "total"}


def test_an_incident_closes_by_the_clock_where_nothing_comes_any_more(
    pipeline_and_recorder: tuple[Pipeline, Recorder], tmp_path: Path
):
    pipeline, recorder = pipeline_and_recorder
    stop = StopRequest()
    scan = CaptureFiles([write_scan(tmp_path / "scan.pcap")], stop=stop, pace=Pace(None, stop=stop))
    for records in scan.records(pipeline.meter):
        pipeline._window(records)
    told = len(recorder.events)

    pipeline.advance(pipeline.meter.clock_us + 3_600_000_000)

    assert told > 0
    assert len(recorder.events) > told
    assert all(incident.closed for incident in pipeline.detector.incidents)
