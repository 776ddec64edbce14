"""The newest frames in bounded memory, against a list that forgets; and the pcap that is made of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowfeatures import FlowMeter, FrameBlock, address_bytes, open_capture
from flowfeatures.keep import KeptFrames
from tests.flowfeatures.packets import (
    DEVICE,
    ETHERNET,
    RAW,
    SERVER,
    Conversation,
    ethernet,
    ipv4,
    ipv6,
    pcap_bytes,
    time_us,
    udp,
    udp_frame,
)

LEAST = 1 << 16
HEADER = 24
OWN, PEER = address_bytes(DEVICE), address_bytes(SERVER)


def keep(kept, frames, **form):
    kept.keep(FrameBlock.of([octets for _, octets in frames], [at_us for at_us, _ in frames], **form))


def pcap_of(kept, *, device=OWN, peers=(PEER,), most_frames=10_000):
    return kept.pcap_of(device, peers, most_frames=most_frames)


def need(frame):
    return HEADER + (len(frame[1]) + 7) // 8 * 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1400), min_size=1, max_size=400), st.integers(1, 40), st.integers(0, 5000))
def test_what_is_held_is_the_newest_there_was_room_for(sizes, chunk, more_bytes):
    frames = [udp_frame(number, payload_bytes=size) for number, size in enumerate(sizes)]
    kept = KeptFrames(LEAST + more_bytes)

    for first in range(0, len(frames), chunk):
        keep(kept, frames[first : first + chunk])

    held = frames[len(frames) - kept.frames :]
    assert pcap_of(kept) == pcap_bytes(held)
    assert sum(map(need, held)) <= kept.size_bytes
    if kept.frames < len(frames):  # an entry is never split: of the end and of the gap an entry may be lost each
        assert sum(map(need, held)) > kept.size_bytes - 3 * max(map(need, frames))
    assert kept.oldest_us == held[0][0]


def test_the_pcap_can_be_read_as_any_capture(tmp_path):
    frames = Conversation().out(0, "S").back(0.1, "SA").out(0.3, "PA", 100).back(0.7, "PA", 1333).out(0.8, "FA").frames
    kept = KeptFrames(LEAST)
    keep(kept, frames)

    (tmp_path / "x.pcap").write_bytes(pcap_of(kept))

    meter = FlowMeter()
    with open_capture(tmp_path / "x.pcap") as capture:
        records = [*meter.read(capture), *meter.flush()]
    assert (meter.counters["decoded"], meter.counters["flows"]) == (len(frames), 1)
    assert sum(map(len, records)) >= 1


def test_only_frames_between_the_device_and_its_peers_come_out_in_either_direction():
    wanted = [udp_frame(0), udp_frame(2, back=True)]
    other = [(time_us(1), ethernet(ipv4(udp(1, 2), 17, src=DEVICE, dst="198.51.100.9")))]
    strangers = [(time_us(3), ethernet(ipv4(udp(1, 2), 17, src="198.51.100.9", dst=SERVER)))]
    no_packet = [(time_us(4), ethernet(b"\1" * 28, ether_type=0x0806))]
    kept = KeptFrames(LEAST)
    keep(kept, [*wanted, *other, *strangers, *no_packet])

    assert pcap_of(kept) == pcap_bytes(wanted)
    assert pcap_of(kept, peers=(address_bytes("198.51.100.9"), PEER)) == pcap_bytes([*wanted, *other])
    assert pcap_of(kept, peers=()) == b""
    assert kept.frames == 5


def test_ipv6_is_told_by_all_of_its_octets():
    device, near, far = "fd00::1", "2001:db8::1", "2001:db8::2"
    frames = [(time_us(n), ethernet(ipv6(udp(1, 2), 17, src=device, dst=end))) for n, end in enumerate([near, far])]
    kept = KeptFrames(LEAST)
    keep(kept, frames)

    found = pcap_of(kept, device=address_bytes(device), peers=[address_bytes(far)])

    assert found == pcap_bytes(frames[1:])


def test_the_newest_are_taken_where_there_are_too_many():
    frames = [udp_frame(number) for number in range(10)]
    kept = KeptFrames(LEAST)
    keep(kept, frames)

    assert pcap_of(kept, most_frames=3) == pcap_bytes(frames[-3:])
    assert pcap_of(kept, most_frames=10) == pcap_bytes(frames)


def test_a_tag_that_the_kernel_took_out_is_put_back():
    tagged = ethernet(ipv4(udp(1, 2), 17), vlans=[7])
    kept = KeptFrames(LEAST)
    keep(kept, [(time_us(0), tagged[:12] + tagged[16:])], vlan=[(0x8100, 7)])

    assert pcap_of(kept) == pcap_bytes([(time_us(0), tagged)])


def test_of_two_link_types_that_of_the_newest_frame_counts():
    kept = KeptFrames(LEAST)
    keep(kept, [udp_frame(0)], link_type=ETHERNET)
    bare = (time_us(1), ipv4(udp(1, 2), 17))
    keep(kept, [bare], link_type=RAW)

    assert pcap_of(kept) == pcap_bytes([bare], link_type=RAW)


def test_a_frame_cut_by_the_capture_keeps_its_length_on_the_wire():
    at_us, octets = udp_frame(0, payload_bytes=900)
    kept = KeptFrames(LEAST)
    keep(kept, [(at_us, octets[:100])], wire_bytes=[len(octets)])

    assert pcap_of(kept)[24:] == pcap_bytes([(at_us, octets)], snap=100)[24:]


def test_a_frame_that_would_take_a_quarter_is_left_out():
    kept = KeptFrames(LEAST)

    keep(kept, [udp_frame(0, payload_bytes=LEAST // 4), udp_frame(1)])

    assert (kept.frames, kept.left_out) == (1, 1)


def test_what_was_cleared_is_gone():
    kept = KeptFrames(LEAST)
    keep(kept, [udp_frame(0)])

    kept.clear()

    assert (kept.frames, kept.oldest_us, pcap_of(kept)) == (0, None, b"")


@pytest.mark.parametrize(
    "arguments",
    [{"device": b"short"}, {"peers": [b"short"]}, {"most_frames": 0}, {"peers": [bytes(16)] * 257}],
)
def test_arguments_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match="16 octets"):
        pcap_of(KeptFrames(LEAST), **arguments)


def test_too_little_memory_is_refused():
    with pytest.raises(ValueError, match="wanted 65536 at least"):
        KeptFrames(LEAST - 1)
