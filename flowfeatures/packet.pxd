from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from flowfeatures.frames cimport Frame


cdef enum:
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


cdef enum:                      # the order of columns.UNDECODED_REASONS
    DECODED = 0
    TRUNCATED_LINK = 1
    TRUNCATED_IP = 2
    TRUNCATED_L4 = 3
    BAD_IHL = 4
    BAD_OFFSET = 5
    NOT_IP = 6
    UNSUPPORTED_LINK = 7
    REASONS = 8


cdef enum:
    TCP = 6
    UDP = 17


cdef struct Packet:
    int64_t ts_us
    uint32_t header_bytes       # layer 4
    uint32_t payload_bytes
    uint32_t ip_bytes           # IP total length, cut to the wire
    uint32_t wire_bytes
    uint32_t seq
    uint32_t ack
    uint16_t src_port
    uint16_t dst_port
    uint16_t window
    uint16_t[2] vlan
    uint8_t[16] src             # IPv4 as ::ffff:a.b.c.d
    uint8_t[16] dst
    uint8_t[6] src_mac
    uint8_t proto
    uint8_t ip_version
    uint8_t flags
    uint8_t group               # sent to a multicast or broadcast address


cdef int decode(const Frame* frame, Packet* packet) noexcept nogil
