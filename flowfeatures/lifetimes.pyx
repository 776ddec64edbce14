"""Hop 3, time: when flows leave, why, and the records they leave behind. docs/FEATURES.md section 2 says when.

Each flow has one timer, a lower bound of its next deadline or partial record: it is looked at when it rings, so that a
packet, which moves deadlines later, costs none. Records leave by due time, then arrival, never by bucket.

The trap: a deadline may come nearer too (a clock that steps back, a connection that closes, an emergency); whoever does
that calls `hasten`.
"""

import numpy as np

from libc.stdint cimport INT64_MAX
from libc.string cimport memcpy, memset

from flowfeatures.counters cimport NO_COUNTERS
from flowfeatures.flow cimport Meta, play, start_again
from flowfeatures.frames cimport LAST_US
from flowfeatures.key cimport sip13
from flowfeatures.packet cimport TCP
from flowfeatures.pool cimport ALL, EMBRYO, HALF_OPEN, NOBODY, at
from flowfeatures.prefetch cimport prefetch
from flowfeatures.records import FLOW_META, RECORD
from flowfeatures.vector cimport fill_record
from flowfeatures.wheel cimport UNSET

cdef enum:
    RECORDS_AT_ONCE = 512       # records handed over in one array, 0.4 MB: larger ones cost page faults
    RECORDS_PER_PACKET = 4      # the most one packet can make leave beside the sweep
    EMERGENCY_IDLE_US = 5_000_000
    EMERGENCY_HALF_OPEN_US = 1_000_000
    SMALLEST_EMERGENCY = 10     # a table this small has none

if sizeof(Meta) != FLOW_META.itemsize or sizeof(Record) != RECORD.itemsize:
    raise ImportError(
        f"records.py and flow.pxd disagree: {FLOW_META.itemsize} and {RECORD.itemsize} octets there, "
        f"{sizeof(Meta)} and {sizeof(Record)} here"
    )


cdef inline int64_t partial_after_us(uint32_t step) noexcept nogil:
    """When the next timed partial record is due after the start: 0.25, 1, 5 s, then every 30 s."""
    if step == 0:
        return 250_000
    if step == 1:
        return 1_000_000
    return 5_000_000 + <int64_t> (step - 2) * 30_000_000


cdef int64_t microseconds(seconds) except -1:
    return INT64_MAX if seconds == float("inf") else round(seconds * 1e6)


cdef bytes sixteen_octets(key, str name):
    """Return a key's octets: bytes(16), where somebody gave a number, would be sixteen zeros."""
    cdef bytes octets = bytes(memoryview(key))
    if len(octets) != 16:
        raise ValueError(f"{name} has 16 octets, got {len(octets)}")
    return octets


