"""Captures that come compressed, through pipes and in pieces: the frames are those of the plain file."""

import gzip
import lzma
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zstandard
from flowfeatures.octets import Octets
from flowfeatures.pcap import PcapWalk
from flowfeatures.pcapng import PcapngWalk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowfeatures import (
    CaptureFormatError,
    CaptureNotFound,
    CaptureTruncated,
    FlowFeaturesError,
    FlowMeter,
    open_capture,
)
from flowfeatures.frames import FrameBlock
from flowfeatures.streams import Unpacked
from tests.flowfeatures.packets import block, pcap_bytes, pcapng_bytes, udp_frame

HANG_S = 120  # far beyond what anything here takes; only a hang meets it

FRAMES = [
    udp_frame(number / 100, payload_bytes=number * 7 % 1400, back=number % 3 == 0, ports=(1000 + number % 17, 53))
    for number in range(300)
]
PCAP, PCAPNG = pcap_bytes(FRAMES), pcapng_bytes(FRAMES)


def zstd(content: bytes) -> bytes:
    """Return one frame with a checksum and without the content's size, as a stream is written."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return packer.compress(content) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd}
packed_by = pytest.mark.parametrize("packer", PACKERS)
in_form = pytest.mark.parametrize("content", [PCAP, PCAPNG], ids=["pcap", "pcapng"])


def written(tmp_path: Path, content: bytes, name: str = "capture") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def rows(chunks: Sequence[np.ndarray]) -> list:
    """Return records as comparable values, without the octets between their fields."""
    return [b"".join(row[name].tobytes() for name in chunk.dtype.names) for chunk in chunks for row in chunk]


def measured(*paths: Path | str) -> tuple[list, int, FlowFeaturesError | None]:
    """Return the records of captures read in turn, the packets seen, and what ended the reading."""
    meter, chunks, error = FlowMeter(), [], None
    try:
        for path in paths:
            with open_capture(path) as capture:
                chunks += [chunk.copy() for chunk in meter.read(capture)]
    except FlowFeaturesError as exc:
        error = exc
    chunks += [chunk.copy() for chunk in meter.flush()]
    return rows(chunks), meter.counters["packets"], error


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list:
    """The records of the plain file."""
    records, packets, error = measured(written(tmp_path_factory.mktemp("plain"), PCAP))
    assert (packets, error) == (len(FRAMES), None)
    assert len(records) == 17
    return records


@contextmanager
def fed(path: Path, write: Callable[[int], None]) -> Iterator[Path]:
    """Make a named pipe that a thread opens and writes to."""
    os.mkfifo(path)

    def feed() -> None:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            write(descriptor)
        except BrokenPipeError:
            pass  # the reader has seen enough
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    yield path
    thread.join(HANG_S)
    assert not thread.is_alive()


def write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@contextmanager
def as_stdin(descriptor: int) -> Iterator[None]:
    """Put a descriptor in the place of standard input, and close it."""
    kept = os.dup(0)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


# -- compressed files -----------------------------------------------------------------------------------------------


@in_form
@packed_by
def test_a_compressed_capture_gives_the_records_of_the_plain_one(
    tmp_path: Path, expected: list, packer: str, content: bytes
):
    path = written(tmp_path, PACKERS[packer](content), "misnamed.pcap")

    assert measured(path) == (expected, len(FRAMES), None)


@packed_by
def test_it_says_how_it_is_compressed_and_counts_compressed_octets(tmp_path: Path, packer: str):
    path = written(tmp_path, PACKERS[packer](PCAP))

    with open_capture(path) as capture:
        assert (capture.format, capture.compression, capture.size_bytes) == ("pcap", packer, path.stat().st_size)
        list(FlowMeter().read(capture))
        assert (capture.position_bytes, capture.frames_read) == (capture.size_bytes, len(FRAMES))


@packed_by
def test_members_one_after_the_other_are_one_capture_and_zeros_between_them_are_padding(
    tmp_path: Path, expected: list, packer: str
):
    pack = PACKERS[packer]
    content = pack(PCAP[:1000]) + pack(b"") + pack(PCAP[1000:1001]) + bytes(64) + pack(PCAP[1001:]) + bytes(8)

    assert measured(written(tmp_path, content)) == (expected, len(FRAMES), None)


def test_zstd_frames_without_content_are_passed_over(tmp_path: Path, expected: list):
    empty = struct.pack("<II", 0x184D2A5E, 100_000) + bytes(range(250)) * 400
    sized = zstandard.ZstdCompressor().compress(PCAP[1000:])

    content = empty + zstd(PCAP[:1000]) + empty + sized + empty

    assert measured(written(tmp_path, content)) == (expected, len(FRAMES), None)


@pytest.mark.parametrize("level", [1, 19, -5])
def test_zstd_frames_of_many_blocks_of_each_kind_unpack(tmp_path: Path, level: int):
    noise = os.urandom(300_000)
    frames = [(0, noise), (0, bytes(700_000)), (0, noise[:1000] * 500)]
    content = zstandard.ZstdCompressor(level=level).compress(pcap_bytes(frames))

    assert measured(written(tmp_path, content))[1:] == (3, None)


@packed_by
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0], ids=str)
def test_a_compressed_capture_that_is_cut_is_truncated_after_its_whole_frames(
    tmp_path: Path, expected: list, packer: str, share: float
):
    content = PACKERS[packer](PCAP)
    keep = min(len(content) - 1, max(12, round(share * len(content))))

    records, packets, error = measured(written(tmp_path, content[:keep]))

    assert isinstance(error, CaptureTruncated)
    assert packer in str(error)
    assert packets < len(FRAMES) or records == expected


@packed_by
def test_a_cut_after_a_member_delivers_all_frames_of_the_member(tmp_path: Path, packer: str):
    pack = PACKERS[packer]
    one = pcap_bytes(FRAMES[:10])
    other = pack(PCAP[len(one) :])

    for cut in (1, 5, 9, len(other) // 2):
        _, packets, error = measured(written(tmp_path, pack(one) + other[:cut]))
        assert isinstance(error, CaptureTruncated), cut
        assert packets >= 10, cut


@packed_by
def test_a_whole_stream_around_a_cut_capture_is_truncated_as_the_plain_one(tmp_path: Path, packer: str):
    path = written(tmp_path, PACKERS[packer](PCAP[:-1]))

    _, packets, error = measured(path)

    assert packets == len(FRAMES) - 1
    assert isinstance(error, CaptureTruncated)
    assert f"{path}: frame {len(FRAMES)}, octet " in str(error)
    assert f"of what {packer} unpacked" in str(error)


@packed_by
def test_a_damaged_stream_names_the_file_the_place_and_what(tmp_path: Path, packer: str):
    noise = (0, np.random.default_rng(0).bytes(100_000))
    content = bytearray(PACKERS[packer](pcap_bytes([*FRAMES, noise])))
    content[-50_000] ^= 0xFF
    path = written(tmp_path, bytes(content))

    with pytest.raises(CaptureFormatError, match=rf"{path}: octet \d+ or before: damaged {packer} data, part 1: ."):
        raise measured(path)[2]


@packed_by
def test_what_follows_the_last_member_and_is_none_is_damage_after_all_frames(tmp_path: Path, packer: str):
    path = written(tmp_path, PACKERS[packer](PCAP) + b"trailing garbage")

    _, packets, error = measured(path)

    assert packets == len(FRAMES)
    assert type(error) is CaptureFormatError
    assert "part 2" in str(error)


@packed_by
@pytest.mark.parametrize("inner", PACKERS)
def test_a_compression_within_another_is_refused(tmp_path: Path, packer: str, inner: str):
    path = written(tmp_path, PACKERS[packer](PACKERS[inner](PCAP)))

    with pytest.raises(CaptureFormatError, match=f"{inner} inside {packer}, wanted a capture compressed once"):
        open_capture(path)


@packed_by
def test_compressed_text_is_no_capture(tmp_path: Path, packer: str):
    with pytest.raises(CaptureFormatError, match="not a capture: begins with 74 65 78 74"):
        open_capture(written(tmp_path, PACKERS[packer](b"text, and no capture")))


@packed_by
def test_an_empty_stream_is_an_empty_capture(tmp_path: Path, packer: str):
    with pytest.raises(CaptureFormatError, match="empty"):
        open_capture(written(tmp_path, PACKERS[packer](b"")))


def test_a_window_beyond_what_we_hold_is_refused(tmp_path: Path):
    # A zstd frame of one empty block: magic, no size, a window of 2^28 octets.
    frame = struct.pack("<IBB", 0xFD2FB528, 0, (28 - 10) << 3) + b"\1\0\0"
    # Of an xz stream without a check: header, and a block header that asks for LZMA2 with a dictionary of 4 GiB - 1.
    asked = bytes((2, 0, 0x21, 1, 40, 0, 0, 0))
    stream = lzma.compress(b"", check=lzma.CHECK_NONE)[:12] + asked + struct.pack("<I", zlib.crc32(asked)) + bytes(20)

    for content in (frame, stream):
        with pytest.raises(CaptureFormatError, match=r"damaged (zstd|xz) data, part 1: .*([Mm]emory|window)"):
            open_capture(written(tmp_path, content))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(CaptureFormatError, match="compressed with zstd, and the Python module zstandard is not inst"):
        open_capture(written(tmp_path, b"\x28\xb5\x2f\xfd" + bytes(20)))


def test_no_descriptor_is_left_open_by_what_cannot_be_read(tmp_path: Path):
    refused = [b"", b"no capture", PCAP[:20], gzip.compress(b"no capture"), gzip.compress(gzip.compress(PCAP)), b"BZh9"]
    paths = [written(tmp_path, content, f"refused-{number}") for number, content in enumerate(refused)]

    for path in [*paths, "/dev/zero", tmp_path]:
        with pytest.raises(FlowFeaturesError):
            open_capture(path)

    left = {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()}
    assert not left & {str(tmp_path.resolve()), "/dev/zero", *(str(path.resolve()) for path in paths)}


# -- bounded memory -------------------------------------------------------------------------------------------------


def packed_zeros(packer: str, *, before: bytes, mebibytes: int) -> bytes:
    """Return `before` and so many MiB of zeros, compressed without ever being held."""
    streams = {
        "gzip": lambda: zlib.compressobj(1, zlib.DEFLATED, 31),
        "xz": lambda: lzma.LZMACompressor(preset=0),
        "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    }
    stream, zeros = streams[packer](), bytes(1 << 20)
    return b"".join([stream.compress(before), *(stream.compress(zeros) for _ in range(mebibytes)), stream.flush()])


@packed_by
def test_a_bomb_is_read_in_bounded_memory(tmp_path: Path, packer: str):
    # One custom block of 200 MiB in a file of a few hundred kilobytes at most.
    body = struct.pack("<II", 0x0BAD, 12 + (200 << 20))
    content = packed_zeros(packer, before=pcapng_bytes(FRAMES[:5]) + body, mebibytes=200)
    path = written(tmp_path, content)
    resident_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    tracemalloc.start()
    _, packets, error = measured(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(content) < 1 << 20
    assert (packets, type(error)) == (5, CaptureTruncated)  # the block's last four octets are not there
    assert peak_bytes < 8 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident_kib < 64 << 10


def test_a_capture_of_a_hundred_megabytes_leaves_no_trace_in_memory(tmp_path: Path):
    path = tmp_path / "large"
    record = pcap_bytes([(0, FRAMES[0][1].ljust(1 << 16, b"\0"))])[24:]
    with path.open("wb") as file:
        file.write(PCAP[:24])
        for _ in range(100):
            file.write(record * 16)
    script = f"""if True:
        from flowfeatures import FlowMeter, open_capture
        def peak_kib():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        meter = FlowMeter()
        list(meter.flush())
        before_kib = peak_kib()
        with open_capture({str(path)!r}) as capture:
            print(sum(block.count for block in capture.blocks()), peak_kib() - before_kib)
    """

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=HANG_S)

    frames, grown_kib = map(int, run.stdout.split())
    assert frames == 1600
    assert grown_kib < 8 << 10


def test_a_huge_block_of_another_kind_is_passed_over_without_being_held(tmp_path: Path, expected: list):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(pcapng_bytes(FRAMES[:100]))
        file.write(struct.pack("<II", 0x0BAD, 1 << 31))
        file.seek((1 << 31) - 12, os.SEEK_CUR)
        file.write(struct.pack("<I", 1 << 31) + pcapng_bytes(FRAMES[100:]))

    tracemalloc.start()
    outcome = measured(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert outcome == (expected, len(FRAMES), None)
    assert peak_bytes < 8 << 20


@packed_by
def test_a_large_block_of_another_kind_is_passed_over_in_a_stream(tmp_path: Path, expected: list, packer: str):
    large = block(0x0BAD, bytes(3_000_000))
    content = pcapng_bytes(FRAMES[:100]) + large + pcapng_bytes(FRAMES[100:]) + large

    assert measured(written(tmp_path, PACKERS[packer](content))) == (expected, len(FRAMES), None)


# -- pipes and standard input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [PCAP, PCAPNG, gzip.compress(PCAP), zstd(PCAPNG)], ids=["pcap", "ng", "gz", "zst"])
def test_a_named_pipe_gives_the_records_of_the_file(tmp_path: Path, expected: list, content: bytes):
    with fed(tmp_path / "pipe", lambda descriptor: write_all(descriptor, content)) as pipe:
        assert measured(pipe) == (expected, len(FRAMES), None)


def test_a_pipe_fed_octet_by_octet_gives_the_same_records(tmp_path: Path):
    content = pcapng_bytes(FRAMES[:20])
    expected = measured(written(tmp_path, content))

    def drip(descriptor: int) -> None:
        for octet in content:
            os.write(descriptor, bytes([octet]))

    with fed(tmp_path / "pipe", drip) as pipe:
        assert measured(pipe) == expected


@in_form
def test_a_pipe_closed_inside_a_frame_is_truncated_after_the_whole_ones(tmp_path: Path, content: bytes):
    with fed(tmp_path / "pipe", lambda descriptor: write_all(descriptor, content[:-3])) as pipe:
        _, packets, error = measured(pipe)

    assert packets == len(FRAMES) - 1
    assert isinstance(error, CaptureTruncated)
    assert f"{pipe}: frame {len(FRAMES)}, octet" in str(error)


def test_a_pipe_closed_before_its_first_octet_is_empty(tmp_path: Path):
    with fed(tmp_path / "pipe", lambda _: None) as pipe:
        assert "empty" in str(measured(pipe)[2])


def test_whole_frames_are_delivered_while_the_pipe_stays_open():
    reading, writing = os.pipe()
    block_of = FrameBlock()
    counts = []

    with as_stdin(reading):
        write_all(writing, pcap_bytes(FRAMES[:3]))
        with open_capture("-") as capture:
            counts.append(capture.read_block(block_of))
            rest = pcap_bytes(FRAMES[3:5])[24:]
            write_all(writing, rest[:-1])
            counts.append(capture.read_block(block_of))
            write_all(writing, rest[-1:])
            counts.append(capture.read_block(block_of))
            os.close(writing)
            counts.append(capture.read_block(block_of))
            assert (capture.size_bytes, capture.position_bytes) == (0, len(pcap_bytes(FRAMES[:5])))

    assert counts == [3, 1, 1, 0]


def test_whole_frames_before_a_large_block_do_not_wait_for_it():
    reading, writing = os.pipe()
    block_of = FrameBlock()

    with as_stdin(reading):
        write_all(writing, pcapng_bytes(FRAMES[:3]) + block(0x0BAD, bytes(100_000))[:1000])
        with open_capture("-") as capture:
            assert capture.read_block(block_of) == 3
            os.close(writing)
            with pytest.raises(CaptureTruncated):
                capture.read_block(block_of)


def test_standard_input_that_is_a_file_is_read_from_where_it_stands(tmp_path: Path, expected: list):
    path = written(tmp_path, b"read by somebody else" + PCAP)
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 21, os.SEEK_SET)

    with as_stdin(descriptor), open_capture("-") as capture:
        assert (capture.size_bytes, capture.position_bytes) == (len(PCAP), 24)
        frames = sum(block_of.count for block_of in capture.blocks())
        assert capture.position_bytes == capture.size_bytes

    assert frames == len(FRAMES)


def test_standard_input_may_be_compressed(tmp_path: Path, expected: list):
    with as_stdin(os.open(written(tmp_path, gzip.compress(PCAP)), os.O_RDONLY)):
        assert measured("-") == (expected, len(FRAMES), None)


def test_errors_of_standard_input_call_it_that(tmp_path: Path):
    descriptor = os.open(written(tmp_path, b"no capture"), os.O_RDONLY)

    with as_stdin(descriptor), pytest.raises(CaptureFormatError, match="standard input: not a capture"):
        open_capture("-")


def test_a_terminal_is_no_capture():
    controlling, terminal = os.openpty()

    with as_stdin(terminal), pytest.raises(CaptureNotFound, match="standard input: a terminal"):
        open_capture("-")
    os.close(controlling)


@pytest.mark.parametrize("sent", [b"", PCAP[:3], PCAP[:10], pcap_bytes(FRAMES[:2])], ids=["0", "3", "10", "2 frames"])
def test_a_stop_ends_the_wait_for_a_pipe_without_an_error(sent: bytes):
    reading, writing = os.pipe()
    write_all(writing, sent)
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return True

    with as_stdin(reading), open_capture("-", stopped=stopped) as capture:
        frames = sum(block_of.count for block_of in capture.blocks())

    os.close(writing)
    assert frames == (2 if len(sent) > 24 else 0)
    assert asked


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_stop_ends_the_reading_of_a_file_that_holds_no_frame_for_terabytes(tmp_path: Path, suffix: str):
    path = written(tmp_path, PCAP if not suffix else gzip.compress(PCAP), name="capture" + suffix)
    os.truncate(path, 1 << 40)  # headers of frames of 0 octets, or what may stand behind a member
    frames = 0

    with open_capture(path, stopped=lambda: frames >= len(FRAMES)) as capture:
        for block_of in capture.blocks():
            frames += block_of.count

    assert frames >= len(FRAMES)
    assert capture.position_bytes < 1 << 30


def test_a_signal_reaches_who_waits_for_a_pipe_that_nobody_opens(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    script = f"""if True:
        import signal
        from flowfeatures import open_capture
        signals = []
        signal.signal(signal.SIGTERM, lambda *_: signals.append(True))
        print("ready", flush=True)
        with open_capture({str(tmp_path / "pipe")!r}, stopped=lambda: bool(signals)) as capture:
            print(capture.format, list(capture.blocks()), signals)
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)

        assert process.communicate(timeout=HANG_S)[0] == "None [] [True]\n"
    assert process.returncode == 0


