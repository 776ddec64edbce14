"""A window onto a stream of octets: one buffer, filled from its source, into which frames point.

Half a megabyte does for frames of every common size; it grows when a single frame or block wants more, and whoever asks
bounds that. The trap: `fetch` and `settle` move what is at hand, so call them only while nothing points into it.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

# From 512 KiB on nothing is won any more; below, blocks become short (docs/decisions/0016).
WINDOW_BYTES = 1 << 19


cdef class Octets:
    """The octets of `source`, of which `head` was read already."""

    def __cinit__(self, source, bytes head not None, size_t window_bytes=WINDOW_BYTES):
        self.source = source
        self.make_room(max(window_bytes, <size_t> len(head)))
        memcpy(self.buffer, <const char*> head, len(head))
        self.at = self.buffer
        self.at_hand = len(head)

    def __dealloc__(self):
        free(self.buffer)

    cdef bint fetch(self, size_t count) except -1:
        """Return whether `count` octets are at hand, after waiting for them; not if the stream ends before."""
        if self.at_hand < count:
            self.make_room(count)
        while self.at_hand < count:
            if not self.read():
                return False
        return True

    cdef bint settle(self) except -1:
        """Pass over what is owed; return whether the stream held that much."""
        cdef uint64_t passed
        while self.owed:
            if not self.at_hand:
                passed = self.source.skip(self.owed)
                self.taken += passed
                self.owed -= passed
                if self.owed and not self.fetch(1):
                    return False
            passed, self.owed = self.owed, 0
            self.skip(passed)
        return True

    cdef size_t read(self) except? 0:
        """Read once, as much as there is room for, and return how many octets came; 0 at the end."""
        cdef uint8_t* free_bytes = <uint8_t*> self.at + self.at_hand
        cdef size_t got, free_count = self.buffer + self.capacity_bytes - free_bytes
        if self.has_ended:
            return 0
        room = PyMemoryView_FromMemory(<char*> free_bytes, free_count, PyBUF_WRITE)
        try:
            got = self.source.readinto(room)
        finally:
            room.release()      # whoever kept it must not write into the buffer later
        if got > free_count:
            raise ValueError(f"a source gave {got} octets into room for {free_count}")
        self.has_ended = got == 0
        self.at_hand += got
        return got

    cdef void make_room(self, size_t count) except *:
        """Move what is at hand to the front of a buffer that holds `count` octets."""
        cdef uint8_t* grown
        if self.at != self.buffer and self.at_hand:
            memmove(self.buffer, self.at, self.at_hand)
        self.at = self.buffer
        if self.capacity_bytes < count:
            grown = <uint8_t*> realloc(self.buffer, count)
            if grown == NULL:
                raise MemoryError(f"{count} octets of a capture")
            self.buffer, self.capacity_bytes = grown, count
            self.at = self.buffer
