# Memory that grows between packets, never while one is accounted: the only way the flow table allocates.

from libc.stdlib cimport realloc


cdef inline void* enlarge(void* memory, size_t octets, str what) except NULL:
    """Return the memory with room for so many octets, moved where it must be. Raises MemoryError, which names what."""
    cdef void* larger = realloc(memory, octets)
    if larger == NULL:
        raise MemoryError(f"{what}: {octets} octets")
    return larger
