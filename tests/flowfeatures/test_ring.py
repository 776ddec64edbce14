"""The walk through a TPACKET_V3 ring: what the kernel wrote comes out, what it never would write is counted."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flowfeatures import FlowMeter, FlowSettings, open_capture
from flowfeatures.frames import FrameBlock
from flowfeatures.ring import Ring
from tests.flowfeatures.packets import START_US, ethernet, ipv4, tcp, udp, write_pcap
from tests.flowfeatures.ring_memory import (
    BLOCK_HEADER,
    FRAME_HEADER,
    KERNEL,
    LOSING,
    OUTGOING,
    TIMED_OUT,
    TPID_VALID,
    USER,
    VLAN_VALID,
    Forged,
    Memory,
)

UDP, TCP = 17, 6
SETTINGS = FlowSettings(vlan_in_key=True)


def datagram(number: int = 0, payload_bytes: int = 10, **form) -> Forged:
    octets = ethernet(ipv4(udp(1000 + number, 53, payload_bytes), UDP))
    return Forged(octets, **{"ts_us": START_US + number, **form})


def ring_of(memory: Memory, *, link_type: int = 1, drop_outgoing: bool = False) -> Ring:
    return Ring(
        memory.octets,
        block_bytes=memory.block_bytes,
        block_count=memory.block_count,
        link_type=link_type,
        drop_outgoing=drop_outgoing,
    )


def records_of(ring: Ring, *, capacity: int = 4096) -> tuple[np.ndarray, dict]:
    """Read all that stands ready; return the records of its flows, oldest first, and the meter's counters."""
    block, meter = FrameBlock(capacity), FlowMeter(SETTINGS)
    found = []
    while ring.read_block(block):
        found += meter.add(block)
    found += meter.flush()
    return np.concatenate(found) if found else np.empty(0, [("start_us", "i8")]), meter.counters


def only(memory: Memory, **form):
    records, counters = records_of(ring_of(memory, **form))
    assert counters["undecoded"] == {}
    (record,) = records
    return record


def test_offsets_are_those_of_the_kernels_header(tmp_path: Path):
    """Compiled against <linux/if_packet.h>, where there are a compiler and that header."""
    source = tmp_path / "offsets.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/if_packet.h>\n"
        "#define B(f) offsetof(struct tpacket_block_desc, hdr.bh1.f)\n"
        "#define F(f) offsetof(struct tpacket3_hdr, f)\n"
        'int main(void) { printf("%zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu", '
        "sizeof(struct tpacket_block_desc), B(block_status), B(num_pkts), B(offset_to_first_pkt), "
        "sizeof(struct tpacket3_hdr) + sizeof(struct sockaddr_ll), F(tp_next_offset), F(tp_sec), F(tp_nsec), "
        "F(tp_snaplen), F(tp_len), F(tp_status), F(tp_mac), F(hv1.tp_vlan_tci), F(hv1.tp_vlan_tpid), "
        "TPACKET_ALIGN(sizeof(struct tpacket3_hdr)) + offsetof(struct sockaddr_ll, sll_pkttype)); return 0; }\n"
    )
    try:
        subprocess.run(["cc", "-o", tmp_path / "offsets", source], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no compiler, or no <linux/if_packet.h>")

    said = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True, timeout=120).stdout

    # The constants of ring.pyx and of ring_memory.py, in the order asked for.
    assert said == "48 8 12 16 68 0 4 8 12 16 20 24 32 36 58"


def test_frames_come_out_in_the_order_of_the_blocks():
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1)])
    memory.write(1, [datagram(2)], status=USER | TIMED_OUT)
    memory.write(2, [datagram(3)], status=USER | LOSING)
    ring = ring_of(memory)

    records, counters = records_of(ring)

    assert records["src_port"].tolist() == [1000, 1001, 1002, 1003]
    assert (ring.frames_read, ring.malformed_frames, counters["decoded"], ring.blocks_read) == (4, 0, 4, 3)


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 4096])
def test_a_block_with_more_frames_than_fit_is_delivered_in_several_fills(capacity: int):
    memory = Memory(block_bytes=8192)
    memory.write(0, [datagram(n) for n in range(25)])
    memory.write(1, [datagram(n) for n in range(25, 40)])

    records, _ = records_of(ring_of(memory), capacity=capacity)

    assert records["src_port"].tolist() == [1000 + n for n in range(40)]


