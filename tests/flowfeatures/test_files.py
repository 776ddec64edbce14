"""Capture files: both formats, both byte orders, every resolution, and files that are none or end early."""

import bz2
import os
import struct
from pathlib import Path

import pytest

from flowfeatures import (
    CaptureFormatError,
    CaptureNotFound,
    CaptureTruncated,
    FlowMeter,
    UnknownLinkType,
    open_capture,
)
from tests.flowfeatures.meters import measure
from tests.flowfeatures.packets import (
    START_US,
    block,
    enhanced_packet,
    interface_block,
    pcap_bytes,
    pcapng_bytes,
    section_header,
    udp_frame,
)

FRAMES = [udp_frame(0, payload_bytes=3), udp_frame(0.123456, payload_bytes=5, back=True)]
FRAME = FRAMES[0][1]
LARGE = pcap_bytes(FRAMES) + pcap_bytes(FRAMES)[24:] * 19_999  # several times what is read at once
UNKNOWN_LINK = 105  # IEEE 802.11


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "capture"
    path.write_bytes(content)
    return path


def read_all(path: Path) -> int:
    """Read a capture to its end; return the packets delivered."""
    meter = FlowMeter()
    with open_capture(path) as capture:
        for _ in meter.read(capture):
            pass
    return meter.counters["packets"]


@pytest.mark.parametrize(
    "content",
    [
        pcap_bytes(FRAMES),
        pcap_bytes(FRAMES, order=">"),
        pcap_bytes(FRAMES, nanoseconds=True),
        pcap_bytes(FRAMES, order=">", nanoseconds=True),
        pcapng_bytes(FRAMES),
        pcapng_bytes(FRAMES, order=">"),
    ],
    ids=["pcap", "pcap big-endian", "pcap ns", "pcap big-endian ns", "pcapng", "pcapng big-endian"],
)
def test_every_form_of_a_capture_gives_the_same_record(tmp_path: Path, meter: str, content: bytes):
    (record,) = measure(written(tmp_path, content), meter=meter).records

    assert (record.start_us, record.end_us) == (START_US, START_US + 123_456)
    assert (record.fwd_packets, record.bwd_packets) == (1, 1)


@pytest.mark.parametrize(
    ("tsresol", "ticks"),
    [
        (0, 1_700_000_000),
        (3, 1_700_000_000_000),
        (9, START_US * 1000 + 999),
        (12, START_US * 1_000_000 + 999_999),
        (0x80 | 20, (START_US << 20) // 1_000_000 + 1),
    ],
    ids=["s", "ms", "ns", "ps", "2^-20 s"],
)
def test_finer_time_stamps_are_floored_to_microseconds(tmp_path: Path, meter: str, tsresol: int, ticks: int):
    if tsresol == 12:
        ticks %= 1 << 64  # picoseconds of 64 bits reach 213 days: the year is lost, the floor is not

    content = section_header() + interface_block(tsresol=tsresol) + enhanced_packet(ticks, FRAME)
    (record,) = measure(written(tmp_path, content), meter=meter).records

    # Of 2^20 ticks per second, one tick is 0.95 us: the tick after the second floors to it.
    assert record.start_us == (START_US if tsresol != 12 else ticks // 1_000_000)


def test_an_interfaces_time_offset_is_added(tmp_path: Path, meter: str):
    content = section_header() + interface_block(offset_s=-3600) + enhanced_packet(START_US, FRAME)

    assert measure(written(tmp_path, content), meter=meter).records[0].start_us == START_US - 3_600_000_000


def test_sections_may_change_byte_order_and_resolution(tmp_path: Path, meter: str):
    second = section_header(">") + interface_block(order=">", tsresol=9)
    content = pcapng_bytes(FRAMES[:1]) + second + enhanced_packet((START_US + 5) * 1000, FRAME, ">")

    (record,) = measure(written(tmp_path, content), meter=meter).records

    assert (record.end_us - record.start_us, record.fwd_packets) == (5, 2)


def test_a_simple_packet_block_takes_the_time_of_the_packet_before_it(tmp_path: Path, meter: str):
    simple = block(3, struct.pack("<I", len(FRAME)) + FRAME)

    (record,) = measure(written(tmp_path, pcapng_bytes(FRAMES) + simple), meter=meter).records

    assert (record.fwd_packets, record.end_us) == (2, START_US + 123_456)


def test_blocks_of_other_kinds_are_skipped(tmp_path: Path, meter: str):
    other = block(5, bytes(20)) + block(0x0BAD, b"custom block")

    content = section_header() + other + interface_block() + other + enhanced_packet(START_US, FRAME) + other

    assert measure(written(tmp_path, content), meter=meter).counters["packets"] == 1


def test_frames_of_an_unknown_interface_are_counted_beside_known_ones(tmp_path: Path, meter: str):
    content = section_header() + interface_block(UNKNOWN_LINK) + interface_block()
    for interface in (0, 1, 2):
        content += enhanced_packet(START_US, FRAME, interface=interface)

    measured = measure(written(tmp_path, content), meter=meter)

    assert measured.counters["undecoded"] == {"unsupported_link": 2}
    assert measured.error is None


def test_the_upper_bits_of_the_link_type_are_not_part_of_it(tmp_path: Path, meter: str):
    content = bytearray(pcap_bytes(FRAMES))
    content[20:24] = struct.pack("<I", 0x3400_0001)

    assert measure(written(tmp_path, bytes(content)), meter=meter).counters["decoded"] == 2


@pytest.mark.parametrize("form", [pcap_bytes, pcapng_bytes])
def test_a_truncated_capture_delivers_every_whole_frame_first(tmp_path: Path, meter: str, form):
    whole = form(FRAMES)
    one = form(FRAMES[:1])

    for length in range(len(one), len(whole)):
        measured = measure(written(tmp_path, whole[:length]), meter=meter)
        expected_error = None if length == len(one) else "truncated"
        assert (measured.error, measured.counters["packets"]) == (expected_error, 1), f"{length} of {len(whole)} bytes"


def test_a_capture_without_a_packet_is_a_capture(tmp_path: Path):
    assert read_all(written(tmp_path, pcap_bytes([]))) == 0
    assert read_all(written(tmp_path, pcapng_bytes([]))) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"not a capture at all, only text\n" * 10,
        bz2.compress(pcap_bytes(FRAMES)),
        b"\x0a\x0d\x0d\x0a" + bytes(40),
    ],
    ids=["empty", "one byte", "text", "bzip2", "no byte order"],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, content: bytes):
    path = written(tmp_path, content)

    with pytest.raises(CaptureFormatError, match="capture"):
        read_all(path)


