"""Hop 4: a flow becomes a record: who and when, and its 77 columns in the order of columns.py.

The only place that decides what a division by zero gives: 0.
"""

from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

from flowfeatures.counters cimport Bulk, Counters, Direction
from flowfeatures.flow cimport Flow, Meta, Record
from flowfeatures.moments cimport Moments, i128, u128, variance


cdef inline double ratio(double over, double under) noexcept nogil:
    return over / under if under != 0 else 0.0


cdef inline double* put_moments(double* out, const Moments* m, bint with_sum) noexcept nogil:
    """Write [sum,] mean, std, max, min."""
    if with_sum:
        out[0] = <double> m.sum
        out += 1
    out[0] = ratio(<double> m.sum, <double> m.n)
    out[1] = sqrt(variance(m.n, m.sum, m.squares))
    out[2] = <double> m.max
    out[3] = <double> m.min
    return out + 4


cdef inline double* put_payload(double* out, const Direction* way) noexcept nogil:
    """Write max, min, mean, std of one direction's payload."""
    out[0] = way.payload_max
    out[1] = way.payload_min
    out[2] = ratio(<double> way.payload_bytes, way.packets)
    out[3] = sqrt(variance(way.packets, <i128> way.payload_bytes, way.payload_squares))
    return out + 4


cdef inline double* put_bulk(double* out, const Bulk* bulk) noexcept nogil:
    out[0] = ratio(<double> bulk.total_bytes, bulk.bulks)
    out[1] = ratio(<double> bulk.total_packets, bulk.bulks)
    out[2] = ratio(<double> bulk.total_bytes, <double> bulk.total_us / 1e6)
    return out + 3


cdef double* put_all_payload(double* out, const Direction* fwd, const Direction* bwd) noexcept nogil:
    """Write min, max, mean, std, variance of the payload over both directions."""
    cdef uint64_t packets = <uint64_t> fwd.packets + bwd.packets
    cdef uint64_t octets = fwd.payload_bytes + bwd.payload_bytes
    cdef double var = variance(packets, <i128> octets, fwd.payload_squares + bwd.payload_squares)
    if bwd.packets == 0:
        out[0], out[1] = fwd.payload_min, fwd.payload_max
    elif fwd.packets == 0:
        out[0], out[1] = bwd.payload_min, bwd.payload_max
    else:
        out[0] = min(fwd.payload_min, bwd.payload_min)
        out[1] = max(fwd.payload_max, bwd.payload_max)
    out[2] = ratio(<double> octets, <double> packets)
    out[3] = sqrt(var)
    out[4] = var
    return out + 5


cdef inline uint16_t initiator_port(const Flow* flow) noexcept nogil:
    return <uint16_t> (flow.key[4] >> (48 if flow.initiator_is_low else 32))


cdef inline uint16_t responder_port(const Flow* flow) noexcept nogil:
    return <uint16_t> (flow.key[4] >> (32 if flow.initiator_is_low else 48))


cdef void fill_columns(const Flow* flow, const Counters* now, double* columns) noexcept nogil:
    """Write float64[77]: columns 0 to 77 of docs/FEATURES.md without 55."""
    cdef const Direction* fwd = &now.fwd
    cdef const Direction* bwd = &now.bwd
    cdef int64_t duration_us = now.last_us - now.start_us if now.last_us > now.start_us else 0
    cdef double duration_s = duration_us / 1e6
    cdef double packets = <double> fwd.packets + bwd.packets
    cdef double payload = <double> (fwd.payload_bytes + bwd.payload_bytes)
    cdef double subflows = <double> now.subflow_gaps + 1
    cdef double* out = columns
    out[0], out[1] = responder_port(flow), <double> duration_us
    out[2], out[3] = fwd.packets, bwd.packets
    out[4], out[5] = <double> fwd.payload_bytes, <double> bwd.payload_bytes
    out = put_payload(out + 6, fwd)
    out = put_payload(out, bwd)
    out[0], out[1] = ratio(payload, duration_s), ratio(packets, duration_s)
    out = put_moments(out + 2, &now.iat, False)
    out = put_moments(out, &fwd.iat, True)
    out = put_moments(out, &bwd.iat, True)
    out[0], out[1] = fwd.psh, bwd.psh
    out[2], out[3] = fwd.urg, bwd.urg
    out[4], out[5] = <double> fwd.header_bytes, <double> bwd.header_bytes
    out[6], out[7] = ratio(fwd.packets, duration_s), ratio(bwd.packets, duration_s)
    out = put_all_payload(out + 8, fwd, bwd)
    out[0], out[1], out[2], out[3] = now.flags[0], now.flags[1], now.flags[2], now.flags[3]
    out[4], out[5], out[6], out[7] = now.flags[4], now.flags[5], now.flags[7], now.flags[6]
    out[8] = ratio(bwd.packets, fwd.packets)
    out[9] = ratio(payload, packets)
    out[10] = ratio(<double> fwd.payload_bytes, fwd.packets)
    out[11] = ratio(<double> bwd.payload_bytes, bwd.packets)
    out = put_bulk(out + 12, &fwd.bulk)
    out = put_bulk(out, &bwd.bulk)
    out[0], out[1] = fwd.packets / subflows, fwd.payload_bytes / subflows
    out[2], out[3] = bwd.packets / subflows, bwd.payload_bytes / subflows
    out[4], out[5] = fwd.init_window, bwd.init_window
    out[6], out[7] = fwd.data_packets, fwd.header_min
    out = put_moments(out + 8, &now.active_spells, False)
    put_moments(out, &now.idle_spells, False)


cdef void fill_record(const Flow* flow, const Counters* now, Record* record) noexcept nogil:
    """Write the record but for when and why it leaves, which the table knows."""
    cdef Meta* meta = &record.meta
    cdef const uint64_t* src = &flow.key[0] if flow.initiator_is_low else &flow.key[2]
    cdef const uint64_t* dst = &flow.key[2] if flow.initiator_is_low else &flow.key[0]
    memset(meta, 0, sizeof(Meta))       # the gaps between its fields too
    meta.start_us = now.start_us
    meta.end_us = now.last_us
    meta.fwd_wire_bytes = now.fwd.wire_bytes
    meta.bwd_wire_bytes = now.bwd.wire_bytes
    meta.fwd_packets = now.fwd.packets
    meta.bwd_packets = now.bwd.packets
    meta.segment = flow.segment
    memcpy(meta.src, src, 16)
    memcpy(meta.dst, dst, 16)
    meta.src_port = initiator_port(flow)
    meta.dst_port = responder_port(flow)
    memcpy(meta.vlan, flow.vlan, sizeof(flow.vlan))
    memcpy(meta.src_mac, flow.src_mac, 6)
    memcpy(meta.dst_mac, flow.dst_mac, 6)
    meta.proto = flow.proto
    meta.ip_version = flow.ip_version
    meta.half_open = flow.half_open
    meta.handshake = flow.handshake
    meta.group = flow.group
    meta.fwd_rst = now.fwd.rst > 0
    meta.bwd_rst = now.bwd.rst > 0
    meta.packet_label = flow.packet_label
    fill_columns(flow, now, record.columns)
