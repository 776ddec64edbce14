from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flowfeatures.flow cimport Meta, Record
from flowfeatures.packet cimport TCP, UDP

cdef enum:
    PLACES = 2048               # slots that the three sets of a count share


cdef struct Event:              # one record, as the counts need it
    int64_t left_us
    uint64_t flow_id
    uint64_t peer
    uint32_t port               # responder's; above 65,535: none
    uint8_t half_open
    uint8_t failed


cdef struct Recent:             # a ring
    Event* events
    int count
    int room
    int head                    # where the next event goes


cdef class DistinctCounter:
    cdef uint64_t[PLACES] keys
    cdef uint32_t[PLACES] stamps
    cdef uint32_t stamp

    cdef void count(self, const Recent* recent, int64_t since_us, float* counts) noexcept nogil
    cdef bint is_first(self, uint64_t key, uint32_t stamp) noexcept nogil


cdef int remember(Recent* recent, const Record* record, const uint8_t* peer) except -1
cdef int join_recent(Recent* into, const Recent* earlier) except -1
cdef void forget(Recent* recent) noexcept


cdef inline bint has_ports(const Meta* meta) noexcept nogil:
    """TCP, UDP; later fragments, whose ports are unknown, have 0."""
    return meta.proto == TCP or meta.proto == UDP


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """Spread 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9ULL
    x = (x ^ (x >> 27)) * <uint64_t> 0x94D049BB133111EBULL
    return x ^ (x >> 31)


cdef inline uint64_t hash_of(const uint8_t* address) noexcept nogil:
    cdef uint64_t[2] words
    memcpy(words, address, 16)
    return mix(words[0] ^ mix(words[1]))


cdef inline int64_t floor_div(int64_t a, int64_t b) noexcept:
    return a // b if a >= 0 else -((b - 1 - a) // b)
