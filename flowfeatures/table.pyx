"""Hop 3: the flow table. A packet finds its biflow and changes it; records leave when flows end, and partial ones before.

docs/FEATURES.md section 2 says when. Every flow has one alarm in a heap ordered by (due time, arrival): a lower bound of
its next deadline, checked when it comes up, so that a packet costs no heap operation. Memory is bounded by `max_flows`; the hash is
keyed by a random seed that no record shows; records leave by time, then arrival, never by bucket.
"""

import os

import numpy as np

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flowfeatures.columns import UNDECODED_REASONS
from flowfeatures.alarms cimport Alarm, Alarms
from flowfeatures.flow cimport Counters, Flow, Meta, Record, account
from flowfeatures.frames cimport Frame, FrameBlock
from flowfeatures.key cimport flow_key, is_one_end, sip13
from flowfeatures.packet cimport ACK, DECODED, SYN, TCP, Packet, decode
from flowfeatures.pool cimport ALL, HALF_OPEN, NOBODY, FlowPool, at
from flowfeatures.records import FLOW_META, RECORD
from flowfeatures.vector cimport fill_record

cdef enum:
    RECORDS_AT_ONCE = 2048      # records handed over in one array, 1.5 MB
    RECORDS_PER_PACKET = 4      # the most one packet can make leave beside the sweep
    ALARMS_PER_PACKET = 4
    SUPER_FRAME_BYTES = 1500
    CLOCK_STEP_US = 60_000_000  # a larger step back means that the clock was set, a smaller one that a packet is late

cdef enum:                      # columns.END_REASONS
    PARTIAL = 0
    IDLE_TIMEOUT = 1
    ACTIVE_TIMEOUT = 2
    END_OF_FLOW = 3
    FORCED_END = 4
    LACK_OF_RESOURCES = 5

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


