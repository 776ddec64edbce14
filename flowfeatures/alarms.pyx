"""When flows next need attention: a binary heap ordered by (due time, arrival). docs/decisions/0005."""

from libc.stdlib cimport free, malloc, realloc


cdef class Alarms:
    """A heap of alarms. `push` wants count < capacity: the caller doubles before, where it may allocate."""

    def __cinit__(self):
        self.capacity = 1024
        self.heap = <Alarm*> malloc(self.capacity * sizeof(Alarm))
        if self.heap == NULL:
            raise MemoryError("alarms")

    def __dealloc__(self):
        free(self.heap)

    cdef void push(self, Alarm alarm) noexcept nogil:
        cdef uint64_t place = self.count, parent
        self.count += 1
        while place:
            parent = (place - 1) >> 1
            if not comes_first(&alarm, &self.heap[parent]):
                break
            self.heap[place] = self.heap[parent]
            place = parent
        self.heap[place] = alarm

    cdef void pop(self) noexcept nogil:
        self.count -= 1
        self.heap[0] = self.heap[self.count]
        if self.count:
            self.sift_down(0)

    cdef void heapify(self) noexcept nogil:
        """Restore the order after the heap was written into from outside."""
        cdef uint64_t i
        for i in range(self.count // 2):
            self.sift_down(self.count // 2 - 1 - i)

    cdef int double(self) except -1:
        cdef Alarm* larger = <Alarm*> realloc(self.heap, 2 * self.capacity * sizeof(Alarm))
        if larger == NULL:
            raise MemoryError(f"{2 * self.capacity} alarms")
        self.heap = larger
        self.capacity *= 2
        return 0

    cdef void sift_down(self, uint64_t place) noexcept nogil:
        cdef Alarm alarm = self.heap[place]
        cdef uint64_t child = 2 * place + 1
        while child < self.count:
            if child + 1 < self.count and comes_first(&self.heap[child + 1], &self.heap[child]):
                child += 1
            if not comes_first(&self.heap[child], &alarm):
                break
            self.heap[place] = self.heap[child]
            place = child
            child = 2 * place + 1
        self.heap[place] = alarm


cdef inline bint comes_first(const Alarm* a, const Alarm* b) noexcept nogil:
    return a.due_us < b.due_us or (a.due_us == b.due_us and a.arrival < b.arrival)
