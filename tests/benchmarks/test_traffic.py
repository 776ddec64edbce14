"""The generated captures: what they hold, and that every machine gets the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import traffic
from benchmarks.extractors import penstock
from flowfeatures import FlowMeter, open_capture


@pytest.mark.parametrize("kind", traffic.KINDS)
def test_a_capture_is_the_same_bytes_wherever_it_is_made(kind: str, tmp_path: Path):
    first = traffic.capture(kind, packets=500, folder=tmp_path / "a")
    second = traffic.capture(kind, packets=500, folder=tmp_path / "b")

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", traffic.KINDS)
def test_every_packet_of_a_capture_is_decoded(kind: str, tmp_path: Path):
    meter = FlowMeter()
    with open_capture(traffic.capture(kind, packets=2_000, folder=tmp_path)) as capture:
        for _ in meter.read(capture):
            pass

    assert meter.counters["packets"] == meter.counters["decoded"] == 2_000


def test_every_second_packet_of_the_flood_is_a_new_flow(tmp_path: Path):
    capture = traffic.capture("flood", packets=10_000, folder=tmp_path)

    assert penstock(str(capture))() == (5_000, 10_000)


def test_the_mixed_capture_has_some_fifteen_packets_to_a_flow(tmp_path: Path):
    capture = traffic.capture("mixed", packets=50_000, folder=tmp_path)

    flows, packets = penstock(str(capture))()

    assert packets == 50_000
    assert 13 < packets / flows < 18
