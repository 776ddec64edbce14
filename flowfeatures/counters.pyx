"""Hop 3, the sums: what a packet adds to its flow's counters, and the memory they stand in.

`account` is the only place that adds up; what the sums mean is `vector.pyx`'s business. A flow gets counters with its
fourth packet: until then its packets stand as notes in the flow itself, and are counted when a record is wanted.
"""

from libc.stdlib cimport free
from libc.string cimport memset

from flowfeatures.memory cimport enlarge
from flowfeatures.moments cimport moments_add, u128
from flowfeatures.prefetch cimport prefetch

cdef enum:
    SUBFLOW_GAP_US = 1_000_000
    ACTIVITY_GAP_US = 5_000_000
    BULK_GAP_US = 1_000_000
    BULK_PACKETS = 4

cdef enum:
    CHUNK_BITS = 7              # counters are allocated 128 at a time and never move
    CHUNK = 1 << CHUNK_BITS


cdef void account(Counters* counters, const Note* note) noexcept nogil:
    """Add one packet. The first one after zeroed counters starts them."""
    cdef Direction* own = &counters.fwd if note.fwd else &counters.bwd
    cdef Direction* other = &counters.bwd if note.fwd else &counters.fwd
    cdef uint8_t flags = note.flags
    if counters.fwd.packets + counters.bwd.packets == 0:
        counters.start_us = counters.spell_start_us = counters.spell_end_us = note.ts_us
    else:
        add_gaps(counters, note.ts_us)
    counters.last_us = note.ts_us
    add_to_direction(own, note)
    add_to_bulk(&own.bulk, &other.bulk, note)
    counters.flags[0] += flags & 1
    counters.flags[1] += (flags >> 1) & 1
    counters.flags[2] += (flags >> 2) & 1
    counters.flags[3] += (flags >> 3) & 1
    counters.flags[4] += (flags >> 4) & 1
    counters.flags[5] += (flags >> 5) & 1
    counters.flags[6] += (flags >> 6) & 1
    counters.flags[7] += flags >> 7


cdef inline void add_gaps(Counters* counters, int64_t ts) noexcept nogil:
    """Inter-arrival time of the whole flow, subflow gaps, active and idle spells."""
    cdef int64_t gap = ts - counters.last_us
    moments_add(&counters.iat, gap)
    if gap > SUBFLOW_GAP_US:
        counters.subflow_gaps += 1
    if ts - counters.spell_end_us > ACTIVITY_GAP_US:
        if counters.spell_end_us - counters.spell_start_us > 0:
            moments_add(&counters.active_spells, counters.spell_end_us - counters.spell_start_us)
        moments_add(&counters.idle_spells, ts - counters.spell_end_us)
        counters.spell_start_us = ts
    counters.spell_end_us = ts


cdef inline void add_to_direction(Direction* own, const Note* note) noexcept nogil:
    cdef uint32_t payload = note.payload_bytes
    if own.packets == 0:
        own.payload_max = own.payload_min = payload
        own.header_min = note.header_bytes
        own.init_window = note.window
    else:
        moments_add(&own.iat, note.ts_us - own.last_us)
        if payload > own.payload_max:
            own.payload_max = payload
        elif payload < own.payload_min:
            own.payload_min = payload
        if note.header_bytes < own.header_min:
            own.header_min = note.header_bytes
    own.packets += 1
    own.last_us = note.ts_us
    own.payload_bytes += payload
    own.payload_squares += <u128> payload * payload
    own.header_bytes += note.header_bytes
    own.wire_bytes += note.wire_bytes
    own.data_packets += payload > 0
    own.rst += (note.flags >> 2) & 1
    own.psh += (note.flags >> 3) & 1
    own.urg += (note.flags >> 5) & 1


cdef inline void add_to_bulk(Bulk* own, const Bulk* other, const Note* note) noexcept nogil:
    cdef int64_t ts = note.ts_us
    if other.last_us > own.start_us:
        own.start_us = 0
    if note.payload_bytes == 0:
        return
    if own.start_us == 0 or ts - own.last_us > BULK_GAP_US:
        own.start_us = ts
        own.packets = 1
        own.bytes = note.payload_bytes
    else:
        own.packets += 1
        own.bytes += note.payload_bytes
        if own.packets == BULK_PACKETS:
            own.bulks += 1
            own.total_packets += BULK_PACKETS
            own.total_bytes += own.bytes
            own.total_us += ts - own.start_us
        elif own.packets > BULK_PACKETS:
            own.total_packets += 1
            own.total_bytes += note.payload_bytes
            own.total_us += ts - own.last_us
    own.last_us = ts


cdef class CounterPool:
    """Counters by index. `make_room` allocates, between packets; `enter` and `leave` never do."""

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)
        free(self.vacant)

    cdef Counters* at(self, uint32_t index) noexcept nogil:
        return &self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]

    cdef uint32_t enter(self) noexcept nogil:
        """Give out zeroed counters and return their index; `has_room` was asked before."""
        cdef uint32_t index
        if self.vacant_count:
            self.vacant_count -= 1
            index = self.vacant[self.vacant_count]
        else:
            index = self.made
            self.made += 1
        memset(self.at(index), 0, sizeof(Counters))
        return index

    cdef void leave(self, uint32_t index) noexcept nogil:
        """Take the counters back."""
        self.vacant[self.vacant_count] = index
        self.vacant_count += 1

    cdef void prefetch(self, uint32_t index) noexcept nogil:
        """Ask for the counters, if there are any."""
        cdef const char* first
        cdef int line
        if index != NO_COUNTERS:
            first = <const char*> self.at(index)
            for line in range(<int> sizeof(Counters) // 64):
                prefetch(first + 64 * line)

    cdef bint has_room(self) noexcept nogil:
        """Return whether one more needs no allocation."""
        return self.vacant_count > 0 or self.made < self.chunk_count * CHUNK

    cdef int make_room(self) except -1:
        """Allocate a chunk where nothing is vacant."""
        cdef size_t chunks
        if self.has_room():
            return 0
        chunks = <size_t> self.chunk_count + 1
        self.chunks = <Counters**> enlarge(self.chunks, chunks * sizeof(Counters*), "flow counters")
        self.vacant = <uint32_t*> enlarge(self.vacant, chunks * CHUNK * sizeof(uint32_t), "flow counters")
        self.chunks[self.chunk_count] = <Counters*> enlarge(NULL, CHUNK * sizeof(Counters), "flow counters")
        self.chunk_count += 1
        return 0
