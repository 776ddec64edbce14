"""The columns, each against arithmetic done in the comment beside it."""

import math

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.meters import column
from tests.flowfeatures.packets import Conversation, udp_frame


def test_a_flow_of_zero_duration_has_rates_of_zero(run: Run):
    (record,) = run([udp_frame(0, payload_bytes=100), udp_frame(0, payload_bytes=50, back=True)]).records

    assert column(record, "duration_us") == 0
    for name in ("payload_bytes_per_s", "packets_per_s", "fwd_packets_per_s", "bwd_packets_per_s"):
        assert column(record, name) == 0, name
    assert column(record, "payload_bytes_mean") == 75


def test_a_single_packet_has_no_gaps_and_no_spread(run: Run):
    (record,) = run([udp_frame(0, payload_bytes=9)]).records

    # One packet, 9 bytes of payload, 8 of header; nothing came back.
    assert column(record, "fwd_payload_bytes_max") == column(record, "fwd_payload_bytes_min") == 9
    assert column(record, "payload_bytes_std") == column(record, "iat_mean_us") == column(record, "iat_min_us") == 0
    assert column(record, "bwd_payload_bytes_min") == column(record, "down_up_ratio") == 0
    assert column(record, "fwd_header_bytes") == column(record, "fwd_header_bytes_min") == 8


def test_payload_statistics_use_the_sample_variance(run: Run):
    frames = [udp_frame(at_s, payload_bytes=size) for at_s, size in ((0, 2), (1, 4), (2, 4), (4, 10))]

    (record,) = run(frames).records

    # Mean 20 / 4 = 5; squares 9 + 1 + 1 + 25 = 36; variance 36 / 3 = 12.
    assert column(record, "payload_bytes_mean") == column(record, "payload_bytes_per_packet") == 5
    assert column(record, "payload_bytes_var") == pytest.approx(12, rel=1e-12)
    assert column(record, "fwd_payload_bytes_std") == pytest.approx(math.sqrt(12), rel=1e-12)
    # 20 bytes and 4 packets in 4 s.
    assert column(record, "payload_bytes_per_s") == 5
    assert column(record, "packets_per_s") == column(record, "fwd_packets_per_s") == 1
    # Gaps 1, 1, 2 s: mean 4/3 s, variance (2 * (1/3)^2 + (2/3)^2) / 2 = 1/3 s^2.
    assert column(record, "iat_mean_us") == pytest.approx(4e6 / 3, rel=1e-12)
    assert column(record, "iat_std_us") == pytest.approx(1e6 / math.sqrt(3), rel=1e-12)
    assert column(record, "fwd_iat_sum_us") == 4_000_000


def test_gaps_of_one_direction_skip_the_others_packets(run: Run):
    (record,) = run([udp_frame(0), udp_frame(1, back=True), udp_frame(3), udp_frame(6, back=True)]).records

    # Flow gaps 1, 2, 3 s; forward 0 -> 3; backward 1 -> 6.
    assert column(record, "iat_max_us") == 3_000_000
    assert column(record, "fwd_iat_sum_us") == column(record, "fwd_iat_mean_us") == 3_000_000
    assert column(record, "bwd_iat_max_us") == column(record, "bwd_iat_min_us") == 5_000_000
    assert column(record, "down_up_ratio") == 1


@pytest.mark.parametrize(("gap_s", "subflows"), [(1.000000, 1), (1.000001, 2)], ids=["on it", "past it"])
def test_a_gap_above_one_second_begins_a_subflow(run: Run, gap_s: float, subflows: int):
    frames = [udp_frame(0, payload_bytes=100), udp_frame(gap_s, payload_bytes=300), udp_frame(gap_s, back=True)]

    (record,) = run(frames).records

    assert column(record, "fwd_subflow_packets_mean") == 2 / subflows
    assert column(record, "fwd_subflow_bytes_mean") == 400 / subflows
    assert column(record, "bwd_subflow_packets_mean") == 1 / subflows
    assert column(record, "bwd_subflow_bytes_mean") == 0


