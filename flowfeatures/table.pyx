"""Hop 3: the flow table. A packet finds its biflow, changes it, and records leave: when flows end, and in between as partials.

FEATURES.md section 2 says when. Every flow has one alarm in a heap ordered by (due time, arrival): a lower bound of its next
deadline, checked when it comes up, so that a packet costs no heap operation. Memory is bounded by `max_flows`; the hash is
keyed by a random seed that no record shows; records leave by time, then arrival, never by bucket.
"""

import os

import numpy as np

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from flowfeatures.columns import UNDECODED_REASONS
from flowfeatures.flow cimport Counters, Flow, Meta, Record, account
from flowfeatures.frames cimport Frame, FrameBlock
from flowfeatures.hashing cimport sip13
from flowfeatures.packet cimport ACK, DECODED, SYN, TCP, Packet, decode
from flowfeatures.records import FLOW_META, RECORD
from flowfeatures.vector cimport fill_columns

cdef enum:
    NOBODY = 0xFFFFFFFF         # no flow
    CHUNK_BITS = 10             # flows are allocated 1,024 at a time and never move
    CHUNK = 1 << CHUNK_BITS
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
        self.queues[0].head = self.queues[0].tail = self.queues[1].head = self.queues[1].tail = NOBODY
        self.record_capacity = RECORDS_AT_ONCE
        self.mask = 1023
        self.slots = <Slot*> calloc(self.mask + 1, sizeof(Slot))
        self.alarm_capacity = 1024
        self.alarms = <Alarm*> malloc(self.alarm_capacity * sizeof(Alarm))
        if self.slots == NULL or self.alarms == NULL:
            raise MemoryError("flow table")
        self.new_buffer()

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)
        free(self.vacant)
        free(self.slots)
        free(self.alarms)

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
            if self.record_count + RECORDS_PER_PACKET > self.record_capacity:
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

    def flush(self):
        """Make live flows leave, oldest first; return whether all have. False: take the records and call again."""
        cdef uint32_t index
        cdef Flow* flow
        if not self.sweep():
            return False
        while self.queues[0].head != NOBODY:
            if self.record_count + RECORDS_PER_PACKET > self.record_capacity:
                return False
            index = self.queues[0].head
            flow = self.at(index)
            if flow.dormant:
                self.forget(index)
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
            "live_flows": self.made - self.vacant_count,
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
        cdef uint32_t index = self.find(key, hashed)
        cdef Flow* flow
        cdef bint fwd, was_closed
        cdef uint32_t packets
        self.decoded += 1
        self.super_frames += packet.ip_bytes > SUPER_FRAME_BYTES
        if index != NOBODY and self.at(index).now.tcp_state == 3 and packet.flags & SYN:
            self.end(index, END_OF_FLOW, self.clock_us)
            index = NOBODY
        if index == NOBODY:
            index = self.open_flow(packet, key, from_low, hashed)
        flow = self.at(index)
        fwd = from_low == flow.initiator_is_low
        was_closed = flow.now.tcp_state == 3
        account(flow, packet, fwd)
        packets = flow.now.fwd.packets + flow.now.bwd.packets
        if packets == 1:
            flow.dormant = 0
            flow.flow_id = self.name_flow(flow)
        if label:
            flow.now.packet_label = label
        if flow.listed_half_open and not flow.now.half_open:
            self.unlink(index, 1)
            flow.listed_half_open = 0
        if packets == 1 or packet.ts_us < self.clock_us or (flow.now.tcp_state == 3) != was_closed:
            self.hasten(index)
        if self.partials and (packets == 8 or packets == 64 or packets == 512):
            self.leave(flow, PARTIAL, self.clock_us)

    cdef void hasten(self, uint32_t index) noexcept nogil:
        """Set the flow's alarm earlier where its next deadline has come nearer."""
        cdef int64_t due_us = self.next_alarm(self.at(index))
        if due_us < self.at(index).alarm_us:
            self.push_alarm(index, due_us)

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
        if self.made - self.vacant_count >= self.max_flows:
            self.evict_oldest()
        if self.vacant_count:
            self.vacant_count -= 1
            index = self.vacant[self.vacant_count]
        else:
            index = self.made
            self.made += 1
        flow = self.at(index)
        memset(flow, 0, sizeof(Flow))
        memcpy(flow.key, key, sizeof(flow.key))
        flow.tag = <uint32_t> hashed
        flow.arrival = self.arrivals
        self.arrivals += 1
        flow.alarm_us = INT64_MAX
        flow.in_use = 1
        flow.proto = packet.proto
        flow.ip_version = packet.ip_version
        flow.group = packet.group
        flow.idle_us = self.tcp_idle_us if packet.proto == TCP else self.other_idle_us
        flow.initiator_is_low = from_low != reversed or is_one_end(packet)
        memcpy(&flow.dst[0] if reversed else &flow.src[0], packet.src, 16)
        memcpy(&flow.src[0] if reversed else &flow.dst[0], packet.dst, 16)
        flow.src_port = packet.dst_port if reversed else packet.src_port
        flow.dst_port = packet.src_port if reversed else packet.dst_port
        self.insert_slot(flow.tag, index)
        self.link(index, 0)
        if packet.proto == TCP and packet.flags & SYN and not reversed:
            self.link(index, 1)
            flow.listed_half_open = 1
        self.flows += 1
        return index

    # -- time ---------------------------------------------------------------------------------------------------

    cdef bint sweep(self) noexcept nogil:
        """Do all that is due before the clock; return False where the record buffer filled up first."""
        cdef Alarm alarm
        cdef Flow* flow
        while self.alarm_count and self.alarms[0].due_us < self.clock_us:
            if self.record_count + RECORDS_PER_PACKET > self.record_capacity:
                return False
            alarm = self.alarms[0]
            self.pop_alarm()
            flow = self.at(alarm.flow)
            if flow.in_use and flow.arrival == alarm.arrival and flow.alarm_us == alarm.due_us:
                flow.alarm_us = INT64_MAX
                self.on_alarm(alarm.flow, alarm.due_us)
        return True

    cdef void on_alarm(self, uint32_t index, int64_t due_us) noexcept nogil:
        """End, cut, forget or report the flow if that is due at due_us; else wait on."""
        cdef Flow* flow = self.at(index)
        cdef uint8_t reason = 0
        if self.next_alarm(flow) <= due_us:
            if self.deadline(flow, &reason) > due_us:
                self.leave(flow, PARTIAL, due_us)
                flow.now.partials += 1
            elif flow.dormant:
                self.forget(index)
                return
            elif reason == ACTIVE_TIMEOUT:
                self.cut(index, due_us)
            else:
                self.end(index, reason, due_us)
                return
        self.push_alarm(index, self.next_alarm(flow))

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
        cdef Meta* meta = &record.meta
        cdef const Counters* now = &flow.now
        self.record_count += 1
        self.records_left += 1
        self.partials_left += reason == PARTIAL
        meta.flow_id = flow.flow_id
        meta.start_us = now.start_us
        meta.end_us = now.last_us
        meta.left_us = left_us
        meta.fwd_wire_bytes = now.fwd.wire_bytes
        meta.bwd_wire_bytes = now.bwd.wire_bytes
        meta.fwd_packets = now.fwd.packets
        meta.bwd_packets = now.bwd.packets
        meta.segment = now.segment
        memcpy(meta.src, flow.src, 16)
        memcpy(meta.dst, flow.dst, 16)
        meta.src_port = flow.src_port
        meta.dst_port = flow.dst_port
        memcpy(meta.vlan, flow.vlan, sizeof(flow.vlan))
        memcpy(meta.src_mac, flow.src_mac, 6)
        memcpy(meta.dst_mac, flow.dst_mac, 6)
        meta.proto = flow.proto
        meta.ip_version = flow.ip_version
        meta.end_reason = reason
        meta.partial = reason == PARTIAL
        meta.half_open = now.half_open
        meta.handshake = flow.handshake
        meta.group = flow.group
        meta.fwd_rst = now.fwd.rst > 0
        meta.bwd_rst = now.bwd.rst > 0
        meta.packet_label = now.packet_label
        fill_columns(flow, record.columns)
        flow.now.segment += 1

    cdef void end(self, uint32_t index, uint8_t reason, int64_t left_us) noexcept nogil:
        self.leave(self.at(index), reason, left_us)
        self.forget(index)

    cdef void cut(self, uint32_t index, int64_t left_us) noexcept nogil:
        """Leave a record at the active timeout; the entry stays, counters zero, for one idle timeout from the cut."""
        cdef Flow* flow = self.at(index)
        self.leave(flow, ACTIVE_TIMEOUT, left_us)
        memset(&flow.now, 0, sizeof(flow.now))
        flow.now.last_us = left_us      # golden 21: a packet 130 s after the last one still keeps the direction
        flow.dormant = 1

    cdef void forget(self, uint32_t index) noexcept nogil:
        """Take the flow out of the table without a record."""
        cdef Flow* flow = self.at(index)
        self.remove_slot(index)
        self.unlink(index, 0)
        if flow.listed_half_open:
            self.unlink(index, 1)
        flow.in_use = 0
        self.vacant[self.vacant_count] = index
        self.vacant_count += 1

    cdef void evict_oldest(self) noexcept nogil:
        """Make room: the oldest half-open flow leaves, else the oldest."""
        cdef uint32_t index = self.queues[1].head
        if index == NOBODY:
            index = self.queues[0].head
        self.evicted += 1
        if self.at(index).dormant:
            self.forget(index)
        else:
            self.end(index, LACK_OF_RESOURCES, self.clock_us)

    # -- index, lists, heap -------------------------------------------------------------------------------------

    cdef inline Flow* at(self, uint32_t index) noexcept nogil:
        return &self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]

    cdef uint32_t find(self, const uint64_t* key, uint64_t hashed) noexcept nogil:
        cdef uint32_t tag = <uint32_t> hashed
        cdef uint64_t place = tag & self.mask
        while self.slots[place].flow:
            if self.slots[place].tag == tag and memcmp(self.at(self.slots[place].flow - 1).key, key, 40) == 0:
                return self.slots[place].flow - 1
            place = (place + 1) & self.mask
        return NOBODY

    cdef void insert_slot(self, uint32_t tag, uint32_t index) noexcept nogil:
        cdef uint64_t place = tag & self.mask
        while self.slots[place].flow:
            place = (place + 1) & self.mask
        self.slots[place].tag = tag
        self.slots[place].flow = index + 1

    cdef void remove_slot(self, uint32_t index) noexcept nogil:
        """Empty the flow's slot and move later entries of its run back, so that no tombstones pile up."""
        cdef uint64_t hole = self.at(index).tag & self.mask
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

    cdef void link(self, uint32_t index, int queue) noexcept nogil:
        cdef Queue* q = &self.queues[queue]
        cdef Flow* flow = self.at(index)
        flow.previous[queue] = q.tail
        flow.next[queue] = NOBODY
        if q.tail == NOBODY:
            q.head = index
        else:
            self.at(q.tail).next[queue] = index
        q.tail = index

    cdef void unlink(self, uint32_t index, int queue) noexcept nogil:
        cdef Queue* q = &self.queues[queue]
        cdef uint32_t before = self.at(index).previous[queue], after = self.at(index).next[queue]
        if before == NOBODY:
            q.head = after
        else:
            self.at(before).next[queue] = after
        if after == NOBODY:
            q.tail = before
        else:
            self.at(after).previous[queue] = before

    cdef void push_alarm(self, uint32_t index, int64_t due_us) noexcept nogil:
        """Enter the flow's new alarm; an older entry of it is recognised as stale when it comes up."""
        cdef Flow* flow = self.at(index)
        cdef uint64_t place = self.alarm_count, parent
        cdef Alarm alarm
        alarm.due_us = due_us
        alarm.arrival = flow.arrival
        alarm.flow = index
        flow.alarm_us = due_us
        self.alarm_count += 1
        while place:
            parent = (place - 1) >> 1
            if not comes_first(&alarm, &self.alarms[parent]):
                break
            self.alarms[place] = self.alarms[parent]
            place = parent
        self.alarms[place] = alarm

    cdef void pop_alarm(self) noexcept nogil:
        self.alarm_count -= 1
        self.alarms[0] = self.alarms[self.alarm_count]
        if self.alarm_count:
            self.sift_down(0)

    cdef void sift_down(self, uint64_t place) noexcept nogil:
        cdef Alarm alarm = self.alarms[place]
        cdef uint64_t child = 2 * place + 1
        while child < self.alarm_count:
            if child + 1 < self.alarm_count and comes_first(&self.alarms[child + 1], &self.alarms[child]):
                child += 1
            if not comes_first(&self.alarms[child], &alarm):
                break
            self.alarms[place] = self.alarms[child]
            place = child
            child = 2 * place + 1
        self.alarms[place] = alarm

    # -- memory -------------------------------------------------------------------------------------------------

    cdef bint has_room(self) noexcept nogil:
        """Return whether one more packet needs no allocation."""
        return (
            self.record_count + RECORDS_PER_PACKET <= self.record_capacity
            and self.alarm_count + ALARMS_PER_PACKET <= self.alarm_capacity
            and (self.vacant_count or self.made < self.chunk_count * CHUNK)
            and <uint64_t> (self.made - self.vacant_count + 1) * 2 <= self.mask + 1
        )

    cdef int make_room(self) except -1:
        """Grow what is full: flows by a chunk, the index and the heap by doubling."""
        cdef uint32_t live = self.made - self.vacant_count
        if not self.vacant_count and self.made == self.chunk_count * CHUNK:
            self.chunks = <Flow**> enlarge(self.chunks, (self.chunk_count + 1) * sizeof(Flow*))
            self.vacant = <uint32_t*> enlarge(self.vacant, (self.chunk_count + 1) * CHUNK * sizeof(uint32_t))
            self.chunks[self.chunk_count] = <Flow*> enlarge(NULL, CHUNK * sizeof(Flow))
            self.chunk_count += 1
        if <uint64_t> (live + 1) * 2 > self.mask + 1:
            self.double_slots()
        if self.alarm_count + ALARMS_PER_PACKET > self.alarm_capacity:
            # More than two entries a flow are mostly stale ones, which a clock that runs backwards leaves behind.
            if self.alarm_count > 2 * <uint64_t> live + 1024:
                self.rebuild_alarms()
            else:
                self.alarms = <Alarm*> enlarge(self.alarms, 2 * self.alarm_capacity * sizeof(Alarm))
                self.alarm_capacity *= 2
        return 0

    cdef int double_slots(self) except -1:
        cdef Slot* old = self.slots
        cdef uint64_t i, count = self.mask + 1
        cdef Slot* slots = <Slot*> calloc(2 * count, sizeof(Slot))
        if slots == NULL:
            raise MemoryError("flow table index")
        self.slots = slots
        self.mask = 2 * count - 1
        for i in range(count):
            if old[i].flow:
                self.insert_slot(old[i].tag, old[i].flow - 1)
        free(old)
        return 0

    cdef int rebuild_alarms(self) except -1:
        """Keep the live alarms only."""
        cdef uint64_t i, kept = 0
        cdef Alarm* alarm
        cdef Flow* flow
        for i in range(self.alarm_count):
            alarm = &self.alarms[i]
            flow = self.at(alarm.flow)
            if flow.in_use and flow.arrival == alarm.arrival and flow.alarm_us == alarm.due_us:
                self.alarms[kept] = alarm[0]
                kept += 1
        self.alarm_count = kept
        for i in range(kept // 2):
            self.sift_down(kept // 2 - 1 - i)
        return 0


cdef inline bint comes_first(const Alarm* a, const Alarm* b) noexcept nogil:
    return a.due_us < b.due_us or (a.due_us == b.due_us and a.arrival < b.arrival)


cdef inline bint is_one_end(const Packet* packet) noexcept nogil:
    """Both ends are the same address and port: every packet is the initiator's."""
    return packet.src_port == packet.dst_port and memcmp(packet.src, packet.dst, 16) == 0


cdef inline bint flow_key(const Packet* packet, bint vlan_in_key, uint64_t* key) noexcept nogil:
    """Write the direction-free key; return whether the packet comes from its low end."""
    cdef int order = memcmp(packet.src, packet.dst, 16)
    cdef bint from_low = order < 0 or (order == 0 and packet.src_port <= packet.dst_port)
    cdef uint64_t low_port = packet.src_port if from_low else packet.dst_port
    cdef uint64_t high_port = packet.dst_port if from_low else packet.src_port
    memcpy(key, &packet.src[0] if from_low else &packet.dst[0], 16)
    memcpy(key + 2, &packet.dst[0] if from_low else &packet.src[0], 16)
    key[4] = low_port << 48 | high_port << 32 | <uint64_t> packet.proto << 24
    if vlan_in_key:
        key[4] |= <uint64_t> packet.vlan[0] << 12 | packet.vlan[1]
    return from_low


cdef void* enlarge(void* memory, size_t octets) except NULL:
    cdef void* larger = realloc(memory, octets)
    if larger == NULL:
        raise MemoryError(f"flow table: {octets} octets")
    return larger
