"""What came of a replay, in numbers: what had no room is never silent."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agent.console.summary import Outcome, summary, write_report
from agent.delivery import Delivery
from tests.detection.windows import make_bundle


def outcome(*, opened: int = 0, evicted_flows: int = 0, evicted_devices: int = 0, dropped: int = 0) -> Outcome:
    meter = dict.fromkeys(("packets", "decoded", "flows", "records", "partial_records", "super_frames"), 9)
    pipeline = SimpleNamespace(
        meter=SimpleNamespace(counters=meter | {"undecoded": {}, "evicted_flows": evicted_flows, "emergencies": 0}),
        windows=SimpleNamespace(counters={"evicted_devices": evicted_devices}),
        detector=SimpleNamespace(windows=9, detections=9, opened=opened, incidents=[]),
        alerts_made=9,
    )
    delivery = Delivery()
    delivery._committer.dropped_unwritten = dropped
    return Outcome(
        captures=[Path("c.pcap")],
        bundle=make_bundle(),
        pipeline=cast("Any", pipeline),
        delivery=delivery,
        seconds={"total": 1.0},
        errors=[],
        stopped_code=0,
    )


def report(of: Outcome) -> str:
    stream = io.StringIO()
    write_report(of, stream)
    return stream.getvalue()


def test_the_summary_counts_what_had_no_room():
    counted = summary(outcome(opened=5, evicted_flows=7, evicted_devices=3, dropped=2))

    assert (counted["evicted_flows"], counted["evicted_devices"], counted["forgotten_incidents"]) == (7, 3, 5)
    assert counted["delivery"]["dropped"] == 2
    assert (counted["partial_records"], counted["super_frames"]) == (9, 9)


def test_the_table_says_it_in_one_line():
    text = report(outcome(opened=5, evicted_flows=7000, evicted_devices=3, dropped=2))

    (line,) = [each for each in text.splitlines() if "room" in each]
    assert line == (
        "more than there was room for: "
        "7,000 flows cut short, 3 devices forgotten, 5 incidents not listed, 2 alerts dropped"
    )


def test_the_table_names_only_what_happened():
    assert "room for: 3 devices forgotten\n" in report(outcome(evicted_devices=3))
    assert "room" not in report(outcome())
