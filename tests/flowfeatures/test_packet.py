"""What a frame means: link types, lengths, fragments, extension headers, and the reasons for not decoding."""

import struct

import pytest

from tests.flowfeatures import packets as build
from tests.flowfeatures.conftest import Run
from tests.flowfeatures.meters import column
from tests.flowfeatures.packets import START_US, ethernet, extension, fragment_header, ipv4, ipv6, tcp, udp

ICMP, IGMP, TCP, UDP, GRE, ESP, AUTHENTICATION, ICMPV6, NO_NEXT, SCTP = 1, 2, 6, 17, 47, 50, 51, 58, 59, 132
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


def only(run: Run, frame: bytes, **form: int):
    """Return the one record of one frame."""
    measured = run([(START_US, frame)], **form)
    assert measured.counters["undecoded"] == {}
    (record,) = measured.records
    return record


def undecoded(run: Run, frame: bytes, **form: int) -> dict:
    """Return the reasons counted for one frame that leaves no record."""
    measured = run([(START_US, frame)], **form)
    assert measured.records == []
    assert measured.counters["packets"] == 1
    return measured.counters["undecoded"]


def shape(record) -> tuple[int, int, int, int]:
    """Protocol, responder's port, payload and header bytes."""
    payload, header = column(record, "fwd_payload_bytes"), column(record, "fwd_header_bytes")
    return record.proto, record.dst_port, payload, header


DATAGRAM = ipv4(udp(5000, 53, 30), UDP)
DATAGRAM_6 = ipv6(udp(5000, 53, 30), UDP)
SYN = ipv4(tcp(40000, 80, "S"), TCP)


@pytest.mark.parametrize(
    ("link_type", "frame"),
    [
        (build.ETHERNET, ethernet(DATAGRAM)),
        (build.ETHERNET, ethernet(DATAGRAM, vlans=(5,))),
        (build.ETHERNET, ethernet(DATAGRAM, vlans=(5, 6))),
        (build.ETHERNET, ethernet(DATAGRAM_6)),
        (build.COOKED, build.cooked(DATAGRAM)),
        (build.COOKED, build.cooked(DATAGRAM_6, ether_type=0x86DD)),
        (build.COOKED_2, build.cooked_2(DATAGRAM)),
        (build.RAW, DATAGRAM),
        (build.RAW, DATAGRAM_6),
        (12, DATAGRAM),
        (228, DATAGRAM),
        (229, DATAGRAM_6),
        (build.NULL, struct.pack("<I", 2) + DATAGRAM),
        (build.NULL, struct.pack(">I", 2) + DATAGRAM),
        (build.NULL, struct.pack("<I", 30) + DATAGRAM_6),
        (build.NULL, struct.pack("<I", 24) + DATAGRAM_6),
        (build.LOOP, struct.pack(">I", 28) + DATAGRAM_6),
    ],
)
def test_every_link_type_gives_the_same_packet(run: Run, link_type: int, frame: bytes):
    record = only(run, frame, link_type=link_type)

    assert shape(record) == (UDP, 53, 30, 8)


def test_cooked_frames_carry_the_senders_mac_address(run: Run):
    assert only(run, build.cooked(DATAGRAM), link_type=build.COOKED).src_mac.hex(":") == build.DEVICE_MAC
    assert only(run, build.cooked_2(DATAGRAM), link_type=build.COOKED_2).src_mac.hex(":") == build.DEVICE_MAC


def test_ethernet_padding_is_no_payload(run: Run):
    assert shape(only(run, ethernet(ipv4(tcp(40000, 80), TCP), pad_to=60))) == (TCP, 80, 0, 20)


def test_lengths_come_from_the_ip_header_when_the_capture_is_cut(run: Run):
    record = only(run, ethernet(ipv4(tcp(40000, 80, "A", 1000), TCP)), snap=14 + 20 + 20)

    assert shape(record) == (TCP, 80, 1000, 20)


def test_a_total_length_above_the_wire_is_cut_to_it(run: Run):
    assert shape(only(run, ethernet(ipv4(udp(5000, 53, 30), UDP, total_length=900)))) == (UDP, 53, 30, 8)
    assert shape(only(run, ethernet(ipv6(udp(5000, 53, 30), UDP, payload_length=900)))) == (UDP, 53, 30, 8)


