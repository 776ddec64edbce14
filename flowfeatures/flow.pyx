"""Hop 3, one biflow: who it is, how far its life has come, and its first packets.

A flow is small, 208 octets, for most flows of a flood never see a fourth packet; `counters.pyx` holds what the others
add up. When a flow ends is `lifetimes.pyx`'s business.
"""

from libc.string cimport memcpy, memset

from flowfeatures.counters cimport NO_COUNTERS, account
from flowfeatures.key cimport is_one_end
from flowfeatures.packet cimport ACK, FIN, RST, SYN, TCP

if sizeof(Flow) != 208:
    raise ImportError(f"a flow takes {sizeof(Flow)} octets, 208 are documented")


cdef void open_flow(Flow* flow, const Packet* packet, bint from_low, bint reversed) noexcept nogil:
    """Set what holds for the flow's whole life, from its first packet; a reversed one was sent by the responder."""
    flow.counters = NO_COUNTERS
    flow.proto = packet.proto
    flow.ip_version = packet.ip_version
    flow.group = packet.group
    flow.is_one_end = is_one_end(packet)
    flow.initiator_is_low = flow.is_one_end or from_low != reversed


cdef void take_note(const Packet* packet, bint fwd, Note* note) noexcept nogil:
    """Keep of a packet what the counters want."""
    note.ts_us = packet.ts_us
    note.payload_bytes = packet.payload_bytes
    note.wire_bytes = packet.wire_bytes
    note.window = packet.window
    note.header_bytes = <uint8_t> packet.header_bytes
    note.flags = packet.flags
    note.fwd = fwd


cdef void live_on(Flow* flow, const Packet* packet, bint fwd) noexcept nogil:
    """Move the flow's life on by one packet: times, ends, handshake, TCP state."""
    if flow.packets == 0:
        flow.start_us = packet.ts_us
        flow.half_open = flow.proto == TCP
    flow.packets += 1
    flow.last_us = packet.ts_us
    flow.dormant = 0
    remember_end(flow, packet, fwd)
    if flow.proto == TCP:
        if not (fwd and packet.flags & (SYN | ACK) == SYN):
            flow.half_open = 0
        watch_handshake(flow, packet, fwd)
        advance_tcp_state(flow, packet, fwd)


cdef void play(const Flow* flow, Counters* counters) noexcept nogil:
    """Count the packets that the flow keeps as notes."""
    cdef uint32_t i
    for i in range(min(flow.packets, <uint32_t> NOTES)):
        account(counters, &flow.notes[i])


cdef void start_again(Flow* flow) noexcept nogil:
    """Zero what a cut at the active timeout zeroes; ends, direction and handshake stay."""
    flow.start_us = flow.last_us = flow.closed_us = 0
    flow.packets = flow.segment = flow.partials = 0
    flow.tcp_state = flow.fins = flow.half_open = flow.packet_label = 0


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


cdef inline void advance_tcp_state(Flow* flow, const Packet* packet, bint fwd) noexcept nogil:
    """0 open; FIN -> 1; FINs of both -> 2; ACK then -> 3; RST -> 3. Tested in the order FIN, RST, ACK."""
    if flow.tcp_state == 3:
        return
    if packet.flags & FIN:
        flow.fins |= 1 if fwd else 2
        if flow.tcp_state == 0:
            flow.tcp_state = 1
        elif flow.tcp_state == 1 and flow.fins == 3:
            flow.tcp_state = 2
    if packet.flags & RST:
        flow.tcp_state = 3
    elif flow.tcp_state == 2 and packet.flags & ACK and not packet.flags & FIN:
        flow.tcp_state = 3
    if flow.tcp_state == 3:
        flow.closed_us = packet.ts_us
