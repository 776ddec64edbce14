from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t

from flowfeatures.flow cimport Meta
from flowfeatures.recent cimport Recent

cdef int FEATURES               # F, columns of a row
cdef int REPEATS                # the one that holds a row's repeat count


cdef struct Row:
    Meta meta
    uint32_t repeats
    uint8_t initiated           # the device began the flow; its own address may have changed since
    uint8_t attack              # it, or one folded into it, is an attack record
    uint8_t left_out
    uint8_t is_new


cdef struct Device:
    uint8_t[16] address
    int64_t last_us             # when its newest record left
    uint64_t touched            # order of that record among all
    int next                    # in its hash bucket, or among the free ones
    int count                   # rows held
    bint due
    bint is_heard               # it has sent something, or someone outside spoke to it
    int unheard                 # records it got before
    int8_t new_label            # class of the newest attack record since its last window
    Row* rows                   # W, oldest first
    float* values               # W x F
    Recent recent


cdef void make_place(Device* device, Row* row, int window) noexcept
cdef bint is_device(Device* device, const Row* row, bint peer_is_home) noexcept
cdef int join(Device* into, Device* earlier, int window) except -1
cdef const Row* last_spoken(const Device* device) noexcept
cdef const uint8_t* own_mac(const Row* row) noexcept
