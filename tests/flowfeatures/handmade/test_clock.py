"""Time that steps back, and the order in which records leave: FEATURES.md section 2, decisions 0002 and 0004."""

from pathlib import Path

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.handmade.reading import reasons
from tests.flowfeatures.meters import FEEDS, column
from tests.flowfeatures.packets import START_US, Conversation, time_us, udp_frame, write_pcap
from tests.oracle.meter import FORCED, IDLE, NO_ROOM, Settings


def test_a_late_packet_leaves_the_clock_and_counts_a_negative_gap(run: Run):
    measured = run([udp_frame(10), udp_frame(8), udp_frame(12)])

    (record,) = measured.records
    # Gaps -2 s and +4 s; the flow began with its first packet, at 10 s.
    assert column(record, "iat_min_us") == -2_000_000
    assert column(record, "iat_max_us") == 4_000_000
    assert column(record, "iat_mean_us") == 1_000_000
    assert column(record, "duration_us") == 2_000_000


def test_a_flow_whose_last_packet_is_before_its_first_lasts_zero(run: Run):
    (record,) = run([udp_frame(10, payload_bytes=7), udp_frame(8)]).records

    assert column(record, "duration_us") == 0
    assert column(record, "packets_per_s") == column(record, "payload_bytes_per_s") == 0


def test_time_is_the_latest_packets_even_when_a_late_one_follows(run: Run):
    # The clock stands at 50 s: the flow of 34.9 s (due 49.9 s) has left, a packet of 45 s begins another.
    measured = run([udp_frame(34.9), udp_frame(50, ports=(1, 2)), udp_frame(45)])

    assert reasons(measured)[0] == IDLE
    assert measured.records[0].left_us - START_US == 49_900_000
    assert len(measured.records) == 3


@pytest.mark.parametrize(
    ("back_s", "expected"), [(60.000000, [1, 1]), (60.000001, [2])], ids=["late by a minute", "set back"]
)
def test_a_step_of_more_than_a_minute_back_sets_the_clock(run: Run, back_s: float, expected: list):
    at_s = 1000 - back_s

    measured = run([udp_frame(1000), udp_frame(at_s, ports=(1, 2)), udp_frame(at_s + 14, ports=(1, 2))])

    # With the clock left at 1000 s, the first packet's flow (due 955 s) is over before the second packet.
    assert [record.fwd_packets for record in measured.records if record.src_port == 1] == expected


def test_records_leave_by_due_time_not_by_arrival(run: Run):
    # A TCP flow (due 60 s after 0.1) arrives before a UDP one (due 15 s after 0.2).
    talk = Conversation().out(0, "S").back(0.1, "SA")

    measured = run([*talk.frames, udp_frame(0.2), udp_frame(100, ports=(1, 2))])

    assert [record.proto for record in measured.records] == [17, 6, 17]
    assert [record.left_us - START_US for record in measured.records] == [15_200_000, 60_100_000, 100_000_000]


def test_records_due_together_leave_in_order_of_arrival(run: Run):
    frames = [udp_frame(0, ports=(port, 9)) for port in (7, 3, 5, 1)]

    measured = run([*frames, udp_frame(20)])

    assert [record.src_port for record in measured.records] == [7, 3, 5, 1, 5000]


def test_at_the_end_of_input_flows_leave_in_order_of_arrival(run: Run):
    frames = [udp_frame(0.1 * i, ports=(port, 9)) for i, port in enumerate((7, 3, 5, 1))]

    measured = run(frames)

    assert [record.src_port for record in measured.records] == [7, 3, 5, 1]
    assert reasons(measured) == [FORCED] * 4
    assert {record.left_us - START_US for record in measured.records} == {300_000}


@pytest.mark.parametrize(
    ("now_s", "reason"),
    [(15.000000, FORCED), (15.000001, IDLE), (9000, IDLE)],
    ids=["on it", "past it", "long past it"],
)
def test_a_clock_that_moves_without_packets_lets_a_flow_leave_at_its_own_time(
    tmp_path: Path, meter: str, now_s: float, reason: int
):
    feed = FEEDS[meter](Settings())
    feed.read(write_pcap(tmp_path / "quiet", [udp_frame(0)]))

    feed.advance(time_us(now_s))

    (record,) = feed.finish().records
    assert (record.end_reason, record.left_us - START_US) == (reason, 15_000_000)


def test_a_clock_told_an_earlier_time_stays(tmp_path: Path, meter: str):
    feed = FEEDS[meter](Settings())
    feed.read(write_pcap(tmp_path / "later", [udp_frame(1000)]))

    feed.advance(time_us(100))

    (record,) = feed.finish().records
    assert record.left_us - START_US == 1_000_000_000


def test_a_packet_stamped_before_the_clock_is_late(tmp_path: Path, meter: str):
    # By 20 s the flow of 0 s has left; the packet of 14 s, inside its timeout, begins another under the clock of 20 s.
    feed = FEEDS[meter](Settings())
    feed.read(write_pcap(tmp_path / "first", [udp_frame(0)]))

    feed.advance(time_us(20))
    feed.read(write_pcap(tmp_path / "second", [udp_frame(14)]))

    first, second = feed.finish().records
    assert (first.end_reason, first.left_us - START_US) == (IDLE, 15_000_000)
    assert (second.start_us - START_US, second.left_us - START_US) == (14_000_000, 20_000_000)


def test_a_clock_that_moves_without_packets_ends_what_an_emergency_made_overdue(tmp_path: Path, meter: str):
    # Ten flows silent since 0 s; the eleventh finds the table full at E = 10 s, and nothing more is heard.
    feed = FEEDS[meter](Settings(max_flows=10))
    frames = [udp_frame(0, ports=(port, 53)) for port in range(1, 11)]
    feed.read(write_pcap(tmp_path / "crowd", [*frames, udp_frame(10, ports=(11, 53))]))

    feed.advance(time_us(10.000001))

    left = [(record.src_port, record.end_reason, record.left_us - START_US) for record in feed.finish().records]
    assert left[:4] == [
        (1, NO_ROOM, 10_000_000),
        (2, IDLE, 10_000_000),
        (3, IDLE, 10_000_000),
        (4, IDLE, 10_000_000),
    ]