cdef class Lifetimes:
    """The flows of one table, their timers and the records that have left. `FlowTable` adds the packets."""

    def __cinit__(self, settings, flow_id_key, *_):
        cdef bytes names = sixteen_octets(flow_id_key, "flow_id_key")
        memcpy(&self.id_key, <const char*> names, 16)
        self.settings = settings
        self.active_us = microseconds(settings.active_timeout_s)
        self.tcp_idle_us = microseconds(settings.tcp_idle_timeout_s)
        self.other_idle_us = microseconds(settings.other_idle_timeout_s)
        self.half_open_us = microseconds(settings.half_open_timeout_s)
        self.linger_us = microseconds(settings.linger_s)
        self.partials = settings.partials
        self.max_flows = settings.max_flows
        self.calm_flows = <uint32_t> (settings.max_flows * 7 // 10)
        self.pool = FlowPool()
        self.sums = CounterPool()
        self.wheel = Wheel()
        self.new_buffer()

    # -- what Python sees ---------------------------------------------------------------------------------------

    def advance(self, now_us):
        """Move the clock forward to now_us; return whether all that is due has left. False: take the records first."""
        cdef bint done
        if not 0 <= now_us <= LAST_US:
            raise ValueError(f"now_us: {now_us}, wanted microseconds between 0 and {LAST_US} (the year 9999)")
        self.take_hold()
        try:
            if not self.clock_started or now_us > self.clock_us:
                self.clock_started = True
                self.clock_us = now_us
            with nogil:
                done = self.sweep()
        finally:
            self.in_use = False
        return done

    def flush(self):
        """Make live flows leave, oldest first; return whether all have. False: take the records and call again."""
        cdef bint done
        self.take_hold()
        try:
            with nogil:
                done = self.sweep() and self.end_all()
        finally:
            self.in_use = False
        return done

    def take_records(self):
        """Return the records that have left since the last call: RECORD[n], by time, then arrival."""
        self.take_hold()
        try:
            taken = self.buffer[: self.record_count]
            self.new_buffer()
        finally:
            self.in_use = False
        return taken

    @property
    def waiting(self):
        """Records that stand ready to be taken."""
        return self.record_count

    cdef int take_hold(self) except -1:
        """The interpreter's lock is released inside: refuse a second thread, which would work on half a packet."""
        if self.in_use:
            raise RuntimeError("this meter is in use by another thread, wanted one thread at a time")
        self.in_use = True
        return 0

    def new_buffer(self):
        cdef uint8_t[::1] octets
        self.buffer = np.empty(RECORDS_AT_ONCE, RECORD)
        octets = self.buffer.view(np.uint8)
        self.records = <Record*> &octets[0]
        self.record_count = 0

    # -- time ---------------------------------------------------------------------------------------------------

    cdef bint sweep(self) noexcept nogil:
        """Do all that is due before the clock; return False where the record buffer filled up first."""
        cdef uint32_t i, index, known = self.wheel.near_count
        self.wheel.collect(self.clock_us)
        for i in range(known, self.wheel.near_count):
            prefetch(at(self.pool, self.wheel.near[i]))
        while self.wheel.near_count:
            index = self.wheel.near[0]
            if self.wheel.timers[index].due_us >= self.clock_us:
                break
            if not self.records_fit():
                return False
            if self.wheel.near_count > 2:
                self.pool.prefetch_slot(at(self.pool, self.wheel.near[1]).tag)
                self.pool.prefetch_slot(at(self.pool, self.wheel.near[2]).tag)
            self.on_timer(index, self.wheel.timers[index].due_us)
        return True

    cdef void hasten(self, uint32_t index) noexcept nogil:
        """Set the flow's timer earlier where its next deadline has come nearer."""
        cdef int64_t due_us = self.next_due(at(self.pool, index))
        if self.wheel.timers[index].place == UNSET or due_us < self.wheel.timers[index].due_us:
            self.wheel.set(index, due_us)

    cdef void on_timer(self, uint32_t index, int64_t due_us) noexcept nogil:
        """End, cut, forget or report the flow if that is due at due_us; else wait on."""
        cdef Flow* flow = at(self.pool, index)
        cdef uint8_t reason = 0
        if self.next_due(flow) <= due_us:
            if self.deadline(flow, &reason) > due_us:
                self.leave(flow, PARTIAL, due_us)
                flow.partials += 1
            elif flow.dormant:
                self.vanish(index)
                return
            elif reason == ACTIVE_TIMEOUT:
                self.cut(index, due_us)
            else:
                self.end(index, reason, due_us)
                return
        self.wheel.set(index, self.next_due(flow))

    cdef int64_t deadline(self, const Flow* flow, uint8_t* reason) noexcept nogil:
        """Return when the flow ends and why; the earliest counts, on a tie in the order active, idle, linger."""
        cdef int64_t idle_us = self.tcp_idle_us if flow.proto == TCP else self.other_idle_us
        cdef int64_t due_us = flow.start_us + self.active_us
        cdef int64_t last_us = flow.last_us
        if flow.dormant:
            return last_us + idle_us
        reason[0] = ACTIVE_TIMEOUT
        if flow.half_open and self.half_open_us < idle_us:
            idle_us = self.half_open_us
        idle_us += last_us
        if self.emergency:
            idle_us = min(idle_us, max(
                last_us + <int64_t> (EMERGENCY_HALF_OPEN_US if flow.half_open else EMERGENCY_IDLE_US), self.emergency_us
            ))
        if idle_us < due_us:
            due_us = idle_us
            reason[0] = IDLE_TIMEOUT
        if flow.tcp_state == 3 and self.linger_us != INT64_MAX and flow.closed_us + self.linger_us < due_us:
            due_us = flow.closed_us + self.linger_us
            reason[0] = END_OF_FLOW
        return due_us

    cdef int64_t next_due(self, const Flow* flow) noexcept nogil:
        """Return when the flow next needs attention: its deadline or its next timed partial record."""
        cdef uint8_t reason = 0
        cdef int64_t due_us = self.deadline(flow, &reason)
        cdef int64_t partial_us
        if self.partials and not flow.dormant:
            partial_us = flow.start_us + partial_after_us(flow.partials)
            if partial_us < due_us:
                return partial_us
        return due_us

    # -- leaving ------------------------------------------------------------------------------------------------

    cdef void leave(self, Flow* flow, uint8_t reason, int64_t left_us) noexcept nogil:
        """Write one record of the flow as it stands."""
        cdef Record* record = &self.records[self.record_count]
        cdef Counters played
        if flow.counters == NO_COUNTERS:
            memset(&played, 0, sizeof(played))
            play(flow, &played)
            fill_record(flow, &played, record)
        else:
            fill_record(flow, self.sums.at(flow.counters), record)
        record.meta.flow_id = self.flow_id(flow)
        record.meta.left_us = left_us
        record.meta.end_reason = reason
        record.meta.partial = reason == PARTIAL
        flow.segment += 1
        self.record_count += 1
        self.records_left += 1
        self.partials_left += reason == PARTIAL

    cdef uint64_t flow_id(self, const Flow* flow) noexcept nogil:
        """Return 53 bits, which JavaScript and JSON readers keep exactly: a keyed hash of the flow key and its start."""
        cdef uint64_t[6] words
        memcpy(words, flow.key, sizeof(flow.key))
        words[5] = <uint64_t> flow.start_us
        return sip13(&self.id_key, words, 6) >> 11

    cdef void end(self, uint32_t index, uint8_t reason, int64_t left_us) noexcept nogil:
        """Let the flow leave its last record, and go."""
        self.leave(at(self.pool, index), reason, left_us)
        self.vanish(index)

    cdef void vanish(self, uint32_t index) noexcept nogil:
        """Take the flow out of everything it stands in, and see whether an emergency is over."""
        cdef Flow* flow = at(self.pool, index)
        if flow.counters != NO_COUNTERS:
            self.sums.leave(flow.counters)
        self.wheel.clear(index)
        self.pool.leave(index)
        if self.emergency and self.pool.live() <= self.calm_flows:
            self.emergency = False

    cdef void cut(self, uint32_t index, int64_t left_us) noexcept nogil:
        """Leave a record at the active timeout; the entry stays, counters zero, for one idle timeout from the cut."""
        cdef Flow* flow = at(self.pool, index)
        self.leave(flow, ACTIVE_TIMEOUT, left_us)
        if flow.counters != NO_COUNTERS:
            self.sums.leave(flow.counters)
            flow.counters = NO_COUNTERS
        start_again(flow)
        self.pool.move_to(index, 0)
        flow.last_us = left_us      # golden 21: a packet 130 s after the last one still keeps the direction
        flow.dormant = 1

    cdef bint end_all(self) noexcept nogil:
        """End every flow in order of arrival; return False where the record buffer filled up first."""
        cdef uint32_t index = self.pool.queues[ALL].head, ahead = index
        cdef Flow* flow
        cdef int i
        for i in range(8):
            if ahead != NOBODY:
                ahead = at(self.pool, ahead).next[ALL]
        while index != NOBODY:
            if not self.records_fit():
                return False
            if ahead != NOBODY:
                self.pool.prefetch_slot(at(self.pool, ahead).tag)
                ahead = at(self.pool, ahead).next[ALL]
            flow = at(self.pool, index)
            if flow.dormant:
                self.vanish(index)
            else:
                self.end(index, END_OF_FLOW if flow.tcp_state == 3 else FORCED_END, self.clock_us)
            index = self.pool.queues[ALL].head
        return True

    # -- a full table -------------------------------------------------------------------------------------------

    cdef void evict(self) noexcept nogil:
        """Make room for one flow: a half-open one leaves first, else one of few packets, else the oldest."""
        cdef uint32_t index = self.pool.queues[HALF_OPEN].head
        if not self.emergency and self.max_flows >= SMALLEST_EMERGENCY:
            self.begin_emergency()
        if index == NOBODY:
            index = self.pool.queues[EMBRYO].head
        if index == NOBODY:
            index = self.pool.queues[ALL].head
        self.evicted += 1
        if at(self.pool, index).dormant:
            self.vanish(index)
        else:
            self.end(index, LACK_OF_RESOURCES, self.clock_us)

    cdef void begin_emergency(self) noexcept nogil:
        """Shorten the timeouts. It takes 3 in 10 of the table's flows to begin one again, which pays for this walk."""
        cdef uint32_t index = self.pool.queues[ALL].head
        self.emergency = True
        self.emergency_us = self.clock_us
        self.emergencies += 1
        while index != NOBODY:
            self.hasten(index)
            index = at(self.pool, index).next[ALL]

    cdef bint records_fit(self) noexcept nogil:
        """Return whether the record buffer has room for all that one packet can make leave."""
        return self.record_count + RECORDS_PER_PACKET <= RECORDS_AT_ONCE