def test_subflow_gaps_are_the_whole_flows(run: Run):
    # Forward packets lie 1.5 s apart, but a backward packet halves the gap.
    (record,) = run([udp_frame(0), udp_frame(0.75, back=True), udp_frame(1.5)]).records

    assert column(record, "fwd_subflow_packets_mean") == 2


@pytest.mark.parametrize(
    ("gap_s", "idle_us", "active_us"), [(5.000000, 0, 0), (5.000001, 5_000_001, 2_000_000)], ids=["on it", "past it"]
)
def test_a_gap_above_five_seconds_ends_an_active_spell(run: Run, gap_s: float, idle_us: int, active_us: int):
    (record,) = run([udp_frame(0), udp_frame(2), udp_frame(2 + gap_s), udp_frame(3 + gap_s)]).records

    # The spell 0 - 2 s counts when the gap ends it; the last spell never does.
    assert column(record, "idle_spell_mean_us") == column(record, "idle_spell_max_us") == idle_us
    assert column(record, "active_spell_mean_us") == column(record, "active_spell_min_us") == active_us
    assert column(record, "active_spell_std_us") == 0


def test_a_spell_of_one_packet_is_not_active_time(run: Run):
    # Gaps of 6 and 8 s around a single packet; only 14 - 15 s would be a spell, and it is the last.
    (record,) = run([udp_frame(0), udp_frame(6), udp_frame(14), udp_frame(15)]).records

    assert column(record, "active_spell_max_us") == 0
    # Idle spells 6 and 8 s: mean 7, sample deviation sqrt(1 + 1) = sqrt(2) s.
    assert column(record, "idle_spell_mean_us") == 7_000_000
    assert column(record, "idle_spell_std_us") == pytest.approx(math.sqrt(2) * 1e6, rel=1e-12)


def bulk(talk: Conversation, times: tuple[float, ...]) -> Conversation:
    for at_s in times:
        talk.out(at_s, "PA", 100)
    return talk


def test_four_payload_packets_in_a_row_are_a_bulk(run: Run):
    (record,) = run(bulk(Conversation(), (0, 0.1, 0.2, 0.4)).frames).records

    # 400 bytes, 4 packets, from 0 to 0.4 s: 1000 bytes per second.
    assert column(record, "fwd_bulk_bytes_mean") == 400
    assert column(record, "fwd_bulk_packets_mean") == 4
    assert column(record, "fwd_bulk_bytes_per_s") == pytest.approx(1000, rel=1e-12)
    assert column(record, "bwd_bulk_bytes_mean") == 0


def test_three_payload_packets_are_none(run: Run):
    (record,) = run(bulk(Conversation(), (0, 0.1, 0.2)).frames).records

    assert column(record, "fwd_bulk_packets_mean") == column(record, "fwd_bulk_bytes_per_s") == 0


def test_pure_acks_do_not_break_a_bulk(run: Run):
    talk = Conversation()
    for at_s in (0, 0.1, 0.2, 0.3, 0.5):
        talk.out(at_s, "PA", 100).back(at_s + 0.01, "A").out(at_s + 0.02, "A")

    (record,) = run(talk.frames).records

    # One bulk of five: 500 bytes; 0.3 s to the fourth packet and 0.2 s to the fifth.
    assert column(record, "fwd_bulk_packets_mean") == 5
    assert column(record, "fwd_bulk_bytes_mean") == 500
    assert column(record, "fwd_bulk_bytes_per_s") == pytest.approx(1000, rel=1e-12)


def test_payload_from_the_other_side_breaks_a_bulk(run: Run):
    talk = bulk(Conversation(), (0, 0.1, 0.2)).back(0.25, "PA", 10)

    (record,) = run(bulk(talk, (0.3, 0.4, 0.5)).frames).records

    assert column(record, "fwd_bulk_packets_mean") == 0


