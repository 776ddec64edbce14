"""Which flow leaves a full table: a half-open one, else an embryo, else the oldest. Flows are named by their port."""

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.packets import START_US, Conversation, TimedFrame, udp_frame
from tests.oracle.meter import ACTIVE, END_OF_FLOW, NO_ROOM

A, B, C, D, E = 1, 2, 3, 4, 5
"""Flows in order of arrival."""


def udp(port: int, *times_s: float) -> list[TimedFrame]:
    """Packets of a UDP flow: an embryo until its fourth."""
    return [udp_frame(at_s, ports=(port, 53)) for at_s in times_s]


def syns(port: int, *times_s: float) -> list[TimedFrame]:
    """SYNs of a TCP flow: half-open however many."""
    talk = Conversation(device_port=port)
    for at_s in times_s:
        talk.out(at_s, "S")
    return talk.frames


def answer(port: int, at_s: float) -> list[TimedFrame]:
    """The SYN+ACK by which a flow stops being half-open."""
    return Conversation(device_port=port).back(at_s, "SA").frames


def evicted(measured) -> list[int]:
    """The ports of the flows that left for lack of resources, in order."""
    return [record.src_port for record in measured.records if record.end_reason == NO_ROOM]


def newcomers(at_s: float, count: int) -> list[TimedFrame]:
    """New flows from port 101 on, a millisecond apart; each wants a place."""
    return [frame for i in range(count) for frame in udp(101 + i, at_s + i / 1000)]


def test_the_half_open_flow_leaves_first_though_it_came_last(run: Run):
    measured = run([*udp(A, 0), *udp(B, 0.1), *syns(C, 0.2), *newcomers(1, 1)], max_flows=3)

    (record,) = (record for record in measured.records if record.end_reason == NO_ROOM)
    assert (record.src_port, record.left_us - START_US) == (C, 1_000_000)
    assert measured.counters["evicted_flows"] == 1


def test_half_open_flows_leave_in_the_order_in_which_they_came(run: Run):
    # B's SYN again at 0.5 s makes it no younger.
    frames = [*udp(A, 0), *syns(B, 0.1), *syns(C, 0.2), *syns(D, 0.3), *syns(B, 0.5), *newcomers(1, 3)]

    assert evicted(run(frames, max_flows=4)) == [B, C, D]


def test_a_half_open_flow_stays_one_however_many_syns_it_sent(run: Run):
    frames = [*udp(A, 0), *syns(B, 0.1, 0.2, 0.3, 0.4, 0.5), *newcomers(1, 1)]

    assert evicted(run(frames, max_flows=2)) == [B]


def test_without_half_open_flows_the_first_embryo_leaves(run: Run):
    # A's fourth packet, at 0.6 s, takes it out of the embryos; B has three, C one.
    frames = [*udp(A, 0), *udp(B, 0.1), *udp(C, 0.2), *udp(A, 0.3, 0.4), *udp(B, 0.5), *udp(A, 0.6), *udp(B, 0.7)]

    # The newcomers, 101 and 102, are embryos behind C.
    assert evicted(run([*frames, *newcomers(1, 4)], max_flows=3)) == [B, C, 101, 102]


def test_packets_of_both_directions_make_four(run: Run):
    frames = [*udp(A, 0), *udp(B, 0.1), udp_frame(0.2, ports=(A, 53), back=True), *udp(A, 0.3)]
    fourth = [udp_frame(0.4, ports=(A, 53), back=True)]

    assert evicted(run([*frames, *newcomers(1, 1)], max_flows=2)) == [A]
    assert evicted(run([*frames, *fourth, *newcomers(1, 1)], max_flows=2)) == [B]


def test_without_embryos_the_oldest_flow_leaves(run: Run):
    # Every flow has four packets. B was heard last, A came first.
    frames = [*udp(A, 0), *udp(B, 0.1), *udp(A, 0.2, 0.3, 0.4), *udp(B, 0.5, 0.6, 0.7), *newcomers(1, 1)]

    assert evicted(run(frames, max_flows=2)) == [A]