def test_a_ring_gives_the_records_a_capture_file_gives(tmp_path: Path):
    draw = random.Random(7)
    timed = []
    for number in range(300):
        segment = tcp(40_000 + draw.randrange(9), 80, draw.choice(["S", "A", "PA", "FA"]), draw.randrange(200))
        timed.append((START_US + number * draw.randrange(1, 9_999), ethernet(ipv4(segment, TCP))))
    timed.sort()
    memory = Memory(block_bytes=16384, block_count=8)
    for index in range(6):
        memory.write(index, [Forged(octets, ts_us=at_us) for at_us, octets in timed[index * 50 : index * 50 + 50]])
    meter = FlowMeter(SETTINGS)
    with open_capture(write_pcap(tmp_path / "same.pcap", timed)) as capture:
        from_file = [*meter.read(capture), *meter.flush()]

    from_ring, counters = records_of(ring_of(memory), capacity=33)

    np.testing.assert_array_equal(from_ring, np.concatenate(from_file))
    assert counters == meter.counters


def test_time_is_floored_to_microseconds():
    memory = Memory()
    memory.write(0, [datagram(ts_us=START_US + 5, nanoseconds=999)])

    assert only(memory)["start_us"] == START_US + 5


def test_a_frame_cut_by_the_filter_keeps_its_length_on_the_wire():
    memory = Memory()
    whole = datagram(payload_bytes=1000).octets
    memory.write(0, [Forged(whole[:60], wire=len(whole))])

    record = only(memory)

    assert record["fwd_wire_bytes"] == len(whole)


def test_a_wire_length_below_what_was_kept_is_raised_to_it():
    memory = Memory()
    memory.write(0, [datagram(wire=1)])

    assert only(memory)["fwd_wire_bytes"] == len(datagram().octets)


@pytest.mark.parametrize(
    ("status", "tpid", "vlan", "tag_bytes"),
    [
        (0, 0, 0, 0),
        (VLAN_VALID, 0, 7, 4),  # kernels before 3.14 do not say which protocol
        (VLAN_VALID, 0x88A8, 7, 4),
        (VLAN_VALID | TPID_VALID, 0x8100, 7, 4),
        (VLAN_VALID | TPID_VALID, 0x88A8, 7, 4),
        (TPID_VALID, 0x8100, 0, 0),
    ],
)
def test_the_vlan_tag_stands_beside_the_frame_where_the_kernel_says_so(
    status: int, tpid: int, vlan: int, tag_bytes: int
):
    memory = Memory()
    memory.write(0, [datagram(status=status, vlan_tci=0xA007, vlan_tpid=tpid)])

    record = only(memory)

    assert record["vlan"].tolist() == [vlan, 0]
    assert record["fwd_wire_bytes"] == len(datagram().octets) + tag_bytes


def test_a_tag_of_one_frame_does_not_stick_to_the_next_one():
    memory = Memory()
    memory.write(0, [datagram(0, status=VLAN_VALID, vlan_tci=7)])
    memory.write(1, [datagram(1)])

    records, _ = records_of(ring_of(memory), capacity=1)

    length = len(datagram().octets)
    assert records["vlan"][:, 0].tolist() == [7, 0]
    assert records["fwd_wire_bytes"].tolist() == [length + 4, length]


def test_the_link_type_is_that_of_the_ring():
    memory = Memory()
    memory.write(0, [Forged(ipv4(udp(1, 2, 3), UDP))])

    assert only(memory, link_type=101)["dst_port"] == 2


def test_outgoing_frames_are_left_out_where_asked_and_counted():
    memory = Memory()
    memory.write(0, [datagram(0, packet_type=OUTGOING), datagram(1), datagram(2, packet_type=OUTGOING)])
    memory.write(1, [datagram(3, packet_type=OUTGOING)])
    ring = ring_of(memory, drop_outgoing=True)

    records, _ = records_of(ring)

    assert records["src_port"].tolist() == [1001]
    assert (ring.frames_read, ring.outgoing_dropped) == (1, 3)


def test_outgoing_frames_come_out_where_nobody_asked():
    memory = Memory()
    memory.write(0, [datagram(0, packet_type=OUTGOING), datagram(1)])

    records, _ = records_of(ring_of(memory))

    assert records["src_port"].tolist() == [1000, 1001]


# -- whose a block is ---------------------------------------------------------------------------------------------


def test_the_kernels_blocks_are_not_looked_into():
    memory = Memory()
    memory.write(0, [datagram()], status=KERNEL)
    memory.write(1, [datagram()])
    ring, block = ring_of(memory), FrameBlock()

    assert ring.read_block(block) == 0
    assert not ring.is_ready


def test_a_block_goes_back_on_the_call_after_its_last_frame():
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1)])
    ring, block = ring_of(memory), FrameBlock(1)
    held = []

    for _ in range(3):
        held.append((ring.read_block(block), memory.status(0)))

    assert held == [(1, USER), (1, USER), (0, KERNEL)]


