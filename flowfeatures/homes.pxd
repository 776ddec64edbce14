from libc.stdint cimport uint8_t, uint64_t


cdef struct Net:
    uint64_t[2] address
    uint64_t[2] mask


cdef class HomeNets:
    cdef Net* nets
    cdef int count

    cdef bint holds(self, const uint8_t* address) noexcept nogil
