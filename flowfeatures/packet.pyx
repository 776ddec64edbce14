"""Hop 2: the octets of one frame become header fields, or a reason why not. docs/FEATURES.md section 1.

Every read is checked against what was captured; lengths come from the IP header, cut to the wire. Nothing is raised: a
hostile frame is the normal case.
"""

from libc.string cimport memcpy, memset

cdef enum:
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_SLL = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_SLL2 = 276

LINK_TYPES = {
    LINK_NULL: "null", LINK_ETHERNET: "ether", LINK_RAW_BSD: "raw", LINK_RAW_OPENBSD: "raw", LINK_RAW: "raw",
    LINK_LOOP: "loop", LINK_SLL: "linux-sll", LINK_IPV4: "ipv4", LINK_IPV6: "ipv6", LINK_SLL2: "linux-sll2",
}

cdef enum:
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_IPV6 = 0x86DD

cdef enum:
    VLAN_TAG_BYTES = 4

cdef enum:
    ICMP = 1
    ICMPV6 = 58


cdef inline uint16_t be16(const uint8_t* octets) noexcept nogil:
    return (<uint16_t> octets[0] << 8) | octets[1]


cdef inline uint32_t be32(const uint8_t* octets) noexcept nogil:
    return (<uint32_t> octets[0] << 24) | (<uint32_t> octets[1] << 16) | (<uint32_t> octets[2] << 8) | octets[3]


cdef int decode(const Frame* frame, Packet* packet) noexcept nogil:
    """Fill packet from frame and return DECODED, or return the reason why not (packet is then undefined)."""
    cdef const uint8_t* octets = frame.octets
    cdef uint32_t captured = frame.captured
    cdef uint32_t offset = 0
    cdef uint32_t ether_type = 0
    cdef uint32_t link = frame.link_type
    cdef int reason = NOT_IP
    memset(packet, 0, sizeof(Packet))
    packet.ts_us = frame.ts_us
    packet.wire_bytes = frame.wire
    if frame.vlan_tpid:
        packet.vlan[0] = frame.vlan_tci & 0x0FFF
    if link == LINK_ETHERNET:
        if captured < 14:
            return TRUNCATED_LINK
        packet.group = octets[0] & 1
        memcpy(packet.src_mac, octets + 6, 6)
        ether_type = be16(octets + 12)
        offset = 14
    elif link == LINK_SLL:
        if captured < 16:
            return TRUNCATED_LINK
        packet.group = 1 if be16(octets) == 1 or be16(octets) == 2 else 0
        if be16(octets + 4) == 6:
            memcpy(packet.src_mac, octets + 6, 6)
        ether_type = be16(octets + 14)
        offset = 16
    elif link == LINK_SLL2:
        if captured < 20:
            return TRUNCATED_LINK
        packet.group = 1 if octets[10] == 1 or octets[10] == 2 else 0
        if octets[11] == 6:
            memcpy(packet.src_mac, octets + 12, 6)
        ether_type = be16(octets)
        offset = 20
    elif link == LINK_RAW or link == LINK_RAW_BSD or link == LINK_RAW_OPENBSD or link == LINK_IPV4 or link == LINK_IPV6:
        if captured < 1:
            return TRUNCATED_IP
        ether_type = ETHERTYPE_IPV6 if octets[0] >> 4 == 6 else ETHERTYPE_IPV4
    elif link == LINK_NULL or link == LINK_LOOP:
        if captured < 4:
            return TRUNCATED_LINK
        ether_type = family_to_ether_type(octets, link)
        offset = 4
    else:
        return UNSUPPORTED_LINK
    offset = skip_vlan_tags(octets, captured, offset, &ether_type, frame.vlan_tpid != 0, packet)
    if offset == 0 and ether_type == 0:
        return TRUNCATED_LINK
    if ether_type == ETHERTYPE_IPV4:
        reason = decode_ipv4(octets, captured, offset, packet)
    elif ether_type == ETHERTYPE_IPV6:
        reason = decode_ipv6(octets, captured, offset, packet)
    if frame.vlan_tpid:
        packet.wire_bytes += VLAN_TAG_BYTES     # the wire carried it
    return reason


cdef inline uint32_t family_to_ether_type(const uint8_t* octets, uint32_t link) noexcept nogil:
    """BSD loopback: the address family in the capturing host's byte order (NULL) or the network's (LOOP)."""
    cdef uint32_t family = be32(octets)
    if family > 0xFFFF and link == LINK_NULL:
        family = octets[0] | (<uint32_t> octets[1] << 8) | (<uint32_t> octets[2] << 16) | (<uint32_t> octets[3] << 24)
    if family == 2:
        return ETHERTYPE_IPV4
    # AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
    if family == 10 or family == 24 or family == 28 or family == 30:
        return ETHERTYPE_IPV6
    return 1


