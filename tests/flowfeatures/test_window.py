"""Windows of one device: which records stand in them, when they are due, what their label is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowfeatures import (
    AFTER,
    EXCLUDED,
    RECORD,
    VECTOR_COLUMNS,
    WINDOW_COLUMNS,
    DeviceWindows,
    WindowBatch,
    address_bytes,
    address_text,
)

DEVICE, OTHER, OUTSIDE = "192.168.1.10", "192.168.1.20", "203.0.113.5"
TCP, UDP, ICMP = 6, 17, 1
SECOND = 1_000_000


def record(*, flow_id: int, src: str = DEVICE, dst: str = OUTSIDE, left_us: int = 0, **fields: Any) -> NDArray[np.void]:
    one = np.zeros(1, RECORD)
    one["flow_id"], one["left_us"] = flow_id, left_us
    one["src"], one["dst"] = list(address_bytes(src)), list(address_bytes(dst))
    one["proto"], one["ip_version"], one["dst_port"], one["src_port"] = TCP, 4, 443, 40_000
    for name, value in fields.items():
        one[name] = value
    return one


def windows_of(*records: NDArray[np.void], **settings: Any) -> list[tuple[WindowBatch, int]]:
    """Return (batch, index) of every window that becomes due, in order."""
    windows = DeviceWindows(**settings)
    batches = [*windows.add(np.concatenate(records)), *windows.flush()]
    return [(batch, i) for batch in batches for i in range(len(batch))]


def column(window: tuple[WindowBatch, int], name: str) -> list[float]:
    batch, i = window
    rows = int(batch.mask[i].sum())
    return [float(value) for value in batch.values[i, :rows, WINDOW_COLUMNS.index(name)]]


def flow_ids(window: tuple[WindowBatch, int]) -> list[int]:
    batch, i = window
    return [int(value) for value in batch.flows[i]["flow_id"][batch.mask[i] > 0]]


def test_a_window_is_due_once_per_tick_at_its_end():
    due = windows_of(record(flow_id=1, left_us=0), record(flow_id=2, left_us=49_999), record(flow_id=3, left_us=50_000))

    assert [int(batch.due_us[i]) for batch, i in due] == [50_000, 100_000]
    assert [flow_ids(window) for window in due] == [[1, 2], [1, 2, 3]]
    assert due[1][0].is_new[due[1][1]].tolist()[:3] == [0, 0, 1]


def test_rows_are_left_aligned_oldest_first_and_the_rest_is_zero():
    ((batch, i),) = windows_of(record(flow_id=1), record(flow_id=2))

    assert batch.mask[i].tolist() == [1, 1] + [0] * 14
    assert not batch.values[i, 2:].any()


def test_a_flow_between_two_home_devices_enters_both_windows():
    due = windows_of(record(flow_id=1, dst=OTHER, bwd_packets=1))

    assert [address_text(batch.device[i]) for batch, i in due] == [DEVICE, OTHER]
    assert [column(window, "device_initiated") for window in due] == [[1], [0]]
    assert [column(window, "peer_is_home") for window in due] == [[1], [1]]


def devices_of(*records: NDArray[np.void]) -> list[str]:
    return [address_text(batch.device[i]) for batch, i in windows_of(*records)]


def test_an_address_at_home_that_never_spoke_has_no_window_for_one_knock_from_within():
    swept = [record(flow_id=n, dst=f"192.168.1.{100 + n}", label=1) for n in range(20)]

    assert devices_of(*swept) == [DEVICE]


def test_an_address_at_home_has_a_window_as_soon_as_it_answers_or_begins():
    assert devices_of(record(flow_id=1, dst=OTHER), record(flow_id=2, dst=OTHER, bwd_packets=1)) == [DEVICE, OTHER]
    assert devices_of(record(flow_id=1, dst=OTHER), record(flow_id=2, src=OTHER)) == [DEVICE, OTHER]


def test_an_address_at_home_has_a_window_as_soon_as_someone_outside_knocks():
    assert devices_of(record(flow_id=1, src=OUTSIDE, dst=OTHER)) == [OTHER]


def test_the_fifth_knock_makes_a_device_whose_window_then_holds_all_five_as_new_with_their_label():
    knocks = [record(flow_id=n, dst=OTHER, dst_port=n, left_us=n * 60_000, label=1 if n < 3 else 0) for n in range(6)]

    fifth, sixth = [window for window in windows_of(*knocks) if address_text(window[0].device[window[1]]) == OTHER]

    assert flow_ids(fifth) == [0, 1, 2, 3, 4]
    assert fifth[0].is_new[fifth[1]].sum() == 5
    assert (fifth[0].label[fifth[1]], sixth[0].label[sixth[1]]) == (1, AFTER)


def test_who_spoke_once_is_a_device_for_every_later_knock():
    spoke = record(flow_id=1, src=OTHER, left_us=0)
    knock = record(flow_id=2, dst=OTHER, left_us=60_000)

    assert devices_of(spoke, knock) == [OTHER, DEVICE, OTHER]


def test_what_is_sent_to_a_group_belongs_to_the_sender_alone():
    due = windows_of(
        record(flow_id=1, dst="192.168.1.255", group=1), record(flow_id=2, src=OUTSIDE, dst="10.255.255.255", group=1)
    )

    assert [address_text(batch.device[i]) for batch, i in due] == [DEVICE]


def test_a_flow_between_two_outside_ends_enters_no_window():
    assert windows_of(record(flow_id=1, src="198.51.100.1")) == []


def test_home_nets_decide_who_is_a_device_also_in_ipv6():
    due = windows_of(
        record(flow_id=1, src="2001:db8:1::5", dst="2001:db8:2::1", ip_version=6), home_nets=["2001:db8:1::/48"]
    )

    assert [address_text(batch.device[i]) for batch, i in due] == ["2001:db8:1::5"]


def test_a_later_record_of_a_flow_replaces_the_earlier_one_and_moves_to_the_end():
    due = windows_of(record(flow_id=1), record(flow_id=2, dst_port=80), record(flow_id=1, segment=1, left_us=60_000))

    assert flow_ids(due[-1]) == [2, 1]
    assert column(due[-1], "repeats") == [1, 1]


def test_beyond_a_quarter_of_the_window_records_of_one_peer_and_port_fold_into_the_newest():
    due = windows_of(*(record(flow_id=n) for n in range(1, 8)), record(flow_id=100, dst_port=22))

    assert flow_ids(due[0]) == [4, 5, 6, 7, 100]
    assert column(due[0], "repeats") == [1, 2, 2, 2, 1]
    assert sum(column(due[0], "repeats")) == 8


def test_the_other_direction_of_the_same_peer_and_port_is_the_same_group():
    due = windows_of(
        *(record(flow_id=n) for n in range(1, 4)),
        *(record(flow_id=n, src=OUTSIDE, dst=DEVICE) for n in range(4, 6)),
    )

    assert flow_ids(due[0]) == [2, 3, 4, 5]


def test_a_full_window_forgets_its_oldest_record():
    due = windows_of(*(record(flow_id=n, dst_port=n) for n in range(1, 18)))

    assert flow_ids(due[0]) == list(range(2, 18))


def test_the_label_is_the_newest_new_attack_then_after_while_an_attack_is_remembered():
    due = windows_of(
        record(flow_id=1, dst_port=1),
        record(flow_id=2, dst_port=2, left_us=50_000, label=3),
        record(flow_id=3, dst_port=3, left_us=50_001, label=1),
        record(flow_id=4, dst_port=4, left_us=50_002),
        record(flow_id=5, dst_port=5, left_us=100_000),
        *(record(flow_id=n, dst_port=n, left_us=150_000) for n in range(6, 22)),
    )

    assert [int(batch.label[i]) for batch, i in due] == [0, 1, AFTER, 0]


def test_an_attack_that_was_folded_away_is_remembered():
    due = windows_of(record(flow_id=1, label=2), *(record(flow_id=n, left_us=60_000) for n in range(2, 6)))

    assert flow_ids(due[-1]) == [2, 3, 4, 5]
    assert [int(batch.label[i]) for batch, i in due] == [2, AFTER]


def test_a_window_with_records_left_out_is_left_out():
    due = windows_of(record(flow_id=1, label=EXCLUDED), record(flow_id=2, left_us=50_000))

    assert [int(batch.label[i]) for batch, i in due] == [EXCLUDED, EXCLUDED]


@pytest.mark.parametrize(
    ("proto", "port", "bucket"),
    [
        (TCP, 23, "port_remote_admin"),
        (TCP, 443, "port_web"),
        (UDP, 53, "port_infrastructure"),
        (TCP, 1883, "port_mqtt"),
        (TCP, 502, "port_industrial"),
        (TCP, 1023, "port_other_system"),
        (TCP, 1024, "port_registered"),
        (TCP, 49_151, "port_registered"),
        (UDP, 49_152, "port_dynamic"),
        (ICMP, 0, None),
    ],
)
def test_a_port_falls_into_one_bucket(proto: int, port: int, bucket: str | None):
    (due,) = windows_of(record(flow_id=1, proto=proto, dst_port=port))

    buckets = [name for name in WINDOW_COLUMNS if name.startswith("port_") and column(due, name) == [1]]
    assert buckets == ([bucket] if bucket else [])


def test_counts_look_back_ten_and_sixty_seconds_from_the_end_of_the_tick():
    due = windows_of(
        record(flow_id=1, dst="198.51.100.1", dst_port=1, half_open=1, left_us=0),
        record(flow_id=2, dst="198.51.100.2", dst_port=2, bwd_rst=1, left_us=50 * SECOND + 50_000),
        record(flow_id=3, dst="198.51.100.2", dst_port=2, left_us=60 * SECOND),
    )

    counts = {name: column(due[-1], name)[-1] for name in WINDOW_COLUMNS[-8:]}
    assert counts == {
        "peers_10s": 1, "peers_60s": 1, "ports_10s": 1, "ports_60s": 1,
        "half_open_10s": 0, "half_open_60s": 0, "failed_10s": 1, "failed_60s": 1,
    }  # fmt: skip
    assert column(due[1], "half_open_60s") == [1, 1]


def test_a_flow_counts_by_its_latest_record_only():
    due = windows_of(record(flow_id=1, half_open=1), record(flow_id=1, half_open=0, left_us=SECOND))

    assert column(due[0], "half_open_10s") == [1]
    assert column(due[1], "half_open_10s") == [0]


def test_more_records_than_are_remembered_still_count_the_newest_512():
    due = windows_of(*(record(flow_id=n, dst_port=n) for n in range(1, 2001)))

    assert column(due[0], "ports_10s") == [512] * 16


def test_the_vector_is_the_record_without_the_raw_port():
    columns = np.arange(77, dtype=float)
    ((batch, i),) = windows_of(record(flow_id=1, columns=columns))

    assert batch.values[i, 0, : len(VECTOR_COLUMNS)].tolist() == list(range(1, 77))


def test_devices_are_bounded_and_the_one_silent_for_longest_leaves():
    windows = DeviceWindows(max_devices=2)
    sources = [DEVICE, OTHER, DEVICE, "192.168.1.30", DEVICE]
    records = np.concatenate(
        [record(flow_id=n, src=src, dst_port=n, left_us=n * SECOND) for n, src in enumerate(sources)]
    )

    batches = [*windows.add(records), *windows.flush()]

    sizes = [int(batch.mask[i].sum()) for batch in batches for i in range(len(batch))]
    assert sizes == [1, 1, 2, 1, 3]
    counts = {"windows": 5, "devices": 2, "evicted_devices": 1, "moved_devices": 0, "evicted_windows": 0}
    assert windows.counters == counts


def test_devices_that_somebody_makes_up_do_not_push_out_those_that_have_a_history():
    windows = DeviceWindows(max_devices=4)
    known = [record(flow_id=n, src=DEVICE, dst_port=n, left_us=n * SECOND) for n in range(3)]
    made_up = [record(flow_id=100 + n, src=f"10.0.0.{n}", left_us=3 * SECOND + n) for n in range(1, 100)]
    later = [record(flow_id=9, src=DEVICE, dst_port=9, left_us=4 * SECOND)]

    batches = [*windows.add(np.concatenate(known + made_up + later)), *windows.flush()]

    sizes = [int(mask.sum()) for batch in batches for mask in batch.mask]
    assert sizes[-1] == 4
    assert windows.counters["evicted_devices"] == 99 - 3
    assert windows.counters["evicted_windows"] == 99 - 3


def test_more_windows_than_a_batch_holds_come_in_several_batches_and_none_is_lost():
    windows = DeviceWindows(max_devices=1000)
    records = np.concatenate([record(flow_id=n, src=f"10.0.{n // 250}.{n % 250 + 1}") for n in range(700)])

    batches = [*windows.add(records), *windows.flush()]

    assert [len(batch) for batch in batches] == [256, 256, 188]


def test_feeding_records_one_by_one_changes_nothing():
    rng = np.random.default_rng(7)
    records = np.concatenate(
        [
            record(
                flow_id=int(rng.integers(60)),
                src=f"10.0.0.{rng.integers(1, 6)}",
                dst=f"10.0.0.{rng.integers(1, 6)}",
                dst_port=int(rng.integers(1, 5)),
                left_us=n * 7_000,
            )
            for n in range(500)
        ]
    )
    whole, parts = DeviceWindows(), DeviceWindows()

    at_once = [*whole.add(records), *whole.flush()]
    one_by_one = [batch for n in range(500) for batch in parts.add(records[n : n + 1])] + [*parts.flush()]

    for name in ("values", "mask", "device", "due_us", "flows", "repeats"):
        left, right = (np.concatenate([getattr(b, name) for b in batches]) for batches in (at_once, one_by_one))
        assert (left == right).all(), name


@pytest.mark.parametrize("settings", [{"window": 3}, {"window": 18}, {"tick_us": 0}, {"max_devices": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, int]):
    with pytest.raises(ValueError, match="wanted"):
        DeviceWindows(**settings)


def test_a_home_net_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="not-a-net"):
        DeviceWindows(["not-a-net"])


def test_a_window_is_due_by_the_clock_once_its_tick_is_over():
    windows = DeviceWindows()
    list(windows.add(record(flow_id=1, left_us=10)))

    due = {now_us: sum(map(len, windows.advance(now_us))) for now_us in (10, 49_999, 50_000, 100_000)}

    assert due == {10: 0, 49_999: 0, 50_000: 1, 100_000: 0}


def test_a_record_that_comes_after_the_clock_has_passed_it_counts_for_the_tick_that_is_over():
    windows = DeviceWindows()
    list(windows.add(record(flow_id=1, left_us=10)))
    list(windows.advance(60_000))

    late = [*windows.add(record(flow_id=2, left_us=20)), *windows.advance(60_001)]

    assert [(int(batch.due_us[0]), flow_ids((batch, 0))) for batch in late] == [(50_000, [1, 2])]


def carry(windows: DeviceWindows, *records: NDArray[np.void]) -> list[tuple[WindowBatch, int]]:
    batches = list(windows.add(np.concatenate(records)))
    return [(batch, i) for batch in batches for i in range(len(batch))]


def move(windows: DeviceWindows, old: str, new: str) -> bool:
    return windows.move(address_bytes(old), address_bytes(new))


def test_a_device_that_moves_keeps_its_window():
    windows = DeviceWindows()
    carry(windows, record(flow_id=1), record(flow_id=2, dst_port=80))

    moved = move(windows, DEVICE, OTHER)
    carry(windows, record(flow_id=3, src=OTHER, left_us=SECOND))
    (window,) = [(batch, i) for batch in windows.flush() for i in range(len(batch))]

    assert moved
    assert flow_ids(window) == [1, 2, 3]
    assert address_text(window[0].device[window[1]]) == OTHER
    assert windows.counters["devices"] == windows.counters["moved_devices"] == 1


def test_what_a_device_did_before_it_moved_counts_towards_its_groups():
    windows = DeviceWindows()
    carry(windows, *(record(flow_id=n) for n in range(1, 5)))

    move(windows, DEVICE, OTHER)
    carry(windows, record(flow_id=5, src=OTHER, left_us=SECOND))
    (window,) = [(batch, i) for batch in windows.flush() for i in range(len(batch))]

    assert flow_ids(window) == [2, 3, 4, 5]
    assert column(window, "repeats") == [1, 1, 1, 2]


def test_two_windows_become_one_in_order_of_time():
    windows = DeviceWindows()
    carry(windows, record(flow_id=1, dst_port=1), record(flow_id=2, src=OTHER, dst_port=2, left_us=SECOND))
    carry(windows, record(flow_id=3, dst_port=3, left_us=2 * SECOND))

    move(windows, DEVICE, OTHER)
    (window,) = [(batch, i) for batch in windows.flush() for i in range(len(batch))]

    assert flow_ids(window) == [1, 2, 3]
    assert column(window, "peers_60s")[-1] == 1
    assert column(window, "ports_60s")[-1] == 3


def test_where_no_window_was_nothing_moves():
    assert not move(DeviceWindows(), DEVICE, OTHER)


@pytest.mark.parametrize("new", [DEVICE, OUTSIDE])
def test_a_device_moves_to_another_address_at_home_only(new: str):
    with pytest.raises(ValueError, match="another address at home"):
        move(DeviceWindows(), DEVICE, new)


def test_nobody_moves_while_windows_are_handed_over():
    windows = DeviceWindows(max_devices=1024)
    records = [record(flow_id=n, src=f"10.0.{n // 250}.{n % 250 + 1}") for n in range(300)]
    handing_over = iter(windows.add(np.concatenate([*records, record(flow_id=999, left_us=SECOND)])))
    next(handing_over)

    with pytest.raises(RuntimeError, match="handed over"):
        move(windows, "10.0.0.1", OTHER)


def test_the_place_of_a_device_that_became_one_with_another_is_used_again():
    windows = DeviceWindows(max_devices=2)
    carry(windows, record(flow_id=1), record(flow_id=2, src=OTHER, left_us=SECOND))

    move(windows, DEVICE, OTHER)
    carry(windows, record(flow_id=3, left_us=2 * SECOND))
    due = [flow_ids((batch, i)) for batch in windows.flush() for i in range(len(batch))]

    assert due == [[3]]
    assert windows.counters["devices"] == 2
    assert windows.counters["evicted_devices"] == 0


def test_who_last_sent_is_told_with_the_time_and_the_mac():
    windows = DeviceWindows()
    mac = [2, 0, 0, 0, 0, 16]
    asked = record(flow_id=2, src=OUTSIDE, dst=DEVICE, left_us=SECOND, end_us=900_000, fwd_packets=1)
    carry(windows, record(flow_id=1, end_us=7, fwd_packets=1, src_mac=mac), asked)

    assert windows.spoke(address_bytes(DEVICE)) == (7, bytes(mac))
    assert windows.spoke(address_bytes(OTHER)) is None
    assert windows.spoke(b"short") is None
