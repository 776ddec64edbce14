"""Community ID v1: the hash by which our alerts join with those of Zeek and Suricata (corelight/community-id-spec)."""

import base64
import hashlib
import struct
from typing import Any

_PORTLESS_ICMP = {1, 58}


def community_id(flow: Any, seed: int = 0) -> str:
    """Return the Community ID of one row of RECORD or of FLOW_META, as text that begins with `1:`.

    `seed`, 0 to 65,535, is the same in all tools that shall agree. ICMP flows have no type and code here (their ports
    are 0), so theirs is the one-way form over addresses alone.
    """
    src, dst = bytes(flow["src"]), bytes(flow["dst"])
    if int(flow["ip_version"]) == 4:
        src, dst = src[12:], dst[12:]
    src_port, dst_port, proto = int(flow["src_port"]), int(flow["dst_port"]), int(flow["proto"])
    if (src, src_port) > (dst, dst_port):
        src, dst, src_port, dst_port = dst, src, dst_port, src_port
    text = struct.pack("!H", seed) + src + dst + struct.pack("!BB", proto, 0)
    if proto in {6, 17, 132} | _PORTLESS_ICMP:
        text += struct.pack("!HH", src_port, dst_port)
    return "1:" + base64.b64encode(hashlib.sha1(text).digest()).decode()
