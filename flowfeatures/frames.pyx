"""Hop 1's unit of work: a block of raw frames, pointed to and never copied."""

from libc.stdlib cimport calloc, free


cdef class FrameBlock:
    """Room for `capacity` frames. Whoever fills it owns the octets behind the pointers."""

    def __cinit__(self, int capacity = 4096):
        self.frames = <Frame*> calloc(capacity, sizeof(Frame))
        if self.frames == NULL:
            raise MemoryError(f"{capacity} frames")
        self.capacity = capacity
        self.count = 0
        self.first_number = 1

    def __dealloc__(self):
        free(self.frames)
