"""Frames in memory of exactly their size, so that reading one octet beyond is seen by AddressSanitizer.

Also the mistakes on purpose by which a run shows that its sanitizers are awake.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from flowfeatures.frames cimport Frame, FrameBlock


cdef class Feeder:
    """A block of frames that owns their octets until `clear`."""

    cdef readonly FrameBlock block

    def __cinit__(self, int capacity):
        self.block = FrameBlock(capacity)

    def __dealloc__(self):
        self.clear()

    def clear(self):
        """Forget all frames."""
        cdef int i
        for i in range(self.block.count):
            free(<void*> self.block.frames[i].octets)
        self.block.count = 0

    def put(
        self, const uint8_t[:] octets, int64_t ts_us, uint32_t wire_bytes, uint32_t link_type, uint16_t tpid, uint16_t tci
    ):
        """Append a frame; a wire length below what was captured is raised to it, as every reader does."""
        cdef Frame* frame = &self.block.frames[self.block.count]
        cdef uint8_t* copy = <uint8_t*> malloc(octets.shape[0])
        cdef uint32_t captured = octets.shape[0]
        cdef uint32_t i
        if self.block.count == self.block.capacity or copy == NULL:
            free(copy)
            raise MemoryError("no room for a frame")
        for i in range(captured):
            copy[i] = octets[i]
        frame.octets = copy
        frame.captured = captured
        frame.wire = wire_bytes if wire_bytes > captured else captured
        frame.ts_us = ts_us
        frame.link_type = link_type
        frame.vlan_tpid = tpid
        frame.vlan_tci = tci
        self.block.count += 1


def places(FrameBlock block, const uint8_t[::1] memory):
    """Return where each frame of the block begins and ends in the memory it points into."""
    cdef int i
    found = []
    for i in range(block.count):
        start = block.frames[i].octets - &memory[0]
        found.append((start, start + block.frames[i].captured))
    return found


def read_beyond(bytes octets):
    """Read one octet behind a copy of them."""
    cdef uint8_t* copy = <uint8_t*> malloc(len(octets))
    cdef uint8_t beyond
    memcpy(copy, <const char*> octets, len(octets))
    beyond = copy[len(octets)]
    free(copy)
    return beyond


def overflow(bytes octets):
    """Add to the largest signed number."""
    cdef int32_t sum = 0x7FFFFFFF - <int32_t> len(octets) + <int32_t> len(octets)
    return sum + <int32_t> (len(octets) + 1)


def raise_error(bytes octets):
    """Raise what nobody may raise."""
    raise IndexError(f"{len(octets)} octets")
