"""A device's last records, and how many different peers, ports, half-open and refused flows are among them.

At most 512 records are remembered for a device; a flow counts by its latest one.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from flowfeatures.columns import COLUMNS

cdef enum:
    EVENTS = 512                # a power of two, and 3 x it fits well into PLACES

cdef int BWD_PAYLOAD = [column.name for column in COLUMNS].index("bwd_payload_bytes")


cdef int remember(Recent* recent, const Record* record, const uint8_t* peer) except -1:
    """Enter a record; the oldest one leaves where EVENTS are held."""
    cdef const Meta* meta = &record.meta
    cdef Event* event
    cdef Event* grown
    cdef int room
    if recent.count == recent.room and recent.room < EVENTS:
        room = max(16, 2 * recent.room)
        grown = <Event*> realloc(recent.events, room * sizeof(Event))
        if grown == NULL:
            raise MemoryError(f"{room} recent records")
        recent.events, recent.room, recent.head = grown, room, recent.count
    event = &recent.events[recent.head]
    event.left_us = meta.left_us
    event.flow_id = meta.flow_id
    event.peer = hash_of(peer)
    event.port = meta.dst_port if has_ports(meta) else 0xFFFFFFFFU
    event.half_open = meta.half_open
    event.failed = meta.bwd_rst and record.columns[BWD_PAYLOAD] == 0
    recent.head += 1
    if recent.head == EVENTS:
        recent.head = 0
    if recent.count < recent.room:
        recent.count += 1
    return 0


cdef int join_recent(Recent* into, const Recent* earlier) except -1:
    """Enter the records remembered in `earlier` among those of `into`, by time; the newest EVENTS of both stay."""
    cdef Event* joined
    cdef int i = 0, k = 0, room = into.room, into_count = into.count
    cdef int count = earlier.count + into_count, left_out = count - EVENTS
    cdef const Event* a
    cdef const Event* b
    if not earlier.count:
        return 0
    while room < count and room < EVENTS:
        room = max(16, 2 * room)
    joined = <Event*> malloc(room * sizeof(Event))
    if joined == NULL:
        raise MemoryError(f"{room} recent records")
    into.count = 0
    while i < earlier.count or k < into_count:
        a, b = event_at(earlier, i, earlier.count), event_at(into, k, into_count)
        if k == into_count or (i < earlier.count and a.left_us <= b.left_us):
            i += 1
        else:
            a = b
            k += 1
        if i + k > left_out:
            joined[into.count] = a[0]
            into.count += 1
    free(into.events)
    into.events, into.room, into.head = joined, room, into.count % EVENTS
    return 0


cdef inline const Event* event_at(const Recent* recent, int index, int count) noexcept:
    """Return the event that so many came before, of `count` in the ring; any place in it where there is none."""
    return &recent.events[(recent.head - count + index + recent.room) % max(1, recent.room)]


cdef void forget(Recent* recent) noexcept:
    free(recent.events)
    recent.events = NULL
    recent.count = recent.room = recent.head = 0


cdef class DistinctCounter:
    """Counts distinct things; its three sets live in one table and are emptied by taking new stamps."""

    cdef void count(self, const Recent* recent, int64_t since_us, float* counts) noexcept nogil:
        """Write distinct peers, ports, half-open flows, refused flows since a time to counts[0], [2], [4], [6]."""
        cdef int i, place = recent.head
        cdef int peers = 0, ports = 0, half_open = 0, failed = 0
        cdef const Event* event
        if self.stamp > 0xFFFFFF00U:
            memset(self.stamps, 0, sizeof(self.stamps))
            self.stamp = 0
        self.stamp += 3
        for i in range(recent.count):
            place = (place if place else recent.room) - 1
            event = &recent.events[place]
            if not self.is_first(event.flow_id, self.stamp - 2) or event.left_us < since_us:
                continue
            half_open += event.half_open
            failed += event.failed
            peers += self.is_first(event.peer, self.stamp - 1)
            if event.port <= 65535:
                ports += self.is_first(event.port, self.stamp)
        counts[0], counts[2], counts[4], counts[6] = peers, ports, half_open, failed

    cdef bint is_first(self, uint64_t key, uint32_t stamp) noexcept nogil:
        """Enter the key into the set with this stamp; return whether it was new."""
        cdef uint64_t place = mix(key ^ stamp) & (PLACES - 1)
        while self.stamps[place] >= self.stamp - 2 and self.stamps[place] <= self.stamp:
            if self.stamps[place] == stamp and self.keys[place] == key:
                return False
            place = (place + 1) & (PLACES - 1)
        self.stamps[place] = stamp
        self.keys[place] = key
        return True
