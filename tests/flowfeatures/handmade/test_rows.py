"""Whole rows: all 77 columns of a small capture, worked out by hand. A table leaves out the columns that are 0."""

from math import sqrt

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.handmade.reading import closed, gaps, only_forward, packets, wrong_columns
from tests.flowfeatures.packets import (
    COOKED,
    ETHERNET,
    NULL,
    RAW,
    Conversation,
    cooked,
    ethernet,
    extension,
    fragment_header,
    ipv4,
    ipv6,
    time_us,
    udp,
    udp_frame,
)

UDP = 17
HERE, THERE = "2001:db8::10", "2001:db8:ffff::5"
DESTINATION, FRAGMENT, HOP_BY_HOP = 60, 44, 0


def four(segment: bytes, is_back: bool) -> bytes:
    """A datagram over IPv4."""
    ends = {"src": "203.0.113.5", "dst": "192.168.1.10"} if is_back else {}
    return ipv4(segment, UDP, **ends)


def six(segment: bytes, is_back: bool, *, first: int = UDP) -> bytes:
    """A datagram over IPv6; `first` names what `segment` begins with."""
    return ipv6(segment, first, src=THERE if is_back else HERE, dst=HERE if is_back else THERE)


def behind_options(segment: bytes, is_back: bool) -> bytes:
    """Over IPv6 behind a hop-by-hop header of 8 bytes and a destination header of 24."""
    return six(extension(DESTINATION) + extension(UDP, units=2) + segment, is_back, first=HOP_BY_HOP)


def in_one_fragment(segment: bytes, is_back: bool) -> bytes:
    """Over IPv6 with a fragment header that cuts nothing off (RFC 6946)."""
    return six(fragment_header(UDP, offset=0, more=False) + segment, is_back, first=FRAGMENT)


CARRIAGES = {
    "IPv4": (ETHERNET, lambda datagram, back: ethernet(four(datagram, back))),
    "IPv6": (ETHERNET, lambda datagram, back: ethernet(six(datagram, back))),
    "IPv6 with options": (ETHERNET, lambda datagram, back: ethernet(behind_options(datagram, back))),
    "IPv6 in one fragment": (ETHERNET, lambda datagram, back: ethernet(in_one_fragment(datagram, back))),
    "IPv6 in two tags": (ETHERNET, lambda datagram, back: ethernet(six(datagram, back), vlans=(10, 20))),
    "IPv4, one direction tagged": (
        ETHERNET,
        lambda datagram, back: ethernet(four(datagram, back), vlans=(10,) if back else ()),
    ),
    "IPv4 padded": (ETHERNET, lambda datagram, back: ethernet(four(datagram, back), pad_to=200)),
    "IPv6 cooked": (COOKED, lambda datagram, back: cooked(six(datagram, back), ether_type=0x86DD)),
    "IPv6 raw": (RAW, six),
    "IPv4 loopback": (NULL, lambda datagram, back: b"\x02\0\0\0" + four(datagram, back)),
}


@pytest.mark.parametrize("carriage", CARRIAGES)
def test_a_question_and_its_answer_give_one_row_whatever_carries_them(run: Run, carriage: str):
    # 30 bytes to port 53, after 0.02 s 100 bytes back.
    link_type, carry = CARRIAGES[carriage]
    question, answer = carry(udp(5000, 53, 30), False), carry(udp(53, 5000, 100), True)

    (record,) = run([(time_us(0), question), (time_us(0.02), answer)], link_type=link_type).records

    assert wrong_columns(record, QUESTION_AND_ANSWER) == []


