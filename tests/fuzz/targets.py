"""What is fuzzed: `TARGETS` by name. A target is one function that takes any octets and raises only on a mistake.

To add one: write the function, its seeds, and its line in TARGETS; corpus, run and report follow from that. Modules
that exist compiled for fuzzing only are imported when a target is made.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import zstandard

from flowfeatures import FlowMeter
from tests.fuzz.captures import captures, packets_at, traffic
from tests.fuzz.properties import broken
from tests.fuzz.reading import read_to_the_end
from tests.fuzz.script import (
    CLOCK,
    FRAME,
    LINKS,
    LONGEST_TRAIN,
    MAX_FRAMES,
    SETTINGS,
    START_US,
    TAGGED,
    TRAIN,
    Step,
    moved,
    packed,
    unpacked,
    wire_bytes,
)

Run = Callable[[bytes], None]


class Broken(AssertionError):
    """A property that holds for every input does not hold for this one."""


class Target(NamedTuple):
    """How to make the function, its seeds by name, its share of the time, and its longest input."""

    make: Callable[[], Run]
    seeds: Callable[[], dict[str, bytes]]
    share: float
    max_bytes: int
    words: tuple[bytes, ...] = ()
    """What a mutation may put in: magic numbers, types, lengths."""


# -- packets ----------------------------------------------------------------------------------------------------------


def make_packets() -> Run:
    """Return a function that runs a script (script.py) through decoder, flow table and records."""
    from tests.fuzz.feeder import Feeder

    feeder = Feeder(MAX_FRAMES + LONGEST_TRAIN)

    def run(script: bytes) -> None:
        meter = FlowMeter(SETTINGS[script[0] % len(SETTINGS) if script else 0], hash_seed=bytes(16))
        chunks, frames, now_us = [], 0, START_US
        for step in unpacked(script):
            if step.kind == CLOCK or step.own_block:
                chunks += meter.add(feeder.block)
                feeder.clear()
            if step.kind == CLOCK:
                now_us = moved(now_us, step)
                chunks += meter.advance(now_us)
                continue
            for _ in range(1 + step.extra % LONGEST_TRAIN if step.kind == TRAIN else 1):
                now_us = moved(now_us, step)
                tpid = 0x8100 if step.kind == TAGGED else 0
                link = LINKS[step.link % len(LINKS)]
                feeder.put(step.octets, now_us, wire_bytes(step), link, tpid, step.extra if tpid else 0)
                frames += 1
            if frames >= MAX_FRAMES:
                break
        chunks += meter.add(feeder.block)
        feeder.clear()
        chunks += meter.flush()
        complain(broken(chunks, meter.counters, frames=frames))

    return run


def packet_seeds() -> dict[str, bytes]:
    """Return scripts of all our traffic under every settings, of every link type, of trains, and of clock moves."""
    seeds = {}
    frames = traffic()
    for i in range(len(SETTINGS)):
        steps, before_us = [], START_US
        for ts_us, octets in frames[i * 7 : i * 7 + 30]:
            steps.append(Step(time=ts_us - before_us, octets=octets[:300], more_on_wire=1, extra=len(octets[300:])))
            before_us = ts_us
        seeds[f"traffic_{i}"] = packed(i, steps)
    for link in range(len(LINKS)):
        packets = [octets[:120] for _, octets in packets_at(lambda packet, n=link: link_header(n) + packet, count=14)]
        seeds[f"link_{LINKS[link] & 0xFFFF}"] = packed(
            1, [Step(link=link, time=i, unit=1, octets=p) for i, p in enumerate(packets)]
        )
    opening, data = frames[0][1], frames[2][1]
    train = [Step(octets=opening), Step(TRAIN, time=300, unit=1, extra=520, octets=data[:80])]
    seeds["train"] = packed(1, train)
    seeds["cut_and_go_on"] = packed(
        6, [*train, Step(CLOCK, time=200, unit=2), *train, Step(CLOCK, time=-100, unit=2), *train]
    )
    seeds["tagged"] = packed(3, [Step(TAGGED, extra=vlan, octets=opening) for vlan in (1, 2, 4095, 0xFFFF)])
    ends = [-(2**31), 2**31 - 1, 0, -1]
    seeds["ends_of_time"] = packed(1, [Step(FRAME, time=end, unit=3, octets=opening, own_block=True) for end in ends])
    seeds["flood"] = packed(4, [Step(time=1, octets=opening[:34] + bytes([0, n]) + opening[36:]) for n in range(40)])
    return seeds


def link_header(index: int) -> bytes:
    """Return octets that lead to IP behind the link of this index."""
    headers = {
        1: bytes(12) + b"\x08\0",
        0: b"\2\0\0\0",
        108: b"\0\0\0\2",
        113: bytes(14) + b"\x08\0",
        276: b"\x08\0" + bytes(18),
    }
    return headers.get(LINKS[index], b"")


# -- files ------------------------------------------------------------------------------------------------------------


def make_files() -> Run:
    """Return a function that reads octets as a capture file, whatever they are."""
    descriptor = os.memfd_create("capture")

    def run(content: bytes) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
        meter_of_file(f"/proc/self/fd/{descriptor}", len(content))

    return run


def meter_of_file(path: str, number: int) -> None:
    """Read a capture to its end or its error under the settings of this number; complain of what does not hold."""
    meter = FlowMeter(SETTINGS[number % len(SETTINGS)], hash_seed=bytes(16))
    chunks, frames, error = read_to_the_end(path, meter)
    str(error)
    complain(broken(chunks, meter.counters, frames=frames))


def file_seeds() -> dict[str, bytes]:
    """Return our captures, cut to what a mutation may grow."""
    return {name: content[:4096] for name, content in captures().items()}


# -- compressed files and pipes ---------------------------------------------------------------------------------------

STREAM_HEAD = struct.Struct("<BHHB")
PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda content: gzip.compress(content, 1, mtime=0),
    lambda content: lzma.compress(content, preset=0),
    lambda content: zstandard.ZstdCompressor(level=1).compress(content),
    bz2.compress,
    bytes,
)
FROM_PIPE, TWICE = 0x08, 0x10


def make_streams() -> Run:
    """Return a function that packs octets, spoils what comes out, and reads it from a file or a pipe.

    Mutations of packed octets hardly get past a checksum; so the mutation happens before. Six octets in front say how
    it is packed, where the stream is cut, and which octet of it is changed.
    """
    descriptor = os.memfd_create("stream")

    def run(script: bytes) -> None:
        if len(script) < STREAM_HEAD.size:
            return
        how, cut, at, octet = STREAM_HEAD.unpack_from(script)
        packed_octets = PACKERS[(how & 7) % len(PACKERS)](script[STREAM_HEAD.size :])
        content = bytearray(packed_octets * (2 if how & TWICE else 1))
        content = content[: len(content) - cut % (len(content) + 1)]
        if octet and content:
            content[at % len(content)] ^= octet
        if how & FROM_PIPE:
            reader, writer = os.pipe()
            os.write(writer, content[: 1 << 15])  # a pipe holds 64 KiB: nobody waits
            os.close(writer)
            meter_of_file(f"/proc/self/fd/{reader}", len(script))
            os.close(reader)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
            meter_of_file(f"/proc/self/fd/{descriptor}", len(script))

    return run


def stream_seeds() -> dict[str, bytes]:
    """Return a pcap and a pcapng under every packing, whole, cut, changed, twice in a row, from files and pipes."""
    seeds = {}
    for i in range(len(PACKERS)):
        for name in ("pcap_ns", "interfaces"):
            content = captures()[name][:2048]
            for what, more in (("file", 0), ("pipe", FROM_PIPE), ("twice", TWICE)):
                seeds[f"{name}_{i}_{what}"] = STREAM_HEAD.pack(i | more, 0, 0, 0) + content
        seeds[f"cut_{i}"] = STREAM_HEAD.pack(i, 9, 0, 0) + content
        seeds[f"changed_{i}"] = STREAM_HEAD.pack(i, 0, 60, 0x10) + content
    return seeds


# -- rings ------------------------------------------------------------------------------------------------------------

RING_BLOCKS, RING_BLOCK_BYTES = 4, 512
RING_BLOCK = struct.Struct("<IIIIIIQ")
RING_FRAME = struct.Struct("<IIIIIIHHIIH")


def make_ring() -> Run:
    """Return a function that walks octets as the memory of a TPACKET_V3 ring; the first one says how."""
    from flowfeatures.frames import FrameBlock
    from flowfeatures.ring import Ring
    from tests.fuzz.feeder import places

    def run(script: bytes) -> None:
        how = script[0] if script else 0
        memory = bytearray(script[1:].ljust(RING_BLOCKS * RING_BLOCK_BYTES, b"\0")[: RING_BLOCKS * RING_BLOCK_BYTES])
        form = {"block_bytes": RING_BLOCK_BYTES, "block_count": RING_BLOCKS, "link_type": LINKS[how >> 4 & 7]}
        ring, block = Ring(memory, **form, drop_outgoing=bool(how & 8)), FrameBlock((1, 3, 64)[how % 3])
        meter, chunks = FlowMeter(SETTINGS[how % len(SETTINGS)], hash_seed=bytes(16)), []
        while ring.read_block(block):
            for start, end in places(block, memory):
                if start // RING_BLOCK_BYTES != (end - (end > start)) // RING_BLOCK_BYTES:
                    raise Broken(f"a frame reaches from octet {start} to {end}, across a block of the ring")
            chunks += meter.add(block)
        chunks += meter.flush()
        complain(broken(chunks, meter.counters, frames=ring.frames_read))

    return run


def ring_seeds() -> dict[str, bytes]:
    """Return rings with frames in every block, in none, tagged beside the frame, and from the host itself."""
    frames = [octets[:100] for _, octets in traffic()[:12]]
    blocks = [ring_block(frames[i : i + 3], status=1) for i in range(0, 12, 3)]
    tagged = ring_block(frames[:2], status=1, tag=0x50)
    return {
        "full": b"\2" + b"".join(blocks),
        "one_a_time": b"\0" + b"".join(blocks),
        "half": b"\1" + b"".join(blocks[:2]),
        "kernel": b"\2" + ring_block(frames[:1], status=0) + blocks[0],
        "tagged": b"\2" + tagged + ring_block(frames[2:4], status=1, tag=0x10),
        "outgoing": b"\x0a" + ring_block(frames[:3], status=5, packet_type=4) + blocks[1],
        "empty": b"\2" + ring_block([], status=1) + blocks[1],
    }


def ring_block(frames: list[bytes], *, status: int, tag: int = 0, packet_type: int = 0) -> bytes:
    """Return one block as the kernel lays it out: its header, then frames, each behind a header and an address."""
    content = RING_BLOCK.pack(1, 0, status, len(frames), 48, RING_BLOCK_BYTES, 0).ljust(48, b"\0")
    for octets in frames:
        room = (80 + len(octets) + 15) // 16 * 16
        seconds = START_US // 1_000_000
        head = RING_FRAME.pack(room, seconds, 5, len(octets), len(octets) + 9, tag, 80, 94, 0, 0x5064, 0x88A8)
        address = struct.pack("<HHiHBB8s", 17, 8, 1, 1, packet_type, 6, bytes(8))
        content += (head.ljust(48, b"\0") + address).ljust(80, b"\0") + octets.ljust(room - 80, b"\0")
    return content.ljust(RING_BLOCK_BYTES, b"\0")[:RING_BLOCK_BYTES]


# -- all --------------------------------------------------------------------------------------------------------------


def complain(problems: list[str]) -> None:
    """Raise Broken where there is a problem."""
    if problems:
        raise Broken("\n".join(problems))


TARGETS = {
    "packets": Target(
        make_packets,
        packet_seeds,
        share=0.4,
        max_bytes=4096,
        words=(
            b"\x81\0",
            b"\x88\xa8",
            b"\x86\xdd",
            b"\x08\0",
            b"\x45\0",
            b"\x60\0",
            b"\x2c",
            b"\x33",
            b"\xff\xff\xff\xff",
        ),
    ),
    "files": Target(
        make_files,
        file_seeds,
        share=0.3,
        max_bytes=8192,
        words=(
            b"\xa1\xb2\xc3\xd4",
            b"\xd4\xc3\xb2\xa1",
            b"\xa1\xb2\x3c\x4d",
            b"\x4d\x3c\xb2\xa1",
            b"\x0a\x0d\x0d\x0a",
            b"\x1a\x2b\x3c\x4d",
            b"\x4d\x3c\x2b\x1a",
            b"\x1f\x8b\x08",
            b"\xfd7zXZ\0",
            b"\x28\xb5\x2f\xfd",
            b"BZh9",
            b"\x01\0\0\0\x14\0\0\0",
            b"\x06\0\0\0",
            b"\x09\0\x01\0",
            b"\x0e\0\x08\0",
            b"\xff\xff\xff\xff",
            b"\x00\x00\x10\x00",
        ),
    ),
    "streams": Target(make_streams, stream_seeds, share=0.2, max_bytes=4096),
    "ring": Target(make_ring, ring_seeds, share=0.1, max_bytes=1 + RING_BLOCKS * RING_BLOCK_BYTES),
}


def seeds_of(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield a target's seeds by name."""
    yield from sorted(TARGETS[name].seeds().items())
