"""A bundle's archive as a change to another one's: some kilobytes instead of hundreds where only the head is new.

    magic (4)  |  sha256 of the other bundle's manifest (32)  |  zstd frame whose dictionary is that bundle's archive

Who holds that bundle makes its archive (`contracts.rollout.pack_archive`), which is always the same octets, and has the
new archive from it. Nothing is believed: an order names the archive by its sha256. Trap: a frame says itself how much
memory it wants, so that is asked before it is given.
"""

from __future__ import annotations

from typing import Final

from contracts.errors import BundleUnreadable
from contracts.rollout import MAX_ARCHIVE_BYTES

CHANGE_MAGIC: Final = b"PSD1"
_SHA256_BYTES: Final = 32
_START: Final = len(CHANGE_MAGIC) + _SHA256_BYTES
_LEVEL: Final = 19


def pack_change(archive: bytes, *, base: bytes, base_sha256: str) -> bytes:
    """Return an archive as a change to that of the bundle whose manifest has a sha256."""
    import zstandard

    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    wide = max(len(archive) + len(base), 1 << 10).bit_length()
    settings = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=wide, enable_ldm=True)
    frame = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=settings).compress(archive)
    return CHANGE_MAGIC + bytes.fromhex(base_sha256) + frame


def is_change(raw: bytes) -> bool:
    """Return whether octets begin as a change does."""
    return raw[: len(CHANGE_MAGIC)] == CHANGE_MAGIC


def base_of(change: bytes) -> str:
    """Return the sha256 of the manifest that a change begins from. Raises BundleUnreadable."""
    if not is_change(change) or len(change) < _START:
        raise BundleUnreadable("archive: not a change to a bundle")
    return change[len(CHANGE_MAGIC) : _START].hex()


def changed(change: bytes, *, base: bytes) -> bytes:
    """Return the archive that a change makes of its base's. Raises BundleUnreadable."""
    import zstandard

    base_of(change)
    try:
        wanted = zstandard.get_frame_parameters(change[_START:])
        if not 0 < wanted.content_size <= MAX_ARCHIVE_BYTES or wanted.window_size > 4 * MAX_ARCHIVE_BYTES:
            raise BundleUnreadable(
                f"archive: a change that makes {wanted.content_size} bytes, wanted at most {MAX_ARCHIVE_BYTES}"
            )
        dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(change[_START:])
    except zstandard.ZstdError as exc:
        raise BundleUnreadable(f"archive: a change that does not hold together: {exc}") from exc
