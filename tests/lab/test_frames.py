"""The lab's own reader takes what tcpdump writes here and refuses the rest."""

from __future__ import annotations

import struct

import pytest

from contracts.errors import GroundTruthError
from lab.frames import Frame, number_of, quoted, read_frames, read_with_octets

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def frame_of(path, packet, *, header=HEADER):
    path.write_bytes(header + struct.pack("<IIII", 5, 250_000, len(packet), len(packet)) + packet)
    return list(read_frames(path))


def udp(*, offset=0):
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, offset, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    return bytes(12) + b"\x08\x00" + ip + struct.pack(">HHHH", 1000, 53, 8, 0)


def test_a_datagram_is_read_with_its_ports_and_time(tmp_path):
    seen = frame_of(tmp_path / "x.pcap", udp())

    assert seen == [Frame(5.25, "udp", number_of("10.0.0.1"), number_of("10.0.0.2"), 1000, 53)]


def test_a_later_fragment_has_no_ports(tmp_path):
    assert frame_of(tmp_path / "x.pcap", udp(offset=100))[0].target_port == 0


def icmp(kind, inside=b""):
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 1, 0, bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1]))
    return bytes(12) + b"\x08\x00" + ip + bytes([kind]) + bytes(7) + inside


def test_an_icmp_error_tells_the_packet_it_complains_of(tmp_path):
    frame_of(tmp_path / "x.pcap", icmp(3, udp()[14:]))

    [(frame, octets)] = read_with_octets(tmp_path / "x.pcap")

    assert frame.proto == "icmp"
    assert quoted(frame, octets) == Frame(5.25, "udp", number_of("10.0.0.1"), number_of("10.0.0.2"), 1000, 53)


@pytest.mark.parametrize("packet", [udp(), icmp(8, udp()[14:]), icmp(3), icmp(3, udp()[14:30])])
def test_other_packets_and_errors_cut_short_quote_nothing(tmp_path, packet):
    frame_of(tmp_path / "x.pcap", packet)

    [(frame, octets)] = read_with_octets(tmp_path / "x.pcap")

    assert quoted(frame, octets) is None


def test_a_frame_that_is_not_ipv4_is_passed_over(tmp_path):
    assert frame_of(tmp_path / "x.pcap", bytes(12) + b"\x08\x06" + bytes(40)) == []


def test_another_link_type_is_refused(tmp_path):
    with pytest.raises(GroundTruthError, match="link type 113"):
        frame_of(tmp_path / "x.pcap", udp(), header=HEADER[:20] + struct.pack("<I", 113))


def test_a_file_that_is_no_pcap_is_refused(tmp_path):
    (tmp_path / "x.pcap").write_bytes(b"not a capture at all, but long enough")

    with pytest.raises(GroundTruthError, match="not a classic pcap"):
        list(read_frames(tmp_path / "x.pcap"))
