from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_FRAME_BYTES = 1 << 20   # no link layer we decode goes beyond a quarter of it

cdef extern from *:             # times lie between 1970 and the end of the year 9999, beyond which no calendar prints
    """
    #define PENSTOCK_LAST_US 253402300799999999LL
    """
    const int64_t LAST_US "PENSTOCK_LAST_US"


cdef struct Frame:
    const uint8_t* octets       # link header first; valid until the source is asked for its next block
    int64_t ts_us
    uint32_t captured           # octets at hand
    uint32_t wire               # octets it had on the wire, >= captured
    uint32_t link_type          # LINKTYPE_ number
    uint16_t vlan_tpid          # of the outermost tag where whoever captured took it out of the octets; 0 = it did not
    uint16_t vlan_tci


cdef class FrameBlock:
    cdef Frame* frames
    cdef readonly int capacity
    cdef readonly int count     # frames filled, from the front
    cdef public uint64_t first_number    # number of frames[0] in its capture, from 1
    cdef object kept            # what owns the octets, where `of` or `view` filled the block

    cdef int finish(self, int count, times_us, link_type, wire_bytes, vlan) except -1
