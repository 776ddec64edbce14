"""Community ID v1 (corelight/community-id-spec) of a flow with ports, or of a protocol without any."""

import base64
import hashlib

PROTOCOLS_WITH_PORTS = (6, 17)


def community_id(src: bytes, dst: bytes, *, src_port: int, dst_port: int, proto: int) -> str:
    """Return `1:` and the base64 of SHA-1 over seed 0, the smaller end, the larger end, protocol and ports.

    Addresses are 16 bytes; IPv4 ones (::ffff:a.b.c.d) are hashed as four.
    """
    mapped = bytes(10) + b"\xff\xff"
    ends = sorted(
        (address[12:] if address.startswith(mapped) else address, port)
        for address, port in ((src, src_port), (dst, dst_port))
    )
    parts = [bytes(2), ends[0][0], ends[1][0], bytes([proto, 0])]
    if proto in PROTOCOLS_WITH_PORTS:
        parts += [port.to_bytes(2, "big") for _, port in ends]
    return "1:" + base64.b64encode(hashlib.sha1(b"".join(parts)).digest()).decode()


def on_the_wire(address: bytes) -> bytes:
    """Return an IPv4 address's four bytes, an IPv6 one's sixteen."""
    return address[12:] if address.startswith(bytes(10) + b"\xff\xff") else address
