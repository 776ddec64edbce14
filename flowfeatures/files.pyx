"""Hop 1 for files: frames of a pcap or pcapng, straight from the mapped file.

Both byte orders, micro- and nanosecond pcap, every pcapng time resolution. Whole frames before a damaged place are always
delivered; the error follows them.
"""

import mmap
import os
import stat

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from posix.unistd cimport close as close_descriptor

from flowfeatures.errors import CaptureFormatError, CaptureNotFound, CaptureTruncated, UnknownLinkType
from flowfeatures.frames cimport Frame, FrameBlock
from flowfeatures.packet import LINK_TYPES

cdef enum:
    SECTION_HEADER = 0x0A0D0D0A
    INTERFACE = 1
    OBSOLETE_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    MAX_FRAME_BYTES = 1 << 20       # no link layer we decode goes beyond a quarter of it
    UNKNOWN_LINK = 0xFFFFFFFF

cdef int64_t LAST_US = 253_402_300_799_999_999   # the end of year 9999, beyond which no calendar prints

cdef extern from *:
    """
    #include <stdint.h>
    /* Time stamp in units of 10^-n or 2^-n seconds -> microseconds, floored, cut to [0, last] once the offset is in:
       a stamp beyond the end may come back. 84 bits and 83 bits, so that nothing overflows. */
    static inline int64_t penstock_to_us(uint64_t stamp, uint8_t resolution, int64_t offset_s, int64_t last) {
        unsigned __int128 us = stamp;
        int i, n = resolution & 0x7F;
        if (resolution & 0x80) {
            us = n < 84 ? (us * 1000000u) >> n : 0;
        } else if (n <= 6) {
            for (i = n; i < 6; i++) us *= 10;
        } else {
            for (i = 6; i < n && us; i++) us /= 10;
        }
        __int128 shifted = (__int128) us + (__int128) offset_s * 1000000;
        return shifted < 0 ? 0 : shifted > last ? last : (int64_t) shifted;
    }
    """
    int64_t to_us "penstock_to_us" (uint64_t stamp, uint8_t resolution, int64_t offset_s, int64_t last) noexcept nogil


cdef struct Interface:
    uint32_t link_type
    uint32_t snap_bytes
    int64_t offset_s
    uint8_t resolution


PCAP_MAGIC = {       # octets as they stand in the file: (big endian, decimal digits of the fraction)
    b"\xa1\xb2\xc3\xd4": (True, 6), b"\xd4\xc3\xb2\xa1": (False, 6),
    b"\xa1\xb2\x3c\x4d": (True, 9), b"\x4d\x3c\xb2\xa1": (False, 9),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}


def open_capture(path):
    """Open a pcap or pcapng file for `FlowMeter.read`.

    Raises CaptureNotFound where there is no such file, CaptureFormatError where it is no capture, UnknownLinkType where
    its link layer is not decoded.
    """
    return Capture(path)