QUESTION_AND_ANSWER = {
    "dst_port": 53,
    "duration_us": 20_000,
    "fwd_packets": 1,
    "bwd_packets": 1,
    "fwd_payload_bytes": 30,
    "bwd_payload_bytes": 100,
    "fwd_payload_bytes_max": 30,
    "fwd_payload_bytes_min": 30,
    "fwd_payload_bytes_mean": 30,
    "bwd_payload_bytes_max": 100,
    "bwd_payload_bytes_min": 100,
    "bwd_payload_bytes_mean": 100,
    "payload_bytes_per_s": 6500,  # 130 / 0.02
    "packets_per_s": 100,  # 2 / 0.02
    "iat_mean_us": 20_000,
    "iat_max_us": 20_000,
    "iat_min_us": 20_000,
    "fwd_header_bytes": 8,
    "bwd_header_bytes": 8,
    "fwd_packets_per_s": 50,
    "bwd_packets_per_s": 50,
    "payload_bytes_min": 30,
    "payload_bytes_max": 100,
    "payload_bytes_mean": 65,
    "payload_bytes_std": sqrt(2450),
    "payload_bytes_var": 2450,  # (35^2 + 35^2) / 1
    "down_up_ratio": 1,
    "payload_bytes_per_packet": 65,
    "fwd_payload_bytes_per_packet": 30,
    "bwd_payload_bytes_per_packet": 100,
    "fwd_subflow_packets_mean": 1,
    "fwd_subflow_bytes_mean": 30,
    "bwd_subflow_packets_mean": 1,
    "bwd_subflow_bytes_mean": 100,
    "fwd_data_packets": 1,
    "fwd_header_bytes_min": 8,
}


@pytest.mark.parametrize("ends", [{}, {"device": HERE, "server": THERE}], ids=["IPv4", "IPv6"])
def test_a_half_closed_conversation(run: Run, ends: dict[str, str]):
    # The device has sent its FIN at 0.4 s and the server still sends, after a gap of exactly 1.000000 s: one subflow.
    talk = Conversation(**ends).out(0, "S", window=29200).back(0.1, "SA", window=28960).out(0.2, "A", window=229)
    talk.out(0.3, "PA", 200, window=229).out(0.4, "FA").back(0.5, "A", window=235)
    talk.back(1.5, "PA", 1000).back(1.6, "PA", 500).out(1.7, "A")

    (record,) = run(talk.frames).records

    expected = {
        "dst_port": 80,
        "duration_us": 1_700_000,
        "fwd_packets": 5,  # at 0, 0.2, 0.3, 0.4, 1.7 s
        "bwd_packets": 4,  # at 0.1, 0.5, 1.5, 1.6 s
        "fwd_payload_bytes": 200,
        "bwd_payload_bytes": 1500,
        # Forward 0, 0, 200, 0, 0: mean 40, squares 4 * 40^2 + 160^2 = 32,000, over 4.
        "fwd_payload_bytes_max": 200,
        "fwd_payload_bytes_mean": 40,
        "fwd_payload_bytes_std": sqrt(8000),
        # Backward 0, 0, 1000, 500: mean 375, squares 2 * 375^2 + 625^2 + 125^2 = 687,500, over 3.
        "bwd_payload_bytes_max": 1000,
        "bwd_payload_bytes_mean": 375,
        "bwd_payload_bytes_std": sqrt(687_500 / 3),
        "payload_bytes_per_s": 1000,  # 1700 / 1.7
        "packets_per_s": 9 / 1.7,
        # Gaps: seven of 0.1 s and one of 1 s: mean 1.7 / 8, squares 7 * 0.1125^2 + 0.7875^2 = 0.70875 s^2, over 7.
        "iat_mean_us": 212_500,
        "iat_std_us": sqrt(0.10125) * 1e6,
        "iat_max_us": 1_000_000,
        "iat_min_us": 100_000,
        # Forward 0.2, 0.1, 0.1, 1.3 s: mean 0.425, squares 0.225^2 + 2 * 0.325^2 + 0.875^2 = 1.0275 s^2, over 3.
        "fwd_iat_sum_us": 1_700_000,
        "fwd_iat_mean_us": 425_000,
        "fwd_iat_std_us": sqrt(0.3425) * 1e6,
        "fwd_iat_max_us": 1_300_000,
        "fwd_iat_min_us": 100_000,
        # Backward 0.4, 1.0, 0.1 s: mean 0.5, squares 0.01 + 0.25 + 0.16 = 0.42 s^2, over 2.
        "bwd_iat_sum_us": 1_500_000,
        "bwd_iat_mean_us": 500_000,
        "bwd_iat_std_us": sqrt(0.21) * 1e6,
        "bwd_iat_max_us": 1_000_000,
        "bwd_iat_min_us": 100_000,
        "fwd_psh_packets": 1,
        "bwd_psh_packets": 2,
        "fwd_header_bytes": 100,  # 5 * 20
        "bwd_header_bytes": 80,
        "fwd_packets_per_s": 5 / 1.7,
        "bwd_packets_per_s": 4 / 1.7,
        # 200, 1000, 500 and six times 0: squares 1,290,000 less 1700^2 / 9, over 8.
        "payload_bytes_max": 1000,
        "payload_bytes_mean": 1700 / 9,
        "payload_bytes_std": sqrt(8_720_000 / 72),
        "payload_bytes_var": 8_720_000 / 72,
        "fin_packets": 1,
        "syn_packets": 2,
        "psh_packets": 3,
        "ack_packets": 8,  # all but the first
        "down_up_ratio": 0.8,
        "payload_bytes_per_packet": 1700 / 9,
        "fwd_payload_bytes_per_packet": 40,
        "bwd_payload_bytes_per_packet": 375,
        "fwd_subflow_packets_mean": 5,
        "fwd_subflow_bytes_mean": 200,
        "bwd_subflow_packets_mean": 4,
        "bwd_subflow_bytes_mean": 1500,
        "fwd_init_window_bytes": 29200,  # the first each way, not a later one
        "bwd_init_window_bytes": 28960,
        "fwd_data_packets": 1,
        "fwd_header_bytes_min": 20,
    }
    assert wrong_columns(record, expected) == []


