from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flowfeatures.frames cimport Frame
from flowfeatures.key cimport HashKey
from flowfeatures.lifetimes cimport Lifetimes
from flowfeatures.packet cimport Packet


cdef struct Arrival:            # a packet on its way to its flow
    Packet packet
    uint64_t[5] key
    uint64_t hashed
    int reason                  # why it could not be decoded
    uint8_t from_low
    uint32_t likely             # its flow, if the first slot is right


cdef class FlowTable(Lifetimes):
    cdef bint vlan_in_key
    cdef HashKey hash_key
    cdef Arrival* batch
    cdef uint64_t arrivals
    cdef uint64_t[8] reasons
    cdef uint64_t decoded, metered, shed, super_frames

    cdef void decode_batch(self, const Frame* frames, int count) noexcept nogil
    cdef int take_batch(self, int count, const uint8_t* labels, uint64_t label_count, uint64_t number) noexcept nogil
    cdef bint is_far_behind(self, const Packet* packet) noexcept nogil
    cdef void advance_clock(self, const Packet* packet) noexcept nogil
    cdef void add(self, const Arrival* arrival, uint8_t label) noexcept nogil
    cdef void rank_again(self, uint32_t index) noexcept nogil
    cdef uint32_t open(self, const Arrival* arrival) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef int make_room(self) except -1
