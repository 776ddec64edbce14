"""The instrument under collisions and scaling: it refuses to time what it was not meant to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import lookups, scaling, tuples
from benchmarks.tuples import Tuples


def written(folder: Path, **stages: Tuples) -> list[Path]:
    return [Path(path) for path in lookups.write_series(folder, "any", stages)]


def test_each_flow_is_opened_once_and_found_once(tmp_path: Path):
    keys = tuples.distinct(3_000, seed=1)
    paths = written(tmp_path, opening=keys, steady=tuples.reversed_ends(keys))

    sample = lookups.measure(paths, hash_seed=None)

    assert (sample["flows"], sample["steady_packets"]) == (3_000, 3_000)


def test_packets_between_the_first_capture_and_the_last_are_in_no_figure(tmp_path: Path):
    keys = tuples.distinct(100, seed=1)
    paths = written(tmp_path, opening=keys, between=np.tile(keys, 4), steady=keys[:30])

    sample = lookups.measure(paths, hash_seed=bytes(16))

    assert (sample["flows"], sample["steady_packets"]) == (100, 30)
    assert sample["both_s"] == sample["opening_s"] + sample["steady_s"]


def test_packets_that_open_flows_where_they_should_find_them_are_refused(tmp_path: Path):
    paths = written(tmp_path, opening=tuples.distinct(100, seed=1), steady=tuples.distinct(100, seed=2))

    with pytest.raises(RuntimeError, match="100 flows of 100 packets, then 200"):
        lookups.measure(paths, hash_seed=None)


def test_a_flow_that_is_opened_twice_is_refused(tmp_path: Path):
    keys = tuples.distinct(100, seed=1)

    with pytest.raises(RuntimeError, match="100 flows of 101 packets"):
        lookups.measure(written(tmp_path, opening=np.append(keys, keys[:1]), steady=keys), hash_seed=None)


def test_scaling_sends_as_many_packets_however_many_flows_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "CACHE", tmp_path)

    samples = [
        lookups.measure([Path(path) for path in scaling.captures(flows, packets=700)], hash_seed=None)
        for flows in (10, 400)
    ]

    assert [(sample["flows"], sample["steady_packets"]) for sample in samples] == [(10, 700), (400, 700)]


def test_captures_of_scaling_that_stand_there_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "CACHE", tmp_path)
    first = scaling.captures(10, packets=50)
    marked = {path: Path(path).stat().st_mtime_ns for path in first}

    again = scaling.captures(10, packets=50)

    assert again == first
    assert {path: Path(path).stat().st_mtime_ns for path in again} == marked
