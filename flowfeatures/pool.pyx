"""Where live flows stand: their memory, the hash index over their keys, and the queues they leave by when it is full.

Open addressing with backward-shift deletion: no tombstones. Nothing is allocated while packets are taken; `make_room` does
that between them.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from flowfeatures.memory cimport enlarge
from flowfeatures.prefetch cimport prefetch


cdef class FlowPool:
    """Flows by index and by key."""

    def __cinit__(self):
        cdef int which
        for which in range(QUEUES):
            self.queues[which].head = self.queues[which].tail = NOBODY
        self.mask = 1023
        self.slots = <Slot*> calloc(self.mask + 1, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError("flow index")

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)
        free(self.vacant)
        free(self.slots)

    cdef uint32_t live(self) noexcept nogil:
        """Return how many flows are given out, dormant ones included."""
        return self.made - self.vacant_count

    cdef uint32_t capacity(self) noexcept nogil:
        """Return one more than the highest index there is memory for."""
        return self.chunk_count * CHUNK

    cdef uint32_t find(self, const uint64_t* key, uint64_t hashed) noexcept nogil:
        """Return the index of the flow with this key, or NOBODY."""
        cdef uint32_t tag = <uint32_t> hashed
        cdef uint64_t place = tag & self.mask
        cdef Slot slot = self.slots[place]
        while slot.flow:
            if slot.tag == tag and equal_keys(at(self, slot.flow - 1).key, key):
                return slot.flow - 1
            place = (place + 1) & self.mask
            slot = self.slots[place]
        return NOBODY

    cdef uint32_t enter(self, const uint64_t* key, uint64_t hashed) noexcept nogil:
        """Give out a zeroed flow with this key and return its index; `has_room` was asked before."""
        cdef uint32_t index
        cdef Flow* flow
        if self.vacant_count:
            self.vacant_count -= 1
            index = self.vacant[self.vacant_count]
        else:
            index = self.made
            self.made += 1
        flow = at(self, index)
        memset(flow, 0, sizeof(Flow))
        memcpy(flow.key, key, sizeof(flow.key))
        flow.tag = <uint32_t> hashed
        flow.in_use = 1
        self.insert_slot(flow.tag, index)
        self.link(index, ALL)
        return index

    cdef void leave(self, uint32_t index) noexcept nogil:
        """Take the flow back."""
        cdef Flow* flow = at(self, index)
        self.remove_slot(index)
        self.move_to(index, 0)
        self.unlink(index, ALL)
        flow.in_use = 0
        self.vacant[self.vacant_count] = index
        self.vacant_count += 1

    cdef void move_to(self, uint32_t index, uint8_t rank) noexcept nogil:
        """Take the flow out of its rank and append it to another one; 0 is none."""
        cdef Flow* flow = at(self, index)
        if flow.rank:
            self.unlink(index, flow.rank)
        flow.rank = rank
        if rank:
            self.link(index, rank)

    cdef void link(self, uint32_t index, int which) noexcept nogil:
        cdef Queue* queue = &self.queues[which]
        cdef Flow* flow = at(self, index)
        cdef int side = which != ALL
        flow.previous[side] = queue.tail
        flow.next[side] = NOBODY
        if queue.tail == NOBODY:
            queue.head = index
        else:
            at(self, queue.tail).next[side] = index
        queue.tail = index

    cdef void unlink(self, uint32_t index, int which) noexcept nogil:
        cdef Queue* queue = &self.queues[which]
        cdef int side = which != ALL
        cdef uint32_t before = at(self, index).previous[side], after = at(self, index).next[side]
        if before == NOBODY:
            queue.head = after
        else:
            at(self, before).next[side] = after
        if after == NOBODY:
            queue.tail = before
        else:
            at(self, after).previous[side] = before

    cdef void prefetch_slot(self, uint64_t hashed) noexcept nogil:
        """Ask for the cache line in which `find` will begin."""
        prefetch(&self.slots[hashed & self.mask])

    cdef uint32_t prefetch_flow(self, uint64_t hashed) noexcept nogil:
        """Ask for the flow that `find` will compare first; return its index, or NOBODY."""
        cdef uint32_t flow = self.slots[hashed & self.mask].flow
        cdef const char* first
        if flow == 0:
            return NOBODY
        first = <const char*> at(self, flow - 1)
        prefetch(first)
        prefetch(first + 64)
        prefetch(first + 128)
        return flow - 1

    cdef bint has_room(self) noexcept nogil:
        """Return whether one more flow needs no allocation."""
        return (self.vacant_count or self.made < self.chunk_count * CHUNK) and (
            <uint64_t> (self.live() + 1) * 2 <= self.mask + 1
        )

    cdef int make_room(self) except -1:
        """Grow what is full: flows by a chunk, the index by doubling."""
        cdef size_t chunks
        if not self.vacant_count and self.made == self.chunk_count * CHUNK:
            chunks = <size_t> self.chunk_count + 1
            self.chunks = <Flow**> enlarge(self.chunks, chunks * sizeof(Flow*), "flow pool")
            self.vacant = <uint32_t*> enlarge(self.vacant, chunks * CHUNK * sizeof(uint32_t), "flow pool")
            self.chunks[self.chunk_count] = <Flow*> enlarge(NULL, CHUNK * sizeof(Flow), "flow pool")
            self.chunk_count += 1
        if <uint64_t> (self.live() + 1) * 2 > self.mask + 1:
            self.double_slots()
        return 0

    cdef int double_slots(self) except -1:
        cdef Slot* old = self.slots
        cdef uint64_t i, count = self.mask + 1
        cdef Slot* slots = <Slot*> calloc(2 * count, sizeof(Slot))
        if slots == NULL:
            raise MemoryError(f"flow index of {2 * count} slots")
        self.slots = slots
        self.mask = 2 * count - 1
        for i in range(count):
            if old[i].flow:
                self.insert_slot(old[i].tag, old[i].flow - 1)
        free(old)
        return 0

    cdef void insert_slot(self, uint32_t tag, uint32_t index) noexcept nogil:
        cdef uint64_t place = tag & self.mask
        while self.slots[place].flow:
            place = (place + 1) & self.mask
        self.slots[place].tag = tag
        self.slots[place].flow = index + 1

    cdef void remove_slot(self, uint32_t index) noexcept nogil:
        """Empty the flow's slot and move later entries of its run back."""
        cdef uint64_t hole = at(self, index).tag & self.mask
        cdef uint64_t place, home
        while self.slots[hole].flow != index + 1:
            hole = (hole + 1) & self.mask
        place = hole
        while True:
            place = (place + 1) & self.mask
            if self.slots[place].flow == 0:
                break
            home = self.slots[place].tag & self.mask
            if ((place - home) & self.mask) >= ((place - hole) & self.mask):
                self.slots[hole] = self.slots[place]
                hole = place
        self.slots[hole].flow = 0