@pytest.mark.parametrize("which", ["missing", "directory"])
def test_a_path_without_a_file_is_named(tmp_path: Path, which: str):
    path = tmp_path if which == "directory" else tmp_path / "nowhere.pcap"

    with pytest.raises(CaptureNotFound, match=path.name):
        open_capture(path)


@pytest.mark.parametrize("form", [pcap_bytes, pcapng_bytes])
def test_an_unknown_link_type_is_named(tmp_path: Path, form):
    path = written(tmp_path, form(FRAMES, link_type=UNKNOWN_LINK))

    with pytest.raises(UnknownLinkType, match=str(UNKNOWN_LINK)):
        read_all(path)


def test_every_error_of_a_file_is_a_format_error_with_an_exit_code():
    assert issubclass(CaptureTruncated, CaptureFormatError)
    assert (CaptureNotFound.exit_code, CaptureFormatError.exit_code, UnknownLinkType.exit_code) == (66, 65, 65)


@pytest.mark.parametrize(("form", "name"), [(pcap_bytes, "pcap"), (pcapng_bytes, "pcapng")])
def test_a_capture_says_its_form_and_how_far_it_was_read(tmp_path: Path, form, name: str):
    content = form(FRAMES)

    with open_capture(written(tmp_path, content)) as capture:
        assert (capture.format, capture.size_bytes) == (name, len(content))
        list(FlowMeter().read(capture))
        assert capture.position_bytes == len(content)


def test_a_device_is_refused():
    with pytest.raises(CaptureNotFound, match="/dev/zero: a device, wanted a regular file or a pipe"):
        open_capture("/dev/zero")


def test_a_capture_that_shrinks_while_it_is_read_is_truncated_and_ends_nobody(tmp_path: Path):
    # Touching what is gone of a mapped file would be SIGBUS.
    path = written(tmp_path, LARGE)

    with open_capture(path) as capture:
        next(capture.blocks())
        os.truncate(path, 100)
        with pytest.raises(CaptureTruncated, match="shrank below"):
            list(capture.blocks())

    assert 4096 <= capture.frames_read < 40_000


def test_what_is_appended_while_a_capture_is_read_is_not_part_of_it(tmp_path: Path):
    path = written(tmp_path, LARGE)

    with open_capture(path) as capture:
        next(capture.blocks())
        with path.open("ab") as appended:
            appended.write(bytes(1000))
        list(capture.blocks())

    assert capture.frames_read == 40_000


def test_a_closed_capture_is_not_read(tmp_path: Path):
    with open_capture(written(tmp_path, pcap_bytes(FRAMES))) as capture:
        pass

    with pytest.raises(ValueError, match="after close"):
        next(capture.blocks())


@pytest.mark.parametrize("form", [pcap_bytes, pcapng_bytes])
def test_the_largest_frame_is_read_and_one_octet_more_is_refused(tmp_path: Path, form):
    largest = (START_US, FRAME.ljust(1 << 20, b"\0"))
    beyond = (START_US, FRAME.ljust((1 << 20) + 1, b"\0"))

    assert read_all(written(tmp_path, form([*FRAMES, largest, *FRAMES]))) == 5
    with pytest.raises(CaptureFormatError, match=r"frame 3, octet \d+: captured length 1048577, wanted at most"):
        read_all(written(tmp_path, form([*FRAMES, beyond, *FRAMES])))


@pytest.mark.parametrize("kind", [1, 2, 3, 6])
def test_a_packet_or_interface_block_that_no_frame_fills_is_refused_unless_the_file_ends_first(
    tmp_path: Path, kind: int
):
    start = pcapng_bytes(FRAMES)
    huge = block(kind, bytes(2_000_000))

    with pytest.raises(CaptureFormatError, match=f"frame 3, octet {len(start)}: .* block of 2000012 octets"):
        read_all(written(tmp_path, start + huge + pcapng_bytes(FRAMES)))
    with pytest.raises(CaptureTruncated, match="octets of a block are missing"):
        read_all(written(tmp_path, start + huge[:-1]))


def test_a_section_describes_65_536_interfaces_and_not_one_more(tmp_path: Path):
    most = section_header() + interface_block() * (1 << 16)
    packet = enhanced_packet(START_US, FRAME, interface=(1 << 16) - 1)

    assert read_all(written(tmp_path, (most + packet) * 2)) == 2
    with pytest.raises(CaptureFormatError, match="interface 65537 of a section, wanted at most 65536"):
        read_all(written(tmp_path, most + interface_block() + packet))


def test_a_simple_packet_block_shorter_than_its_packet_is_damaged(tmp_path: Path, meter: str):
    short = block(3, struct.pack("<I", len(FRAME) + 4) + FRAME)

    assert measure(written(tmp_path, pcapng_bytes(FRAMES) + short), meter=meter).error == "format"
