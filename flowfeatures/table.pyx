"""Hop 3: the flow table. A packet finds its biflow and changes it; `lifetimes.pyx` says when flows leave.

Packets come in batches, so that memory is asked for before it is needed: while one packet is accounted, the flows of the
next ones are on their way into the cache. Memory is bounded by `max_flows`; the hash is keyed by a random seed that no
record shows.
"""

import os

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from flowfeatures.columns import UNDECODED_REASONS
from flowfeatures.counters cimport NO_COUNTERS, Note, account
from flowfeatures.flow cimport NOTES, Flow, live_on, open_flow, play, take_note
from flowfeatures.frames cimport FrameBlock
from flowfeatures.key cimport flow_key, sip13
from flowfeatures.lifetimes cimport END_OF_FLOW, PARTIAL, sixteen_octets
from flowfeatures.packet cimport ACK, DECODED, SYN, TCP, decode
from flowfeatures.pool cimport EMBRYO, HALF_OPEN, NOBODY, at
from flowfeatures.prefetch cimport prefetch

cdef enum:
    BATCH = 32                  # packets whose flows are fetched at once
    AHEAD = 6                   # frames whose octets are fetched before they are decoded
    SUPER_FRAME_BYTES = 1500
    EMBRYO_PACKETS = 3
    CLOCK_STEP_US = 60_000_000  # a larger step back means that the clock was set, a smaller one that a packet is late


