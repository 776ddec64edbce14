"""Which windows are kept: evenly drawn outside incidents, by incident inside, none near one."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agent.learning.keeping import ALL_OF_FIRST, BLOCK_US, MAX_DEVICES, NEAR_US, Keeper
from contracts.classes import BENIGN, NAMES
from contracts.samples import MAX_PER_INCIDENT, Sample
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from detection.onnx_engine import OnnxEngine
from flowfeatures import WINDOW_COLUMNS, WindowBatch, address_bytes

SCAN, FLOOD = NAMES.index("scan"), NAMES.index("flood")
INCIDENT = "00000000-0000-7000-8000-0000000000a1"
CAMERA, PLUG, STRANGER = (address_bytes(each) for each in ("192.168.1.9", "192.168.1.7", "203.0.113.5"))
START_US = 1_800_000_000_000_000 // BLOCK_US * BLOCK_US


class Book:
    """What was kept and let go."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.let_go: list[tuple[bytes, int, int]] = []

    def keeper(self, **changes: Any) -> Keeper:
        return Keeper(self.samples.append, lambda *what: self.let_go.append(what), **changes)


@pytest.fixture
def book() -> Book:
    return Book()


def batch(*windows: tuple[bytes, int]) -> WindowBatch:
    """Return windows of devices at times; the first column tells which is which."""
    values = np.zeros((len(windows), 16, len(WINDOW_COLUMNS)), np.float32)
    values[:, 0, 0] = np.arange(len(windows))
    mask = np.zeros((len(windows), 16), np.float32)
    mask[:, :3] = 1.0
    device = np.array([list(each) for each, _ in windows], np.uint8)
    due_us = np.array([due_us for _, due_us in windows], np.int64)

    class Batch(SimpleNamespace):
        def __len__(self) -> int:
            return len(windows)

    return cast("WindowBatch", Batch(values=values, mask=mask, device=device, due_us=due_us))


def see(keeper: Keeper, windows: WindowBatch, *, over: int = BENIGN) -> None:
    keeper.observe(windows, np.full(len(windows), -5.0), np.full(len(windows), over))


def update(number: int, *, at_us: int, reason: str = "opened", class_index: int = SCAN) -> IncidentUpdate:
    parties = SimpleNamespace(attacker=STRANGER, victim=CAMERA)
    return cast(
        "IncidentUpdate",
        SimpleNamespace(
            incident_id=INCIDENT, update=number, at_us=at_us, opened_us=START_US, device=CAMERA, parties=parties,
            class_index=class_index, closed=reason.startswith("closed"),
        ),
    )  # fmt: skip


def test_of_five_minutes_of_a_device_one_window_is_kept(book: Book):
    keeper = book.keeper()
    for second in range(300):
        see(keeper, batch((CAMERA, START_US + second * 1_000_000), (PLUG, START_US + second * 1_000_000)))

    keeper.advance(START_US + BLOCK_US)

    assert sorted(each.device for each in book.samples) == sorted([CAMERA, PLUG])
    assert all(each.incident_id is None and each.class_index == BENIGN for each in book.samples)
    assert [each.rows.shape for each in book.samples] == [(3, len(WINDOW_COLUMNS))] * 2


def test_each_window_of_the_five_minutes_is_as_likely_as_any_other():
    kept: Counter[int] = Counter()
    chance = np.random.default_rng(7)
    for _ in range(4000):
        book = Book()
        keeper = book.keeper(chance=chance.random)
        see(keeper, batch(*((CAMERA, START_US + place) for place in range(8))))
        keeper.finish()
        kept[int(book.samples[0].rows[0, 0])] += 1

    assert len(kept) == 8
    assert all(400 < count < 600 for count in kept.values()), kept  # 500 each; the deviation is 21


def test_an_hour_holds_twelve_of_a_device_whatever_it_sends(book: Book):
    keeper = book.keeper()
    for second in range(3600):
        see(keeper, batch((CAMERA, START_US + second * 1_000_000)))
    keeper.finish()

    assert len(book.samples) == 12


def test_devices_beyond_the_room_are_counted(book: Book):
    keeper = book.keeper()

    see(keeper, batch(*((number.to_bytes(16, "big"), START_US) for number in range(MAX_DEVICES + 3))))
    keeper.finish()

    assert (len(book.samples), keeper.left_out) == (MAX_DEVICES, 3)