cdef class FlowTable:
    """All live flows of one observation point. `hash_seed` places them, `flow_id_key` names them; 16 octets each."""

    def __cinit__(self, settings, flow_id_key, hash_seed = None):
        cdef bytes seed = os.urandom(16) if hash_seed is None else bytes(hash_seed)
        cdef bytes names = bytes(flow_id_key)
        if len(seed) != 16 or len(names) != 16:
            raise ValueError(f"hash_seed and flow_id_key have 16 octets each, got {len(seed)} and {len(names)}")
        memcpy(&self.hash_key, <const char*> seed, 16)
        memcpy(&self.id_key, <const char*> names, 16)
        self.settings = settings
        self.active_us = microseconds(settings.active_timeout_s)
        self.tcp_idle_us = microseconds(settings.tcp_idle_timeout_s)
        self.other_idle_us = microseconds(settings.other_idle_timeout_s)
        self.half_open_us = microseconds(settings.half_open_timeout_s)
        self.linger_us = microseconds(settings.linger_s)
        self.partials = settings.partials
        self.vlan_in_key = settings.vlan_in_key
        self.max_flows = settings.max_flows
        self.record_capacity = RECORDS_AT_ONCE
        self.pool = FlowPool()
        self.alarms = Alarms()
        self.new_buffer()

    # -- what Python sees ---------------------------------------------------------------------------------------

    def add_frames(self, FrameBlock block not None, int start, const uint8_t[::1] labels = None):
        """Account the block's frames from `start`; return the index of the first one not taken.

        Less than the block's count means that the records must be taken first. `labels[n]` is the label of the
        capture's n-th frame, counted from 1.
        """
        cdef int at = start
        cdef uint64_t number, label_count = 0 if labels is None else labels.shape[0]
        cdef uint8_t label
        cdef int reason
        cdef Packet packet
        while at < block.count:
            if not self.records_fit():
                break
            self.make_room()
            with nogil:
                while at < block.count and self.has_room():
                    reason = decode(&block.frames[at], &packet)
                    if reason != DECODED:
                        self.reasons[reason] += 1
                        at += 1
                        continue
                    self.advance_clock(packet.ts_us)
                    if not self.sweep():
                        break
                    number = block.first_number + at
                    label = labels[number] if number < label_count else 0
                    self.add(&packet, label)
                    at += 1
        return at

    def advance(self, int64_t now_us):
        """Move the clock forward to now_us; return whether all that is due has left. False: take the records first."""
        cdef bint done
        if not self.clock_started or now_us > self.clock_us:
            self.clock_started = True
            self.clock_us = now_us
        with nogil:
            done = self.sweep()
        return done

    def flush(self):
        """Make live flows leave, oldest first; return whether all have. False: take the records and call again."""
        cdef uint32_t index
        cdef Flow* flow
        if not self.sweep():
            return False
        while self.pool.lists[ALL].head != NOBODY:
            if not self.records_fit():
                return False
            index = self.pool.lists[ALL].head
            flow = at(self.pool, index)
            if flow.dormant:
                self.pool.leave(index)
            else:
                self.end(index, END_OF_FLOW if flow.now.tcp_state == 3 else FORCED_END, self.clock_us)
        return True

    def take_records(self):
        """Return the records that have left since the last call: RECORD[n], by time, then arrival."""
        taken = self.buffer[: self.record_count]
        self.new_buffer()
        return taken

    @property
    def waiting(self):
        """Records that stand ready to be taken."""
        return self.record_count

    @property
    def counters(self):
        """Return the counts since the table was made; see `FlowMeter.counters`."""
        undecoded = {name: self.reasons[i + 1] for i, name in enumerate(UNDECODED_REASONS) if self.reasons[i + 1]}
        return {
            "packets": self.decoded + sum(undecoded.values()),
            "decoded": self.decoded,
            "undecoded": undecoded,
            "super_frames": self.super_frames,
            "flows": self.flows,
            "records": self.records_left,
            "partial_records": self.partials_left,
            "evicted_flows": self.evicted,
            "live_flows": self.pool.live(),
        }

    def new_buffer(self):
        cdef uint8_t[::1] octets
        self.buffer = np.zeros(self.record_capacity, RECORD)
        octets = self.buffer.view(np.uint8)
        self.records = <Record*> &octets[0]
        self.record_count = 0

    # -- one packet ---------------------------------------------------------------------------------------------

    cdef void advance_clock(self, int64_t ts_us) noexcept nogil:
        if not self.clock_started or ts_us > self.clock_us or self.clock_us - ts_us > CLOCK_STEP_US:
            self.clock_us = ts_us
            self.clock_started = True

    cdef void add(self, const Packet* packet, uint8_t label) noexcept nogil:
        """Account one packet; the sweep up to its time has been done."""
        cdef uint64_t[5] key
        cdef bint from_low = flow_key(packet, self.vlan_in_key, key)
        cdef uint64_t hashed = sip13(&self.hash_key, key, 5)
        cdef uint32_t index = self.pool.find(key, hashed)
        cdef Flow* flow
        cdef bint fwd, was_closed, steps_back
        cdef uint32_t packets
        self.decoded += 1
        self.super_frames += packet.ip_bytes > SUPER_FRAME_BYTES
        if index != NOBODY and at(self.pool, index).now.tcp_state == 3 and packet.flags & SYN:
            self.end(index, END_OF_FLOW, self.clock_us)
            index = NOBODY
        if index == NOBODY:
            index = self.open_flow(packet, key, from_low, hashed)
        flow = at(self.pool, index)
        fwd = from_low == flow.initiator_is_low
        was_closed = flow.now.tcp_state == 3
        steps_back = packet.ts_us < flow.now.last_us
        account(flow, packet, fwd)
        packets = flow.now.fwd.packets + flow.now.bwd.packets
        if packets == 1:
            flow.dormant = 0
            flow.flow_id = self.name_flow(flow)
        if label:
            flow.now.packet_label = label
        if flow.listed_half_open and not flow.now.half_open:
            self.pool.unlink(index, HALF_OPEN)
            flow.listed_half_open = 0
        if packets == 1 or steps_back or (flow.now.tcp_state == 3) != was_closed:
            self.hasten(index)
        if self.partials and (packets == 8 or packets == 64 or packets == 512):
            self.leave(flow, PARTIAL, self.clock_us)

    cdef void hasten(self, uint32_t index) noexcept nogil:
        """Set the flow's alarm earlier where its next deadline has come nearer."""
        cdef int64_t due_us = self.next_alarm(at(self.pool, index))
        if due_us < at(self.pool, index).alarm_us:
            self.set_alarm(index, due_us)

    cdef uint64_t name_flow(self, const Flow* flow) noexcept nogil:
        """Return the flow id: 53 bits, which JavaScript and JSON readers keep exactly."""
        cdef uint64_t[6] words
        memcpy(words, flow.key, sizeof(flow.key))
        words[5] = <uint64_t> flow.now.start_us
        return sip13(&self.id_key, words, 6) >> 11

    cdef uint32_t open_flow(
        self, const Packet* packet, const uint64_t* key, bint from_low, uint64_t hashed
    ) noexcept nogil:
        """Make room for a flow, enter it, and return its index. A SYN+ACK comes from the responder."""
        cdef uint32_t index
        cdef Flow* flow
        cdef bint reversed = packet.proto == TCP and packet.flags & (SYN | ACK) == (SYN | ACK)
        if self.pool.live() >= self.max_flows:
            self.evict_oldest()
        index = self.pool.enter(key, hashed)
        flow = at(self.pool, index)
        flow.arrival = self.arrivals
        self.arrivals += 1
        flow.alarm_us = INT64_MAX
        flow.proto = packet.proto
        flow.ip_version = packet.ip_version
        flow.group = packet.group
        flow.idle_us = self.tcp_idle_us if packet.proto == TCP else self.other_idle_us
        flow.initiator_is_low = from_low != reversed or is_one_end(packet)
        memcpy(&flow.dst[0] if reversed else &flow.src[0], packet.src, 16)
        memcpy(&flow.src[0] if reversed else &flow.dst[0], packet.dst, 16)
        flow.src_port = packet.dst_port if reversed else packet.src_port
        flow.dst_port = packet.src_port if reversed else packet.dst_port
        if packet.proto == TCP and packet.flags & (SYN | ACK) == SYN:
            self.pool.link(index, HALF_OPEN)
            flow.listed_half_open = 1
        self.flows += 1
        return index

    # -- time ---------------------------------------------------------------------------------------------------

    cdef bint sweep(self) noexcept nogil:
        """Do all that is due before the clock; return False where the record buffer filled up first."""
        cdef Alarm alarm
        while self.alarms.count and self.alarms.heap[0].due_us < self.clock_us:
            if not self.records_fit():
                return False
            alarm = self.alarms.heap[0]
            self.alarms.pop()
            if self.is_live(&alarm):
                at(self.pool, alarm.flow).alarm_us = INT64_MAX
                self.on_alarm(alarm.flow, alarm.due_us)
        return True

    cdef bint is_live(self, const Alarm* alarm) noexcept nogil:
        """An alarm is stale where its flow is gone or has set another one since."""
        cdef const Flow* flow = at(self.pool, alarm.flow)
        return flow.in_use and flow.arrival == alarm.arrival and flow.alarm_us == alarm.due_us

    cdef void set_alarm(self, uint32_t index, int64_t due_us) noexcept nogil:
        """Wake for the flow at due_us; an entry it had before is stale from now on."""
        cdef Flow* flow = at(self.pool, index)
        cdef Alarm alarm
        alarm.due_us = due_us
        alarm.arrival = flow.arrival
        alarm.flow = index
        flow.alarm_us = due_us
        self.alarms.push(alarm)

    cdef void on_alarm(self, uint32_t index, int64_t due_us) noexcept nogil:
        """End, cut, forget or report the flow if that is due at due_us; else wait on."""
        cdef Flow* flow = at(self.pool, index)
        cdef uint8_t reason = 0
        if self.next_alarm(flow) <= due_us:
            if self.deadline(flow, &reason) > due_us:
                self.leave(flow, PARTIAL, due_us)
                flow.now.partials += 1
            elif flow.dormant:
                self.pool.leave(index)
                return
            elif reason == ACTIVE_TIMEOUT:
                self.cut(index, due_us)
            else:
                self.end(index, reason, due_us)
                return
        self.set_alarm(index, self.next_alarm(flow))

    cdef int64_t deadline(self, const Flow* flow, uint8_t* reason) noexcept nogil:
        """Return when the flow ends and why; the earliest counts, on a tie in the order active, idle, linger."""
        cdef const Counters* now = &flow.now
        cdef int64_t idle_us = flow.idle_us
        cdef int64_t due_us = now.start_us + self.active_us
        if flow.dormant:
            return now.last_us + idle_us
        reason[0] = ACTIVE_TIMEOUT
        if now.half_open and self.half_open_us < idle_us:
            idle_us = self.half_open_us
        if now.last_us + idle_us < due_us:
            due_us = now.last_us + idle_us
            reason[0] = IDLE_TIMEOUT
        if now.tcp_state == 3 and self.linger_us != INT64_MAX and now.closed_us + self.linger_us < due_us:
            due_us = now.closed_us + self.linger_us
            reason[0] = END_OF_FLOW
        return due_us

    cdef int64_t next_alarm(self, const Flow* flow) noexcept nogil:
        """Return when the flow next needs attention: its deadline or its next timed partial record."""
        cdef uint8_t reason = 0
        cdef int64_t due_us = self.deadline(flow, &reason)
        cdef int64_t partial_us
        if self.partials and not flow.dormant:
            partial_us = flow.now.start_us + partial_after_us(flow.now.partials)
            if partial_us < due_us:
                return partial_us
        return due_us

    # -- leaving ------------------------------------------------------------------------------------------------

    cdef void leave(self, Flow* flow, uint8_t reason, int64_t left_us) noexcept nogil:
        """Write one record of the flow as it stands."""
        cdef Record* record = &self.records[self.record_count]
        fill_record(flow, record)
        record.meta.left_us = left_us
        record.meta.end_reason = reason
        record.meta.partial = reason == PARTIAL
        flow.now.segment += 1
        self.record_count += 1
        self.records_left += 1
        self.partials_left += reason == PARTIAL

    cdef void end(self, uint32_t index, uint8_t reason, int64_t left_us) noexcept nogil:
        self.leave(at(self.pool, index), reason, left_us)
        self.pool.leave(index)

    cdef void cut(self, uint32_t index, int64_t left_us) noexcept nogil:
        """Leave a record at the active timeout; the entry stays, counters zero, for one idle timeout from the cut."""
        cdef Flow* flow = at(self.pool, index)
        self.leave(flow, ACTIVE_TIMEOUT, left_us)
        memset(&flow.now, 0, sizeof(flow.now))
        flow.now.last_us = left_us      # golden 21: a packet 130 s after the last one still keeps the direction
        flow.dormant = 1

    cdef void evict_oldest(self) noexcept nogil:
        """Make room: the oldest half-open flow leaves, else the oldest."""
        cdef uint32_t index = self.pool.lists[HALF_OPEN].head
        if index == NOBODY:
            index = self.pool.lists[ALL].head
        self.evicted += 1
        if at(self.pool, index).dormant:
            self.pool.leave(index)
        else:
            self.end(index, LACK_OF_RESOURCES, self.clock_us)

    # -- room ---------------------------------------------------------------------------------------------------

    cdef bint records_fit(self) noexcept nogil:
        return self.record_count + RECORDS_PER_PACKET <= self.record_capacity

    cdef bint has_room(self) noexcept nogil:
        """Return whether one more packet needs no allocation."""
        return self.records_fit() and self.pool.has_room() and (
            self.alarms.count + ALARMS_PER_PACKET <= self.alarms.capacity
        )

    cdef int make_room(self) except -1:
        """Grow what is full, outside of the packet loop."""
        if not self.pool.has_room():
            self.pool.make_room()
        if self.alarms.count + ALARMS_PER_PACKET > self.alarms.capacity:
            # More than two entries a flow are mostly stale ones, which a clock that runs backwards leaves behind.
            if self.alarms.count > 2 * <uint64_t> self.pool.live() + 1024:
                self.drop_stale_alarms()
            else:
                self.alarms.double()
        return 0

    cdef void drop_stale_alarms(self) noexcept nogil:
        cdef uint64_t i, kept = 0
        for i in range(self.alarms.count):
            if self.is_live(&self.alarms.heap[i]):
                self.alarms.heap[kept] = self.alarms.heap[i]
                kept += 1
        self.alarms.count = kept
        self.alarms.heapify()
