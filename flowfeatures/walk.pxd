from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from flowfeatures.frames cimport FrameBlock
from flowfeatures.octets cimport Octets


cdef struct Interface:
    uint32_t link_type
    uint32_t snap_bytes
    int64_t offset_s
    uint8_t resolution


cdef class Walk:
    cdef Octets octets
    cdef str name
    cdef readonly uint64_t frames_read
    cdef Interface* interfaces
    cdef uint32_t interface_count
    cdef uint32_t known_links, unknown_link
    cdef uint64_t interfaces_seen
    cdef int64_t last_us

    cdef int fill(self, FrameBlock block) except -1
    cdef bint has(self, FrameBlock block, size_t count) except -1
    cdef int stop(self, FrameBlock block, problem) except -1
    cdef int add_interface(self, uint32_t link_type, uint32_t snap_bytes, uint8_t resolution, int64_t offset_s) except -1
    cdef void put(
        self, FrameBlock block, Interface* interface, size_t after, uint32_t captured, uint32_t wire, int64_t ts_us
    ) noexcept


cdef int64_t time_us(Interface* interface, uint64_t stamp) noexcept
