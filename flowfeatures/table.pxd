from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from flowfeatures.alarms cimport Alarm, Alarms
from flowfeatures.flow cimport Flow, Record
from flowfeatures.key cimport HashKey
from flowfeatures.packet cimport Packet
from flowfeatures.pool cimport FlowPool


cdef class FlowTable:
    cdef object settings
    cdef int64_t active_us, linger_us, half_open_us, tcp_idle_us, other_idle_us
    cdef bint partials, vlan_in_key
    cdef uint32_t max_flows
    cdef HashKey hash_key, id_key
    cdef FlowPool pool
    cdef Alarms alarms
    cdef uint64_t arrivals
    cdef readonly int64_t clock_us
    cdef bint clock_started
    cdef object buffer
    cdef Record* records
    cdef int record_count, record_capacity
    cdef uint64_t[8] reasons
    cdef uint64_t decoded, super_frames, flows, records_left, partials_left, evicted

    cdef void advance_clock(self, int64_t ts_us) noexcept nogil
    cdef void add(self, const Packet* packet, uint8_t label) noexcept nogil
    cdef void hasten(self, uint32_t index) noexcept nogil
    cdef uint64_t name_flow(self, const Flow* flow) noexcept nogil
    cdef uint32_t open_flow(self, const Packet* packet, const uint64_t* key, bint from_low, uint64_t hashed) noexcept nogil
    cdef bint sweep(self) noexcept nogil
    cdef bint is_live(self, const Alarm* alarm) noexcept nogil
    cdef void set_alarm(self, uint32_t index, int64_t due_us) noexcept nogil
    cdef void on_alarm(self, uint32_t index, int64_t due_us) noexcept nogil
    cdef int64_t deadline(self, const Flow* flow, uint8_t* reason) noexcept nogil
    cdef int64_t next_alarm(self, const Flow* flow) noexcept nogil
    cdef void leave(self, Flow* flow, uint8_t reason, int64_t left_us) noexcept nogil
    cdef void end(self, uint32_t index, uint8_t reason, int64_t left_us) noexcept nogil
    cdef void cut(self, uint32_t index, int64_t left_us) noexcept nogil
    cdef void evict_oldest(self) noexcept nogil
    cdef bint records_fit(self) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef int make_room(self) except -1
    cdef void drop_stale_alarms(self) noexcept nogil
