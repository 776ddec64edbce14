from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flowfeatures.flow cimport Flow

cdef enum:
    NOBODY = 0xFFFFFFFF         # no flow
    CHUNK_BITS = 10             # flows are allocated 1,024 at a time and never move
    CHUNK = 1 << CHUNK_BITS

cdef enum:                      # the queues a flow may stand in: ALL, and one rank beside it
    ALL = 0
    HALF_OPEN = 1
    EMBRYO = 2
    QUEUES = 3


cdef struct Slot:
    uint32_t tag                # low bits of the key's hash
    uint32_t flow               # index + 1; 0 = empty


cdef struct Queue:              # doubly linked, NOBODY at both ends; first come, first in
    uint32_t head
    uint32_t tail


cdef class FlowPool:
    cdef Flow** chunks
    cdef uint32_t chunk_count
    cdef uint32_t made          # flows ever given out at once
    cdef uint32_t* vacant       # of these, the ones given back
    cdef uint32_t vacant_count
    cdef Slot* slots
    cdef uint64_t mask
    cdef Queue[3] queues

    cdef uint32_t live(self) noexcept nogil
    cdef uint32_t capacity(self) noexcept nogil
    cdef uint32_t find(self, const uint64_t* key, uint64_t hashed) noexcept nogil
    cdef uint32_t enter(self, const uint64_t* key, uint64_t hashed) noexcept nogil
    cdef void leave(self, uint32_t index) noexcept nogil
    cdef void move_to(self, uint32_t index, uint8_t rank) noexcept nogil
    cdef void link(self, uint32_t index, int which) noexcept nogil
    cdef void unlink(self, uint32_t index, int which) noexcept nogil
    cdef void prefetch_slot(self, uint64_t hashed) noexcept nogil
    cdef uint32_t prefetch_flow(self, uint64_t hashed) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef int make_room(self) except -1
    cdef int double_slots(self) except -1
    cdef void insert_slot(self, uint32_t tag, uint32_t index) noexcept nogil
    cdef void remove_slot(self, uint32_t index) noexcept nogil


cdef inline Flow* at(FlowPool pool, uint32_t index) noexcept nogil:
    return &pool.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]


cdef inline bint equal_keys(const uint64_t* a, const uint64_t* b) noexcept nogil:
    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4])) == 0
