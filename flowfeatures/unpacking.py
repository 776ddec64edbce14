"""Decompression a piece at a time: gzip, xz and zstd behind one face.

A decoder takes compressed octets and gives at most as many as it is asked for; it ends with its member, stream or
frame. Libraries are imported when a file wants them. The trap: zstandard's incremental decoder has no bound on what
one call may give (64 KiB can unpack to 2 GiB), so it is fed block by block, and no block holds more than 128 KiB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flowfeatures.errors import CaptureFormatError

if TYPE_CHECKING:
    import lzma
    import zlib

# A dictionary or window beyond this is refused: it is memory that whoever made the file asks of us. `xz -9` wants
# 65 MiB, `zstd --long` 128 MiB.
MAX_WINDOW_BYTES = 1 << 27
XZ_OVERHEAD_BYTES = 1 << 20  # what liblzma counts beside the dictionary

MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
REFUSED = {b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}


class Decoder(Protocol):
    """One member, stream or frame after the other."""

    errors: tuple[type[Exception], ...]
    """What `take` raises where the octets are damaged."""
    is_done: bool
    rest: bytes
    """When done: what was fed beyond the end."""

    def begin(self) -> None:
        """Start on a member."""
        ...

    def feed(self, octets: bytes) -> None:
        """Hand over compressed octets."""
        ...

    def take(self, most: int) -> bytes:
        """Return up to `most` unpacked octets; none if it is done, or waits for more input."""
        ...


def compression_of(head: bytes, *, name: str) -> str | None:
    """Return how a file with this beginning is compressed, if it is. Raises CaptureFormatError if we cannot undo it."""
    for magic, compression in MAGIC.items():
        if head.startswith(magic):
            return compression
    if is_skippable(head):
        return "zstd"
    for magic, compression in REFUSED.items():
        if head.startswith(magic):
            raise CaptureFormatError(
                f"{name}: compressed with {compression}, wanted a capture, plain or compressed with gzip, xz or zstd"
            )
    return None


def is_skippable(head: bytes) -> bool:
    """Return whether a zstd frame without content begins here: 50..5f 2a 4d 18."""
    return head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5


def open_decoder(compression: str, *, name: str) -> Decoder:
    """Return a decoder of gzip, xz or zstd. Raises CaptureFormatError where the library for it is missing."""
    try:
        return DECODERS[compression]()
    except ImportError as exc:
        raise CaptureFormatError(
            f"{name}: compressed with {compression}, and the Python module {exc.name} is not installed"
        ) from exc


class GzipDecoder:
    """Gzip members."""

    def __init__(self) -> None:
        import zlib

        self.errors: tuple[type[Exception], ...] = (zlib.error,)
        # 16: with the header and checksum of gzip.
        self._open: Callable[[], zlib._Decompress] = lambda: zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.begin()

    def begin(self) -> None:
        """Start on a member."""
        self.is_done, self.rest, self._input = False, b"", b""
        self._inflate = self._open()

    def feed(self, octets: bytes) -> None:
        """Hand over compressed octets."""
        self._input += octets

    def take(self, most: int) -> bytes:
        """Return up to `most` unpacked octets."""
        if self.is_done:
            return b""
        # Even without input: what one call had no room for may all be inside.
        octets = self._inflate.decompress(self._input, most)
        self._input = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self.is_done, self.rest = True, self._inflate.unused_data
        return octets


class XzDecoder:
    """Xz streams."""

    def __init__(self) -> None:
        import lzma

        limit = MAX_WINDOW_BYTES + XZ_OVERHEAD_BYTES
        self.errors: tuple[type[Exception], ...] = (lzma.LZMAError,)
        self._open: Callable[[], lzma.LZMADecompressor] = lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limit)
        self.begin()

    def begin(self) -> None:
        """Start on a stream."""
        self.is_done, self.rest, self._input = False, b"", b""
        self._stream = self._open()

    def feed(self, octets: bytes) -> None:
        """Hand over compressed octets."""
        self._input += octets

    def take(self, most: int) -> bytes:
        """Return up to `most` unpacked octets."""
        if self.is_done or (self._stream.needs_input and not self._input):
            return b""
        octets, self._input = self._stream.decompress(self._input, most), b""
        if self._stream.eof:
            self.is_done, self.rest = True, self._stream.unused_data
        return octets


class ZstdDecoder:
    """Zstd frames (RFC 8878), skippable ones too, walked block by block.

    `_part` says what stands next in the input, `_wanted` how many octets of it must be there before it is handled.
    """

    def __init__(self) -> None:
        import zstandard

        self.errors: tuple[type[Exception], ...] = (zstandard.ZstdError,)
        self._error = zstandard.ZstdError
        self._library = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)  # dear to make: once a file
        self.begin()

    def begin(self) -> None:
        """Start on a frame."""
        self.is_done, self.rest, self._ready = False, b"", b""
        self._input = bytearray()
        self._part, self._wanted = self._magic, 8
        self._frame = self._library.decompressobj()

    def feed(self, octets: bytes) -> None:
        """Hand over compressed octets."""
        self._input += octets

    def take(self, most: int) -> bytes:
        """Return up to `most` unpacked octets."""
        while not self._ready and not self.is_done and len(self._input) >= self._wanted:
            self._part()
        octets, self._ready = self._ready[:most], self._ready[most:]
        return octets

    def _magic(self) -> None:
        magic = bytes(self._input[:4])
        if is_skippable(magic):
            self._skip_bytes = 8 + int.from_bytes(self._input[4:8], "little")
            self._part, self._wanted = self._skipped, 0
            return
        if MAGIC.get(magic) != "zstd":
            raise self._error(f"begins with {magic.hex(' ')}, wanted a frame")
        descriptor = self._input[4]
        is_single = descriptor >> 5 & 1
        size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
        self._has_checksum = bool(descriptor & 4)
        self._part, self._wanted = self._header, 5 + (1 - is_single) + (0, 1, 2, 4)[descriptor & 3] + size_bytes

    def _skipped(self) -> None:
        passed = min(self._skip_bytes, len(self._input))
        del self._input[:passed]
        self._skip_bytes -= passed
        self._wanted = 1
        if self._skip_bytes == 0:
            self._end()

    def _header(self) -> None:
        self._unpack()
        self._part, self._wanted = self._block_header, 3

    def _block_header(self) -> None:
        header = int.from_bytes(self._input[:3], "little")
        self._is_last = bool(header & 1)
        is_repeated = header >> 1 & 3 == 1  # one octet, so many times
        size_bytes = 1 if is_repeated else header >> 3
        if size_bytes > 1 << 17:
            raise self._error(f"block of {size_bytes} octets, wanted at most {1 << 17}")
        self._part, self._wanted = self._block, 3 + size_bytes

    def _block(self) -> None:
        self._unpack()
        if not self._is_last:
            self._part, self._wanted = self._block_header, 3
        elif self._has_checksum:
            self._part, self._wanted = self._checksum, 4
        else:
            self._end()

    def _checksum(self) -> None:
        self._unpack()
        self._end()

    def _unpack(self) -> None:
        self._ready = self._frame.decompress(bytes(self._input[: self._wanted]))
        del self._input[: self._wanted]

    def _end(self) -> None:
        self.is_done, self.rest = True, bytes(self._input)


DECODERS: dict[str, Callable[[], Decoder]] = {"gzip": GzipDecoder, "xz": XzDecoder, "zstd": ZstdDecoder}
