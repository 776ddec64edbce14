"""The rows of one monitored device: where a new one goes, and how two windows become one when a device has moved.

Joining puts the rows of both in order of time, as if one window had held them all; what is then too many of a group
folds, what is too old leaves. The trap: a row of before the move holds the device's earlier address, so which end of
it is the peer is remembered, never looked up.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memmove

from flowfeatures.columns import WINDOW_COLUMNS
from flowfeatures.recent cimport join_recent

FEATURES = len(WINDOW_COLUMNS)
REPEATS = WINDOW_COLUMNS.index("repeats")

cdef enum:
    UNHEARD_RECORDS = 5         # from so many on an address that never spoke is a device; docs/decisions/0042


cdef inline const uint8_t* peer_of(const Row* row) noexcept:
    return &row.meta.dst[0] if row.initiated else &row.meta.src[0]


cdef inline bint is_one_group(const Row* a, const Row* b) noexcept:
    """One peer, port and protocol."""
    return (
        a.meta.proto == b.meta.proto and a.meta.dst_port == b.meta.dst_port and memcmp(peer_of(a), peer_of(b), 16) == 0
    )


cdef void take_over(Row* row, const Row* held) noexcept:
    row.attack |= held.attack
    row.left_out |= held.left_out


cdef void drop_row(Device* device, int index) noexcept:
    cdef int after = device.count - index - 1
    memmove(device.rows + index, device.rows + index + 1, after * sizeof(Row))
    memmove(device.values + index * FEATURES, device.values + (index + 1) * FEATURES, after * FEATURES * sizeof(float))
    device.count -= 1


cdef void make_place(Device* device, Row* row, int window) noexcept:
    """Free the last row: of this flow's earlier record, of its group's oldest one, or of the window's oldest."""
    cdef int i, members = 0, oldest = -1
    cdef Row* held
    for i in range(device.count):
        held = &device.rows[i]
        if held.meta.flow_id == row.meta.flow_id:
            row.repeats = held.repeats
            take_over(row, held)
            drop_row(device, i)
            return
        if is_one_group(held, row):
            members += 1
            if oldest < 0:
                oldest = i
    if members >= window // 4:
        held = &device.rows[oldest]
        row.repeats += held.repeats
        take_over(row, held)
        drop_row(device, oldest)
    elif device.count == window:
        drop_row(device, 0)


cdef bint is_device(Device* device, const Row* row, bint peer_is_home) noexcept:
    """Take a new row of a home address; return whether somebody seems to be there.

    One who sweeps a home from within knocks at every address; what never spoke has no window for one knock.
    """
    device.is_heard |= row.initiated or not peer_is_home or row.meta.bwd_packets > 0
    if not device.is_heard and device.unheard < UNHEARD_RECORDS:
        device.unheard += 1
    return device.is_heard or device.unheard == UNHEARD_RECORDS


cdef int join(Device* into, Device* earlier, int window) except -1:
    """Give `into` the rows and the recent records of `earlier` as well; the two are one device."""
    cdef Device both
    cdef int i = 0, k = 0
    cdef Device* source
    both.count = 0
    both.rows = <Row*> calloc(2 * window, sizeof(Row))
    both.values = <float*> calloc(2 * window * FEATURES, sizeof(float))
    try:
        if both.rows == NULL or both.values == NULL:
            raise MemoryError("joining two windows")
        join_recent(&into.recent, &earlier.recent)
        while i < earlier.count or k < into.count:
            if k == into.count or (i < earlier.count and earlier.rows[i].meta.left_us <= into.rows[k].meta.left_us):
                append(&both, earlier, i)
                i += 1
            else:
                append(&both, into, k)
                k += 1
        tidy(&both, window)
        into.count = both.count
        memcpy(into.rows, both.rows, both.count * sizeof(Row))
        memcpy(into.values, both.values, both.count * FEATURES * sizeof(float))
    finally:
        free(both.rows)
        free(both.values)
    into.last_us = max(into.last_us, earlier.last_us)
    into.touched = max(into.touched, earlier.touched)
    into.is_heard |= earlier.is_heard
    into.unheard = max(into.unheard, earlier.unheard)
    if not into.new_label:
        into.new_label = earlier.new_label
    return 0


cdef void append(Device* device, const Device* source, int index) noexcept:
    device.rows[device.count] = source.rows[index]
    memcpy(device.values + device.count * FEATURES, source.values + index * FEATURES, FEATURES * sizeof(float))
    device.count += 1


cdef void tidy(Device* device, int window) noexcept:
    """Bring up to twice as many rows as a window holds down to a window."""
    cdef int i, k, members
    i = device.count - 1
    while i > 0:  # a flow between the two addresses stood in both windows
        for k in range(i - 1, -1, -1):
            if device.rows[k].meta.flow_id == device.rows[i].meta.flow_id:
                device.rows[i].repeats = max(device.rows[i].repeats, device.rows[k].repeats)
                take_over(&device.rows[i], &device.rows[k])
                drop_row(device, k)
                i -= 1
        i -= 1
    i = device.count - 1
    while i >= 0:
        members = 1
        for k in range(i - 1, -1, -1):
            if is_one_group(&device.rows[k], &device.rows[i]):
                members += 1
                if members > window // 4:
                    device.rows[i].repeats += device.rows[k].repeats
                    take_over(&device.rows[i], &device.rows[k])
                    drop_row(device, k)
                    i -= 1
        device.values[i * FEATURES + REPEATS] = device.rows[i].repeats
        i -= 1
    while device.count > window:
        drop_row(device, 0)


cdef const Row* last_spoken(const Device* device) noexcept:
    """Return the newest row of a flow in which the device sent something, NULL where there is none."""
    cdef int i = device.count
    cdef const Meta* meta
    while i > 0:
        i -= 1
        meta = &device.rows[i].meta
        if (meta.fwd_packets if device.rows[i].initiated else meta.bwd_packets) > 0:
            return &device.rows[i]
    return NULL


cdef const uint8_t* own_mac(const Row* row) noexcept:
    """Return the MAC of the device's end."""
    return &row.meta.src_mac[0] if row.initiated else &row.meta.dst_mac[0]