def test_a_flow_that_is_answered_goes_to_the_tail_of_the_embryos(run: Run):
    # A is the oldest, but joined the embryos at 0.3 s, after B and C and before the newcomers.
    frames = [*syns(A, 0), *udp(B, 0.1), *udp(C, 0.2), *answer(A, 0.3), *newcomers(1, 4)]

    assert evicted(run(frames, max_flows=3)) == [B, C, A, 101]


def test_a_flow_answered_with_its_third_packet_is_an_embryo_and_with_its_fourth_is_none(run: Run):
    third = [*syns(A, 0, 0.1), *udp(B, 0.2), *answer(A, 0.3), *newcomers(1, 3)]
    fourth = [*syns(A, 0, 0.1, 0.15), *udp(B, 0.2), *answer(A, 0.3), *newcomers(1, 3)]

    # In the second case there is always an embryo: the newest newcomer goes before A.
    assert evicted(run(third, max_flows=2)) == [B, A, 101]
    assert evicted(run(fourth, max_flows=2)) == [B, 101, 102]


def test_an_answered_flow_with_its_third_packet_leaves_the_embryos_with_its_fourth(run: Run):
    frames = [*syns(A, 0, 0.1), *answer(A, 0.2), *udp(B, 0.3), *answer(A, 0.4), *newcomers(1, 2)]

    assert evicted(run(frames, max_flows=2)) == [B, 101]


@pytest.mark.parametrize("first", ["A", "SA", "R", "FA"])
def test_a_tcp_flow_that_does_not_begin_with_a_bare_syn_is_an_embryo(run: Run, first: str):
    other = Conversation(device_port=B).out(0.1, first).frames

    # A is the embryo that came first, so a half-open B would leave before it.
    assert evicted(run([*udp(A, 0), *other, *newcomers(0.2, 1)], max_flows=2)) == [A]


def test_a_cut_takes_a_flow_out_of_its_rank_for_good(run: Run):
    # Both are cut at 10 s: A with its second packet an embryo, B half-open; both go on at 10.1 s.
    frames = [*udp(A, 0), *syns(B, 0, 4, 8), *udp(A, 9), *udp(A, 10.1), *syns(B, 10.1), *udp(C, 10.2)]

    measured = run([*frames, *newcomers(10.3, 2)], max_flows=3, active_timeout_s=10)

    assert [record.end_reason for record in measured.records[:2]] == [ACTIVE, ACTIVE]
    assert evicted(measured) == [C, 101]
    assert [(record.src_port, record.half_open) for record in measured.records[-3:]] == [
        (A, False),
        (B, True),
        (102, False),
    ]


def test_an_entry_left_empty_by_a_cut_leaves_silently_as_the_oldest_and_is_counted(run: Run):
    # A is cut at 10 s and hears nothing more; B has four packets: no rank holds anybody.
    frames = [*udp(A, 0, 9), *udp(B, 9, 9.1, 9.2, 10.1), *newcomers(10.3, 1)]

    measured = run(frames, max_flows=2, active_timeout_s=10)

    assert next((record.src_port, record.end_reason) for record in measured.records) == (A, ACTIVE)
    assert evicted(measured) == []
    assert measured.counters["evicted_flows"] == 1
    assert [record.src_port for record in measured.records[1:]] == [B, 101]


def test_an_embryo_leaves_before_an_older_entry_left_empty_by_a_cut(run: Run):
    frames = [*udp(A, 0, 9), *udp(B, 10.1), *newcomers(10.3, 1)]

    assert evicted(run(frames, max_flows=2, active_timeout_s=10)) == [B]


def test_a_syn_on_a_closed_flow_takes_its_place_and_evicts_nobody(run: Run):
    # The reset at 0.1 s closes B; within its linger a SYN ends it and opens the next.
    reset = Conversation(device_port=B).back(0.1, "RA").frames

    measured = run([*udp(A, 0), *syns(B, 0), *reset, *syns(B, 0.2)], max_flows=2)

    assert next((record.src_port, record.end_reason) for record in measured.records) == (B, END_OF_FLOW)
    assert measured.counters["evicted_flows"] == measured.counters["emergencies"] == 0
