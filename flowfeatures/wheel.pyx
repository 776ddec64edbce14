"""When flows next need attention: a timer wheel, and a small heap for what is due within the current millisecond.

Setting and clearing a timer takes constant time, whatever the number of flows; a timer moves to a nearer level at most
twice, then into the heap, which gives the exact order by (due time, arrival). docs/decisions/0017 says what it gained.

The trap: the wheel only turns forward. A timer set before what has been collected goes straight into the heap, so a
clock that was set back costs a logarithm, never a wrong order.
"""

from libc.stdlib cimport free

from flowfeatures.memory cimport enlarge

cdef enum:
    TICK_BITS = 10              # a tick is 1,024 us
    DIGIT_BITS = 12             # SLOTS = 1 << DIGIT_BITS
    DIGIT = SLOTS - 1

cdef uint64_t NEVER = <uint64_t> -1

cdef extern from *:
    """
    #define penstock_lowest_bit(word) __builtin_ctzll(word)
    """
    int lowest_bit "penstock_lowest_bit" (uint64_t word) noexcept nogil


cdef class Wheel:
    """One timer per flow index. `enter` an index before it is `set`; `make_room` is the only place that allocates.

    After `collect(clock_us)`, near[0] is the flow whose timer is due first, if one is due before the clock at all.
    """

    def __cinit__(self):
        cdef uint32_t place
        for place in range(FAR + 1):
            self.heads[place] = NO_TIMER

    def __dealloc__(self):
        free(self.timers)
        free(self.near)

    cdef int make_room(self, uint32_t flows) except -1:
        """Make room for flow indices below `flows`."""
        if flows > self.capacity:
            self.timers = <Timer*> enlarge(self.timers, flows * sizeof(Timer), "timers")
            self.near = <uint32_t*> enlarge(self.near, flows * sizeof(uint32_t), "timers")
            self.capacity = flows
        return 0

    cdef void enter(self, uint32_t flow, uint64_t arrival) noexcept nogil:
        """Begin with a timer that is not set."""
        self.timers[flow].arrival = arrival
        self.timers[flow].place = UNSET

    cdef void set(self, uint32_t flow, int64_t due_us) noexcept nogil:
        """Let the flow's timer be due at due_us, not before 1970, instead of when it was."""
        self.clear(flow)
        self.timers[flow].due_us = due_us
        self.count += 1
        self.put(flow)

    cdef void clear(self, uint32_t flow) noexcept nogil:
        cdef uint16_t place = self.timers[flow].place
        if place == UNSET:
            return
        self.count -= 1
        if place == NEAR:
            self.pull(self.timers[flow].next)
        else:
            self.unlink(flow)
        self.timers[flow].place = UNSET

    cdef void collect(self, int64_t clock_us) noexcept nogil:
        """Bring every timer due before clock_us into the heap."""
        cdef uint64_t end, found, target = (<uint64_t> clock_us >> TICK_BITS) + 1
        if self.count == 0 or (self.count == self.near_count and target > self.tick):
            self.tick = target          # nothing stands in the wheel, so nothing is passed over
            return
        while self.tick < target:
            end = (self.tick | DIGIT) + 1
            found = next_bit(self.occupied, self.tick & DIGIT)
            if found != NEVER:
                found += self.tick & ~<uint64_t> DIGIT
                if found >= target:
                    self.tick = target
                    return
                self.tick = found + 1
                self.spread(found & DIGIT)
                if self.tick == end:
                    self.turn(end)
                continue
            found = self.next_turn()
            if found > target:
                self.tick = target
                return
            self.turn(found)

    # -- the wheel ----------------------------------------------------------------------------------------------

    cdef void put(self, uint32_t flow) noexcept nogil:
        """Put a timer where it belongs, seen from the current tick: the level is the highest digit that differs."""
        cdef uint64_t due = <uint64_t> self.timers[flow].due_us >> TICK_BITS
        cdef uint64_t apart = due ^ self.tick
        if due < self.tick:
            self.push(flow)
        elif apart >> DIGIT_BITS == 0:
            self.link(flow, due & DIGIT)
        elif apart >> (2 * DIGIT_BITS) == 0:
            self.link(flow, SLOTS + ((due >> DIGIT_BITS) & DIGIT))
        elif apart >> (3 * DIGIT_BITS) == 0:
            self.link(flow, 2 * SLOTS + ((due >> (2 * DIGIT_BITS)) & DIGIT))
        else:
            self.link(flow, FAR)

    cdef void link(self, uint32_t flow, uint32_t place) noexcept nogil:
        cdef Timer* timer = &self.timers[flow]
        cdef uint32_t head = self.heads[place]
        timer.place = <uint16_t> place
        timer.previous = NO_TIMER
        timer.next = head
        if head != NO_TIMER:
            self.timers[head].previous = flow
        self.heads[place] = flow
        if place != FAR:
            self.occupied[place >> 6] |= <uint64_t> 1 << (place & 63)

    cdef void unlink(self, uint32_t flow) noexcept nogil:
        cdef Timer* timer = &self.timers[flow]
        cdef uint16_t place = timer.place
        if timer.next != NO_TIMER:
            self.timers[timer.next].previous = timer.previous
        if timer.previous != NO_TIMER:
            self.timers[timer.previous].next = timer.next
            return
        self.heads[place] = timer.next
        if timer.next == NO_TIMER and place != FAR:
            self.occupied[place >> 6] &= ~(<uint64_t> 1 << (place & 63))

    cdef void spread(self, uint32_t place) noexcept nogil:
        """Empty a slot and put its timers where they belong now."""
        cdef uint32_t flow = self.heads[place], after
        self.heads[place] = NO_TIMER
        if place != FAR:
            self.occupied[place >> 6] &= ~(<uint64_t> 1 << (place & 63))
        while flow != NO_TIMER:
            after = self.timers[flow].next
            self.put(flow)
            flow = after

    cdef void turn(self, uint64_t tick) noexcept nogil:
        """Go to the beginning of a slot of the second level; what stands in the slots that begin there comes nearer."""
        cdef uint64_t passed = tick ^ (tick - 1)    # the digits that have just become 0, and the one above them
        self.tick = tick
        if passed >> (3 * DIGIT_BITS):
            self.spread(FAR)
        if passed >> (2 * DIGIT_BITS):
            self.spread(2 * SLOTS + ((tick >> (2 * DIGIT_BITS)) & DIGIT))
        self.spread(SLOTS + ((tick >> DIGIT_BITS) & DIGIT))

    cdef uint64_t next_turn(self) noexcept nogil:
        """Return the first tick after this one at which a slot above the first level begins that holds timers."""
        cdef uint64_t found, span = <uint64_t> 1 << DIGIT_BITS
        found = next_bit(&self.occupied[WORDS], (self.tick >> DIGIT_BITS) & DIGIT)
        if found != NEVER:
            return (self.tick & ~(span * span - 1)) + found * span
        found = next_bit(&self.occupied[2 * WORDS], (self.tick >> (2 * DIGIT_BITS)) & DIGIT)
        if found != NEVER:
            return (self.tick & ~(span * span * span - 1)) + found * span * span
        if self.heads[FAR] != NO_TIMER:
            return (self.tick | (span * span * span - 1)) + 1
        return NEVER

    # -- the heap -----------------------------------------------------------------------------------------------

    cdef void push(self, uint32_t flow) noexcept nogil:
        self.timers[flow].place = NEAR
        self.near_count += 1
        self.sift_up(self.near_count - 1, flow)

    cdef void pull(self, uint32_t place) noexcept nogil:
        """Take out what stands at a place of the heap."""
        cdef uint32_t last
        self.near_count -= 1
        last = self.near[self.near_count]
        if place == self.near_count:
            return
        if place and comes_first(self.timers, last, self.near[(place - 1) >> 1]):
            self.sift_up(place, last)
        else:
            self.sift_down(place, last)

    cdef void sift_up(self, uint32_t place, uint32_t flow) noexcept nogil:
        cdef uint32_t parent
        while place:
            parent = (place - 1) >> 1
            if not comes_first(self.timers, flow, self.near[parent]):
                break
            self.near[place] = self.near[parent]
            self.timers[self.near[place]].next = place
            place = parent
        self.near[place] = flow
        self.timers[flow].next = place

    cdef void sift_down(self, uint32_t place, uint32_t flow) noexcept nogil:
        cdef uint32_t child = 2 * place + 1
        while child < self.near_count:
            if child + 1 < self.near_count and comes_first(self.timers, self.near[child + 1], self.near[child]):
                child += 1
            if not comes_first(self.timers, self.near[child], flow):
                break
            self.near[place] = self.near[child]
            self.timers[self.near[place]].next = place
            place = child
            child = 2 * place + 1
        self.near[place] = flow
        self.timers[flow].next = place


cdef inline bint comes_first(const Timer* timers, uint32_t a, uint32_t b) noexcept nogil:
    cdef const Timer* first = &timers[a]
    cdef const Timer* second = &timers[b]
    return first.due_us < second.due_us or (first.due_us == second.due_us and first.arrival < second.arrival)


cdef uint64_t next_bit(const uint64_t* words, uint64_t start) noexcept nogil:
    """Return the first bit set from `start` on among SLOTS of them, or NEVER."""
    cdef uint64_t word = start >> 6
    cdef uint64_t bits = words[word] & (~<uint64_t> 0 << (start & 63))
    while bits == 0:
        word += 1
        if word == WORDS:
            return NEVER
        bits = words[word]
    return (word << 6) + lowest_bit(bits)