@pytest.mark.parametrize(("gap_s", "packets"), [(1.000000, 4), (1.000001, 0)], ids=["on it", "past it"])
def test_a_gap_above_one_second_begins_another_bulk(run: Run, gap_s: float, packets: int):
    (record,) = run(bulk(Conversation(), (0, 0.1, 0.2, 0.2 + gap_s)).frames).records

    assert column(record, "fwd_bulk_packets_mean") == packets


def test_two_bulks_are_averaged(run: Run):
    talk = bulk(Conversation(), (0, 0.1, 0.2, 0.3)).back(0.4, "PA", 1)

    (record,) = run(bulk(talk, (1, 1.1, 1.2, 1.3, 1.4, 1.5)).frames).records

    # Bulks of 4 and 6 packets: 5 on average, 500 bytes; 1000 bytes in 0.3 + 0.5 s.
    assert column(record, "fwd_bulk_packets_mean") == 5
    assert column(record, "fwd_bulk_bytes_mean") == 500
    assert column(record, "fwd_bulk_bytes_per_s") == pytest.approx(1250, rel=1e-12)


def test_a_bulk_in_no_time_has_a_rate_of_zero(run: Run):
    (record,) = run(bulk(Conversation(), (0, 0, 0, 0)).frames).records

    assert column(record, "fwd_bulk_packets_mean") == 4
    assert column(record, "fwd_bulk_bytes_per_s") == 0


def test_the_first_window_of_each_side_is_kept_and_later_ones_are_not(run: Run):
    talk = Conversation().out(0, "S", window=29200).back(0.1, "SA", window=28960)

    (record,) = run(talk.out(0.2, "A", window=229).back(0.3, "A", window=235).frames).records

    assert (column(record, "fwd_init_window_bytes"), column(record, "bwd_init_window_bytes")) == (29200, 28960)


def test_a_side_that_sent_nothing_has_no_window(run: Run):
    assert column(run(Conversation().out(0, "S", window=1024).frames).records[0], "bwd_init_window_bytes") == 0


def test_flags_are_counted_packet_by_packet_and_per_side(run: Run):
    talk = Conversation().out(0, "SEC").back(0.1, "SAE").out(0.2, "A").out(0.3, "PAU").back(0.4, "PA").out(0.5, "RA")

    (record,) = run(talk.frames).records

    expected = {"fin": 0, "syn": 2, "rst": 1, "psh": 2, "ack": 5, "urg": 1, "cwr": 1, "ece": 2}
    assert {flag: column(record, f"{flag}_packets") for flag in expected} == expected
    sides = ("fwd_psh_packets", "bwd_psh_packets", "fwd_urg_packets", "bwd_urg_packets")
    assert [column(record, name) for name in sides] == [1, 1, 1, 0]


def test_header_bytes_are_layer_four_only(run: Run):
    talk = Conversation().out(0, "S", options_bytes=20).back(0.1, "SA", options_bytes=12).out(0.2, "A", 7)

    (record,) = run(talk.frames).records

    assert column(record, "fwd_header_bytes") == 40 + 20
    assert column(record, "bwd_header_bytes") == 32
    assert column(record, "fwd_header_bytes_min") == 20
    assert column(record, "fwd_data_packets") == 1


def test_down_up_ratio_is_a_real_division(run: Run):
    frames = [udp_frame(0), udp_frame(1), udp_frame(2, back=True)]

    assert column(run(frames).records[0], "down_up_ratio") == 0.5


def test_without_a_forward_packet_the_ratio_is_zero(run: Run):
    # A first SYN+ACK is the responder's, and nothing follows.
    (record,) = run(Conversation().back(0, "SA").frames).records

    assert column(record, "down_up_ratio") == column(record, "fwd_header_bytes_min") == 0
    assert column(record, "bwd_packets") == 1


def test_wire_bytes_are_whole_frames(run: Run):
    (record,) = run([udp_frame(0, payload_bytes=58), udp_frame(1, payload_bytes=8, back=True)]).records

    # 14 Ethernet + 20 IP + 8 UDP.
    assert (record.fwd_wire_bytes, record.bwd_wire_bytes) == (100, 50)
