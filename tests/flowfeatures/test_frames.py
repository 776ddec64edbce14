"""Blocks made of frames at hand: the same records as from a capture file, octets kept alive, and hostile arguments."""

import gc
import mmap
import pickle
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowfeatures import LINK_TYPES, FlowMeter, FlowSettings, FrameBlock, open_capture
from tests.flowfeatures.packets import (
    COOKED,
    ETHERNET,
    RAW,
    START_US,
    Conversation,
    TimedFrame,
    cooked,
    ethernet,
    ipv4,
    udp,
    udp_frame,
    write_pcap,
)

FRAMES = [
    *Conversation().out(0, "S").back(0.1, "SA").out(0.3, "PA", 100).back(0.7, "PA", 1333).out(0.8, "FA").frames,
    udp_frame(1, payload_bytes=5),
    udp_frame(9, payload_bytes=700, back=True),
]
TIMES_US, OCTETS = [at_us for at_us, _ in FRAMES], [octets for _, octets in FRAMES]
LAST_US = 253_402_300_799_999_999  # the last microsecond of the year 9999
PACKET = ipv4(udp(5000, 53, 9), 17)


def records_of(*blocks: FrameBlock, **changed: bool) -> np.ndarray:
    """Return all records of the blocks, in order of leaving."""
    meter = FlowMeter(FlowSettings(**changed))
    chunks = [chunk for block in blocks for chunk in meter.add(block)]
    return np.concatenate([*chunks, *meter.flush()])


def records_of_capture(path: Path, frames: list[TimedFrame], **form: int) -> np.ndarray:
    """Return what the same frames leave when they are read from a file."""
    meter = FlowMeter()
    with open_capture(write_pcap(path, frames, **form)) as capture:
        return np.concatenate([*meter.read(capture), *meter.flush()])


