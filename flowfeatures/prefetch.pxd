# Ask for a cache line before it is needed; a place that holds nothing is no error.
cdef extern from *:
    """
    #define penstock_prefetch(place) __builtin_prefetch(place)
    """
    void prefetch "penstock_prefetch" (const void* place) noexcept nogil
