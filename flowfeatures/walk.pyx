"""What pcap and pcapng share: a walk over octets that points a block at whole frames, and says where it had to stop.

A walk never waits for more while its block holds a frame, so a pipe's frames are seen as they come, and moves no octet
that a frame of the block points to. What is wrong is raised once the frames before it were delivered.
"""

from libc.stdlib cimport free, realloc

from flowfeatures.errors import CaptureFormatError, CaptureTruncated, UnknownLinkType
from flowfeatures.frames cimport LAST_US, Frame
from flowfeatures.packet import LINK_TYPES

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


cdef class Walk:
    """Frames of `octets`; `name` is what messages call the capture."""

    def __cinit__(self, Octets octets not None, str name not None, *_):
        self.octets = octets
        self.name = name

    def __dealloc__(self):
        free(self.interfaces)

    def read_block(self, FrameBlock block not None):
        """Point the block at the next frames and return how many; 0 at the end."""
        block.first_number = self.frames_read + 1
        block.count = 0
        self.fill(block)
        self.frames_read += block.count
        return block.count

    cdef int fill(self, FrameBlock block) except -1:
        raise NotImplementedError

    # -- octets -------------------------------------------------------------------------------------------------

    cdef bint has(self, FrameBlock block, size_t count) except -1:
        """Return whether `count` octets are at hand; if not, the block is to be delivered first, or all is read.

        Raises CaptureTruncated where some, but not all of them are left.
        """
        if self.octets.at_hand >= count:
            return True
        if block.count:
            return False    # its frames point into the octets: these may move only when they were taken
        if self.octets.fetch(count):
            return True
        if not self.octets.at_hand or self.octets.source.is_stopped:
            return False
        raise self.broken(f"the file ends here: {self.octets.at_hand} octets left, {count} wanted", CaptureTruncated)

    def broken(self, what, kind = CaptureFormatError):
        return kind(f"{self.name}: frame {self.frames_read + 1}, {self.place()}: {what}")

    def place(self):
        packed = self.octets.source.compression
        return f"octet {self.octets.taken}" + (f" of what {packed} unpacked" if packed else "")

    cdef int stop(self, FrameBlock block, problem) except -1:
        """Raise the problem now, or next time where frames before it stand in the block."""
        if block.count:
            return 0
        raise problem

    # -- interfaces and frames ----------------------------------------------------------------------------------

    cdef int add_interface(
        self, uint32_t link_type, uint32_t snap_bytes, uint8_t resolution, int64_t offset_s
    ) except -1:
        cdef Interface* grown
        cdef uint32_t count = self.interface_count
        if count & (count + 1) == 0:    # full at 2^k - 1
            grown = <Interface*> realloc(self.interfaces, 2 * (<size_t> count + 1) * sizeof(Interface))
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
        return 0

    def unknown(self):
        known = ", ".join(f"{number} {name}" for number, name in sorted(LINK_TYPES.items()))
        return UnknownLinkType(f"{self.name}: link type {self.unknown_link} is not decoded, wanted one of {known}")

    cdef void put(
        self, FrameBlock block, Interface* interface, size_t after, uint32_t captured, uint32_t wire, int64_t ts_us
    ) noexcept:
        """Point the block's next frame at the octets `after` the walk's place."""
        cdef Frame* frame = &block.frames[block.count]
        frame.octets = self.octets.at + after
        frame.captured = captured
        frame.wire = wire if wire > captured else captured
        frame.link_type = interface.link_type
        frame.vlan_tpid = 0
        frame.ts_us = ts_us
        self.last_us = ts_us
        block.count += 1


cdef int64_t time_us(Interface* interface, uint64_t stamp) noexcept:
    """Return a time stamp of the interface's clock in microseconds since the epoch."""
    return to_us(stamp, interface.resolution, interface.offset_s, LAST_US)
