from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from flowfeatures.counters cimport CounterPool, Counters
from flowfeatures.flow cimport Flow, Record
from flowfeatures.key cimport HashKey
from flowfeatures.pool cimport FlowPool
from flowfeatures.wheel cimport Wheel

cdef enum:                      # columns.END_REASONS
    PARTIAL = 0
    IDLE_TIMEOUT = 1
    ACTIVE_TIMEOUT = 2
    END_OF_FLOW = 3
    FORCED_END = 4
    LACK_OF_RESOURCES = 5


cdef bytes sixteen_octets(key, str name)


cdef class Lifetimes:
    cdef readonly object settings
    cdef int64_t active_us, linger_us, half_open_us, tcp_idle_us, other_idle_us
    cdef bint partials
    cdef uint32_t max_flows
    cdef HashKey id_key
    cdef FlowPool pool
    cdef CounterPool sums
    cdef Wheel wheel
    cdef readonly int64_t clock_us
    cdef bint clock_started
    cdef bint in_use            # by a thread that is inside one of the methods Python sees
    cdef bint emergency
    cdef int64_t emergency_us   # when it began
    cdef uint32_t calm_flows    # it ends at so many live flows
    cdef object buffer
    cdef Record* records
    cdef uint32_t record_count
    cdef uint64_t records_left, partials_left, evicted, emergencies

    cdef int take_hold(self) except -1
    cdef bint sweep(self) noexcept nogil
    cdef void hasten(self, uint32_t index) noexcept nogil
    cdef void end(self, uint32_t index, uint8_t reason, int64_t left_us) noexcept nogil
    cdef void leave(self, Flow* flow, uint8_t reason, int64_t left_us) noexcept nogil
    cdef void evict(self) noexcept nogil
    cdef bint records_fit(self) noexcept nogil

    cdef void on_timer(self, uint32_t index, int64_t due_us) noexcept nogil
    cdef void cut(self, uint32_t index, int64_t left_us) noexcept nogil
    cdef void vanish(self, uint32_t index) noexcept nogil
    cdef bint end_all(self) noexcept nogil
    cdef void begin_emergency(self) noexcept nogil
    cdef int64_t deadline(self, const Flow* flow, uint8_t* reason) noexcept nogil
    cdef int64_t next_due(self, const Flow* flow) noexcept nogil
    cdef uint64_t flow_id(self, const Flow* flow) noexcept nogil
