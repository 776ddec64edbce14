"""A flood from spoofed sources, with the memory a gateway can spare and no more."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.floods import VICTIM
from tests.capture.wire import Wire
from tests.faults.figures import Figures, times
from tests.faults.limits import limited
from tests.faults.running import running
from tests.faults.sending import Flood

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

LIMIT_BYTES = 256 << 20
MOST_MIB = 230.0
RATE_PER_S = 50_000


def test_a_spoofed_flood_grows_no_memory_chooses_nobody_to_ban_and_is_accounted_for(
    wire: Wire, tmp_path: Path, figures: Figures
):
    pytest.importorskip("onnxruntime", reason="needs the cpu extra")
    packets = times(400_000, long=6_000_000)
    eve, most, ring = tmp_path / "eve.json", 0.0, 0.0

    with limited(memory_bytes=LIMIT_BYTES) as group, running("--eve", eve, folder=tmp_path, group=group) as agent:
        before = agent.memory_mib()
        with Flood(wire.far, kind="spoofed", packets=packets, rate_per_s=RATE_PER_S) as flood:
            while not flood.is_over():
                time.sleep(0.1)
                memory = agent.memory_mib()
                most, ring = max(most, memory.resident), memory.ring
            sent = int(flood.sent()["sent"])
        counts = agent.stop()
        charged_mib, kills = group.peak_mib, group.kills
    alerts = [json.loads(line) for line in eve.read_text().splitlines()] if eve.exists() else []
    about = Counter(alert["alert"]["context"]["penstock"]["device"]["ip"] for alert in alerts)

    figures.told(
        fault=f"spoofed SYN flood under a limit of {LIMIT_BYTES >> 20} MiB",
        goal="alive, RSS with the ring <= 230 MB, no severity 1, accounting exact",
        packets=sent,
        rate_per_s=RATE_PER_S,
        seen=counts.seen,
        dropped=counts.dropped,
        resident_before_mib=before.resident,
        resident_at_most_mib=most,
        of_it_the_ring_mib=ring,
        charged_by_the_kernel_at_most_mib=charged_mib,
        killed_for_memory=kills,
        incidents=len({alert["alert"]["context"]["penstock"]["incident_id"] for alert in alerts}),
        alerts=len(alerts),
        of_severity_1=sum(alert["alert"]["severity"] == 1 for alert in alerts),
    )
    assert agent.process.returncode == 0
    assert (counts.seen, counts.read + counts.dropped, counts.uneven) == (sent, sent, 0)
    assert kills == 0
    assert most <= MOST_MIB
    assert set(about) <= {VICTIM}
    assert not [alert for alert in alerts if alert["alert"]["severity"] == 1]
