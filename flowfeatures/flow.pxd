from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flowfeatures.counters cimport Counters, Note
from flowfeatures.packet cimport Packet

cdef enum:
    NOTES = 3                   # packets a flow keeps before it gets counters


cdef struct Flow:
    uint64_t[5] key             # canonical: low end's address, high end's address, ports + protocol + VLANs
    uint32_t tag                # of the key's hash
    uint32_t counters           # index; NO_COUNTERS while all its packets are notes
    int64_t start_us            # from here to `packet_label`: what a cut at the active timeout sets to zero
    int64_t last_us
    int64_t closed_us
    uint32_t packets
    uint32_t segment            # records left so far
    uint32_t partials           # timed partial records left so far
    uint8_t tcp_state           # 0 open, 1 one FIN, 2 both, 3 closed
    uint8_t fins                # bit 0: fwd, bit 1: bwd
    uint8_t half_open
    uint8_t packet_label
    uint8_t initiator_is_low
    uint8_t is_one_end          # both ends are the same: every packet is the initiator's
    uint8_t rank                # which of the pool's queues it stands in beside ALL
    uint8_t dormant             # cut at the active timeout, no packet since
    uint8_t proto
    uint8_t ip_version
    uint8_t group
    uint8_t handshake
    uint8_t has_syn_ack
    uint8_t in_use
    uint16_t[2] vlan
    uint32_t syn_ack_seq
    uint32_t[2] next            # neighbours among all flows (0), and in its rank (1)
    uint32_t[2] previous
    uint8_t[6] src_mac
    uint8_t[6] dst_mac
    Note[3] notes


cdef struct Meta:               # records.FLOW_META, byte for byte
    uint64_t flow_id
    int64_t start_us
    int64_t end_us
    int64_t left_us
    uint64_t fwd_wire_bytes
    uint64_t bwd_wire_bytes
    uint32_t fwd_packets
    uint32_t bwd_packets
    uint32_t segment
    uint8_t[16] src
    uint8_t[16] dst
    uint16_t src_port
    uint16_t dst_port
    uint16_t[2] vlan
    uint8_t[6] src_mac
    uint8_t[6] dst_mac
    uint8_t proto
    uint8_t ip_version
    uint8_t end_reason
    uint8_t partial
    uint8_t half_open
    uint8_t handshake
    uint8_t group
    uint8_t fwd_rst
    uint8_t bwd_rst
    int8_t label
    uint8_t packet_label


cdef enum:
    COLUMN_COUNT = 77


cdef struct Record:             # records.RECORD
    Meta meta
    double[77] columns


cdef void open_flow(Flow* flow, const Packet* packet, bint from_low, bint reversed) noexcept nogil
cdef void take_note(const Packet* packet, bint fwd, Note* note) noexcept nogil
cdef void live_on(Flow* flow, const Packet* packet, bint fwd) noexcept nogil
cdef void play(const Flow* flow, Counters* counters) noexcept nogil
cdef void start_again(Flow* flow) noexcept nogil
