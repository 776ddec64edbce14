"""Whole rows of what has no ports: ICMP, other protocols, fragments. A table leaves out the columns that are 0."""

from collections.abc import Callable

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.handmade.reading import gaps, only_forward, wrong_columns
from tests.flowfeatures.packets import TimedFrame, ethernet, fragment_header, ipv4, ipv6, time_us, udp

ICMP, IGMP, UDP, FRAGMENT, GRE, ESP, ICMPV6, SCTP = 1, 2, 17, 44, 47, 50, 58, 132


@pytest.mark.parametrize("packet", [ipv4, ipv6])
@pytest.mark.parametrize(
    ("proto", "payload_bytes"), [(ICMP, 0), (ICMPV6, 0), (IGMP, 64), (GRE, 64), (ESP, 64), (SCTP, 64)]
)
def test_protocols_without_ports(run: Run, packet: Callable[..., bytes], proto: int, payload_bytes: int):
    # ICMP counts no payload; of every other protocol all that follows the IP header is payload, and none is header.
    frames = [(time_us(at_s), ethernet(packet(bytes(64), proto))) for at_s in (0, 0.5)]

    (record,) = run(frames).records

    expected = {
        **only_forward(packets=2, payload_bytes=payload_bytes, duration_us=500_000, header_bytes=0, dst_port=0),
        **gaps(total_us=500_000, count=1, std_us=0, max_us=500_000, min_us=500_000),
        "fwd_subflow_packets_mean": 2,
        "fwd_subflow_bytes_mean": 2 * payload_bytes,
    }
    assert wrong_columns(record, expected) == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_in_three_fragments_is_two_flows(run: Run, version: int):
    # The first has the header and 1,440 bytes of payload; the others have no ports, and none of their bytes count.
    pieces = [(0, udp(5000, 53, 1440)), (1448, bytes(1448)), (2896, bytes(100))]

    def frame(number: int, offset: int, piece: bytes) -> TimedFrame:
        more = number < 2
        packet = (
            ipv4(piece, UDP, fragment_offset=offset, more_fragments=more)
            if version == 4
            else ipv6(fragment_header(UDP, offset=offset, more=more) + piece, FRAGMENT)
        )
        return time_us(number / 2), ethernet(packet)

    first, later = run([frame(i, offset, piece) for i, (offset, piece) in enumerate(pieces)]).records

    of_first = {
        **only_forward(packets=1, payload_bytes=1440, duration_us=0),
        "fwd_subflow_packets_mean": 1,
        "fwd_subflow_bytes_mean": 1440,
    }
    of_later = {
        **only_forward(packets=2, payload_bytes=0, duration_us=500_000, header_bytes=0, dst_port=0),
        **gaps(total_us=500_000, count=1, std_us=0, max_us=500_000, min_us=500_000),
        "fwd_subflow_packets_mean": 2,
    }
    assert wrong_columns(first, of_first) == []
    assert wrong_columns(later, of_later) == []