def test_ctrl_c_ends_the_wait_for_a_pipe_that_nobody_opens(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    script = f"""if True:
        from flowfeatures import open_capture
        try:
            print("ready", flush=True)
            open_capture({str(tmp_path / "pipe")!r})
        except KeyboardInterrupt:
            print("interrupted")
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)

        assert process.communicate(timeout=HANG_S)[0] == "interrupted\n"


# -- in whatever pieces ---------------------------------------------------------------------------------------------


class Pieces:
    """A source that gives its content in pieces of the given sizes, round and round."""

    compression = None
    is_stopped = False
    size_bytes = 0

    def __init__(self, content: bytes, sizes: Sequence[int]) -> None:
        self.content, self.sizes, self.reads = content, sizes, 0
        self.position_bytes = 0

    def readinto(self, room: memoryview) -> int:
        piece = self.content[self.position_bytes :][: min(len(room), self.sizes[self.reads % len(self.sizes)])]
        self.reads += 1
        room[: len(piece)] = piece
        self.position_bytes += len(piece)
        return len(piece)

    def skip(self, octets: int) -> int:
        return 0

    def close(self) -> None:
        pass


def outcome_in_pieces(content: bytes, source: object, *, window_bytes: int) -> tuple[list, int, str | None]:
    """Return the records, the packets and the error of a capture whose octets come from `source`."""
    octets = Octets(source, b"", window_bytes)
    meter, chunks, error, block_of = FlowMeter(), [], None, FrameBlock(64)
    try:
        is_pcap = content[:4] == PCAP[:4]
        walk = PcapWalk(octets, "pieces", PCAP[:4]) if is_pcap else PcapngWalk(octets, "pieces")
        while walk.read_block(block_of):
            chunks += [chunk.copy() for chunk in meter.add(block_of)]
    except FlowFeaturesError as exc:
        error = type(exc).__name__
    chunks += [chunk.copy() for chunk in meter.flush()]
    return rows(chunks), meter.counters["packets"], error


SOME = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SIZES = st.lists(st.sampled_from((1, 2, 7, 16, 100, 1000, 100_000)), min_size=1, max_size=6)
MIXED = pcapng_bytes(FRAMES[:30]) + block(0x0BAD, bytes(2000)) + pcapng_bytes(FRAMES[30:60], order=">")


@SOME
@given(
    form=st.sampled_from(("pcap", "pcapng", "mixed")),
    sizes=SIZES,
    window_bytes=st.sampled_from((1, 64, 500, 5000, 1 << 19)),
    cut=st.integers(0, 3000),
    wrong=st.tuples(st.integers(24, 12_000), st.integers(0, 255)) | st.none(),
)
def test_no_way_of_cutting_a_stream_into_pieces_changes_its_frames(
    form: str, sizes: list[int], window_bytes: int, cut: int, wrong: tuple[int, int] | None
):
    content = {"pcap": PCAP[:12_000], "pcapng": PCAPNG[:12_000], "mixed": MIXED}[form]
    damaged = bytearray(content[: len(content) - cut])
    if wrong is not None:
        damaged[wrong[0] % len(damaged)] = wrong[1]
    damaged = bytes(damaged)

    whole = outcome_in_pieces(content, Pieces(damaged, [len(damaged)]), window_bytes=1 << 20)

    assert outcome_in_pieces(content, Pieces(damaged, sizes), window_bytes=window_bytes) == whole


@SOME
@given(
    packer=st.sampled_from(list(PACKERS)),
    cuts=st.lists(st.integers(0, 12_000), max_size=3),
    sizes=SIZES,
    window_bytes=st.sampled_from((1, 500, 1 << 19)),
    lost=st.integers(0, 200),
)
def test_no_way_of_cutting_a_compressed_stream_changes_its_frames(
    packer: str, cuts: list[int], sizes: list[int], window_bytes: int, lost: int
):
    content, ends = PCAP[:12_000], [0, *sorted(cuts), 12_000]
    packed = b"".join(PACKERS[packer](content[a:b]) for a, b in pairwise(ends))
    packed = packed[: len(packed) - lost]

    def outcome(pieces: Sequence[int], window: int) -> tuple:
        source = Unpacked(Pieces(packed, pieces), b"", compression=packer, name="pieces")
        return outcome_in_pieces(content, source, window_bytes=window)

    assert outcome(sizes, window_bytes) == outcome([len(packed)], 1 << 20)


# -- several files --------------------------------------------------------------------------------------------------


def test_rotated_files_plain_and_compressed_give_the_records_of_the_whole(tmp_path: Path, expected: list):
    parts = [
        pcap_bytes(FRAMES[:50]),
        pcapng_bytes(FRAMES[50:120]),
        *(pcap_bytes(FRAMES[a : a + 60]) for a in (120, 180, 240)),
    ]
    packers: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, lzma.compress, zstd, bytes]
    for number, (pack, part) in enumerate(zip(packers, parts, strict=True)):
        written(tmp_path, pack(part), f"rotated-{number}")

    assert measured(*sorted(tmp_path.iterdir())) == (expected, len(FRAMES), None)
