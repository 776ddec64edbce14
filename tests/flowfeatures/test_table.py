"""When flows begin and end: each expectation follows from FEATURES.md section 2, the arithmetic in the comments."""

import math

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.meters import column
from tests.flowfeatures.packets import (
    DEVICE,
    ROUTER_MAC,
    SERVER,
    START_US,
    Conversation,
    ethernet,
    ipv4,
    tcp,
    time_us,
    udp,
    udp_frame,
)
from tests.oracle.meter import ACTIVE, END_OF_FLOW, FORCED, IDLE, NO_ROOM


def closed() -> Conversation:
    """A handshake and a graceful close: six packets in 50 ms, closed by the last ACK at 0.05 s."""
    talk = Conversation().out(0, "S").back(0.01, "SA").out(0.02, "A")
    return talk.out(0.03, "FA").back(0.04, "FA").out(0.05, "A")


def reasons(measured) -> list[int]:
    return [record.end_reason for record in measured.records]


def packets(measured) -> list[tuple[int, int]]:
    return [(record.fwd_packets, record.bwd_packets) for record in measured.records]


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


@pytest.mark.parametrize(
    ("silence_s", "expected"), [(60.000000, [FORCED]), (60.000001, [IDLE, FORCED])], ids=["on it", "past it"]
)
def test_a_tcp_flow_ends_past_sixty_seconds_of_silence(run: Run, silence_s: float, expected: list):
    talk = Conversation().out(0, "S").back(0.5, "SA")

    assert reasons(run(talk.out(0.5 + silence_s, "A").frames)) == expected


@pytest.mark.parametrize(
    ("silence_s", "expected"), [(15.000000, [FORCED]), (15.000001, [IDLE, FORCED])], ids=["on it", "past it"]
)
def test_another_flow_ends_past_fifteen_seconds_of_silence(run: Run, silence_s: float, expected: list):
    assert reasons(run([udp_frame(0), udp_frame(silence_s, back=True)])) == expected


@pytest.mark.parametrize(
    ("answer_s", "expected"), [(6.000000, [(2, 1)]), (6.000001, [(2, 0), (0, 1)])], ids=["on it", "past it"]
)
def test_a_half_open_flow_ends_past_five_seconds_after_its_last_syn(run: Run, answer_s: float, expected: list):
    # SYN at 0 and again at 1 s: half-open until 6.000000 s.
    measured = run(Conversation().out(0, "S").out(1, "S").back(answer_s, "SA").frames)

    assert packets(measured) == expected
    assert measured.records[0].half_open == (len(expected) == 2)
    assert measured.records[0].end_reason == (IDLE if len(expected) == 2 else FORCED)


@pytest.mark.parametrize("answer", ["SA", "RA"])
def test_an_answered_flow_is_no_longer_half_open(run: Run, answer: str):
    assert not run(Conversation().out(0, "S").back(0.1, answer).frames).records[0].half_open


def test_an_initiator_that_sends_more_than_syns_is_not_half_open(run: Run):
    measured = run(Conversation().out(0, "S").out(0.1, "A").out(20, "A").frames)

    assert packets(measured) == [(3, 0)]
    assert not measured.records[0].half_open


def busy(until_s: int) -> list:
    """One UDP packet from the device each ten seconds."""
    return [udp_frame(at_s) for at_s in range(0, until_s + 1, 10)]


def test_a_packet_exactly_at_the_active_timeout_still_belongs_to_the_flow(run: Run):
    measured = run(busy(120))

    # 0, 10, ..., 120 s: thirteen packets.
    assert packets(measured) == [(13, 0)]


def test_one_microsecond_past_the_active_timeout_the_flow_is_cut_and_goes_on(run: Run):
    measured = run([*busy(110), udp_frame(120.000001, back=True), udp_frame(121)])

    first, second = measured.records
    assert packets(measured) == [(12, 0), (1, 1)], "the server's packet came first, yet the direction is kept"
    assert (first.end_reason, first.left_us - START_US) == (ACTIVE, 120_000_000)
    assert second.number != first.number, "a new flow id begins"
    assert (first.segment, second.segment) == (0, 0)
    assert second.start_us - START_US == 120_000_001
    assert column(second, "iat_max_us") == 999_999, "the gap across the cut belongs to no flow"


@pytest.mark.parametrize(
    ("at_s", "ends"), [(135.000000, (DEVICE, SERVER)), (135.000001, (SERVER, DEVICE))], ids=["on it", "past it"]
)
def test_a_cut_flow_without_a_packet_is_dropped_past_its_idle_timeout(run: Run, at_s: float, ends: tuple):
    # Cut at 120 s, whose counters begin again there: remembered until 135.000000 s.
    measured = run([*busy(110), udp_frame(at_s, back=True)])

    assert reasons(measured) == [ACTIVE, FORCED], "the dropped entry leaves no record"
    assert measured.records[1].src[-4:] == bytes(int(part) for part in ends[0].split("."))
    assert packets(measured)[1] == ((0, 1) if ends[0] == DEVICE else (1, 0))


def test_a_cut_flow_that_stays_silent_leaves_no_record_at_the_end(run: Run):
    measured = run([*busy(110), udp_frame(121, ports=(1, 2))])

    assert reasons(measured) == [ACTIVE, FORCED]
    assert measured.records[1].src_port == 1


def test_on_a_tie_the_active_timeout_wins(run: Run):
    measured = run([udp_frame(0), udp_frame(100)], active_timeout_s=15)

    assert reasons(measured) == [ACTIVE, FORCED]