def test_a_total_length_below_the_frame_leaves_the_rest_uncounted(run: Run):
    assert shape(only(run, ethernet(ipv4(udp(5000, 53, 30), UDP, total_length=20 + 8 + 5)))) == (UDP, 53, 5, 8)


def test_payload_is_never_negative(run: Run):
    assert shape(only(run, ethernet(ipv4(udp(5000, 53, 30), UDP, total_length=22)))) == (UDP, 53, 0, 8)


def test_the_udp_length_field_is_ignored(run: Run):
    datagram = struct.pack(">HHHH", 5000, 53, 9999, 0) + bytes(12)

    assert shape(only(run, ethernet(ipv4(datagram, UDP)))) == (UDP, 53, 12, 8)


@pytest.mark.parametrize("version", [4, 6])
def test_a_length_of_zero_means_the_wire_length(run: Run, version: int):
    segment = tcp(40000, 80, "A", 5000)
    packet = ipv4(segment, TCP, total_length=0) if version == 4 else ipv6(segment, TCP, payload_length=0)

    measured = run([(START_US, ethernet(packet))])

    assert shape(measured.records[0]) == (TCP, 80, 5000, 20)
    assert measured.counters["super_frames"] == 1


@pytest.mark.parametrize(("ip_bytes", "super_frames"), [(1500, 0), (1501, 1)])
def test_above_1500_bytes_of_ip_a_packet_is_a_super_frame_and_stays_one_packet(
    run: Run, ip_bytes: int, super_frames: int
):
    measured = run([(START_US, ethernet(ipv4(tcp(40000, 80, "A", ip_bytes - 40), TCP)))])

    assert measured.counters["super_frames"] == super_frames
    assert measured.records[0].fwd_packets == 1


def test_ip_options_are_neither_header_nor_payload(run: Run):
    assert shape(only(run, ethernet(ipv4(udp(5000, 53, 30), UDP, options_bytes=12)))) == (UDP, 53, 30, 8)


@pytest.mark.parametrize("proto", [ICMP, ICMPV6])
def test_icmp_has_no_ports_no_header_and_no_payload(run: Run, proto: int):
    packet = ipv4(bytes(64), ICMP) if proto == ICMP else ipv6(bytes(64), ICMPV6)

    assert shape(only(run, ethernet(packet))) == (proto, 0, 0, 0)


@pytest.mark.parametrize("proto", [IGMP, GRE, ESP, AUTHENTICATION, SCTP, 255])
def test_other_protocols_have_payload_but_no_ports(run: Run, proto: int):
    assert shape(only(run, ethernet(ipv4(bytes(33), proto)))) == (proto, 0, 33, 0)


def test_the_first_fragment_counts_with_the_payload_it_holds(run: Run):
    packet = ipv4(udp(5000, 53, 1472), UDP, more_fragments=True)

    assert shape(only(run, ethernet(packet))) == (UDP, 53, 1472, 8)


def test_later_fragments_have_their_own_flow_of_the_real_protocol(run: Run):
    first = ethernet(ipv4(udp(5000, 53, 1472), UDP, more_fragments=True))
    second = ethernet(ipv4(bytes(1480), UDP, fragment_offset=1480, more_fragments=True))
    third = ethernet(ipv4(bytes(4), UDP, fragment_offset=2960))

    measured = run([(START_US, first), (START_US + 1, second), (START_US + 2, third)])

    assert [shape(record) for record in measured.records] == [(UDP, 53, 1472, 8), (UDP, 0, 0, 0)]
    assert [record.fwd_packets for record in measured.records] == [1, 2]


def test_a_later_fragment_of_tcp_has_no_flags(run: Run):
    record = only(run, ethernet(ipv4(tcp(40000, 80, "SFR"), TCP, fragment_offset=800)))

    assert shape(record) == (TCP, 0, 0, 0)
    assert column(record, "syn_packets") == column(record, "rst_packets") == 0
    assert not record.half_open


@pytest.mark.parametrize(
    ("kind", "chain"),
    [
        (HOP_BY_HOP, extension(UDP)),
        (DESTINATION, extension(UDP, units=3)),
        (HOP_BY_HOP, extension(ROUTING) + extension(DESTINATION, units=1) + extension(UDP)),
        (FRAGMENT, fragment_header(UDP, offset=0, more=False)),
        (HOP_BY_HOP, extension(FRAGMENT) + fragment_header(UDP, offset=0, more=True)),
        (AUTHENTICATION, struct.pack(">BB", UDP, 4) + bytes(22)),
    ],
    ids=["hop-by-hop", "long", "three", "atomic fragment", "first fragment", "authentication"],
)
def test_ipv6_extension_headers_are_walked_and_not_counted(run: Run, kind: int, chain: bytes):
    assert shape(only(run, ethernet(ipv6(chain + udp(5000, 53, 30), kind)))) == (UDP, 53, 30, 8)


