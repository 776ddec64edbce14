from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef class Octets:
    cdef readonly object source         # streams.Source
    cdef uint8_t* buffer
    cdef size_t capacity_bytes
    cdef const uint8_t* at              # the next octet; `at_hand` of them are in the buffer
    cdef size_t at_hand
    cdef readonly uint64_t taken        # octets before `at`
    cdef uint64_t owed                  # octets still to be passed over before `at` means anything
    cdef bint has_ended
    cdef bint big_endian

    cdef bint fetch(self, size_t count) except -1
    cdef bint settle(self) except -1
    cdef size_t read(self) except? 0
    cdef void make_room(self, size_t count) except *

    cdef inline void take(self, size_t count) noexcept:
        self.at += count
        self.at_hand -= count
        self.taken += count

    cdef inline void skip(self, uint64_t count) noexcept:
        """Pass over octets; those not at hand are owed until `settle`."""
        cdef size_t here = <size_t> min(count, <uint64_t> self.at_hand)
        self.take(here)
        self.owed += count - here

    cdef inline uint32_t u32(self, size_t after) noexcept:
        cdef uint32_t value
        memcpy(&value, self.at + after, 4)
        if self.big_endian:
            return value >> 24 | (value >> 8 & 0xFF00) | (value << 8 & 0xFF0000) | value << 24
        return value

    cdef inline uint16_t u16(self, size_t after) noexcept:
        cdef uint16_t value
        memcpy(&value, self.at + after, 2)
        return <uint16_t> (value << 8 | value >> 8) if self.big_endian else value