def test_the_ring_is_walked_round_and_round():
    memory = Memory(block_count=2)
    ring, block = ring_of(memory), FrameBlock()
    seen = []

    for number in range(9):
        memory.write(number % 2, [datagram(number)])
        seen.append((ring.read_block(block), block.first_number))

    assert seen == [(1, number + 1) for number in range(9)]


def test_a_full_ring_is_delivered_once_and_not_again_before_it_was_handed_back():
    memory = Memory(block_count=3)
    for index in range(3):
        memory.write(index, [datagram(index)])
    ring, block = ring_of(memory), FrameBlock()

    first = ring.read_block(block)
    second = ring.read_block(block)

    assert (first, second) == (3, 0)
    assert [memory.status(index) for index in range(3)] == [KERNEL] * 3


def test_what_stands_in_the_ring_is_counted_the_open_block_of_the_kernel_included():
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1), datagram(2)])
    memory.write(1, [datagram(3)])
    memory.write(2, [datagram(4), datagram(5)], status=KERNEL)
    ring, block = ring_of(memory), FrameBlock(2)
    standing = [ring.standing]

    for _ in range(3):
        ring.read_block(block)
        standing.append(ring.standing)

    assert standing == [6, 4, 2, 2]


def test_a_block_handed_back_counts_as_empty_until_the_kernel_opens_it():
    memory = Memory(block_count=2)
    memory.write(0, [datagram(0)])
    memory.write(1, [datagram(1)])
    ring, block = ring_of(memory), FrameBlock()
    ring.read_block(block)

    ring.read_block(block)

    assert ring.standing == 0


def test_a_full_ring_stands_in_full():
    memory = Memory(block_count=2)
    memory.write(0, [datagram(0)])
    memory.write(1, [datagram(1), datagram(2)])

    assert ring_of(memory).standing == 3


# -- memory that does not hold together -----------------------------------------------------------------------------


def malformed(memory: Memory) -> tuple[int, int, int]:
    """Return frames read, frames malformed and blocks handed back, after reading all there is."""
    ring, block = ring_of(memory), FrameBlock()
    meter = FlowMeter()
    while ring.read_block(block):
        list(meter.add(block))
    back = sum(memory.status(index) == KERNEL for index in range(memory.block_count))
    return ring.frames_read, ring.malformed_frames, back


LAST_HEADER = 4096 - FRAME_HEADER


@pytest.mark.parametrize("first", [0, 8, BLOCK_HEADER - 1, LAST_HEADER + 1, 4096, 1 << 31, 0xFFFFFFFF])
def test_a_first_frame_outside_its_block_is_counted_and_never_read(first: int):
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1)], first=first)
    memory.write(1, [datagram(2)])

    assert malformed(memory) == (1, 2, 4)


def test_a_block_header_that_looks_like_a_frame_is_not_one():
    memory = Memory()
    memory.write(0, [datagram()], first=0)
    memory.set_word(0, 24, 82)  # where a frame at offset 0 would have its own offset

    assert malformed(memory) == (0, 1, 4)


@pytest.mark.parametrize("offset", [0, 47, FRAME_HEADER - 1, 4000, 65535])
def test_octets_inside_the_header_or_outside_the_block_are_counted_and_never_read(offset: int):
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1, mac_offset=offset), datagram(2)])

    assert malformed(memory) == (1, 2, 4)


@pytest.mark.parametrize("snap", [4096, 1 << 31, 0xFFFFFFFF, 0xFFFFFFFF - 81])
def test_a_kept_length_beyond_the_block_is_counted_and_never_read(snap: int):
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1, snap=snap)])

    assert malformed(memory) == (1, 1, 4)


@pytest.mark.parametrize("step", [0, 1, FRAME_HEADER - 1, 4096, 1 << 31, 0xFFFFFFFF])
def test_a_step_that_leads_nowhere_ends_the_block(step: int):
    memory = Memory()
    memory.write(0, [datagram(0, next_offset=step), datagram(1), datagram(2)])

    assert malformed(memory) == (1, 2, 4)


@pytest.mark.parametrize("count", [4, 1000, 0xFFFFFFFF])
def test_more_frames_promised_than_there_are_is_counted(count: int):
    memory = Memory()
    memory.write(0, [datagram(0), datagram(1), datagram(2)], count=count)

    assert malformed(memory) == (3, count - 3, 4)


def test_a_frame_that_ends_with_its_block_is_whole_and_one_octet_more_is_too_much():
    room = 4096 - BLOCK_HEADER - 82
    fits, over = Memory(), Memory()
    fits.write(0, [Forged(bytes(room))])
    over.write(0, [Forged(bytes(room), snap=room + 1)])

    assert malformed(fits) == (1, 0, 4)
    assert malformed(over) == (0, 1, 4)


