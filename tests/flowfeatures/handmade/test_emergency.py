"""What a full table of ten does to the timeouts: half-open 1 s, idle 5 s, until seven entries are left.

Flows are named by their port, 1 to 10 in order of arrival; 11 is the one that finds the table full.
"""

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.packets import START_US, Conversation, TimedFrame, udp_frame
from tests.oracle.meter import ACTIVE, END_OF_FLOW, FORCED, IDLE, NO_ROOM

TEN = range(1, 11)


@pytest.fixture
def run(run: Run) -> Run:
    """Measure with a table of ten flows, unless told otherwise."""
    return lambda frames, **settings: run(frames, **{"max_flows": 10, **settings})


def udp(port: int, at_s: float, *, back: bool = False) -> TimedFrame:
    """A packet of a UDP flow, idle after 15 s."""
    return udp_frame(at_s, ports=(port, 53), back=back)


def syn(port: int, at_s: float) -> TimedFrame:
    """A SYN: its flow is over 5 s after the last one."""
    return Conversation(device_port=port).out(at_s, "S").frames[0]


def answered(port: int, at_s: float) -> list[TimedFrame]:
    """A TCP flow, idle after 60 s."""
    return Conversation(device_port=port).out(at_s, "S").back(at_s, "SA").frames


def left(measured, *reasons: int) -> list[tuple[int, int, int]]:
    """(port, reason, milliseconds after the start) of the records, of these reasons or of all."""
    return [
        (record.src_port, record.end_reason, (record.left_us - START_US) // 1000)
        for record in measured.records
        if not reasons or record.end_reason in reasons
    ]


def ten_udp_flows() -> list[TimedFrame]:
    """Flow 1 at 0.1 s, flow 2 at 0.2 s, ..., flow 10 at 1.0 s."""
    return [udp(port, port / 10) for port in TEN]


def test_an_idle_timeout_is_five_seconds_until_seven_entries_are_left(run: Run):
    # Flow 11 finds the table full at 2 s: 1 is evicted. In an emergency flow n is due at n/10 + 5 s. At 5.9 s, 2, 3
    # and 4 leave, which makes seven; 5, 6, 7 and 8 keep their 15 s, though 5.5 s to 5.8 s had passed as well.
    measured = run([*ten_udp_flows(), udp(11, 2), udp(11, 5.9)])

    assert left(measured) == [
        (1, NO_ROOM, 2000),
        (2, IDLE, 5200),
        (3, IDLE, 5300),
        (4, IDLE, 5400),
        *((port, FORCED, 5900) for port in (5, 6, 7, 8, 9, 10, 11)),
    ]
    assert (measured.counters["emergencies"], measured.counters["evicted_flows"]) == (1, 1)


@pytest.mark.parametrize(("at_s", "gone"), [(5.200000, []), (5.200001, [2])], ids=["on it", "past it"])
def test_a_shortened_deadline_passes_strictly(run: Run, at_s: float, gone: list[int]):
    measured = run([*ten_udp_flows(), udp(11, 2), udp(11, at_s)])

    assert [port for port, _, _ in left(measured, IDLE)] == gone


def test_a_half_open_timeout_is_one_second(run: Run):
    # Flow n sends its SYN at 0.5 + n/100 s; the emergency begins at 0.7 s and 1 is evicted. Due 1 s after the SYN.
    measured = run([*(syn(port, 0.5 + port / 100) for port in TEN), udp(11, 0.7), udp(11, 2)])

    assert left(measured, NO_ROOM, IDLE) == [(1, NO_ROOM, 700), (2, IDLE, 1520), (3, IDLE, 1530), (4, IDLE, 1540)]
    assert [record.half_open for record in measured.records[:4]] == [True] * 4


@pytest.mark.parametrize(("at_s", "gone"), [(10.000000, []), (10.000001, [2, 3, 4])], ids=["at E", "past E"])
def test_what_the_emergency_finds_overdue_leaves_at_its_beginning_by_arrival(run: Run, at_s: float, gone: list[int]):
    # Flow n is heard last at 3 - n/10 s, 10 before 9 before 8; all are silent for more than 5 s at E = 10 s, when 1
    # is evicted. The others are due at E, not at 7 or 8 s, and leave when the clock has passed it, 2 before 3 before 4.
    again = [udp(port, 3 - port / 10) for port in reversed(TEN)]

    measured = run([*ten_udp_flows(), *again, udp(11, 10), udp(11, at_s)])

    assert left(measured, NO_ROOM, IDLE) == [(1, NO_ROOM, 10_000), *((port, IDLE, 10_000) for port in gone)]


def test_what_is_not_yet_overdue_leaves_five_seconds_after_its_last_packet(run: Run):
    # At E = 10 s flows 2 and 3 are overdue; 4 is due at 7.4 + 5 = 12.4 s and is the third to leave, so 5 keeps 22.5 s.
    late = [udp(port, 7 + port / 10) for port in TEN if port > 3]

    measured = run([*(udp(port, port / 10) for port in (1, 2, 3)), *late, udp(11, 10), udp(11, 14)])

    assert left(measured, IDLE) == [(2, IDLE, 10_000), (3, IDLE, 10_000), (4, IDLE, 12_400)]


def test_a_tcp_flow_of_sixty_seconds_is_shortened_too(run: Run):
    frames = [frame for port in TEN for frame in answered(port, port / 10)]

    measured = run([*frames, udp(11, 2), udp(11, 5.35)])

    assert left(measured, IDLE) == [(2, IDLE, 5200), (3, IDLE, 5300)]


def test_a_timeout_that_is_shorter_by_its_own_stays(run: Run):
    # UDP: 3 s of its own, flow n due at n/10 + 3 s. Half-open: 0.5 s of its own, due at n/10 + 0.5 s.
    by_udp = run([*ten_udp_flows(), udp(11, 2), udp(11, 3.35)], other_idle_timeout_s=3)
    by_syn = run([*(syn(port, 1 + port / 100) for port in TEN), udp(11, 1.2), udp(11, 1.525)], half_open_timeout_s=0.5)

    assert left(by_udp, IDLE) == [(2, IDLE, 3200), (3, IDLE, 3300)]
    assert left(by_syn, IDLE) == [(2, IDLE, 1520)]


def test_a_packet_in_the_emergency_moves_the_shortened_deadline(run: Run):
    # 2 is heard at 4 s again: due at 9 s, when 3, 4 and 5 have made it seven.
    measured = run([*ten_udp_flows(), udp(11, 2), udp(2, 4), udp(11, 10)])

    assert [port for port, _, _ in left(measured, IDLE)] == [3, 4, 5]


@pytest.mark.parametrize(
    ("answer_s", "gone"), [(2.100000, []), (2.100001, [(2, IDLE, 2100)])], ids=["on it", "past it"]
)
def test_a_half_open_flow_may_be_answered_within_its_second(run: Run, answer_s: float, gone: list):
    # At E = 1.6 s flow 1, half-open, is evicted; 2 sent its SYN at 1.1 s. Answered in time it waits five seconds.
    frames = [syn(1, 0.5), syn(2, 1.1), *(udp(port, 1.2) for port in TEN if port > 2), udp(11, 1.6)]
    reply = Conversation(device_port=2).back(answer_s, "SA").frames

    measured = run([*frames, *reply, udp(11, 3)])

    assert left(measured, NO_ROOM, IDLE) == [(1, NO_ROOM, 1600), *gone]


def test_active_timeout_and_linger_are_as_they_were(run: Run):
    # Active 4 s: flow 2 is cut at 4.2 s, before its 5.2 s. Linger 2.5 s: 10, reset at 1 s, leaves at 3.5 s.
    frames = [udp(port, port / 10) for port in TEN if port < 10]
    reset = Conversation(device_port=10).out(1, "R").frames

    measured = run([*frames, *reset, udp(11, 2), udp(11, 4.35)], active_timeout_s=4, linger_s=2.5)

    assert left(measured, END_OF_FLOW, ACTIVE) == [
        (10, END_OF_FLOW, 3500),
        (2, ACTIVE, 4200),
        (3, ACTIVE, 4300),
    ]


@pytest.mark.parametrize(("at_s", "packets"), [(19.200000, (0, 1)), (19.200001, (1, 0))], ids=["on it", "past it"])
def test_an_entry_left_empty_by_a_cut_still_waits_its_whole_idle_timeout(
    run: Run, at_s: float, packets: tuple[int, int]
):
    # Active 4 s: flow 2 is cut at 4.2 s and waits until 19.2 s for a packet, which then keeps its direction.
    measured = run([*ten_udp_flows(), udp(11, 2), udp(2, at_s, back=True)], active_timeout_s=4)

    assert measured.counters["emergencies"] == 1
    assert (measured.final[-1].fwd_packets, measured.final[-1].bwd_packets) == packets


def test_an_emergency_may_begin_again(run: Run):
    # The first, from 2 s, ends when 4 leaves at 5.4 s. 12, 13 and 14 fill the table again; 15 finds it full at
    # 6.1 s: 5 is evicted, and 6, 7 and 8, silent for more than 5 s, are due at this second beginning.
    newcomers = [udp(port, 6) for port in (12, 13, 14)]

    measured = run([*ten_udp_flows(), udp(11, 2), udp(11, 5.9), *newcomers, udp(15, 6.1), udp(15, 6.2)])

    assert measured.counters["emergencies"] == 2
    assert left(measured, NO_ROOM, IDLE)[4:] == [
        (5, NO_ROOM, 6100),
        (6, IDLE, 6100),
        (7, IDLE, 6100),
        (8, IDLE, 6100),
    ]


def test_a_table_found_full_again_in_an_emergency_begins_no_other(run: Run):
    # 12 comes at 3 s: 2, the next embryo, leaves. 3 is still due at 5.3 s.
    measured = run([*ten_udp_flows(), udp(11, 2), udp(12, 3), udp(11, 5.35)])

    assert (measured.counters["emergencies"], measured.counters["evicted_flows"]) == (1, 2)
    assert left(measured, NO_ROOM, IDLE) == [(1, NO_ROOM, 2000), (2, NO_ROOM, 3000), (3, IDLE, 5300)]


def test_seven_tenths_are_rounded_down(run: Run):
    # 12 * 7 // 10 = 8: of twelve entries four must leave.
    frames = [udp(port, port / 10) for port in range(1, 13)]

    measured = run([*frames, udp(13, 2), udp(13, 6.9)], max_flows=12)

    assert [port for port, _, _ in left(measured, IDLE)] == [2, 3, 4, 5]


def test_an_emergency_ends_within_one_moment(run: Run):
    # All ten are silent since 0.1 s and due at E = 10 s together: three leave, four to ten keep their 15.1 s.
    measured = run([*(udp(port, 0.1) for port in TEN), udp(11, 10), udp(11, 12), udp(11, 15.11)])

    assert [at_ms for _, _, at_ms in left(measured, IDLE)] == [10_000] * 3 + [15_100] * 6


def test_partial_records_go_on_in_an_emergency(run: Run):
    # Flow 2 began at 0.2 s: partial records at 0.45, 1.2 and (its 5 s) 5.2 s, when it ends instead.
    measured = run([*ten_udp_flows(), udp(11, 2), udp(11, 5.25)], partials=True)

    times = [
        (record.partial, (record.left_us - START_US) // 1000) for record in measured.records if record.src_port == 2
    ]
    assert times == [(True, 450), (True, 1200), (False, 5200)]


def test_a_table_below_ten_flows_has_no_emergency(run: Run):
    measured = run([*(udp(port, port / 10) for port in TEN), udp(11, 5.9)], max_flows=9)

    assert measured.counters["emergencies"] == 0
    assert left(measured, NO_ROOM, IDLE) == [(1, NO_ROOM, 1000), (2, NO_ROOM, 5900)]
