"""Partial records: when they are due, what they hold, and that they change nothing else."""

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.meters import column
from tests.flowfeatures.packets import START_US, Conversation, udp_frame
from tests.oracle.meter import ACTIVE, FORCED, IDLE, PARTIAL


def left(measured) -> list[tuple[int, int]]:
    """(end reason, microseconds after the start) of every record."""
    return [(record.end_reason, record.left_us - START_US) for record in measured.records]


def test_partial_records_are_due_at_a_quarter_one_five_and_every_thirty_seconds(run: Run):
    frames = [udp_frame(at_s) for at_s in (0, 14, 28, 42, 56, 70)]

    measured = run(frames, partials=True)

    assert left(measured) == [
        (PARTIAL, 250_000),
        (PARTIAL, 1_000_000),
        (PARTIAL, 5_000_000),
        (PARTIAL, 35_000_000),
        (PARTIAL, 65_000_000),
        (FORCED, 70_000_000),
    ]


def test_segments_count_the_records_of_one_flow_id(run: Run):
    measured = run([udp_frame(0), udp_frame(2)], partials=True)

    assert [record.segment for record in measured.records] == [0, 1, 2]
    assert len({record.number for record in measured.records}) == 1
    assert [record.partial for record in measured.records] == [True, True, False]


@pytest.mark.parametrize(("at_s", "partials"), [(0.250000, 0), (0.250001, 1)], ids=["on it", "past it"])
def test_a_partial_record_is_due_strictly_after_its_time(run: Run, at_s: float, partials: int):
    measured = run([udp_frame(0), udp_frame(at_s)], partials=True)

    assert [record.fwd_packets for record in measured.records] == [1] * partials + [2]


def test_counters_go_on_through_partial_records(run: Run):
    measured = run([udp_frame(0, payload_bytes=10), udp_frame(0.5, payload_bytes=30), udp_frame(2)], partials=True)

    # At 0.25 s: 10 bytes; at 1 s: 40; at the end (flush at 2 s): 40 in 3 packets.
    assert [column(record, "fwd_payload_bytes") for record in measured.records] == [10, 40, 40]
    assert [record.fwd_packets for record in measured.records] == [1, 2, 3]


def test_a_flow_without_a_new_packet_still_leaves_its_partial_records(run: Run):
    measured = run([udp_frame(0), udp_frame(20, ports=(1, 2))], partials=True)

    # The end at 15 s comes before the partial of 35 s.
    assert left(measured)[:4] == [(PARTIAL, 250_000), (PARTIAL, 1_000_000), (PARTIAL, 5_000_000), (IDLE, 15_000_000)]


def test_the_end_beats_a_partial_record_due_at_the_same_time(run: Run):
    measured = run([udp_frame(0), udp_frame(20, ports=(1, 2))], partials=True, other_idle_timeout_s=5)

    assert left(measured)[:3] == [(PARTIAL, 250_000), (PARTIAL, 1_000_000), (IDLE, 5_000_000)]


def test_a_half_open_flow_ends_instead_of_its_five_second_partial(run: Run):
    measured = run([*Conversation().out(0, "S").frames, udp_frame(6)], partials=True)

    assert left(measured)[:3] == [(PARTIAL, 250_000), (PARTIAL, 1_000_000), (IDLE, 5_000_000)]


@pytest.mark.parametrize("count", [8, 64, 512])
def test_the_eighth_sixty_fourth_and_512th_packet_bring_a_partial_record_at_once(run: Run, count: int):
    # One packet each 100 us: 512 of them end within 0.0511 s, before any partial record by time.
    measured = run([udp_frame(i * 0.0001) for i in range(count)], partials=True)

    by_count = [record for record in measured.records if record.partial]
    assert [record.fwd_packets for record in by_count] == [n for n in (8, 64, 512) if n <= count]
    assert by_count[-1].left_us == by_count[-1].end_us == START_US + (count - 1) * 100


def test_seven_packets_bring_none(run: Run):
    assert len(run([udp_frame(i * 0.0001) for i in range(7)], partials=True).records) == 1


def test_after_an_active_cut_the_schedule_and_the_segments_begin_again(run: Run):
    frames = [udp_frame(at_s) for at_s in range(0, 119, 7)] + [udp_frame(121), udp_frame(123)]

    measured = run(frames, partials=True)

    cut = next(i for i, record in enumerate(measured.records) if record.end_reason == ACTIVE)
    after = measured.records[cut + 1 :]
    assert left(measured)[cut] == (ACTIVE, 120_000_000)
    assert [(record.left_us - START_US, record.segment) for record in after] == [
        (121_250_000, 0),
        (122_000_000, 1),
        (123_000_000, 2),
    ]


def test_partial_records_leave_the_final_ones_as_they_are(run: Run):
    frames = Conversation().out(0, "S").back(0.1, "SA").out(0.2, "A", 100).back(3, "A", 50).frames

    with_partials, without = run(frames, partials=True).final[0], run(frames).final[0]

    assert with_partials.columns == without.columns
    assert with_partials.segment == 2
    assert without.segment == 0