def test_gaps_of_just_above_one_of_exactly_five_and_of_just_above_five_seconds(run: Run):
    frames = [udp_frame(at_s, payload_bytes=100) for at_s in (0, 1.000001, 6.000001, 11.000002)]

    (record,) = run(frames).records

    expected = {
        **only_forward(packets=4, payload_bytes=100, duration_us=11_000_002),
        # Gaps 1.000001, 5.000000 and 5.000001 s. From their mean, 11,000,002 / 3, they are -7,999,999 / 3,
        # 3,999,998 / 3 and 4,000,001 / 3 away; the squares over 9 and 2.
        **gaps(
            total_us=11_000_002,
            count=3,
            std_us=sqrt((7_999_999**2 + 3_999_998**2 + 4_000_001**2) / 18),
            max_us=5_000_001,
            min_us=1_000_001,
        ),
        # All three gaps are above 1 s: four subflows.
        "fwd_subflow_packets_mean": 1,
        "fwd_subflow_bytes_mean": 100,
        # Only the last gap is above 5 s: it ends the spell from 0 to 6.000001 s; the spell after it does not count.
        "active_spell_mean_us": 6_000_001,
        "active_spell_max_us": 6_000_001,
        "active_spell_min_us": 6_000_001,
        "idle_spell_mean_us": 5_000_001,
        "idle_spell_max_us": 5_000_001,
        "idle_spell_min_us": 5_000_001,
    }
    assert wrong_columns(record, expected) == []