cdef inline uint32_t skip_vlan_tags(
    const uint8_t* octets, uint32_t captured, uint32_t offset, uint32_t* ether_type, int tags, Packet* packet
) noexcept nogil:
    """Return the offset behind all tags; 0 with ether_type 0 where a tag is cut. The two outer ids are kept.

    `tags` were taken off the frame before, and noted.
    """
    while ether_type[0] == 0x8100 or ether_type[0] == 0x88A8 or ether_type[0] == 0x9100:
        if captured < offset + 4:
            ether_type[0] = 0
            return 0
        if tags < 2:
            packet.vlan[tags] = be16(octets + offset) & 0x0FFF
        tags += 1
        ether_type[0] = be16(octets + offset + 2)
        offset += 4
    return offset


cdef inline int decode_ipv4(const uint8_t* octets, uint32_t captured, uint32_t offset, Packet* packet) noexcept nogil:
    cdef const uint8_t* ip = octets + offset
    cdef uint32_t at_hand = captured - offset
    cdef uint32_t on_wire = packet.wire_bytes - offset
    cdef uint32_t header, total
    if at_hand < 1:
        return TRUNCATED_IP
    if ip[0] >> 4 != 4:
        return NOT_IP
    if at_hand < 20:
        return TRUNCATED_IP
    header = <uint32_t> (ip[0] & 0x0F) * 4
    if header < 20:
        return BAD_IHL
    if at_hand < header:
        return TRUNCATED_IP
    total = be16(ip + 2)
    if total == 0 or total > on_wire:   # 0: a super-frame that the network card has not cut yet
        total = on_wire
    packet.ip_version = 4
    packet.ip_bytes = total
    packet.proto = ip[9]
    packet.src[10] = packet.src[11] = packet.dst[10] = packet.dst[11] = 0xFF
    memcpy(packet.src + 12, ip + 12, 4)
    memcpy(packet.dst + 12, ip + 16, 4)
    if ip[16] >> 4 == 14 or be32(ip + 16) == 0xFFFFFFFFU:
        packet.group = 1
    if be16(ip + 6) & 0x1FFF:           # a later fragment: no layer-4 header to read
        return DECODED
    return decode_l4(ip + header, at_hand - header, total - header if total > header else 0, packet)


cdef inline int decode_ipv6(const uint8_t* octets, uint32_t captured, uint32_t offset, Packet* packet) noexcept nogil:
    cdef const uint8_t* ip = octets + offset
    cdef uint32_t at_hand = captured - offset
    cdef uint32_t on_wire = packet.wire_bytes - offset
    cdef uint32_t payload, header = 40, extension
    if at_hand < 1:
        return TRUNCATED_IP
    if ip[0] >> 4 != 6:
        return NOT_IP
    if at_hand < 40:
        return TRUNCATED_IP
    payload = be16(ip + 4)
    if payload == 0 or payload > on_wire - 40:
        payload = on_wire - 40
    packet.ip_version = 6
    packet.ip_bytes = payload + 40
    packet.proto = ip[6]
    memcpy(packet.src, ip + 8, 16)
    memcpy(packet.dst, ip + 24, 16)
    if ip[24] == 0xFF:
        packet.group = 1
    while is_extension(packet.proto):
        if at_hand < header + 8:
            return TRUNCATED_IP
        if packet.proto == 44:
            extension = 8
            if be16(ip + header + 2) >> 3:      # a later fragment
                packet.proto = ip[header]
                return DECODED
        elif packet.proto == 51:
            extension = (<uint32_t> ip[header + 1] + 2) * 4
        else:
            extension = (<uint32_t> ip[header + 1] + 1) * 8
        packet.proto = ip[header]
        header += extension
        if at_hand < header:
            return TRUNCATED_IP
    return decode_l4(ip + header, at_hand - header, payload + 40 - header if payload + 40 > header else 0, packet)


cdef inline bint is_extension(uint8_t proto) noexcept nogil:
    """Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6 (RFC 8200, IANA)."""
    return (
        proto == 0 or proto == 43 or proto == 44 or proto == 51 or proto == 60
        or proto == 135 or proto == 139 or proto == 140
    )


cdef inline int decode_l4(const uint8_t* l4, uint32_t at_hand, uint32_t length, Packet* packet) noexcept nogil:
    """Read ports, flags and lengths; `length` is the IP payload, `at_hand` what of it was captured."""
    cdef uint32_t header
    if packet.proto == TCP:
        if at_hand < 20:
            return TRUNCATED_L4
        header = <uint32_t> (l4[12] >> 4) * 4
        if header < 20 or header > length:
            return BAD_OFFSET
        packet.seq = be32(l4 + 4)
        packet.ack = be32(l4 + 8)
        packet.flags = l4[13]
        packet.window = be16(l4 + 14)
        packet.header_bytes = header
        packet.payload_bytes = length - header
    elif packet.proto == UDP:
        if at_hand < 8:
            return TRUNCATED_L4
        packet.header_bytes = 8
        packet.payload_bytes = length - 8 if length > 8 else 0
    else:
        if packet.proto != ICMP and packet.proto != ICMPV6:
            packet.payload_bytes = length
        return DECODED
    packet.src_port = be16(l4)
    packet.dst_port = be16(l4 + 2)
    return DECODED
