from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flowfeatures.moments cimport Moments, i128, u128

cdef enum:
    NO_COUNTERS = 0xFFFFFFFF


cdef struct Note:               # what the counters want to know of one packet
    int64_t ts_us
    uint32_t payload_bytes
    uint32_t wire_bytes
    uint16_t window
    uint8_t header_bytes        # of layer 4: at most 60
    uint8_t flags
    uint8_t fwd


cdef struct Bulk:               # CICFlowMeter's bulk machine of one direction, docs/FEATURES.md section 3
    int64_t start_us            # 0: none open
    int64_t last_us             # last payload packet of this direction
    uint64_t bytes
    uint32_t packets
    uint32_t bulks              # totals from here on
    uint64_t total_packets
    uint64_t total_bytes
    i128 total_us


cdef struct Direction:
    Moments iat
    u128 payload_squares
    uint64_t payload_bytes
    uint64_t header_bytes
    uint64_t wire_bytes
    int64_t last_us
    uint32_t packets
    uint32_t payload_max
    uint32_t payload_min
    uint32_t header_min
    uint32_t psh
    uint32_t urg
    uint32_t rst
    uint32_t data_packets
    uint16_t init_window
    Bulk bulk


cdef struct Counters:
    Moments iat
    Direction fwd
    Direction bwd
    int64_t start_us
    int64_t last_us
    int64_t spell_start_us
    int64_t spell_end_us
    uint32_t[8] flags           # packets with FIN, SYN, RST, PSH, ACK, URG, ECE, CWR
    uint32_t subflow_gaps
    Moments active_spells
    Moments idle_spells


cdef void account(Counters* counters, const Note* note) noexcept nogil


cdef class CounterPool:
    cdef Counters** chunks
    cdef uint32_t chunk_count
    cdef uint32_t made          # ever given out at once
    cdef uint32_t* vacant       # of these, the ones given back
    cdef uint32_t vacant_count

    cdef Counters* at(self, uint32_t index) noexcept nogil
    cdef uint32_t enter(self) noexcept nogil
    cdef void leave(self, uint32_t index) noexcept nogil
    cdef void prefetch(self, uint32_t index) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef int make_room(self) except -1
