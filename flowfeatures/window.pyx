"""Hop 5: the records of one device become the windows a network scores. docs/decisions/0006 says why these columns.

A window holds the device's last W records in time order. A later record of a flow replaces its earlier one; of one
(peer, port, protocol) at most W/4 stand, the older fold into the newest one's repeat count. A window is due at the end
of each tick in which its device got a record; a home address that only others at home have spoken to, and that never
spoke, is none yet (docs/decisions/0042). Devices are bounded in number: those of one record leave first.
"""

import numpy as np

from libc.math cimport log1p
from libc.stdint cimport INT64_MIN, int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from flowfeatures.batch import WindowBatch
from flowfeatures.columns import CONTEXT_COLUMNS, PORT_BUCKETS, WINDOW_COLUMNS, bucket_of_port
from flowfeatures.device cimport FEATURES, REPEATS, Device, Row, is_device, join, last_spoken, make_place, own_mac
from flowfeatures.flow cimport COLUMN_COUNT, Meta, Record
from flowfeatures.homes import DEFAULT_HOME_NETS
from flowfeatures.homes cimport HomeNets
from flowfeatures.packet cimport TCP, UDP
from flowfeatures.recent cimport DistinctCounter, Recent, floor_div, forget, has_ports, hash_of, remember
from flowfeatures.records import FLOW_META, RECORD

cdef enum:
    LEFT_OUT = -1               # batch.EXCLUDED
    AFTERMATH = -2              # batch.AFTER
    BATCH = 256                 # windows handed over at once
    LATE_US = 60_000_000        # a record this much earlier counts for the current tick; docs/decisions/0002
    VECTOR = COLUMN_COUNT - 1
    ICMP = 1
    ICMPV6 = 58

cdef int BUCKETS = len(PORT_BUCKETS)
cdef int CONTEXT = VECTOR               # first context column of a row
cdef int COUNTS = WINDOW_COLUMNS.index("peers_10s")

if CONTEXT + len(CONTEXT_COLUMNS) != FEATURES or COUNTS != FEATURES - 8 or REPEATS != CONTEXT + BUCKETS + 9:
    raise ImportError("columns.py and window.pyx disagree on the context columns")

cdef uint8_t[65536] BUCKET_OF
for _place, _bucket in enumerate(bucket_of_port()):
    BUCKET_OF[_place] = _bucket


