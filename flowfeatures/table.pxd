from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from flowfeatures.flow cimport Flow, Record
from flowfeatures.frames cimport FrameBlock
from flowfeatures.hashing cimport HashKey
from flowfeatures.packet cimport Packet


cdef struct Slot:
    uint32_t tag
    uint32_t flow               # index + 1; 0 = empty


cdef struct Alarm:
    int64_t due_us
    uint64_t arrival
    uint32_t flow


cdef struct Queue:              # a doubly linked list of flows; NOBODY ends it
    uint32_t head
    uint32_t tail


cdef class FlowTable:
    cdef object settings
    cdef int64_t active_us, linger_us, half_open_us, tcp_idle_us, other_idle_us
    cdef bint partials, vlan_in_key
    cdef uint32_t max_flows
    cdef HashKey hash_key, id_key
    cdef Flow** chunks
    cdef uint32_t chunk_count, chunk_capacity, made
    cdef uint32_t* vacant
    cdef uint32_t vacant_count
    cdef Slot* slots
    cdef uint64_t mask
    cdef Alarm* alarms
    cdef uint64_t alarm_count, alarm_capacity
    cdef Queue[2] queues        # 0: all flows, 1: the half-open ones; both in order of arrival
    cdef uint64_t arrivals
    cdef readonly int64_t clock_us
    cdef bint clock_started
    cdef object buffer
    cdef Record* records
    cdef int record_count, record_capacity
    cdef uint64_t[8] reasons
    cdef uint64_t decoded, super_frames, flows, records_left, partials_left, evicted


    cdef inline Flow* at(self, uint32_t index) noexcept nogil
    cdef void advance_clock(self, int64_t ts_us) noexcept nogil
    cdef void add(self, const Packet* packet, uint8_t label) noexcept nogil
    cdef void hasten(self, uint32_t index) noexcept nogil
    cdef uint64_t name_flow(self, const Flow* flow) noexcept nogil
    cdef bint sweep(self) noexcept nogil
    cdef void on_alarm(self, uint32_t index, int64_t due_us) noexcept nogil
    cdef int64_t deadline(self, const Flow* flow, uint8_t* reason) noexcept nogil
    cdef int64_t next_alarm(self, const Flow* flow) noexcept nogil
    cdef uint32_t open_flow(self, const Packet* packet, const uint64_t* key, bint from_low, uint64_t hashed) noexcept nogil
    cdef void end(self, uint32_t index, uint8_t reason, int64_t left_us) noexcept nogil
    cdef void cut(self, uint32_t index, int64_t left_us) noexcept nogil
    cdef void leave(self, Flow* flow, uint8_t reason, int64_t left_us) noexcept nogil
    cdef void forget(self, uint32_t index) noexcept nogil
    cdef void evict_oldest(self) noexcept nogil
    cdef uint32_t find(self, const uint64_t* key, uint64_t hashed) noexcept nogil
    cdef void insert_slot(self, uint32_t tag, uint32_t index) noexcept nogil
    cdef void remove_slot(self, uint32_t index) noexcept nogil
    cdef void link(self, uint32_t index, int queue) noexcept nogil
    cdef void unlink(self, uint32_t index, int queue) noexcept nogil
    cdef void push_alarm(self, uint32_t index, int64_t due_us) noexcept nogil
    cdef void pop_alarm(self) noexcept nogil
    cdef void sift_down(self, uint64_t place) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef int make_room(self) except -1
    cdef int double_slots(self) except -1
    cdef int rebuild_alarms(self) except -1