cdef class FlowTable(Lifetimes):
    """All live flows of one observation point. `hash_seed` places them, `flow_id_key` names them; 16 octets each."""

    def __cinit__(self, settings, flow_id_key, hash_seed = None):
        cdef bytes seed = os.urandom(16) if hash_seed is None else sixteen_octets(hash_seed, "hash_seed")
        memcpy(&self.hash_key, <const char*> seed, 16)
        self.vlan_in_key = settings.vlan_in_key
        self.batch = <Arrival*> calloc(BATCH, sizeof(Arrival))
        if self.batch == NULL:
            raise MemoryError("a batch of packets")

    def __dealloc__(self):
        free(self.batch)

    # -- what Python sees ---------------------------------------------------------------------------------------

    def add_frames(self, FrameBlock block not None, int start, const uint8_t[::1] labels = None):
        """Account the block's frames from `start`; return the index of the first one not taken.

        Less than the block's count means that the records must be taken first. `labels[n]` is the label of the
        capture's n-th frame, counted from 1.
        """
        cdef int place = start, count, taken = 0
        cdef uint64_t label_count = 0 if labels is None else labels.shape[0]
        cdef const uint8_t* label = &labels[0] if label_count else NULL
        if not 0 <= start <= block.count:
            raise IndexError(f"start: {start}, wanted 0 to the block's {block.count}")
        self.take_hold()
        try:
            while place < block.count:
                self.make_room()
                with nogil:
                    while place < block.count:
                        count = min(block.count - place, <int> BATCH)
                        self.decode_batch(&block.frames[place], count)
                        taken = self.take_batch(count, label, label_count, block.first_number + place)
                        place += taken
                        if taken < count:
                            break
                if taken < count and not self.records_fit():
                    break
        finally:
            self.in_use = False
        return place

    def shed_frames(self, FrameBlock block not None):
        """Decode the block's frames and count them, and let no flow know: there is no time for more."""
        cdef int i, reason
        cdef Packet packet
        self.take_hold()
        with nogil:
            for i in range(block.count):
                if i + AHEAD < block.count:
                    prefetch(block.frames[i + AHEAD].octets)
                reason = decode(&block.frames[i], &packet)
                if reason == DECODED:
                    self.decoded += 1
                    self.shed += 1
                    self.super_frames += packet.ip_bytes > SUPER_FRAME_BYTES
                else:
                    self.reasons[reason] += 1
        self.in_use = False

    @property
    def counters(self):
        """Return the counts since the table was made; see `FlowMeter.counters`."""
        undecoded = {name: self.reasons[i + 1] for i, name in enumerate(UNDECODED_REASONS) if self.reasons[i + 1]}
        return {
            "packets": self.decoded + sum(undecoded.values()),
            "decoded": self.decoded,
            "metered": self.metered,
            "shed_packets": self.shed,
            "undecoded": undecoded,
            "super_frames": self.super_frames,
            "flows": self.arrivals,
            "records": self.records_left,
            "partial_records": self.partials_left,
            "evicted_flows": self.evicted,
            "emergencies": self.emergencies,
            "live_flows": self.pool.live(),
        }

    # -- a batch ------------------------------------------------------------------------------------------------

    cdef void decode_batch(self, const Frame* frames, int count) noexcept nogil:
        """Decode `count` frames, and ask for the memory their flows stand in."""
        cdef int i
        cdef Arrival* arrival
        for i in range(min(count, <int> AHEAD)):
            prefetch(frames[i].octets)
        for i in range(count):
            if i + AHEAD < count:
                prefetch(frames[i + AHEAD].octets)
            arrival = &self.batch[i]
            arrival.reason = decode(&frames[i], &arrival.packet)
            if arrival.reason == DECODED:
                arrival.from_low = flow_key(&arrival.packet, self.vlan_in_key, arrival.key)
                arrival.hashed = sip13(&self.hash_key, arrival.key, 5)
                self.pool.prefetch_slot(arrival.hashed)
        for i in range(count):
            arrival = &self.batch[i]
            arrival.likely = self.pool.prefetch_flow(arrival.hashed) if arrival.reason == DECODED else NOBODY
        for i in range(count):
            if self.batch[i].likely != NOBODY:
                self.sums.prefetch(at(self.pool, self.batch[i].likely).counters)

    cdef int take_batch(self, int count, const uint8_t* labels, uint64_t label_count, uint64_t number) noexcept nogil:
        """Account the decoded frames; return how many were taken before room ran out. `number` is the first one's."""
        cdef int i
        cdef Arrival* arrival
        for i in range(count):
            arrival = &self.batch[i]
            if arrival.reason != DECODED:
                self.reasons[arrival.reason] += 1
                continue
            if not self.has_room():
                return i
            # What the clock has passed leaves before it is set back: else it would depend on who looked when.
            if self.is_far_behind(&arrival.packet) and not self.sweep():
                return i
            self.advance_clock(&arrival.packet)
            if not self.sweep() or not self.records_fit():
                return i
            self.decoded += 1
            self.add(arrival, labels[number + i] if number + i < label_count else 0)
        return count

    # -- one packet ---------------------------------------------------------------------------------------------

    cdef bint is_far_behind(self, const Packet* packet) noexcept nogil:
        """Return whether the packet is not late but says that the clock was set."""
        return self.clock_started and self.clock_us - packet.ts_us > CLOCK_STEP_US

    cdef void advance_clock(self, const Packet* packet) noexcept nogil:
        """Move the clock to the packet's time, unless the packet is late."""
        if not self.clock_started or packet.ts_us > self.clock_us or self.is_far_behind(packet):
            self.clock_us = packet.ts_us
            self.clock_started = True

    cdef void add(self, const Arrival* arrival, uint8_t label) noexcept nogil:
        """Account one packet; the sweep up to its time has been done."""
        cdef const Packet* packet = &arrival.packet
        cdef uint32_t index = self.pool.find(arrival.key, arrival.hashed)
        cdef Flow* flow
        cdef bint fwd, was_closed, steps_back
        cdef Note note
        self.super_frames += packet.ip_bytes > SUPER_FRAME_BYTES
        if index != NOBODY and at(self.pool, index).tcp_state == 3 and packet.flags & SYN:
            self.end(index, END_OF_FLOW, self.clock_us)
            index = NOBODY
        if index == NOBODY:
            index = self.open(arrival)
        flow = at(self.pool, index)
        fwd = flow.is_one_end or arrival.from_low == flow.initiator_is_low
        was_closed = flow.tcp_state == 3
        steps_back = packet.ts_us < flow.last_us
        if flow.packets < NOTES:
            take_note(packet, fwd, &flow.notes[flow.packets])
        else:
            take_note(packet, fwd, &note)
            if flow.counters == NO_COUNTERS:
                flow.counters = self.sums.enter()
                play(flow, self.sums.at(flow.counters))
            account(self.sums.at(flow.counters), &note)
        live_on(flow, packet, fwd)
        self.metered += 1
        if label:
            flow.packet_label = label
        if flow.rank:
            self.rank_again(index)
        if flow.packets == 1 or steps_back or (flow.tcp_state == 3) != was_closed:
            self.hasten(index)
        if self.partials and (flow.packets == 8 or flow.packets == 64 or flow.packets == 512):
            self.leave(flow, PARTIAL, self.clock_us)

    cdef void rank_again(self, uint32_t index) noexcept nogil:
        """A flow that is answered is half-open no more; one of more than three packets is no embryo."""
        cdef Flow* flow = at(self.pool, index)
        if flow.rank == HALF_OPEN:
            if not flow.half_open:
                self.pool.move_to(index, EMBRYO if flow.packets <= EMBRYO_PACKETS else 0)
        elif flow.packets > EMBRYO_PACKETS:
            self.pool.move_to(index, 0)

    cdef uint32_t open(self, const Arrival* arrival) noexcept nogil:
        """Make room for a flow, enter it, and return its index. A SYN+ACK comes from the responder."""
        cdef const Packet* packet = &arrival.packet
        cdef bint is_tcp = packet.proto == TCP
        cdef uint32_t index
        if self.pool.live() >= self.max_flows:
            self.evict()
        index = self.pool.enter(arrival.key, arrival.hashed)
        open_flow(at(self.pool, index), packet, arrival.from_low, is_tcp and packet.flags & (SYN | ACK) == (SYN | ACK))
        self.wheel.enter(index, self.arrivals)
        self.arrivals += 1
        self.pool.move_to(index, HALF_OPEN if is_tcp and packet.flags & (SYN | ACK) == SYN else EMBRYO)
        return index

    # -- room ---------------------------------------------------------------------------------------------------

    cdef bint has_room(self) noexcept nogil:
        """Return whether one more packet needs no allocation."""
        return self.pool.has_room() and self.sums.has_room()

    cdef int make_room(self) except -1:
        """Grow what is full, outside of the packet loop."""
        if not self.pool.has_room():
            self.pool.make_room()
            self.wheel.make_room(self.pool.capacity())
        self.sums.make_room()
        return 0
