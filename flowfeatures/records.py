"""The memory layout of a flow record. `flow.pxd` says the same in C; `lifetimes.pyx` refuses to load if they differ."""

import numpy as np

from flowfeatures.columns import COLUMNS

FLOW_META = np.dtype(
    [
        ("flow_id", np.uint64),  # 53 bits: keyed hash of the flow key and start_us
        ("start_us", np.int64),
        ("end_us", np.int64),  # time stamp of the last packet
        ("left_us", np.int64),  # packet time at which the record was due to leave the table
        ("fwd_wire_bytes", np.uint64),  # whole frames, link header included
        ("bwd_wire_bytes", np.uint64),
        ("fwd_packets", np.uint32),
        ("bwd_packets", np.uint32),
        ("segment", np.uint32),  # records of this flow before this one
        ("src", np.uint8, (16,)),  # initiator; IPv4 as ::ffff:a.b.c.d
        ("dst", np.uint8, (16,)),
        ("src_port", np.uint16),
        ("dst_port", np.uint16),
        ("vlan", np.uint16, (2,)),  # of the first tagged packet, outer first; 0 = none
        ("src_mac", np.uint8, (6,)),  # of each end's first frame; zeros = none seen
        ("dst_mac", np.uint8, (6,)),
        ("proto", np.uint8),
        ("ip_version", np.uint8),
        ("end_reason", np.uint8),  # see columns.END_REASONS
        ("partial", np.uint8),
        ("half_open", np.uint8),  # TCP, and only the initiator's SYNs so far
        ("handshake", np.uint8),  # the initiator acknowledged the SYN+ACK's number: it is not spoofed
        ("group", np.uint8),  # the first frame went to a multicast or broadcast address
        ("fwd_rst", np.uint8),
        ("bwd_rst", np.uint8),
        ("label", np.int8),  # class index written by whoever knows the truth; 0 benign
        ("packet_label", np.uint8),  # last non-zero label among the flow's packets
    ],
    align=True,
)
"""Who, when and how much: a record without its columns."""

RECORD = np.dtype(
    [*((name, FLOW_META[name]) for name in FLOW_META.names or ()), ("columns", np.float64, (len(COLUMNS),))], align=True
)