cdef class DeviceWindows:
    """Windows of the devices inside `home_nets` (CIDR texts).

    `window` is W, `tick_us` the spacing of due windows in packet time, `max_devices` how many devices are kept.
    Raises ValueError where a network cannot be read or a number is out of range.
    """

    cdef readonly int window
    cdef readonly int64_t tick_us
    cdef readonly tuple home_nets
    cdef int max_devices
    cdef HomeNets homes
    cdef DistinctCounter distinct
    cdef Device* devices
    cdef int device_count, bucket_mask, first_free, free_count
    cdef int* buckets
    cdef int* due               # devices due at the end of the tick, in order
    cdef int due_count, due_done
    cdef int64_t tick, late_ticks
    cdef uint64_t touches, windows, evicted, evicted_windows, moved
    cdef object batch
    cdef int filled
    cdef float[:, :, ::1] out_values
    cdef float[:, ::1] out_mask
    cdef uint8_t[:, ::1] out_device
    cdef int64_t[::1] out_due
    cdef int8_t[::1] out_label
    cdef uint8_t[:, ::1] out_flows
    cdef uint32_t[:, ::1] out_repeats
    cdef uint8_t[:, ::1] out_new

    def __cinit__(self, home_nets = DEFAULT_HOME_NETS, *, int window = 16, int64_t tick_us = 50_000, int max_devices = 1024):
        if not (4 <= window <= 256 and window % 4 == 0):
            raise ValueError(f"window: {window}, wanted a multiple of 4 from 4 to 256")
        if tick_us < 1 or not 1 <= max_devices <= 65_536:
            raise ValueError(f"wanted tick_us >= 1 and 1 <= max_devices <= 65,536, got {tick_us} and {max_devices}")
        self.window, self.max_devices = window, max_devices
        self.tick_us, self.late_ticks = tick_us, LATE_US // tick_us
        self.home_nets = tuple(home_nets)
        self.homes, self.distinct = HomeNets(self.home_nets), DistinctCounter()
        self.bucket_mask, self.first_free = 1, -1
        while self.bucket_mask < 2 * max_devices:
            self.bucket_mask *= 2
        self.buckets = <int*> calloc(self.bucket_mask, sizeof(int))
        self.devices = <Device*> calloc(max_devices, sizeof(Device))
        self.due = <int*> calloc(max_devices, sizeof(int))
        if self.buckets == NULL or self.devices == NULL or self.due == NULL:
            raise MemoryError("device windows")
        memset(self.buckets, 0xFF, self.bucket_mask * sizeof(int))
        self.bucket_mask -= 1
        self.new_batch()

    def __dealloc__(self):
        cdef int i
        if self.devices != NULL:
            for i in range(self.device_count):
                free(self.devices[i].rows)
                free(self.devices[i].values)
                forget(&self.devices[i].recent)
        free(self.devices)
        free(self.buckets)
        free(self.due)

    def add(self, records):
        """Take RECORD[n] in order of leaving; yield a WindowBatch for each up to 256 windows that became due."""
        cdef const uint8_t[::1] octets
        cdef int at = 0, count = len(records)
        if records.dtype != RECORD:
            raise ValueError(f"records of dtype {records.dtype}, wanted flowfeatures.RECORD")
        if not count:
            return
        octets = np.ascontiguousarray(records).view(np.uint8)
        while at < count:
            at = self.take(<const Record*> &octets[0], at, count)
            if self.filled == BATCH:
                yield self.hand_over()
        if self.filled:
            yield self.hand_over()

    def advance(self, now_us):
        """Yield the windows of a tick that is over, now that no record due before now_us is still to come."""
        if floor_div(now_us, self.tick_us) > self.tick:
            yield from self.flush()

    def flush(self):
        """Yield the windows still due: the input has ended."""
        while not self.emit_due():
            yield self.hand_over()
        if self.filled:
            yield self.hand_over()

    @property
    def counters(self):
        """Return windows handed over, devices held, evicted and moved, and windows that were due of evicted ones."""
        held = {"devices": self.device_count - self.free_count, "evicted_devices": self.evicted}
        return {"windows": self.windows, **held, "moved_devices": self.moved, "evicted_windows": self.evicted_windows}

    def move(self, old, new):
        """Give the window of the device at address `old` to address `new` (16 octets); return whether there was one.

        Where `new` has a window already, the two become one: rows in order of time, then folded and cut as ever.
        Raises ValueError where `new` is no other address at home, RuntimeError while windows are being handed over.
        """
        cdef int source, target
        cdef bytes from_address = bytes(old), to_address = bytes(new)
        if len(from_address) != 16 or to_address not in self.homes or from_address == to_address:
            raise ValueError(f"a device moves to another address at home, not from {old!r} to {new!r}")
        if self.due_done:
            raise RuntimeError("a device moved while windows were being handed over")
        source, target = self.find(from_address), self.find(to_address)
        if source < 0:
            return False
        self.unlink(source)
        if target < 0:
            memcpy(self.devices[source].address, <const char*> to_address, 16)
            self.link(source)
        else:
            join(&self.devices[target], &self.devices[source], self.window)
            self.replace_due(source, target)
            self.devices[source].next, self.first_free = self.first_free, source
            self.free_count += 1
        self.moved += 1
        return True

    def spoke(self, address):
        """Return when and from which MAC a device last sent something, by the rows it holds; None where by none."""
        cdef int index = self.find(bytes(address)) if len(address) == 16 else -1
        cdef const Row* row = last_spoken(&self.devices[index]) if index >= 0 else NULL
        return None if row == NULL else (row.meta.end_us, bytes(own_mac(row)[:6]))

    # -- records in ---------------------------------------------------------------------------------------------

    cdef int take(self, const Record* records, int at, int count) except -1:
        """Take records until all are, or the batch is full; return the index of the first one not taken."""
        cdef int64_t tick, late_ticks
        while at < count:
            tick = floor_div(records[at].meta.left_us, self.tick_us)
            if 0 < self.tick - tick <= self.late_ticks:
                tick = self.tick
            if tick != self.tick or not self.due_count:
                if not self.emit_due():
                    return at
                self.tick = tick
            self.insert(&records[at])
            at += 1
        return at

    cdef int insert(self, const Record* record) except -1:
        cdef bint src_home = self.homes.holds(record.meta.src)
        cdef bint dst_home = not record.meta.group and self.homes.holds(record.meta.dst)
        if src_home:
            self.insert_for(record, record.meta.src, record.meta.dst, True, dst_home)
        if dst_home and not (src_home and memcmp(record.meta.src, record.meta.dst, 16) == 0):
            self.insert_for(record, record.meta.dst, record.meta.src, False, src_home)
        return 0

    cdef int insert_for(
        self, const Record* record, const uint8_t* address, const uint8_t* peer, bint initiated, bint peer_is_home
    ) except -1:
        """Enter the record into one device's window."""
        cdef int index = self.device_of(address)
        cdef Device* device = &self.devices[index]
        cdef Row row
        cdef int place
        memset(&row, 0, sizeof(Row))
        row.meta = record.meta
        row.repeats = 1
        row.attack = record.meta.label > 0
        row.left_out = record.meta.label == LEFT_OUT
        row.initiated = initiated
        row.is_new = 1
        make_place(device, &row, self.window)
        place = device.count
        device.count += 1
        device.rows[place] = row
        self.fill_values(device, device.values + place * FEATURES, record, initiated, peer_is_home, row.repeats)
        remember(&device.recent, record, peer)
        device.last_us = record.meta.left_us
        self.touches += 1
        device.touched = self.touches
        if is_device(device, &row, peer_is_home) and not device.due:
            device.due = True
            self.due[self.due_count] = index
            self.due_count += 1
        if record.meta.label > 0:
            device.new_label = record.meta.label
        return 0

    cdef void fill_values(
        self, Device* device, float* values, const Record* record, bint initiated, bint peer_is_home, uint32_t repeats
    ) noexcept:
        """Write one row: the record's columns without the raw port, then the context but for the counts."""
        cdef const Meta* meta = &record.meta
        cdef float* context = values + CONTEXT
        cdef int i
        cdef double gap_s = 0.0
        for i in range(VECTOR):
            values[i] = <float> record.columns[i + 1]
        memset(context, 0, (FEATURES - CONTEXT) * sizeof(float))
        if has_ports(meta):
            context[BUCKET_OF[meta.dst_port]] = 1.0
        context += BUCKETS
        context[0] = meta.proto == TCP
        context[1] = meta.proto == UDP
        context[2] = meta.proto == ICMP or meta.proto == ICMPV6
        context[3] = initiated
        context[4] = peer_is_home
        context[5] = meta.fwd_rst
        context[6] = meta.bwd_rst
        context[7] = meta.partial
        if device.last_us != INT64_MIN and meta.left_us > device.last_us:
            gap_s = (meta.left_us - device.last_us) / 1e6
        context[8] = log1p(gap_s)
        context[9] = repeats

    # -- windows out --------------------------------------------------------------------------------------------

    cdef bint emit_due(self):
        """Write the due windows into the batch; return whether all are, False where it is full."""
        while self.due_done < self.due_count:
            if self.filled == BATCH:
                return False
            self.emit(&self.devices[self.due[self.due_done]])
            self.due_done += 1
        self.due_count = self.due_done = 0
        return True

    cdef void emit(self, Device* device) noexcept:
        cdef int i, place = self.filled
        cdef bint attack = False, left_out = False
        cdef int64_t due_us = (self.tick + 1) * self.tick_us
        cdef float[8] counts
        cdef Row* row
        self.distinct.count(&device.recent, due_us - 10_000_000, counts)
        self.distinct.count(&device.recent, due_us - 60_000_000, counts + 1)
        for i in range(device.count):
            row = &device.rows[i]
            if row.is_new:
                memcpy(device.values + i * FEATURES + COUNTS, counts, sizeof(counts))
            memcpy(&self.out_values[place, i, 0], device.values + i * FEATURES, FEATURES * sizeof(float))
            memcpy(&self.out_flows[place, i * sizeof(Meta)], &row.meta, sizeof(Meta))
            self.out_mask[place, i] = 1.0
            self.out_repeats[place, i] = row.repeats
            self.out_new[place, i] = row.is_new
            row.is_new = 0
            attack |= row.attack
            left_out |= row.left_out
        memcpy(&self.out_device[place, 0], device.address, 16)
        self.out_due[place] = due_us
        if device.new_label:
            self.out_label[place] = device.new_label
        elif attack:
            self.out_label[place] = AFTERMATH
        elif left_out:
            self.out_label[place] = LEFT_OUT
        device.due, device.new_label = False, 0
        self.filled += 1
        self.windows += 1

    def new_batch(self):
        cdef int n = BATCH
        values = np.zeros((n, self.window, FEATURES), np.float32)
        flows = np.zeros((n, self.window), FLOW_META)
        self.batch = WindowBatch(
            values=values, mask=np.zeros((n, self.window), np.float32), device=np.zeros((n, 16), np.uint8),
            due_us=np.zeros(n, np.int64), label=np.zeros(n, np.int8), flows=flows,
            repeats=np.zeros((n, self.window), np.uint32), is_new=np.zeros((n, self.window), np.uint8),
        )
        self.out_values = values
        self.out_mask, self.out_device, self.out_due = self.batch.mask, self.batch.device, self.batch.due_us
        self.out_label, self.out_repeats, self.out_new = self.batch.label, self.batch.repeats, self.batch.is_new
        self.out_flows = flows.view(np.uint8).reshape(n, -1)
        self.filled = 0

    def hand_over(self):
        full, n = self.batch, self.filled
        self.new_batch()
        return WindowBatch(**{name: getattr(full, name)[:n] for name in WindowBatch.__slots__})

    # -- devices ------------------------------------------------------------------------------------------------

    cdef int find(self, const uint8_t* address) noexcept:
        """Return the device's index, -1 where there is none."""
        cdef int index = self.buckets[hash_of(address) & self.bucket_mask]
        while index >= 0 and memcmp(self.devices[index].address, address, 16) != 0:
            index = self.devices[index].next
        return index

    cdef int device_of(self, const uint8_t* address) except -1:
        """Return the device's index, taking another's place (`evict`) where there is none left."""
        cdef Device* device
        cdef int index = self.find(address)
        if index >= 0:
            return index
        if self.free_count:
            index = self.first_free
            self.first_free = self.devices[index].next
            self.free_count -= 1
        elif self.device_count < self.max_devices:
            index = self.device_count
            device = &self.devices[index]
            device.rows = <Row*> calloc(self.window, sizeof(Row))
            device.values = <float*> calloc(self.window * FEATURES, sizeof(float))
            if device.rows == NULL or device.values == NULL:
                raise MemoryError("device windows")
            self.device_count += 1
        else:
            index = self.evict()
        device = &self.devices[index]
        memcpy(device.address, address, 16)
        device.last_us = INT64_MIN
        device.count = device.recent.count = device.recent.head = device.unheard = 0
        device.due, device.is_heard, device.new_label = False, False, 0
        self.link(index)
        return index

    cdef void link(self, int index) noexcept:
        """Enter the device into the bucket of its address."""
        cdef int bucket = hash_of(self.devices[index].address) & self.bucket_mask
        self.devices[index].next = self.buckets[bucket]
        self.buckets[bucket] = index

    cdef void unlink(self, int index) noexcept:
        cdef int* link = &self.buckets[hash_of(self.devices[index].address) & self.bucket_mask]
        while link[0] != index:
            link = &self.devices[link[0]].next
        link[0] = self.devices[index].next

    cdef int evict(self) noexcept:
        """Forget the device silent for longest, those of one record first, and return its index: made-up ones have one."""
        cdef int i, index = 0
        cdef uint64_t rank, least = <uint64_t> -1
        for i in range(self.device_count):
            rank = self.devices[i].touched | (<uint64_t> (self.devices[i].count > 1) << 63)
            if rank < least:
                index, least = i, rank
        self.evicted_windows += self.devices[index].due
        self.unlink(index)
        self.replace_due(index, -1)
        self.evicted += 1
        return index

    cdef void replace_due(self, int index, int other) noexcept:
        """Let another device (-1: none) be due in the place of this one, unless it is due already."""
        cdef int i, kept = 0
        for i in range(self.due_count):
            if self.due[i] != index:
                self.due[kept] = self.due[i]
                kept += 1
            elif other >= 0 and not self.devices[other].due:
                self.devices[other].due = True
                self.due[kept] = other
                kept += 1
        self.due_count = kept