def test_a_later_ipv6_fragment_has_no_ports(run: Run):
    packet = ipv6(fragment_header(TCP, offset=1448, more=False) + tcp(40000, 80, "S"), FRAGMENT)

    assert shape(only(run, ethernet(packet))) == (TCP, 0, 0, 0)


def test_no_next_header_is_a_protocol_like_any_other(run: Run):
    assert shape(only(run, ethernet(ipv6(bytes(5), NO_NEXT)))) == (NO_NEXT, 0, 5, 0)


def test_addresses_of_both_versions_are_kept(run: Run):
    four, six = only(run, ethernet(DATAGRAM)), only(run, ethernet(DATAGRAM_6))

    assert (four.ip_version, four.src.hex()) == (4, "00000000000000000000ffffc0a8010a")
    assert (six.ip_version, six.src.hex()) == (6, "20010db8000000000000000000000010")


@pytest.mark.parametrize(
    ("frame", "is_group"),
    [
        (ethernet(DATAGRAM), False),
        (ethernet(DATAGRAM, dst="ff:ff:ff:ff:ff:ff"), True),
        (ethernet(DATAGRAM, dst="01:00:5e:00:00:fb"), True),
        (ethernet(ipv4(udp(1, 2), UDP, dst="239.255.255.250")), True),
        (ethernet(ipv4(udp(1, 2), UDP, dst="255.255.255.255")), True),
        (ethernet(ipv6(udp(1, 2), UDP, dst="ff02::fb")), True),
    ],
)
def test_frames_to_a_group_are_told_apart(run: Run, frame: bytes, is_group: bool):
    assert only(run, frame).group == is_group


ARP = ethernet(bytes(28), ether_type=0x0806)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "truncated_link"),
        (ethernet(b"")[:13], "truncated_link"),
        (ethernet(b"", vlans=(5,))[:17], "truncated_link"),
        (ARP, "not_ip"),
        (ethernet(bytes(60), ether_type=0x8847), "not_ip"),
        (ethernet(bytes(60), ether_type=0x8863), "not_ip"),
        (ethernet(bytes(60), ether_type=46), "not_ip"),
        (ethernet(SYN)[: 14 + 19], "truncated_ip"),
        (ethernet(DATAGRAM_6)[: 14 + 39], "truncated_ip"),
        (ethernet(ipv6(extension(UDP, units=2)[:16], HOP_BY_HOP)), "truncated_ip"),
        (ethernet(b"\x44" + SYN[1:]), "bad_ihl"),
        (ethernet(b"\x4f" + SYN[1:]), "truncated_ip"),
        (ethernet(SYN)[: 14 + 20 + 19], "truncated_l4"),
        (ethernet(DATAGRAM)[: 14 + 20 + 7], "truncated_l4"),
        (ethernet(ipv4(tcp(1, 2)[:12] + b"\x40" + tcp(1, 2)[13:], TCP)), "bad_offset"),
        (ethernet(ipv4(tcp(1, 2)[:12] + b"\x60" + tcp(1, 2)[13:], TCP)), "bad_offset"),
    ],
)
def test_what_cannot_be_decoded_is_counted_by_its_reason(run: Run, frame: bytes, reason: str):
    assert undecoded(run, frame) == {reason: 1}


@pytest.mark.parametrize("length", range(14 + 20, 14 + 20 + 20))
def test_no_cut_of_a_tcp_header_is_decoded(run: Run, length: int):
    assert undecoded(run, ethernet(SYN), snap=length) == {"truncated_l4": 1}


def test_a_data_offset_up_to_the_payload_is_accepted(run: Run):
    assert shape(only(run, ethernet(ipv4(tcp(40000, 80, options_bytes=40), TCP)))) == (TCP, 80, 0, 60)


def test_an_unknown_address_family_is_not_ip(run: Run):
    assert undecoded(run, struct.pack("<I", 7) + DATAGRAM, link_type=build.NULL) == {"not_ip": 1}
