from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flowfeatures.moments cimport Moments
from flowfeatures.packet cimport Packet


cdef struct Bulk:               # CICFlowMeter's bulk machine of one direction, docs/FEATURES.md section 3
    int64_t start_us            # 0: none open
    int64_t last_us             # last payload packet of this direction
    uint64_t bytes
    uint32_t packets
    uint32_t bulks              # totals from here on
    uint64_t total_packets
    uint64_t total_bytes
    int64_t total_us


cdef struct Direction:
    uint64_t payload_bytes
    uint64_t payload_squares
    uint64_t header_bytes
    uint64_t wire_bytes
    int64_t last_us
    Moments iat
    Bulk bulk
    uint32_t packets
    uint32_t payload_max
    uint32_t payload_min
    uint32_t header_min
    uint32_t psh
    uint32_t urg
    uint32_t rst
    uint32_t data_packets
    uint16_t init_window


cdef struct Counters:           # what a cut at the active timeout sets to zero
    int64_t start_us
    int64_t last_us
    Direction fwd
    Direction bwd
    Moments iat
    Moments active_spells
    Moments idle_spells
    int64_t spell_start_us
    int64_t spell_end_us
    uint32_t[8] flags           # packets with FIN, SYN, RST, PSH, ACK, URG, ECE, CWR
    uint32_t subflow_gaps
    uint32_t segment            # records left so far
    uint32_t partials           # timed partial records left so far
    uint8_t tcp_state           # 0 open, 1 one FIN, 2 both, 3 closed
    uint8_t fins                # bit 0: fwd, bit 1: bwd
    uint8_t half_open
    uint8_t packet_label
    int64_t closed_us


cdef struct Flow:
    uint64_t[5] key             # canonical: low end's address, high end's address, ports + protocol + VLANs
    uint64_t arrival            # order in which flows came to be
    int64_t alarm_us            # earliest live entry of this flow among the table's alarms
    uint32_t tag                # of the key's hash
    uint32_t[2] next            # neighbours in order of arrival, among all flows (0) and the half-open ones (1)
    uint32_t[2] previous
    uint8_t in_use
    uint8_t initiator_is_low
    uint8_t listed_half_open    # stands in the second list
    uint8_t dormant             # cut at the active timeout, no packet since
    uint8_t proto
    uint8_t ip_version
    uint8_t group
    uint8_t handshake
    uint8_t has_syn_ack
    uint32_t syn_ack_seq
    uint16_t src_port
    uint16_t dst_port
    uint16_t[2] vlan
    uint8_t[16] src
    uint8_t[16] dst
    uint8_t[6] src_mac
    uint8_t[6] dst_mac
    int64_t idle_us             # idle timeout of its protocol
    uint64_t flow_id            # of the current segment chain: key + start
    Counters now


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


cdef void account(Flow* flow, const Packet* packet, bint fwd) noexcept nogil
