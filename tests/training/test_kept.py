"""Captures that are read once."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.ground_truth import load
from tests.training.test_captures import write_lab
from training.kept import KeptStreams
from training.stream import LabelledStream


@pytest.fixture
def truth(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 40))
    return load(tmp_path / "seed-1" / "ground_truth.json")[0]


def test_a_kept_capture_gives_what_reading_it_gives_as_often_as_it_is_asked(truth):
    read = LabelledStream(truth)
    batches = list(read)
    streams = KeptStreams()

    for _ in range(2):
        kept = streams(truth)
        again = list(kept)
        assert len(again) == len(batches) > 1
        assert all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in zip(again, batches, strict=True)
            for name in ("values", "mask", "device", "due_us", "label", "flows")
        )
        assert (kept.days, kept.broken, kept.notes) == (read.days, None, ())
        assert kept.attacks.first_us == read.attacks.first_us


def test_a_capture_is_read_once(truth):
    asked = []

    def reading(each):
        asked.append(each.path)
        return LabelledStream(each)

    streams = KeptStreams(reading)
    streams(truth), streams(truth)

    assert asked == [truth.path]