def test_a_cut_resets_the_tcp_state(run: Run):
    talk = closed()
    for at_s in (50, 100):
        talk.out(at_s, "A")

    # Closed with an endless linger, cut at 120 s, continued at 121 s: open again, so a SYN begins nothing new.
    measured = run(talk.out(121, "A").out(122, "S").frames, linger_s=math.inf)

    assert reasons(measured) == [ACTIVE, FORCED]
    assert packets(measured)[1] == (2, 0)


def test_a_cut_flow_of_syns_alone_is_half_open_again(run: Run):
    talk = Conversation()
    for at_s in range(0, 121, 4):
        talk.out(at_s, "S")
    talk.out(122, "S")

    # Cut at 120 s; the SYN at 122 s begins the next, which ends 5 s later.
    measured = run([*talk.frames, udp_frame(130)])

    assert reasons(measured)[:2] == [ACTIVE, IDLE]
    assert measured.records[1].left_us - START_US == 127_000_000
    assert measured.records[1].half_open


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


def tagged(at_s: float, *, vlans: tuple = (), back: bool = False) -> tuple[int, bytes]:
    """One UDP frame with VLAN tags, in either direction."""
    src, dst = (SERVER, DEVICE) if back else (DEVICE, SERVER)
    ports = (53, 5000) if back else (5000, 53)
    return time_us(at_s), ethernet(ipv4(udp(*ports), 17, src=src, dst=dst), vlans=vlans)


def test_a_flow_tagged_in_one_direction_only_is_one_flow(run: Run):
    measured = run([tagged(0), tagged(0.1, vlans=(20,), back=True), tagged(0.2)])

    assert packets(measured) == [(2, 1)]
    assert measured.records[0].vlan == (20, 0), "the id of the first tagged packet"


def test_the_first_tagged_packet_gives_both_vlan_ids_outer_first(run: Run):
    measured = run([tagged(0, vlans=(100, 7)), tagged(0.1, vlans=(300,))])

    assert [record.vlan for record in measured.records] == [(100, 7)]


def test_vlans_in_the_key_keep_flows_apart(run: Run):
    frames = [tagged(0, vlans=(10,)), tagged(0.1, vlans=(20,)), tagged(0.2, vlans=(10,), back=True), tagged(0.3)]

    measured = run(frames, vlan_in_key=True)

    assert [(record.vlan, record.fwd_packets, record.bwd_packets) for record in measured.records] == [
        ((10, 0), 1, 1),
        ((20, 0), 1, 0),
        ((0, 0), 1, 0),
    ]


def test_both_ends_on_one_address_still_have_two_directions(run: Run):
    def loop(at_s: float, src_port: int, dst_port: int):
        return time_us(at_s), ethernet(ipv4(udp(src_port, dst_port), 17, src="127.0.0.1", dst="127.0.0.1"))

    assert packets(run([loop(0, 5000, 53), loop(1, 53, 5000), loop(2, 5000, 53)])) == [(2, 1)]


def test_a_first_syn_ack_is_the_responders(run: Run):
    measured = run(Conversation().back(0, "SA").out(0.1, "A").frames)

    (record,) = measured.records
    assert (record.src_port, record.dst_port) == (40000, 80)
    assert packets(measured) == [(1, 1)]
    assert not record.half_open


def test_a_full_table_lets_the_oldest_half_open_flow_go_first(run: Run):
    frames = [udp_frame(0)]
    for i, port in enumerate((1001, 1002)):
        frames += Conversation(device_port=port).out(1 + i, "S").frames
    frames.append(udp_frame(4, ports=(1, 2)))

    measured = run(frames, max_flows=3)

    evicted = measured.records[0]
    assert (evicted.end_reason, evicted.src_port, evicted.left_us - START_US) == (NO_ROOM, 1001, 4_000_000)
    assert measured.counters["evicted_flows"] == 1


def test_a_full_table_without_half_open_flows_lets_the_oldest_go(run: Run):
    measured = run([udp_frame(i, ports=(port, 9)) for i, port in enumerate((7, 3, 5))], max_flows=2)

    assert [(record.end_reason, record.src_port) for record in measured.records] == [
        (NO_ROOM, 7),
        (FORCED, 3),
        (FORCED, 5),
    ]


def test_the_initiator_that_repeats_the_responders_number_has_finished_the_handshake(run: Run):
    talk = Conversation().out(0, "S", seq=10).back(0.1, "SA", seq=0xFFFFFFFF, ack=11).out(0.2, "A", seq=11, ack=0)

    assert run(talk.frames).records[0].handshake, "0xffffffff + 1 is 0"


@pytest.mark.parametrize(("flags", "number"), [("A", 500), ("RA", 501), ("R", 501), ("SA", 501)])
def test_a_guessed_number_or_a_reset_finishes_no_handshake(run: Run, flags: str, number: int):
    talk = Conversation().out(0, "S").back(0.1, "SA", seq=500).out(0.2, flags, ack=number)

    assert not run(talk.frames).records[0].handshake


def test_each_ends_mac_address_is_its_first_frames(run: Run):
    talk = Conversation().out(0, "S").back(0.1, "SA")
    other = time_us(0.2), ethernet(ipv4(tcp(80, 40000), 6, src=SERVER, dst=DEVICE), src="02:00:00:00:00:99")

    (record,) = run([*talk.frames, other]).records

    assert record.src_mac.hex(":") == "02:00:00:00:00:10"
    assert record.dst_mac.hex(":") == ROUTER_MAC


def test_the_mac_address_of_an_end_that_sent_nothing_is_zero(run: Run):
    assert run([udp_frame(0)]).records[0].dst_mac == bytes(6)
