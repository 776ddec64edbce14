"""What a device's records usually hold."""

import numpy as np
import pytest

from detection.usual import LEAST_ROWS, ROWS, Usual, standing_out
from flowfeatures import address_bytes
from tests.detection.windows import BULB, CAMERA, PHONE, F, Row, Window, batch_of

COLUMN = 40


def seen(usual, device, values, *, left_out=()):
    """Let windows of a device be seen, one with each value in its newest record."""
    for value in values:
        batch = batch_of(Window(device, [Row(CAMERA, PHONE, is_new=False), Row(CAMERA, PHONE)]))
        batch.values[0, 0, COLUMN] = 1e9  # an older record, which was counted when it was new
        batch.values[0, 1, COLUMN] = value
        usual.observe(batch, left_out=left_out)
    return usual.of(address_bytes(device))


def test_the_range_is_that_of_the_newest_records():
    found = seen(Usual(), CAMERA, range(1, 41))

    expected = np.quantile(np.arange(1, 41), (0.05, 0.5, 0.95))
    assert [found.low[COLUMN], found.middle[COLUMN], found.high[COLUMN]] == pytest.approx(expected)
    assert found.records == 40
    assert found.low.shape == (F,)


def test_too_few_records_have_no_range():
    assert seen(Usual(), CAMERA, range(LEAST_ROWS - 1)) is None
    assert seen(Usual(), CAMERA, range(LEAST_ROWS)) is not None


def test_a_window_that_was_detected_is_left_out():
    assert seen(Usual(), CAMERA, range(100), left_out={0}) is None


def test_a_window_without_a_new_record_is_left_out():
    usual = Usual()
    for _ in range(LEAST_ROWS):
        usual.observe(batch_of(Window(CAMERA, [Row(CAMERA, PHONE, is_new=False)])), left_out=())

    assert usual.of(address_bytes(CAMERA)) is None


def test_a_long_history_is_kept_as_a_fair_sample_of_bounded_size():
    found = seen(Usual(), CAMERA, range(3000))

    assert found.records == 3000
    assert 0 <= found.low[COLUMN] < 600
    assert 1000 < found.middle[COLUMN] < 2000
    assert 2400 < found.high[COLUMN] < 3000
    assert ROWS < 3000


def test_the_sample_forgets_what_was_long_ago():
    usual = Usual()
    seen(usual, CAMERA, [1.0] * 200)

    found = seen(usual, CAMERA, [1000.0] * 20_000)

    assert found.low[COLUMN] == 1000.0


def test_the_same_records_give_the_same_range():
    one, other = (seen(Usual(), CAMERA, range(500)) for _ in range(2))

    assert np.array_equal(one.low, other.low)
    assert np.array_equal(one.high, other.high)


def test_devices_are_bounded_and_the_one_heard_of_longest_ago_leaves():
    usual = Usual(most_devices=2)
    for device in (CAMERA, PHONE, CAMERA, BULB):
        seen(usual, device, range(LEAST_ROWS))

    assert usual.of(address_bytes(PHONE)) is None
    assert usual.of(address_bytes(CAMERA)) is not None


def test_a_device_that_changed_its_address_keeps_its_range():
    usual = Usual()
    seen(usual, CAMERA, range(LEAST_ROWS))

    usual.moved(address_bytes(CAMERA), address_bytes(BULB))

    assert usual.of(address_bytes(CAMERA)) is None
    assert usual.of(address_bytes(BULB)) is not None


def test_what_stands_out_is_outside_the_range_farthest_first():
    low, high = np.zeros(4, np.float32), np.array([9, 9, 9, 9], np.float32)
    rows = np.array([[9, 99, 999, -9], [9, 99, 999, -9], [0, 0, 0, 0]], np.float32)

    found = standing_out(rows, low, high)

    assert [place for place, _ in found] == [2, 1, 3]  # equal distances in their order
    assert [apart for _, apart in found] == pytest.approx([np.log(100), np.log(10), np.log(10)])
