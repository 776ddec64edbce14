from libc.stdint cimport uint64_t


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