def test_an_empty_block_and_a_ring_of_empty_blocks_end():
    memory = Memory()
    for index in range(4):
        memory.write(index, [], count=0)

    assert malformed(memory) == (0, 0, 4)


def test_whatever_the_memory_holds_every_promised_frame_is_read_or_counted():
    draw = random.Random(11)
    for _ in range(3000):
        memory = Memory(block_count=3, block_bytes=1024)
        for index in range(3):
            frames = [datagram(n, payload_bytes=draw.randrange(40)) for n in range(draw.randrange(1, 8))]
            memory.write(index, frames, status=draw.choice([KERNEL, USER, USER, USER | LOSING]))
        for _ in range(draw.randrange(12)):
            at = draw.randrange(len(memory.octets) // 4) * 4
            struct.pack_into("=I", memory.octets, at, draw.choice([0, 1, 67, 68, 1023, 1 << 16, draw.getrandbits(32)]))
        promised = 0
        for index in range(3):
            if not memory.status(index) & USER:
                break
            promised += struct.unpack_from("=I", memory.octets, index * 1024 + 12)[0]
        read, refused, _ = malformed(memory)

        assert read + refused == promised


BETWEEN_GUARDS = """
import ctypes, mmap, random, struct
from flowfeatures import FlowMeter
from flowfeatures.frames import FrameBlock
from flowfeatures.ring import Ring
from tests.flowfeatures.test_ring import datagram
from tests.flowfeatures.ring_memory import USER, Memory

PAGE = mmap.PAGESIZE
mapped = mmap.mmap(-1, 3 * PAGE)  # a page that may not be touched on either side of the ring
begin = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
for page in (begin, begin + 2 * PAGE):
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0
octets = memoryview(mapped)[PAGE : 2 * PAGE]
draw = random.Random(5)
NASTY = [0, 1, 47, 48, 67, 68, 82, 2047, 2048, 1 << 16, 1 << 31, 0xFFFFFFFF]
refused = 0
for _ in range(20000):
    forged = Memory(block_count=2, block_bytes=PAGE // 2)
    for index in range(2):
        forged.write(index, [datagram(n, draw.randrange(99)) for n in range(draw.randrange(1, 12))])
    for _ in range(draw.randrange(6)):
        at = draw.randrange(len(forged.octets) // 4) * 4
        if draw.random() < 0.7:
            at = at // 2048 * 2048 + draw.choice([8, 12, 16, 48, 60, 64, 72])
        struct.pack_into("=I", forged.octets, at, draw.choice([*NASTY, draw.getrandbits(32)]))
    octets[:] = forged.octets
    ring = Ring(octets, block_bytes=PAGE // 2, block_count=2, link_type=1)
    block, meter = FrameBlock(draw.choice([1, 5, 4096])), FlowMeter()
    while ring.read_block(block):
        list(meter.add(block))
    refused += ring.malformed_frames > 0
print(refused > 1000)
"""


def test_nothing_outside_the_ring_is_ever_touched():
    """The ring stands between two pages whose touch ends the process."""
    root = Path(__file__).parents[2]

    run = subprocess.run(
        [sys.executable, "-c", BETWEEN_GUARDS], cwd=root, capture_output=True, text=True, check=False, timeout=120
    )

    assert (run.returncode, run.stdout, run.stderr) == (0, "True\n", "")


# -- what the ring is built from ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "block_bytes", "block_count"),
    [(4096, 4096, 2), (8193, 4096, 2), (4096, 64, 64), (4100, 4100, 1), (0, 4096, 0), (0, 0, 4)],
)
def test_memory_of_another_shape_is_refused(octets: int, block_bytes: int, block_count: int):
    with pytest.raises(ValueError, match="wanted"):
        Ring(bytearray(octets), block_bytes=block_bytes, block_count=block_count, link_type=1)


def test_memory_that_cannot_be_written_is_refused():
    with pytest.raises((ValueError, BufferError)):
        Ring(bytes(8192), block_bytes=4096, block_count=2, link_type=1)  # type: ignore[arg-type]


def test_memory_that_is_not_aligned_is_refused():
    with pytest.raises(ValueError, match="aligned"):
        Ring(memoryview(bytearray(8196))[4:], block_bytes=4096, block_count=2, link_type=1)


def test_a_closed_ring_lets_go_of_its_memory_and_is_not_read():
    memory = Memory()
    memory.write(0, [datagram()])
    ring = ring_of(memory)

    ring.close()
    memory.octets.clear()  # a bytearray that is still looked at would refuse

    assert (ring.standing, ring.is_ready) == (0, False)
    with pytest.raises(ValueError, match="after close"):
        ring.read_block(FrameBlock())