def test_a_gap_of_exactly_one_second_begins_neither_a_subflow_nor_another_bulk(run: Run):
    frames = [udp_frame(at_s, payload_bytes=100) for at_s in (0, 0.5, 1.5, 2)]

    (record,) = run(frames).records

    expected = {
        **only_forward(packets=4, payload_bytes=100, duration_us=2_000_000),
        # Gaps 0.5, 1, 0.5 s: from their mean, 2/3 s, they are -1/6, 1/3, -1/6 away: squares 1/36 + 4/36 + 1/36 over 2.
        **gaps(total_us=2_000_000, count=3, std_us=sqrt(1 / 12) * 1e6, max_us=1_000_000, min_us=500_000),
        "fwd_subflow_packets_mean": 4,
        "fwd_subflow_bytes_mean": 400,
        "fwd_bulk_bytes_mean": 400,
        "fwd_bulk_packets_mean": 4,
        "fwd_bulk_bytes_per_s": 200,  # 400 / 2 s
    }
    assert wrong_columns(record, expected) == []


def test_a_clock_that_steps_back(run: Run):
    # The second packet is stamped 2 s before the first; the third 4 s after that.
    frames = [udp_frame(at_s, payload_bytes=100) for at_s in (10, 8, 12)]

    (record,) = run(frames).records

    expected = {
        **only_forward(packets=3, payload_bytes=100, duration_us=2_000_000),
        # Gaps -2 and 4 s: mean 1, squares 9 + 9, over 1.
        **gaps(total_us=2_000_000, count=2, std_us=sqrt(18) * 1e6, max_us=4_000_000, min_us=-2_000_000),
        # Only the gap of 4 s is above 1 s: two subflows.
        "fwd_subflow_packets_mean": 1.5,
        "fwd_subflow_bytes_mean": 150,
    }
    assert wrong_columns(record, expected) == []


def test_a_lone_syn_has_no_duration_and_rates_of_zero(run: Run):
    (record,) = run(Conversation().out(0, "S", window=1024, options_bytes=20).frames).records

    expected = {
        "dst_port": 80,
        "fwd_packets": 1,
        "fwd_header_bytes": 40,
        "fwd_header_bytes_min": 40,
        "syn_packets": 1,
        "fwd_subflow_packets_mean": 1,
        "fwd_init_window_bytes": 1024,
    }
    assert wrong_columns(record, expected) == []


def test_a_flow_whose_first_packet_is_backward_has_the_windows_and_headers_of_its_own_sides(run: Run):
    # A first SYN+ACK is the responder's: 1 backward packet, then 2 forward; the fork gives 0 for window and header.
    talk = Conversation().back(0, "SA", window=500, options_bytes=12).out(0.25, "A", window=700).out(0.5, "A", window=9)

    (record,) = run(talk.frames).records

    expected = {
        "dst_port": 80,
        "duration_us": 500_000,
        "fwd_packets": 2,
        "bwd_packets": 1,
        "packets_per_s": 6,
        "iat_mean_us": 250_000,
        "iat_max_us": 250_000,
        "iat_min_us": 250_000,
        "fwd_iat_sum_us": 250_000,
        "fwd_iat_mean_us": 250_000,
        "fwd_iat_max_us": 250_000,
        "fwd_iat_min_us": 250_000,
        "fwd_header_bytes": 40,
        "bwd_header_bytes": 32,
        "fwd_packets_per_s": 4,
        "bwd_packets_per_s": 2,
        "syn_packets": 1,
        "ack_packets": 3,
        "down_up_ratio": 0.5,
        "fwd_subflow_packets_mean": 2,
        "bwd_subflow_packets_mean": 1,
        "fwd_init_window_bytes": 700,
        "bwd_init_window_bytes": 500,
        "fwd_header_bytes_min": 20,
    }
    assert wrong_columns(record, expected) == []


def test_a_port_used_again_after_fin_begins_with_nothing(run: Run):
    measured = run(closed().out(0.1, "S", window=77).frames)

    assert packets(measured) == [(4, 2), (1, 0)]
    expected = {
        "dst_port": 80,
        "fwd_packets": 1,
        "fwd_header_bytes": 20,
        "fwd_header_bytes_min": 20,
        "syn_packets": 1,
        "fwd_subflow_packets_mean": 1,
        "fwd_init_window_bytes": 77,
    }
    assert wrong_columns(measured.records[1], expected) == []