def test_the_windows_that_open_an_incident_are_kept_under_its_id(book: Book):
    keeper = book.keeper()
    see(keeper, batch((CAMERA, START_US), (CAMERA, START_US + 1)), over=SCAN)
    see(keeper, batch((PLUG, START_US)), over=SCAN)
    see(keeper, batch((CAMERA, START_US)), over=FLOOD)

    keeper.incident(update(0, at_us=START_US + 2))

    assert [(each.device, each.incident_id, each.class_index) for each in book.samples] == [
        (CAMERA, INCIDENT, SCAN)
    ] * 2


def test_so_are_those_that_follow_to_its_end_ever_more_rarely(book: Book):
    keeper = book.keeper(chance=np.random.default_rng(1).random)
    keeper.incident(update(0, at_us=START_US))

    for place in range(5000):
        see(keeper, batch((CAMERA, START_US + place * 1000)), over=SCAN)

    assert ALL_OF_FIRST < len(book.samples) <= MAX_PER_INCIDENT
    assert book.samples[-1].due_us > START_US + 300 * 1000


def test_what_was_over_a_threshold_and_opened_nothing_is_not_kept(book: Book):
    keeper = book.keeper()

    see(keeper, batch((CAMERA, START_US)), over=SCAN)
    keeper.advance(START_US + 2 * BLOCK_US)
    keeper.finish()

    assert book.samples == []


def test_near_an_incident_nothing_quiet_is_kept_and_what_was_is_let_go(book: Book):
    keeper = book.keeper()
    see(keeper, batch((CAMERA, START_US), (PLUG, START_US)))
    keeper.incident(update(0, at_us=START_US + 5))
    see(keeper, batch((CAMERA, START_US + 10)))
    keeper.incident(update(1, at_us=START_US + 20, reason="closed: quiet"))
    see(keeper, batch((CAMERA, START_US + 20 + NEAR_US)))
    keeper.finish()

    assert [each.device for each in book.samples] == [PLUG]
    assert (CAMERA, START_US - NEAR_US, START_US + 5) in book.let_go


def test_an_hour_after_its_end_the_device_is_kept_again(book: Book):
    keeper = book.keeper()
    keeper.incident(update(0, at_us=START_US))
    keeper.incident(update(1, at_us=START_US + 20, reason="closed: quiet"))

    see(keeper, batch((CAMERA, START_US + 21 + NEAR_US)))
    keeper.finish()

    assert [each.device for each in book.samples] == [CAMERA]


def test_a_device_that_changes_its_address_stays_near_its_incident(book: Book):
    keeper = book.keeper()
    keeper.incident(update(0, at_us=START_US))

    keeper.moved(CAMERA, PLUG)
    see(keeper, batch((PLUG, START_US + 10)))
    keeper.incident(update(1, at_us=START_US + 20, reason="closed: quiet"))
    see(keeper, batch((PLUG, START_US + 30)))
    keeper.finish()

    assert book.samples == []


def test_a_detector_shows_what_it_judged_and_what_incidents_said(book: Book):
    pytest.importorskip("onnxruntime")
    from tests.federation import homes

    (truth,) = homes.ground_truth.load(homes.DEMO)
    detector = Detector(homes.bundle(), OnnxEngine(homes.bundle()), home_nets=truth.home_nets, observer=book.keeper())
    pinned = {each.incident_id for each in _replayed(detector, truth)}

    kept = {each.incident_id for each in book.samples if each.incident_id is not None}
    assert kept
    assert kept <= pinned
    assert all(each.margin > 0 for each in book.samples if each.incident_id is not None)
    assert all(each.margin <= 0 for each in book.samples if each.incident_id is None)


def _replayed(detector: Detector, truth: Any) -> list[IncidentUpdate]:
    from flowfeatures import DeviceWindows, FlowMeter, FlowSettings, open_capture

    meter, windows = FlowMeter(FlowSettings(partials=True)), DeviceWindows(home_nets=truth.home_nets)
    updates = []
    with open_capture(truth.path) as capture:
        for records in meter.read(capture):
            for each in windows.add(records):
                updates += detector.add(each)
    return updates + detector.close()
