from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct Alarm:
    int64_t due_us
    uint64_t arrival            # of the flow: breaks ties, and tells a stale alarm
    uint32_t flow


cdef class Alarms:
    cdef Alarm* heap            # heap[0] is due first
    cdef uint64_t count
    cdef uint64_t capacity

    cdef void push(self, Alarm alarm) noexcept nogil
    cdef void pop(self) noexcept nogil
    cdef void heapify(self) noexcept nogil
    cdef int double(self) except -1
    cdef void sift_down(self, uint64_t place) noexcept nogil
