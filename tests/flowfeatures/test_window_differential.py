"""The engine's device windows equal the oracle's, over the records of real captures and of any stream."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flowfeatures import (
    WINDOW_COLUMNS,
    DeviceWindows,
    FlowMeter,
    FlowSettings,
    HomeNets,
    WindowBatch,
    address_bytes,
    open_capture,
)
from tests.flowfeatures.meters import SHARED, from_row
from tests.flowfeatures.packets import write_pcap
from tests.flowfeatures.streams import Event, streams, timed
from tests.oracle.windows import HOME_NETS, Window, device_windows

SLOW_TO_MAKE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
NETWORKS = (HOME_NETS, ("192.168.1.10/32",), ("0.0.0.0/0", "::/0"))
CAPTURES = [
    "scans/ps-tcp_syn.pcap",
    "scans/hs-tcp_synPingSweepRand.pcapng",
    "brute/ftp_bruteforce.pcap",
    "benign_protocols/upnp.pcap",
    "benign_protocols/sonos.pcapng",
    "iot_malware/hide_and_seek_2018-03-09.pcap",
]


def labelled_records(path: Path) -> NDArray[np.void]:
    """Return the engine's records, a third of them attacks of two classes and a sixth left out, by their ports."""
    meter = FlowMeter(FlowSettings(partials=True))
    with open_capture(path) as capture:
        chunks = [chunk.copy() for source in (meter.read(capture), meter.flush()) for chunk in source]
    records = np.concatenate(chunks)
    records["label"] = np.array([0, 0, 1, 2, 0, -1])[(records["src_port"].astype(int) + records["dst_port"]) % 6]
    return records


def flattened(batches: list[WindowBatch]) -> list[Window]:
    """Return the engine's batches as the oracle's windows."""
    windows = []
    for batch in batches:
        for i in range(len(batch)):
            rows = int(batch.mask[i].sum())
            windows.append(
                Window(
                    batch.device[i].tobytes(),
                    int(batch.due_us[i]),
                    int(batch.label[i]),
                    batch.flows[i, :rows]["flow_id"].tolist(),
                    batch.repeats[i, :rows].tolist(),
                    batch.is_new[i, :rows].astype(bool).tolist(),
                    batch.values[i, :rows].tolist(),
                )
            )
    return windows


Moves = dict[int, tuple[bytes, bytes]]


def engine_windows(records: NDArray[np.void], home_nets: tuple[str, ...], moves: Moves) -> list[Window]:
    """Return the engine's windows; before the records whose places `moves` names, a device moves."""
    windows = DeviceWindows(home_nets)
    batches, first = [], 0
    for place in [*sorted(moves), len(records)]:
        batches += windows.add(records[first:place])
        if place in moves:
            windows.move(*moves[place])
        first = place
    return flattened([*batches, *windows.flush()])


def window_differences(records: NDArray[np.void], home_nets: tuple[str, ...], moves: Moves | None = None) -> list[str]:
    """Return where the engine's windows differ from the oracle's."""
    seen = engine_windows(records, home_nets, moves or {})
    expected = list(device_windows([from_row(row) for row in records], home_nets, moves))
    lines = [] if len(seen) == len(expected) else [f"windows: oracle {len(expected)}, engine {len(seen)}"]
    for i, (ours, theirs) in enumerate(zip(expected, seen, strict=False)):
        lines += [
            f"window {i} {name}: oracle {getattr(ours, name)}, engine {getattr(theirs, name)}"
            for name in ("device", "due_us", "label", "flows", "repeats", "is_new")
            if getattr(ours, name) != getattr(theirs, name)
        ]
        if ours.flows == theirs.flows:
            lines += value_differences(i, ours, theirs)
    return lines


def value_differences(number: int, ours: Window, theirs: Window) -> list[str]:
    """Return the columns in which two windows of the same flows differ; the engine's values are float32."""
    expected, seen = np.array(ours.values, np.float32), np.array(theirs.values, np.float32)
    differs = np.argwhere(~np.isclose(expected, seen, rtol=1e-6, atol=0))
    return [
        f"window {number} row {row} {WINDOW_COLUMNS[at]}: oracle {expected[row, at]}, engine {seen[row, at]}"
        for row, at in differs
    ]


@pytest.mark.parametrize("name", CAPTURES)
def test_windows_of_a_capture_are_the_oracles(name: str):
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent (PENSTOCK_SHARED)")

    lines = window_differences(labelled_records(path)[:3000], HOME_NETS)

    assert not lines, "\n".join([f"{len(lines)} differences", *lines[:20]])


@settings(deadline=None, max_examples=100, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
@given(stream=streams(), home_nets=st.sampled_from(NETWORKS))
def test_windows_of_any_stream_are_the_oracles(tmp_path: Path, stream: list[Event], home_nets: tuple[str, ...]):
    path = write_pcap(tmp_path / "windows", timed([*stream, Event(0, kind="udp")]))

    lines = window_differences(labelled_records(path), home_nets)

    assert not lines, "\n".join([f"{len(lines)} differences", *lines[:20]])


def at_home(records: NDArray[np.void], home_nets: tuple[str, ...]) -> list[bytes]:
    """Return the addresses at home, and one there that nobody has."""
    home = HomeNets(home_nets)
    ends = {bytes(end) for name in ("src", "dst") for end in records[name]}
    return [*sorted(end for end in ends if end in home), address_bytes("192.168.1.10")]


def random_moves(records: NDArray[np.void], home_nets: tuple[str, ...], *, count: int, seed: int) -> Moves:
    """Return moves between any two addresses at home, before any records."""
    random, devices = np.random.default_rng(seed), at_home(records, home_nets)
    moves = {}
    for place in random.integers(0, len(records), count).tolist():
        old, new = (devices[each] for each in random.integers(0, len(devices), 2))
        if old != new:
            moves[place] = old, new
    return moves


@pytest.mark.parametrize("name", CAPTURES)
def test_windows_of_devices_that_move_are_the_oracles(name: str):
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent (PENSTOCK_SHARED)")
    records = labelled_records(path)[:2000]
    home_nets = ("0.0.0.0/0", "::/0")
    moves = random_moves(records, home_nets, count=60, seed=len(records))

    lines = window_differences(records, home_nets, moves)

    assert moves
    assert not lines, "\n".join([f"{len(lines)} differences", *lines[:20]])


@settings(deadline=None, max_examples=100, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
@given(stream=streams(), seed=st.integers(0, 1000))
def test_windows_of_any_stream_and_any_moves_are_the_oracles(tmp_path: Path, stream: list[Event], seed: int):
    path = write_pcap(tmp_path / "windows", timed([*stream, Event(0, kind="udp")]))
    records = labelled_records(path)
    home_nets = ("0.0.0.0/0", "::/0")

    lines = window_differences(records, home_nets, random_moves(records, home_nets, count=8, seed=seed))

    assert not lines, "\n".join([f"{len(lines)} differences", *lines[:20]])
