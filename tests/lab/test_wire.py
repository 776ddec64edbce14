"""A cable delays, paces and drops, and never reorders."""

from __future__ import annotations

import random
import socket

import pytest

from lab.wire import QUEUE_BYTES, Cable, Direction


@pytest.fixture
def one_way():
    """Directions of cables whose other end is not used."""
    with socket.socket() as unused:
        yield lambda **cable: Direction(
            Cable("a", "b", **{"delay_ms": 10.0, "jitter_ms": 0.0, "rate_mbit_per_s": 8.0, **cable}),
            sender=unused,
            rng=random.Random(1),
        )


def test_a_frame_leaves_after_the_delay_and_the_time_its_bytes_take(one_way):
    # 1000 bytes at 8 Mbit/s take 1 ms.
    assert one_way().due_s(100.0, frame_bytes=1000) == pytest.approx(100.011)


def test_a_second_frame_waits_for_the_first(one_way):
    direction = one_way()
    direction.due_s(100.0, frame_bytes=1000)

    assert direction.due_s(100.0, frame_bytes=1000) == pytest.approx(100.012)


def test_jitter_never_lets_a_frame_overtake_another(one_way):
    direction = one_way(jitter_ms=50.0)
    due = [direction.due_s(100.0 + n / 1000, frame_bytes=60) for n in range(500)]

    assert due == sorted(due)


def test_a_full_queue_drops(one_way):
    direction = one_way()
    fits = QUEUE_BYTES // 1000
    due = [direction.due_s(100.0, frame_bytes=1000) for _ in range(fits + 2)]

    assert None not in due[:fits]
    assert due[-1] is None


def test_a_cable_loses_the_share_of_frames_it_should_and_the_rest_is_not_delayed_by_them(one_way):
    sound, lossy = one_way(), one_way(loss_percent=10.0)
    due = [lossy.due_s(100.0 + n, frame_bytes=1000) for n in range(2000)]

    assert 150 <= due.count(None) <= 250
    assert {round(at - 100.0 - n, 6) for n, at in enumerate(due) if at is not None} == {0.011}
    assert None not in [sound.due_s(100.0 + n, frame_bytes=1000) for n in range(2000)]


def test_a_cable_that_loses_everything_delivers_nothing(one_way):
    lossy = one_way(loss_percent=100.0)

    assert [lossy.due_s(100.0 + n, frame_bytes=60) for n in range(20)] == [None] * 20
