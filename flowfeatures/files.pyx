"""Hop 1 for files: the frames of a capture, wherever its octets come from.

`streams` provides the octets (regular file, pipe, standard input, unpacked on the way), `octets` holds a window of
them, `pcap` and `pcapng` walk its frames. Whole frames before a damaged place are always delivered; the error follows.
"""

import os

from flowfeatures.errors import CaptureFormatError
from flowfeatures.frames import FrameBlock
from flowfeatures.octets import Octets
from flowfeatures.pcap import MAGIC as PCAP_MAGIC
from flowfeatures.pcap import PcapWalk
from flowfeatures.pcapng import MAGIC as PCAPNG_MAGIC
from flowfeatures.pcapng import PcapngWalk
from flowfeatures.streams import name_of, open_source


def open_capture(path, *, stopped=None):
    """Open a pcap or pcapng for `FlowMeter.read`: a file, a pipe, or `-` for standard input.

    It may be compressed with gzip, xz or zstd, which its first octets tell. A pipe is waited for. `stopped`, if given,
    is asked before every read, and several times a second while waiting; the capture ends where it says yes.

    Raises CaptureNotFound where nothing can be read, CaptureFormatError where it is no capture, UnknownLinkType where
    its link layer is not decoded.
    """
    return Capture(path, stopped=stopped)


class Capture:
    """Frames of one capture. A context manager.

    `position_bytes` of `size_bytes` tell how far reading has come, in octets as they are on disk; of a pipe the size is
    0, for nobody knows it. `format` is "pcap" or "pcapng", and None if it was stopped before that could be told;
    `compression` is "gzip", "xz", "zstd" or None.
    """

    def __init__(self, path, *, stopped=None):
        self.path = os.fsdecode(path)
        self._source, head = open_source(self.path, stopped=stopped)
        try:
            self._octets = Octets(self._source, head)
            self.format, self._walk = self._begin(head)
        except BaseException:
            self._source.close()
            raise
        self._is_open = True

    def _begin(self, head):
        name = name_of(self.path)
        if len(head) < 5:
            if self._source.is_stopped:
                return None, None
            if not head:
                raise CaptureFormatError(f"{name}: empty, wanted a pcap or pcapng capture")
            raise CaptureFormatError(f"{name}: not a capture: only {len(head)} octets long")
        if head[:4] in PCAP_MAGIC:
            return "pcap", PcapWalk(self._octets, name, head[:4])
        if head[:4] == PCAPNG_MAGIC:
            return "pcapng", PcapngWalk(self._octets, name)
        raise CaptureFormatError(
            f"{name}: not a capture: begins with {head[:4].hex(' ')}, wanted a pcap or pcapng magic number"
        )

    @property
    def compression(self):
        return self._source.compression

    @property
    def size_bytes(self):
        return self._source.size_bytes

    @property
    def position_bytes(self):
        return self._octets.taken if self.compression is None else self._source.position_bytes

    @property
    def frames_read(self):
        return self._walk.frames_read if self._walk is not None else 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the file; blocks read from it must not be used any more."""
        if self._is_open:
            self._is_open = False
            self._source.close()

    def read_block(self, block):
        """Point the block at the next frames and return how many; 0 at the end.

        They are valid until the next call, or until the capture is gone. Of a pipe, what is whole is delivered: no
        frame waits for the block to be full.

        Raises CaptureTruncated or CaptureFormatError at the damaged place, after the frames before it were delivered.
        """
        if not self._is_open:
            raise ValueError(f"{self.path}: read after close")
        return self._walk.read_block(block) if self._walk is not None else 0

    def blocks(self):
        """Yield a FrameBlock again and again; it is the same one, filled anew."""
        block = FrameBlock()
        while self.read_block(block):
            yield block
