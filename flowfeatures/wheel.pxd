from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    NO_TIMER = 0xFFFFFFFF
    LEVELS = 3
    SLOTS = 4096                # of each level; one of the first takes 1.024 ms, of the second 4.2 s, of the third 4.8 h
    WORDS = SLOTS // 64


cdef struct Timer:
    int64_t due_us
    uint64_t arrival            # of its flow: breaks ties
    uint32_t next               # in its slot; while near, its place in the heap
    uint32_t previous
    uint16_t place              # level * SLOTS + slot, or one of the places below


cdef enum:
    FAR = LEVELS * SLOTS        # beyond the wheel: 2.2 years
    NEAR = FAR + 1
    UNSET = FAR + 2


cdef class Wheel:
    cdef Timer* timers          # by flow index
    cdef uint32_t* near         # a heap of flow indices: what is due before `tick`
    cdef uint32_t near_count
    cdef uint32_t capacity      # of both
    cdef uint32_t count         # timers that are set
    cdef uint64_t tick          # all ticks before it have been collected
    cdef uint32_t[3 * 4096 + 1] heads
    cdef uint64_t[3 * 64] occupied

    cdef void enter(self, uint32_t flow, uint64_t arrival) noexcept nogil
    cdef void set(self, uint32_t flow, int64_t due_us) noexcept nogil
    cdef void clear(self, uint32_t flow) noexcept nogil
    cdef void collect(self, int64_t clock_us) noexcept nogil
    cdef int make_room(self, uint32_t flows) except -1

    cdef void put(self, uint32_t flow) noexcept nogil
    cdef void link(self, uint32_t flow, uint32_t place) noexcept nogil
    cdef void unlink(self, uint32_t flow) noexcept nogil
    cdef void spread(self, uint32_t place) noexcept nogil
    cdef void turn(self, uint64_t tick) noexcept nogil
    cdef uint64_t next_turn(self) noexcept nogil
    cdef void push(self, uint32_t flow) noexcept nogil
    cdef void pull(self, uint32_t place) noexcept nogil
    cdef void sift_up(self, uint32_t place, uint32_t flow) noexcept nogil
    cdef void sift_down(self, uint32_t place, uint32_t flow) noexcept nogil