def laid_out(frames: list[bytes], *, gap: int = 3) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return the frames in one buffer with gaps between them, their offsets and their lengths."""
    lengths = np.array([len(frame) for frame in frames], np.int64)
    offsets = np.cumsum(lengths + gap) - lengths
    return b"".join(bytes(gap) + frame for frame in frames), offsets, lengths


# -- the same as from a file ------------------------------------------------------------------------------------------


def test_frames_at_hand_leave_the_records_that_their_capture_leaves(tmp_path: Path):
    expected = records_of_capture(tmp_path / "frames.pcap", FRAMES)

    seen = records_of(FrameBlock.of(OCTETS, TIMES_US))

    assert len(seen) == 2
    assert np.array_equal(seen, expected)


def test_a_view_of_one_buffer_leaves_the_same_records_as_its_frames():
    buffer, offsets, lengths = laid_out(OCTETS)

    seen = records_of(FrameBlock.view(buffer, offsets, lengths, np.array(TIMES_US)))

    assert np.array_equal(seen, records_of(FrameBlock.of(OCTETS, TIMES_US)))


def test_blocks_of_any_size_leave_the_same_records():
    whole = records_of(FrameBlock.of(OCTETS, TIMES_US))

    one_by_one = records_of(*(FrameBlock.of([octets], [at_us]) for at_us, octets in FRAMES))

    assert np.array_equal(one_by_one, whole)


def test_more_frames_than_a_block_usually_holds_make_a_larger_block():
    count = 3 * FrameBlock().capacity

    block = FrameBlock.of([OCTETS[0]] * count, range(START_US, START_US + count))

    assert (len(block), block.count, block.capacity) == (count, count, count)
    assert records_of(block)["fwd_packets"].sum() == count


@pytest.mark.parametrize(
    ("link", "name", "octets"),
    [
        (ETHERNET, "ether", ethernet(PACKET)),
        (RAW, "raw", PACKET),
        (COOKED, "linux-sll", cooked(PACKET)),
    ],
)
def test_a_link_type_is_a_number_or_a_short_name(tmp_path: Path, link: int, name: str, octets: bytes):
    expected = records_of_capture(tmp_path / "frames.pcap", [(START_US, octets)], link_type=link)

    for given_type in (link, np.int32(link), name):
        assert np.array_equal(records_of(FrameBlock.of([octets], [START_US], link_type=given_type)), expected)


@pytest.mark.parametrize("name", sorted(set(LINK_TYPES.values())))
def test_every_short_name_is_taken(name: str):
    assert len(FrameBlock.of([b""], [0], link_type=name)) == 1


def test_cut_frames_count_with_their_length_on_the_wire(tmp_path: Path):
    expected = records_of_capture(tmp_path / "cut.pcap", FRAMES, snap=60)
    wire_bytes = [len(octets) for octets in OCTETS]

    cut = FrameBlock.of([octets[:60] for octets in OCTETS], TIMES_US, wire_bytes=wire_bytes)

    assert np.array_equal(records_of(cut), expected)


def test_a_tag_that_stands_beside_the_frame_counts_as_one_inside_it():
    tagged = ethernet(PACKET, vlans=[7])
    inside = FrameBlock.of([tagged, ethernet(PACKET)], [START_US, START_US + 1])

    for tags in ([(0x8100, 7), (0, 0)], np.array([[0x8100, 7], [0, 0]], np.uint16)):
        beside = FrameBlock.of([ethernet(PACKET)] * 2, [START_US, START_US + 1], vlan=tags)
        assert np.array_equal(records_of(beside, vlan_in_key=True), records_of(inside, vlan_in_key=True))


def test_packet_labels_begin_at_the_first_number():
    labels = np.array([0, 0, 0, 5], np.uint8)
    meter = FlowMeter()

    list(meter.add(FrameBlock.of(OCTETS[:1], TIMES_US[:1], first_number=3), packet_labels=labels))

    assert next(meter.flush())["packet_label"].tolist() == [5]


def test_no_frames_are_a_block_without_frames():
    for block in (FrameBlock.of([], []), FrameBlock.view(b"", [], [], []), FrameBlock.of([], [], vlan=[])):
        assert len(block) == 0
        assert list(FlowMeter().add(block)) == []


def test_frames_without_octets_are_counted_as_truncated():
    meter = FlowMeter()

    list(meter.add(FrameBlock.of([b"", bytearray(), np.zeros(0, np.uint8)], [0, 1, 2])))
    list(meter.add(FrameBlock.view(b"", [0, 0], [0, 0], [3, 4])))

    assert meter.counters["undecoded"] == {"truncated_link": 5}


# -- what octets may be, and how long they live -----------------------------------------------------------------------


class Labelled(bytes):
    """bytes of a subclass."""


@pytest.mark.parametrize(
    "form",
    [
        bytes,
        bytearray,
        memoryview,
        Labelled,
        lambda octets: np.frombuffer(octets, np.uint8),
        lambda octets: memoryview(bytearray(octets)).toreadonly(),
        lambda octets: memoryview(b"!" + octets)[1:],
    ],
    ids=["bytes", "bytearray", "memoryview", "subclass", "read-only array", "read-only view", "slice"],
)
def test_any_run_of_octets_is_a_frame_or_a_buffer(form):
    expected = records_of(FrameBlock.of(OCTETS, TIMES_US))
    buffer, offsets, lengths = laid_out(OCTETS)

    assert np.array_equal(records_of(FrameBlock.of([form(octets) for octets in OCTETS], TIMES_US)), expected)
    assert np.array_equal(records_of(FrameBlock.view(form(buffer), offsets, lengths, TIMES_US)), expected)


def test_a_mapped_file_is_a_buffer_and_cannot_be_unmapped_under_the_block(tmp_path: Path):
    buffer, offsets, lengths = laid_out(OCTETS)
    (tmp_path / "frames").write_bytes(buffer)
    with (tmp_path / "frames").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    block = FrameBlock.view(mapped, offsets, lengths, TIMES_US)

    with pytest.raises(BufferError):
        mapped.close()
    assert len(records_of(block)) == 2
    del block
    mapped.close()


def test_octets_live_as_long_as_the_block():
    frames = [bytearray(octets) for octets in OCTETS]
    buffer, offsets, lengths = laid_out(OCTETS)
    buffer = bytearray(buffer)
    blocks = [FrameBlock.of(frames, TIMES_US), FrameBlock.view(buffer, offsets, lengths, TIMES_US)]

    for owner in (frames[0], buffer):
        with pytest.raises(BufferError):
            owner.clear()

    blocks.clear()
    frames[0].clear()
    buffer.clear()


def test_a_block_outlives_the_callers_list():
    frames = [bytes(bytearray(octets)) for octets in OCTETS]
    block = FrameBlock.of(frames, TIMES_US)
    held = sys.getrefcount(frames[0])

    frames.clear()
    gc.collect()
    rubbish = [bytes([255]) * len(octets) for octets in OCTETS * 50]

    assert held >= 3  # the list's, the block's and the argument's
    assert len(rubbish) == 350
    assert len(records_of(block)) == 2


def test_a_view_makes_no_object_per_frame_and_copies_nothing():
    count = 20_000
    buffer = bytes(60 * count)
    offsets, lengths, times = np.arange(count) * 60, np.full(count, 60), np.arange(count)

    tracemalloc.start()
    block = FrameBlock.view(buffer, offsets, lengths, times)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(block) == count
    assert peak_bytes < count  # less than an octet per frame


@pytest.mark.parametrize("type_", [np.int64, np.int32, np.uint64, ">i8"])
def test_arrays_with_gaps_of_any_whole_type_and_byte_order_are_read_as_they_are(type_):
    buffer, offsets, lengths = laid_out(OCTETS)
    doubled = [np.repeat(values, 2).astype(type_)[::2] for values in (offsets, lengths)]
    times = np.array(TIMES_US[::-1], np.int64)[::-1]

    seen = records_of(FrameBlock.view(buffer, *doubled, times))

    assert np.array_equal(seen, records_of(FrameBlock.of(OCTETS, TIMES_US)))


def test_columns_of_a_packed_table_are_read_off_their_alignment():
    buffer, offsets, lengths = laid_out(OCTETS)
    packed = np.zeros(len(OCTETS), np.dtype([("kind", "u1"), ("at", "i8"), ("size", "i8"), ("time", "i8")]))
    packed["at"], packed["size"], packed["time"] = offsets, lengths, TIMES_US

    seen = records_of(FrameBlock.view(buffer, packed["at"], packed["size"], packed["time"]))

    assert np.array_equal(seen, records_of(FrameBlock.of(OCTETS, TIMES_US)))


def test_two_meters_on_two_threads_may_share_a_block():
    block, results = FrameBlock.of(OCTETS * 500, TIMES_US * 500), {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: records_of(block)})) for n in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert np.array_equal(results[0], results[1])


# -- hostile arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "lengths", "message"),
    [
        ([0, -1], [10, 10], r"offsets\[1\]: -1, wanted 0 to 90"),
        ([0, 91], [10, 10], r"offsets\[1\]: 91, wanted 0 to 90"),
        ([0, 2**63 - 1], [10, 10], r"offsets\[1\]: 9223372036854775807, wanted 0 to 90"),
        ([-(2**63), 0], [10, 10], r"offsets\[0\]: -9223372036854775808, wanted 0 to 90"),
        ([0, 0], [10, -1], r"lengths\[1\]: -1, wanted 0 to 100"),
        ([0, 0], [10, 101], r"lengths\[1\]: 101, wanted 0 to 100"),
        ([0, 0], [2**63 - 1, 1], r"lengths\[0\]: 9223372036854775807, wanted 0 to 100"),
        ([1, 0], [2**32, 1], r"lengths\[0\]: 4294967296, wanted 0 to 100"),
        ([101, 0], [0, 0], r"offsets\[0\]: 101, wanted 0 to 100"),
        ([2**63, 0], [0, 0], r"offsets\[0\]: 9223372036854775808, wanted"),
        ([0, 0, 0], [0, 0], r"lengths: 2 values, wanted 3"),
    ],
)
def test_a_frame_beyond_its_buffer_is_refused_by_index(offsets, lengths, message: str):
    with pytest.raises(ValueError, match=message):
        FrameBlock.view(bytes(100), offsets, lengths, [0, 0])


def test_a_frame_at_the_very_end_of_its_buffer_is_whole():
    assert len(FrameBlock.view(bytes(100), [90, 100, 0], [10, 0, 100], [0, 0, 0])) == 3


@given(st.lists(st.tuples(st.integers(-5, 70), st.integers(-5, 70)), max_size=5), st.integers(0, 64))
@settings(max_examples=200, deadline=None)
def test_a_view_is_made_exactly_where_every_slice_is_inside(places: list[tuple[int, int]], size: int):
    fits = all(at >= 0 and length >= 0 and at + length <= size for at, length in places)
    offsets, lengths = [at for at, _ in places], [length for _, length in places]

    try:
        made = len(FrameBlock.view(bytes(size), offsets, lengths, [0] * len(places)))
    except ValueError:
        made = None

    assert made == (len(places) if fits else None)


def test_a_frame_of_more_than_a_mebibyte_is_refused():
    large = bytes((1 << 20) + 1)

    assert len(FrameBlock.of([large[1:]], [0])) == 1
    with pytest.raises(ValueError, match=r"frames\[1\]: 1048577 octets, wanted at most 1048576"):
        FrameBlock.of([b"", large], [0, 0])
    with pytest.raises(ValueError, match=r"lengths\[0\]: 1048577, wanted 0 to 1048576"):
        FrameBlock.view(large, [0], [len(large)], [0])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0, -1], r"times_us\[1\]: -1, wanted 0 to 253402300799999999"),
        ([LAST_US + 1, 0], r"times_us\[0\]: 253402300800000000, wanted"),
        ([0, 2**63], r"times_us\[1\]: 9223372036854775808, wanted"),
        ([-(2**80), 0], r"times_us\[0\]: -1208925819614629174706176, wanted"),
        (np.array([0, 2**63], np.uint64), r"times_us\[1\]: 9223372036854775808, wanted"),
        ([0], r"times_us: 1 values, wanted 2"),
        ([0, 1, 2], r"times_us: 3 values, wanted 2"),
        ([], r"times_us: 0 values, wanted 2"),
        (np.zeros((2, 2), np.int64), r"times_us: shape \(2, 2\), wanted one dimension"),
        (np.array(5), r"times_us: shape \(\), wanted one dimension"),
    ],
)
def test_a_time_that_no_clock_shows_is_refused_by_index(times, message: str):
    with pytest.raises(ValueError, match=message):
        FrameBlock.of([b"", b""], times)


def test_the_first_and_the_last_microsecond_are_times():
    assert len(FrameBlock.of([b"", b""], [0, LAST_US])) == 2


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            np.array(["2023-11-14", "2023-11-15"], "datetime64[us]"),
            r'datetime64\[us\], wanted int64 .*\.astype\("int64"\)',
        ),
        (list(np.array(["2023-11-14", "2023-11-15"], "datetime64[s]")), r"times_us\[0\]: datetime64, wanted int"),
        ([0, 1.5], r"times_us\[1\]: float, wanted int of microseconds"),
        (np.array([0.0, 1.0]), r"float64, wanted int64"),
        (np.array([True, False]), r"bool, wanted int64"),
        (np.array([0, None]), r"object, wanted int64"),
        (["0", "1"], r"times_us\[0\]: str, wanted int"),
        (7, r"times_us: int, wanted a sequence of int"),
        (None, r"times_us: NoneType, wanted a sequence"),
    ],
)
def test_what_is_no_count_of_microseconds_is_refused(times, message: str):
    with pytest.raises(TypeError, match=message):
        FrameBlock.of([b"", b""], times)


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (b"one frame", TypeError, "frames: bytes, wanted a sequence"),
        ("text", TypeError, "frames: str, wanted a sequence"),
        ([b"", "text"], TypeError, r"frames\[1\]: str, wanted a bytes-like"),
        ([b"", 5], TypeError, r"frames\[1\]: int, wanted a bytes-like"),
        ([None, b""], TypeError, r"frames\[0\]: NoneType, wanted a bytes-like"),
        ([b"", np.zeros(4, np.int64)], ValueError, r"frames\[1\]: 1 dimensions, items of 8 octets"),
        ([b"", np.zeros((2, 2), np.uint8)], ValueError, r"frames\[1\]: 2 dimensions"),
        ([b"", np.zeros(8, np.uint8)[::2]], ValueError, r"frames\[1\]: .*strides \(2,\); wanted one dimension"),
        ([b"", np.zeros(8, np.uint8)[::-1]], ValueError, r"frames\[1\]: .*strides \(-1,\)"),
        ([b"", np.uint8(3)], ValueError, r"frames\[1\]: 0 dimensions"),
        ([b"", np.zeros(2, "datetime64[us]")], TypeError, r"frames\[1\]: ndarray, wanted a bytes-like"),
    ],
)
def test_what_is_no_run_of_octets_is_refused_by_index(frames, error, message: str):
    with pytest.raises(error, match=message):
        FrameBlock.of(frames, [0, 0])


@pytest.mark.parametrize(
    ("buffer", "error"),
    [("text", TypeError), (None, TypeError), (np.zeros(9, np.int32), ValueError), (np.zeros(9, "u1")[::3], ValueError)],
    ids=["text", "none", "int32", "gaps"],
)
def test_a_buffer_that_is_no_run_of_octets_is_refused(buffer, error):
    with pytest.raises(error, match="buffer: "):
        FrameBlock.view(buffer, [0], [1], [0])


def test_a_released_view_is_refused():
    released = memoryview(b"abc")
    released.release()

    with pytest.raises(TypeError, match=r"frames\[0\]: memoryview"):
        FrameBlock.of([released], [0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"link_type": 105}, ValueError, "link_type: 105, wanted one of 0 null, 1 ether"),
        ({"link_type": "wifi"}, ValueError, "link_type: 'wifi', wanted one of"),
        ({"link_type": -1}, ValueError, "link_type: -1"),
        ({"link_type": 2**40}, ValueError, "link_type: 1099511627776"),
        ({"link_type": 1.0}, ValueError, r"link_type: 1\.0"),
        ({"link_type": True}, ValueError, "link_type: True"),
        ({"wire_bytes": [13]}, ValueError, r"wire_bytes\[0\]: 13, wanted 14 \(what is at hand\)"),
        ({"wire_bytes": [-1]}, ValueError, r"wire_bytes\[0\]: -1, wanted"),
        ({"wire_bytes": [2**32]}, ValueError, r"wire_bytes\[0\]: 4294967296, wanted"),
        ({"wire_bytes": [14, 14]}, ValueError, "wire_bytes: 2 values, wanted 1"),
        ({"wire_bytes": [14.0]}, TypeError, r"wire_bytes\[0\]: float"),
        ({"vlan": [(0x8100, 65_536)]}, ValueError, r"vlan\[0\]: tpid 33024 and tci 65536"),
        ({"vlan": [(-1, 0)]}, ValueError, r"vlan\[0\]: tpid -1"),
        ({"vlan": []}, ValueError, "vlan: 0 values, wanted 1"),
        ({"vlan": [None]}, TypeError, r"vlan\[0\]: None, wanted a pair"),
        ({"vlan": [(1, 2, 3)]}, TypeError, r"vlan\[0\]: \(1, 2, 3\), wanted a pair"),
        ({"vlan": np.zeros(2, np.int64)}, ValueError, r"vlan: shape \(2,\), wanted \(1, 2\)"),
        ({"first_number": 0}, ValueError, "first_number: 0, wanted 1 or more"),
        ({"first_number": 2**64}, ValueError, "first_number: 18446744073709551616"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message: str):
    with pytest.raises(error, match=message):
        FrameBlock.of([bytes(14)], [0], **options)


@pytest.mark.parametrize("capacity", [0, -1, 2**31, 2**62])
def test_a_block_without_room_or_with_too_much_is_refused(capacity: int):
    with pytest.raises(ValueError, match=f"capacity: {capacity}, wanted 1 to 2147483647"):
        FrameBlock(capacity)


def test_a_cleared_block_is_empty_and_lets_go_of_its_octets():
    owner = bytearray(OCTETS[0])
    block = FrameBlock.of([owner], [START_US])

    block.clear()

    owner.clear()  # a BufferError while the block held it
    assert len(block) == 0
    assert list(FlowMeter().add(block)) == []


def test_nobody_changes_the_count_of_a_block_from_outside():
    block = FrameBlock.of(OCTETS, TIMES_US)

    for name in ("count", "capacity"):
        with pytest.raises(AttributeError):
            setattr(block, name, 1_000_000)
    with pytest.raises(TypeError):
        pickle.dumps(block)
