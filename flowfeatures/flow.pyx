"""Hop 3, one biflow: what a packet changes in it. When it ends is `table.pyx`'s business, what it means `vector.pyx`'s."""

from libc.string cimport memcpy

from flowfeatures.moments cimport moments_add
from flowfeatures.packet cimport ACK, FIN, RST, SYN, TCP

cdef enum:
    SUBFLOW_GAP_US = 1_000_000
    ACTIVITY_GAP_US = 5_000_000
    BULK_GAP_US = 1_000_000
    BULK_PACKETS = 4


cdef void account(Flow* flow, const Packet* packet, bint fwd) noexcept nogil:
    """Add one packet to the flow's counters and state. The first one after zeroed counters starts them."""
    cdef Counters* now = &flow.now
    cdef Direction* own = &now.fwd if fwd else &now.bwd
    cdef Direction* other = &now.bwd if fwd else &now.fwd
    cdef int64_t ts = packet.ts_us
    cdef int bit
    if now.fwd.packets + now.bwd.packets == 0:
        now.start_us = now.spell_start_us = now.spell_end_us = ts
        now.half_open = flow.proto == TCP
    else:
        add_gaps(now, ts)
    now.last_us = ts
    add_to_direction(own, packet)
    add_to_bulk(&own.bulk, &other.bulk, packet)
    for bit in range(8):
        now.flags[bit] += (packet.flags >> bit) & 1
    remember_end(flow, packet, fwd)
    if flow.proto == TCP:
        if not (fwd and packet.flags & (SYN | ACK) == SYN):
            now.half_open = 0
        watch_handshake(flow, packet, fwd)
        advance_tcp_state(now, packet, fwd)


cdef inline void add_gaps(Counters* now, int64_t ts) noexcept nogil:
    """Inter-arrival time of the whole flow, subflow gaps, active and idle spells."""
    cdef int64_t gap = ts - now.last_us
    moments_add(&now.iat, gap)
    if gap > SUBFLOW_GAP_US:
        now.subflow_gaps += 1
    if ts - now.spell_end_us > ACTIVITY_GAP_US:
        if now.spell_end_us - now.spell_start_us > 0:
            moments_add(&now.active_spells, now.spell_end_us - now.spell_start_us)
        moments_add(&now.idle_spells, ts - now.spell_end_us)
        now.spell_start_us = ts
    now.spell_end_us = ts


cdef inline void add_to_direction(Direction* own, const Packet* packet) noexcept nogil:
    cdef uint32_t payload = packet.payload_bytes
    if own.packets == 0:
        own.payload_max = own.payload_min = payload
        own.header_min = packet.header_bytes
        own.init_window = packet.window
    else:
        moments_add(&own.iat, packet.ts_us - own.last_us)
        if payload > own.payload_max:
            own.payload_max = payload
        elif payload < own.payload_min:
            own.payload_min = payload
        if packet.header_bytes < own.header_min:
            own.header_min = packet.header_bytes
    own.packets += 1
    own.last_us = packet.ts_us
    own.payload_bytes += payload
    own.payload_squares += <uint64_t> payload * payload
    own.header_bytes += packet.header_bytes
    own.wire_bytes += packet.wire_bytes
    own.data_packets += payload > 0
    own.rst += (packet.flags >> 2) & 1
    own.psh += (packet.flags >> 3) & 1
    own.urg += (packet.flags >> 5) & 1


cdef inline void add_to_bulk(Bulk* own, const Bulk* other, const Packet* packet) noexcept nogil:
    cdef int64_t ts = packet.ts_us
    if other.last_us > own.start_us:
        own.start_us = 0
    if packet.payload_bytes == 0:
        return
    if own.start_us == 0 or ts - own.last_us > BULK_GAP_US:
        own.start_us = ts
        own.packets = 1
        own.bytes = packet.payload_bytes
    else:
        own.packets += 1
        own.bytes += packet.payload_bytes
        if own.packets == BULK_PACKETS:
            own.bulks += 1
            own.total_packets += BULK_PACKETS
            own.total_bytes += own.bytes
            own.total_us += ts - own.start_us
        elif own.packets > BULK_PACKETS:
            own.total_packets += 1
            own.total_bytes += packet.payload_bytes
            own.total_us += ts - own.last_us
    own.last_us = ts


cdef inline void remember_end(Flow* flow, const Packet* packet, bint fwd) noexcept nogil:
    """Keep the MAC of each end's first frame and the VLAN ids of the first tagged packet."""
    cdef uint8_t* mac = &flow.src_mac[0] if fwd else &flow.dst_mac[0]
    if (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) == 0:
        memcpy(mac, packet.src_mac, 6)
    if flow.vlan[0] == 0 and flow.vlan[1] == 0:
        flow.vlan[0] = packet.vlan[0]
        flow.vlan[1] = packet.vlan[1]


cdef inline void watch_handshake(Flow* flow, const Packet* packet, bint fwd) noexcept nogil:
    """A spoofed initiator never sees the SYN+ACK, so it cannot acknowledge its number."""
    if not fwd and packet.flags & (SYN | ACK) == (SYN | ACK):
        flow.has_syn_ack = 1
        flow.syn_ack_seq = packet.seq
    elif fwd and flow.has_syn_ack and packet.flags & (SYN | ACK | RST) == ACK:
        if packet.ack == <uint32_t> (flow.syn_ack_seq + 1):
            flow.handshake = 1


cdef inline void advance_tcp_state(Counters* now, const Packet* packet, bint fwd) noexcept nogil:
    """0 open; FIN -> 1; FINs of both -> 2; ACK then -> 3; RST -> 3. Tested in the order FIN, RST, ACK."""
    if now.tcp_state == 3:
        return
    if packet.flags & FIN:
        now.fins |= 1 if fwd else 2
        if now.tcp_state == 0:
            now.tcp_state = 1
        elif now.tcp_state == 1 and now.fins == 3:
            now.tcp_state = 2
    if packet.flags & RST:
        now.tcp_state = 3
    elif now.tcp_state == 2 and packet.flags & ACK and not packet.flags & FIN:
        now.tcp_state = 3
    if now.tcp_state == 3:
        now.closed_us = packet.ts_us
