"""How a TCP flow ends by FIN, RST and SYN, and what may follow in its linger: FEATURES.md section 2."""

import math

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.handmade.reading import closed, packets, reasons
from tests.flowfeatures.meters import column
from tests.flowfeatures.packets import START_US, Conversation, udp_frame
from tests.oracle.meter import END_OF_FLOW, FORCED, IDLE


def test_a_syn_on_a_closed_flows_ports_ends_it_at_once_and_begins_another(run: Run):
    measured = run(closed().out(0.1, "S").frames)

    first, second = measured.records
    # 4 out, 2 back; the SYN at 0.1 s is inside the linger of 0.25 s and belongs to the second flow.
    assert packets(measured) == [(4, 2), (1, 0)]
    assert (first.end_reason, first.left_us - START_US) == (END_OF_FLOW, 100_000)
    assert second.number != first.number
    assert second.start_us - START_US == 100_000
    assert second.half_open


def test_a_syn_ack_reopens_a_closed_flow_in_the_direction_it_answers(run: Run):
    measured = run(closed().back(0.1, "SA").out(0.11, "A").frames)

    first, second = measured.records
    assert packets(measured) == [(4, 2), (1, 1)]
    assert first.end_reason == END_OF_FLOW
    assert second.src_port == 40000, "the sender of a first SYN+ACK is the responder"
    assert column(second, "dst_port") == 80


def test_a_fin_from_one_side_only_leaves_the_flow_open(run: Run):
    talk = Conversation().out(0, "S").back(0.01, "SA").out(0.02, "A").out(0.03, "FA").back(0.04, "A")

    measured = run(talk.back(30, "PA", 100).out(30.1, "A").frames)

    assert reasons(measured) == [FORCED]
    assert packets(measured) == [(4, 3)]


def test_a_half_closed_flow_ends_by_its_idle_timeout(run: Run):
    talk = Conversation().out(0, "S").back(0.01, "SA").out(0.02, "FA").back(0.03, "A")

    measured = run([*talk.frames, udp_frame(100)])

    assert reasons(measured) == [IDLE, FORCED]
    assert measured.records[0].left_us - START_US == 60_030_000


def test_a_second_fin_ack_with_both_sides_finished_does_not_close(run: Run):
    talk = Conversation().out(0, "S").back(0.01, "SA").out(0.02, "A").out(0.03, "FA").back(0.04, "FA")

    # A FIN+ACK again in state 2: only an ACK without FIN closes, so 10 s later the flow is still there.
    measured = run(talk.out(0.05, "FA").out(10, "FA").frames)

    assert reasons(measured) == [FORCED]
    assert packets(measured) == [(5, 2)]


def test_an_ack_without_fin_closes_once_both_sides_have_sent_fin(run: Run):
    assert reasons(run(closed().frames)) == [END_OF_FLOW]


def test_two_fins_of_the_same_side_do_not_close(run: Run):
    talk = Conversation().out(0, "S").back(0.01, "SA").out(0.02, "FA").out(0.03, "FA").back(0.04, "A")

    assert reasons(run(talk.out(5, "A").frames)) == [FORCED]


@pytest.mark.parametrize("before", ["open", "one fin", "two fins"])
def test_a_reset_closes_from_any_state(run: Run, before: str):
    talk = Conversation().out(0, "S").back(0.01, "SA")
    if before != "open":
        talk.out(0.02, "FA")
    if before == "two fins":
        talk.back(0.03, "FA")

    measured = run([*talk.back(0.04, "R").frames, udp_frame(1)])

    # Closed at 0.04 s, so it leaves 0.25 s later.
    assert (measured.records[0].end_reason, measured.records[0].left_us - START_US) == (END_OF_FLOW, 290_000)
    assert (measured.records[0].fwd_rst, measured.records[0].bwd_rst) == (False, True)


def test_a_reset_as_first_packet_opens_a_closed_flow(run: Run):
    measured = run([*Conversation().out(0, "RA").frames, udp_frame(1)])

    assert (measured.records[0].end_reason, measured.records[0].left_us - START_US) == (END_OF_FLOW, 250_000)


@pytest.mark.parametrize(("late_s", "expected"), [(0.300000, [(4, 3)]), (0.300001, [(4, 2), (1, 0)])])
def test_a_closed_flow_takes_packets_for_exactly_the_linger(run: Run, late_s: float, expected: list):
    # Closed at 0.05 s, linger 0.25 s: 0.300000 s is still inside.
    measured = run(closed().back(late_s, "A").frames)

    assert packets(measured) == expected
    assert measured.records[0].end_reason == END_OF_FLOW


def test_packets_in_the_linger_do_not_prolong_it(run: Run):
    measured = run(closed().back(0.25, "A").back(0.35, "A").frames)

    assert packets(measured) == [(4, 3), (1, 0)]
    assert measured.records[0].left_us - START_US == 300_000


def test_with_an_infinite_linger_a_closed_flow_waits_for_its_idle_timeout(run: Run):
    measured = run([*closed().back(50, "A").frames, udp_frame(111)], linger_s=math.inf)

    assert packets(measured)[0] == (4, 3)
    assert (measured.records[0].end_reason, measured.records[0].left_us - START_US) == (IDLE, 110_000_000)
