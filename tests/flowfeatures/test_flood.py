"""Two million spoofed SYNs under the default cap: memory stays, and what was there before them is still seen."""

import json
import subprocess
import sys

import pytest

from flowfeatures import FlowSettings
from tests.flowfeatures.meters import REPOSITORY

PACKETS = 2_000_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def flood() -> dict:
    """Return what the flood did to a meter in a process of its own."""
    command = [sys.executable, "-m", "tests.flowfeatures.flood", str(PACKETS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=120)
    return json.loads(done.stdout)


def test_memory_is_flat_once_the_table_is_full(flood: dict):
    resident = flood["resident_bytes"]

    settled = resident[len(resident) // 4 :]

    assert max(settled) - min(settled) < 4 * MIB
    assert max(resident) < 110 * MIB


def test_the_cap_holds_and_every_eviction_is_counted(flood: dict):
    counters = flood["counters"]

    flows = PACKETS + 1
    assert counters["flows"] == counters["records"] == flows
    assert counters["evicted_flows"] == flows - FlowSettings().max_flows
    assert counters["emergencies"] == 1


def test_every_packet_stands_in_a_record(flood: dict):
    assert flood["packets_in_records"] == flood["counters"]["decoded"] == flood["counters"]["packets"]


def test_a_connection_in_its_midst_leaves_one_whole_record(flood: dict):
    rounds_before, rounds_within = 3, PACKETS // 50_000

    assert flood["connection"] == [
        {"src": "203.0.113.66", "end_reason": "forced_end", "packets": 2 * (rounds_before + rounds_within)}
    ]
