# What makes packets one flow: the direction-free key, and the keyed hash that places it and names its flows.

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from flowfeatures.packet cimport Packet


cdef struct HashKey:
    uint64_t k0
    uint64_t k1


cdef inline uint64_t rotate(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]; v[1] = rotate(v[1], 13); v[1] ^= v[0]; v[0] = rotate(v[0], 32)
    v[2] += v[3]; v[3] = rotate(v[3], 16); v[3] ^= v[2]
    v[0] += v[3]; v[3] = rotate(v[3], 21); v[3] ^= v[0]
    v[2] += v[1]; v[1] = rotate(v[1], 17); v[1] ^= v[2]; v[2] = rotate(v[2], 32)


cdef inline uint64_t sip13(const HashKey* key, const uint64_t* words, int count) noexcept nogil:
    """SipHash-1-3 (Aumasson and Bernstein, 2012) over whole 64-bit words: keyed, so that a sender cannot aim."""
    cdef uint64_t[4] v
    cdef int i
    v[0] = key.k0 ^ 0x736F6D6570736575ULL
    v[1] = key.k1 ^ 0x646F72616E646F6DULL
    v[2] = key.k0 ^ 0x6C7967656E657261ULL
    v[3] = key.k1 ^ 0x7465646279746573ULL
    for i in range(count):
        v[3] ^= words[i]
        sip_round(v)
        v[0] ^= words[i]
    v[3] ^= (<uint64_t> (count * 8)) << 56
    sip_round(v)
    v[0] ^= (<uint64_t> (count * 8)) << 56
    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline bint is_one_end(const Packet* packet) noexcept nogil:
    """Both ends are the same address and port: every packet is the initiator's."""
    return packet.src_port == packet.dst_port and memcmp(packet.src, packet.dst, 16) == 0


cdef inline bint flow_key(const Packet* packet, bint vlan_in_key, uint64_t* key) noexcept nogil:
    """Write the direction-free key; return whether the packet comes from its low end."""
    cdef int order = memcmp(packet.src, packet.dst, 16)
    cdef bint from_low = order < 0 or (order == 0 and packet.src_port <= packet.dst_port)
    cdef uint64_t low_port = packet.src_port if from_low else packet.dst_port
    cdef uint64_t high_port = packet.dst_port if from_low else packet.src_port
    memcpy(key, &packet.src[0] if from_low else &packet.dst[0], 16)
    memcpy(key + 2, &packet.dst[0] if from_low else &packet.src[0], 16)
    key[4] = low_port << 48 | high_port << 32 | <uint64_t> packet.proto << 24
    if vlan_in_key:
        key[4] |= <uint64_t> packet.vlan[0] << 12 | packet.vlan[1]
    return from_low