cdef class Capture:
    """Frames of one capture file. A context manager; `position_bytes` of `size_bytes` tell how far reading has come."""

    cdef readonly object path
    cdef readonly str format
    cdef readonly uint64_t size_bytes
    cdef readonly uint64_t position_bytes
    cdef readonly uint64_t frames_read
    cdef object mapped
    cdef int descriptor
    cdef const uint8_t[::1] view
    cdef const uint8_t* octets
    cdef bint big_endian
    cdef Interface* interfaces
    cdef uint32_t interface_count
    cdef uint32_t known_links, unknown_link
    cdef uint64_t interfaces_seen
    cdef int64_t last_us

    def __cinit__(self, path):
        self.descriptor = -1
        self.path = os.fspath(path)
        self.mapped = self.map_file()
        self.view = self.mapped
        self.octets = &self.view[0]
        head = bytes(self.view[:5])
        if head[:4] in PCAP_MAGIC:
            self.format = "pcap"
            self.read_pcap_header(*PCAP_MAGIC[head[:4]])
        elif head[:4] == PCAPNG_MAGIC:
            self.format = "pcapng"
            if self.size_bytes < 28:
                raise CaptureTruncated(f"{self.path}: ends inside its first header, after {self.size_bytes} octets")
        else:
            for magic, name in COMPRESSED.items():
                if head.startswith(magic):
                    raise CaptureFormatError(f"{self.path}: compressed with {name}, wanted a plain pcap or pcapng file")
            raise CaptureFormatError(
                f"{self.path}: not a capture: begins with {head[:4].hex(' ')}, wanted a pcap or pcapng magic number"
            )

    def __dealloc__(self):
        free(self.interfaces)
        if self.descriptor >= 0:
            close_descriptor(self.descriptor)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Unmap the file; blocks read from it must not be used any more."""
        self.view = None
        self.octets = NULL
        if self.mapped is not None:
            self.mapped.close()
            self.mapped = None

    def map_file(self):
        try:
            # O_NONBLOCK: a named pipe without a writer would hold open() for ever.
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            status = os.fstat(self.descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CaptureNotFound(f"{self.path}: not a regular file")
            if status.st_size == 0:
                raise CaptureFormatError(f"{self.path}: empty, wanted a pcap or pcapng file")
            if status.st_size < 5:
                raise CaptureFormatError(f"{self.path}: not a capture: only {status.st_size} octets long")
            self.size_bytes = status.st_size
            return mmap.mmap(self.descriptor, self.size_bytes, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise CaptureNotFound(f"{self.path}: cannot be read: {reason}") from exc

    def read_block(self, FrameBlock block not None):
        """Point the block at the next frames and return how many; 0 at the end of the file.

        Raises CaptureTruncated or CaptureFormatError at the damaged place, after the frames before it were delivered.
        """
        if self.octets == NULL:
            raise ValueError(f"{self.path}: read after close")
        # Touching a page that is no longer there is SIGBUS, not an exception. Asked before each block: what remains is
        # a file that is cut within the millisecond a block takes.
        if os.fstat(self.descriptor).st_size < self.size_bytes:
            raise self.broken(f"the file shrank below its {self.size_bytes} octets while it was read", CaptureTruncated)
        block.first_number = self.frames_read + 1
        block.count = 0
        if self.format == "pcap":
            self.read_pcap(block)
        else:
            self.read_pcapng(block)
        self.frames_read += block.count
        return block.count

    def blocks(self):
        """Yield a FrameBlock again and again; it is the same one, filled anew."""
        block = FrameBlock()
        while self.read_block(block):
            yield block

    # -- octets -------------------------------------------------------------------------------------------------

    cdef uint32_t u32(self, uint64_t at) noexcept:
        cdef uint32_t value
        memcpy(&value, self.octets + at, 4)
        return swap32(value) if self.big_endian else value

    cdef uint16_t u16(self, uint64_t at) noexcept:
        cdef uint16_t value
        memcpy(&value, self.octets + at, 2)
        return <uint16_t> (value << 8 | value >> 8) if self.big_endian else value

    cdef uint64_t left(self) noexcept:
        return self.size_bytes - self.position_bytes

    def broken(self, what, kind = CaptureFormatError):
        return kind(f"{self.path}: frame {self.frames_read + 1}, octet {self.position_bytes}: {what}")

    def truncated(self, wanted):
        return self.broken(f"the file ends here: {self.left()} octets left, {wanted} wanted", CaptureTruncated)

    # -- pcap ---------------------------------------------------------------------------------------------------

    def read_pcap_header(self, bint big_endian, int digits):
        self.big_endian = big_endian
        if self.size_bytes < 24:
            raise CaptureTruncated(f"{self.path}: ends inside its header, after {self.size_bytes} of 24 octets")
        # The upper bits tell of a frame check sequence, not of the link type.
        self.add_interface(self.u32(20) & 0xFFFF, 0, digits, 0)
        if not self.known_links:
            raise self.unknown()
        self.position_bytes = 24

    cdef int read_pcap(self, FrameBlock block) except -1:
        cdef uint32_t captured
        cdef Interface* interface = &self.interfaces[0]
        cdef uint64_t units = 1_000_000_000 if interface.resolution == 9 else 1_000_000
        while block.count < block.capacity and self.left():
            if self.left() < 16:
                return self.stop(block, self.truncated(16))
            captured = self.u32(self.position_bytes + 8)
            if captured > MAX_FRAME_BYTES:
                return self.stop(
                    block, self.broken(f"captured length {captured}, wanted at most {<int> MAX_FRAME_BYTES}")
                )
            if self.left() - 16 < captured:
                return self.stop(block, self.truncated(16 + captured))
            self.put(
                block, interface, self.position_bytes + 16, captured, self.u32(self.position_bytes + 12),
                self.u32(self.position_bytes) * units + self.u32(self.position_bytes + 4),
            )
            self.position_bytes += 16 + captured
        return 0

    # -- pcapng -------------------------------------------------------------------------------------------------

    cdef int read_pcapng(self, FrameBlock block) except -1:
        cdef uint64_t at
        cdef uint32_t kind, length
        while block.count < block.capacity and self.left():
            at = self.position_bytes
            if self.left() < 12:
                return self.stop(block, self.truncated(12))
            kind = self.u32(at)
            if kind == SECTION_HEADER:
                if bytes(self.view[at + 8 : at + 12]) == b"\x1a\x2b\x3c\x4d":
                    self.big_endian = True
                elif bytes(self.view[at + 8 : at + 12]) == b"\x4d\x3c\x2b\x1a":
                    self.big_endian = False
                else:
                    return self.stop(block, self.broken("section header without a byte-order magic"))
                self.interface_count = 0
            length = self.u32(at + 4)
            if length < 12 or length % 4:
                return self.stop(block, self.broken(f"block length {length}, wanted a multiple of 4 from 12 up"))
            if self.left() < length:
                return self.stop(block, self.truncated(length))
            problem = self.take(block, kind, at + 8, length - 12)
            if problem is not None:
                return self.stop(block, self.broken(problem))
            self.position_bytes = at + length
        if not self.left() and self.interfaces_seen and not self.known_links and not block.count:
            raise self.unknown()
        return 0

    cdef object take(self, FrameBlock block, uint32_t kind, uint64_t at, uint32_t length):
        """Handle one block's body of `length` octets; return what is wrong with it, or None."""
        cdef uint32_t number, captured
        cdef Interface* interface
        cdef Interface nowhere
        cdef uint64_t stamp
        if kind == INTERFACE:
            if length < 8:
                return f"interface block of {length} octets, wanted 8"
            return self.take_interface(at, length)
        if kind == SIMPLE_PACKET:
            if length < 4 or not self.interface_count:
                return "simple packet without an interface or a length"
            interface = &self.interfaces[0]
            captured = min(self.u32(at), length - 4)
            if interface.snap_bytes:
                captured = min(captured, interface.snap_bytes)
            self.put_at(block, interface, at + 4, captured, self.u32(at), self.last_us)
            return None
        if kind == ENHANCED_PACKET or kind == OBSOLETE_PACKET:
            if length < 20:
                return f"packet block of {length} octets, wanted 20"
            number = self.u32(at) if kind == ENHANCED_PACKET else self.u16(at)
            captured = self.u32(at + 12)
            if captured > length - 20:
                return f"captured length {captured} in a block with {length - 20} octets of data"
            if number < self.interface_count:
                interface = &self.interfaces[number]
            else:
                nowhere.link_type, nowhere.resolution, nowhere.offset_s = UNKNOWN_LINK, 6, 0
                interface = &nowhere
            stamp = <uint64_t> self.u32(at + 4) << 32 | self.u32(at + 8)
            self.put(block, interface, at + 20, captured, self.u32(at + 16), stamp)
        return None

    cdef object take_interface(self, uint64_t at, uint32_t length):
        """Enter an interface description: link type, snap length, if_tsresol (9), if_tsoffset (14)."""
        cdef uint64_t option = at + 8, end = at + length
        cdef uint16_t code, octets
        cdef uint8_t resolution = 6
        cdef uint64_t offset = 0
        while option + 4 <= end:
            code, octets = self.u16(option), self.u16(option + 2)
            if code == 0:
                break
            if option + 4 + octets > end:
                return f"interface option {code} of {octets} octets reaches beyond its block"
            if code == 9 and octets >= 1:
                resolution = self.octets[option + 4]
            elif code == 14 and octets == 8:
                if self.big_endian:
                    offset = <uint64_t> self.u32(option + 4) << 32 | self.u32(option + 8)
                else:
                    offset = <uint64_t> self.u32(option + 8) << 32 | self.u32(option + 4)
            option += 4 + ((octets + 3) & ~3)
        self.add_interface(self.u16(at), self.u32(at + 4), resolution, <int64_t> offset)
        return None

    # -- both ---------------------------------------------------------------------------------------------------

    def add_interface(self, uint32_t link_type, uint32_t snap_bytes, uint8_t resolution, int64_t offset_s):
        cdef Interface* grown
        cdef uint32_t count = self.interface_count
        if count & (count + 1) == 0:    # full at 2^k - 1
            grown = <Interface*> realloc(self.interfaces, 2 * (count + 1) * sizeof(Interface))
            if grown == NULL:
                raise MemoryError("interfaces")
            self.interfaces = grown
        self.interfaces[count].link_type = link_type
        self.interfaces[count].snap_bytes = snap_bytes
        self.interfaces[count].resolution = resolution
        self.interfaces[count].offset_s = offset_s
        self.interface_count += 1
        self.interfaces_seen += 1
        if link_type in LINK_TYPES:
            self.known_links += 1
        else:
            self.unknown_link = link_type

    def unknown(self):
        known = ", ".join(f"{number} {name}" for number, name in sorted(LINK_TYPES.items()))
        return UnknownLinkType(f"{self.path}: link type {self.unknown_link} is not decoded, wanted one of {known}")

    cdef int stop(self, FrameBlock block, problem) except -1:
        """Raise the problem now, or next time where frames before it stand in the block."""
        if block.count:
            return 0
        raise problem

    cdef void put(
        self, FrameBlock block, Interface* interface, uint64_t at, uint32_t captured, uint32_t wire, uint64_t stamp
    ) noexcept:
        self.put_at(
            block, interface, at, captured, wire, to_us(stamp, interface.resolution, interface.offset_s, LAST_US)
        )

    cdef void put_at(
        self, FrameBlock block, Interface* interface, uint64_t at, uint32_t captured, uint32_t wire, int64_t ts_us
    ) noexcept:
        cdef Frame* frame = &block.frames[block.count]
        frame.octets = self.octets + at
        frame.captured = captured
        frame.wire = wire if wire > captured else captured
        frame.link_type = interface.link_type
        frame.vlan_tpid = 0
        frame.ts_us = ts_us
        self.last_us = ts_us
        block.count += 1


cdef inline uint32_t swap32(uint32_t x) noexcept:
    return x >> 24 | (x >> 8 & 0xFF00) | (x << 8 & 0xFF0000) | x << 24
