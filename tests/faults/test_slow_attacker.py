"""Somebody knocks at one port after the other, slowly, from the first minute on: before anything is calibrated.

Hours pass in a test's time, through the real path: frames, flows, windows, the shipped bundle, calibration, incidents.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the cpu extra")

from contracts.bundle import default_bundle
from detection.calibration import Calibrator
from detection.detector import Detector
from detection.onnx_engine import OnnxEngine
from flowfeatures import DeviceWindows, FlowMeter, FlowSettings, address_text
from flowfeatures.frames import FrameBlock
from tests.e2e.scan import SCANNER, chat_frames
from tests.faults.figures import IS_LONG, Figures
from tests.faults.running import scan_of
from tests.flowfeatures.packets import TimedFrame

pytestmark = pytest.mark.slow

HOUR_S = 3_600
HOURS = 6 if IS_LONG else 2
VICTIM = "192.168.1.10"
AT_ONCE = 512


def hours_of_frames(every_s: float) -> Iterator[TimedFrame]:
    """Give a phone's conversations and a knock every so often, in order of time."""
    chats = chat_frames(times=HOURS * HOUR_S // 5, every_s=5.0)
    knocks = scan_of(VICTIM, ports=int(HOURS * HOUR_S / every_s), every_s=every_s)
    return heapq.merge(chats, knocks)


@pytest.mark.parametrize("every_s", [1.0, 5.0, 20.0], ids=["each-second", "each-5-s", "each-20-s"])
def test_it_is_found_in_the_first_hour_and_after_it(tmp_path: Path, figures: Figures, every_s: float):
    bundle = default_bundle()
    calibrator = Calibrator(bundle)
    detector = Detector(bundle, OnnxEngine(bundle), calibrator=calibrator)
    meter, windows = FlowMeter(FlowSettings(partials=True)), DeviceWindows(window=bundle.manifest.window)
    updates, began_us, states = [], 0, {}

    frames = list(hours_of_frames(every_s))
    began_us = frames[0][0]
    for at in range(0, len(frames), AT_ONCE):
        part = frames[at : at + AT_ONCE]
        block = FrameBlock.of([frame for _, frame in part], [at_us for at_us, _ in part])
        for records in meter.add(block):
            for batch in windows.add(records):
                updates += detector.add(batch)
        for records in meter.advance(part[-1][0]):
            for batch in windows.add(records):
                updates += detector.add(batch)
        for batch in windows.advance(part[-1][0]):
            updates += detector.add(batch)
        updates += detector.advance(part[-1][0])
        states[(part[-1][0] - began_us) // (HOUR_S * 1_000_000)] = calibrator.facts().state

    mine = [update for update in updates if address_text(update.device) == VICTIM and update.update == 0]
    seen = [update for update in updates if address_text(update.device) == VICTIM]
    hours = sorted({(update.at_us - began_us) // (HOUR_S * 1_000_000) for update in seen})
    others = {update.incident_id for update in updates if address_text(update.device) != VICTIM}
    figures.told(
        fault=f"slow attacker from the first minute on, a port every {every_s:g} s",
        goal="found in the first hour",
        found_after_s=(mine[0].at_us - began_us) / 1e6 if mine else "never",
        after_knocks=int((mine[0].at_us - began_us) / 1e6 / every_s) if mine else "-",
        as_class=mine[0].class_name if mine else "-",
        hours_with_a_message=f"{len(hours)} of {HOURS}",
        calibration_at_the_end=str(states[max(states)]),
        incidents_of_others=len(others),
    )
    assert mine
    assert (mine[0].at_us - began_us) / 1e6 < HOUR_S
    assert SCANNER in {address_text(update.parties.attacker) for update in seen}
