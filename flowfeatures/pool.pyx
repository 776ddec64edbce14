"""Where live flows stand: their memory, the hash index over their keys, and the lists in order of arrival.

Open addressing with backward-shift deletion: no tombstones. Nothing is allocated while packets are taken; `make_room` does
that between them.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset


cdef class FlowPool:
    """Flows by index and by key."""

    def __cinit__(self):
        self.lists[ALL].head = self.lists[ALL].tail = NOBODY
        self.lists[HALF_OPEN].head = self.lists[HALF_OPEN].tail = NOBODY
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
        return self.made - self.vacant_count

    cdef uint32_t find(self, const uint64_t* key, uint64_t hashed) noexcept nogil:
        """Return the index of the flow with this key, or NOBODY."""
        cdef uint32_t tag = <uint32_t> hashed
        cdef uint64_t place = tag & self.mask
        cdef Slot slot = self.slots[place]
        while slot.flow:
            if slot.tag == tag and memcmp(at(self, slot.flow - 1).key, key, KEY_BYTES) == 0:
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
        self.unlink(index, ALL)
        if flow.listed_half_open:
            self.unlink(index, HALF_OPEN)
        flow.in_use = 0
        self.vacant[self.vacant_count] = index
        self.vacant_count += 1

    cdef void link(self, uint32_t index, int which) noexcept nogil:
        """Append the flow to a list."""
        cdef List* members = &self.lists[which]
        cdef Flow* flow = at(self, index)
        flow.previous[which] = members.tail
        flow.next[which] = NOBODY
        if members.tail == NOBODY:
            members.head = index
        else:
            at(self, members.tail).next[which] = index
        members.tail = index

    cdef void unlink(self, uint32_t index, int which) noexcept nogil:
        cdef List* members = &self.lists[which]
        cdef uint32_t before = at(self, index).previous[which], after = at(self, index).next[which]
        if before == NOBODY:
            members.head = after
        else:
            at(self, before).next[which] = after
        if after == NOBODY:
            members.tail = before
        else:
            at(self, after).previous[which] = before

    cdef bint has_room(self) noexcept nogil:
        """Return whether one more flow needs no allocation."""
        return (self.vacant_count or self.made < self.chunk_count * CHUNK) and (
            <uint64_t> (self.live() + 1) * 2 <= self.mask + 1
        )

    cdef int make_room(self) except -1:
        """Grow what is full: flows by a chunk, the index by doubling."""
        if not self.vacant_count and self.made == self.chunk_count * CHUNK:
            self.chunks = <Flow**> enlarge(self.chunks, (self.chunk_count + 1) * sizeof(Flow*))
            self.vacant = <uint32_t*> enlarge(self.vacant, <size_t> (self.chunk_count + 1) * CHUNK * sizeof(uint32_t))
            self.chunks[self.chunk_count] = <Flow*> enlarge(NULL, CHUNK * sizeof(Flow))
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


cdef void* enlarge(void* memory, size_t octets) except NULL:
    cdef void* larger = realloc(memory, octets)
    if larger == NULL:
        raise MemoryError(f"flow pool: {octets} octets")
    return larger
