"""The columns of CICIDS2017's two published formats, as their headers say them in lower case and in that order.

`NEWER` are columns of the corrected format that its first publication (Engelen et al. 2021) does not have and the later
one (Liu et al. 2022) does.
"""

from __future__ import annotations

NEWER = frozenset({"fwd rst flags", "bwd rst flags", "icmp code", "icmp type", "total tcp flow time"})
ORIGINAL_FEATURES = (
    "flow duration", "total fwd packets", "total backward packets", "total length of fwd packets",
    "total length of bwd packets", "fwd packet length max", "fwd packet length min", "fwd packet length mean",
    "fwd packet length std", "bwd packet length max", "bwd packet length min", "bwd packet length mean",
    "bwd packet length std", "flow bytes/s", "flow packets/s", "flow iat mean", "flow iat std", "flow iat max",
    "flow iat min", "fwd iat total", "fwd iat mean", "fwd iat std", "fwd iat max", "fwd iat min", "bwd iat total",
    "bwd iat mean", "bwd iat std", "bwd iat max", "bwd iat min", "fwd psh flags", "bwd psh flags", "fwd urg flags",
    "bwd urg flags", "fwd header length", "bwd header length", "fwd packets/s", "bwd packets/s", "min packet length",
    "max packet length", "packet length mean", "packet length std", "packet length variance", "fin flag count",
    "syn flag count", "rst flag count", "psh flag count", "ack flag count", "urg flag count", "cwe flag count",
    "ece flag count", "down/up ratio", "average packet size", "avg fwd segment size", "avg bwd segment size",
    "fwd avg bytes/bulk", "fwd avg packets/bulk", "fwd avg bulk rate", "bwd avg bytes/bulk", "bwd avg packets/bulk",
    "bwd avg bulk rate", "subflow fwd packets", "subflow fwd bytes", "subflow bwd packets", "subflow bwd bytes",
    "init_win_bytes_forward", "init_win_bytes_backward", "act_data_pkt_fwd", "min_seg_size_forward", "active mean",
    "active std", "active max", "active min", "idle mean", "idle std", "idle max", "idle min",
)  # fmt: skip
CORRECTED_FEATURES = (
    "flow duration", "total fwd packet", "total bwd packets", "total length of fwd packet",
    "total length of bwd packet", "fwd packet length max", "fwd packet length min", "fwd packet length mean",
    "fwd packet length std", "bwd packet length max", "bwd packet length min", "bwd packet length mean",
    "bwd packet length std", "flow bytes/s", "flow packets/s", "flow iat mean", "flow iat std", "flow iat max",
    "flow iat min", "fwd iat total", "fwd iat mean", "fwd iat std", "fwd iat max", "fwd iat min", "bwd iat total",
    "bwd iat mean", "bwd iat std", "bwd iat max", "bwd iat min", "fwd psh flags", "bwd psh flags", "fwd urg flags",
    "bwd urg flags", "fwd rst flags", "bwd rst flags", "fwd header length", "bwd header length", "fwd packets/s",
    "bwd packets/s", "packet length min", "packet length max", "packet length mean", "packet length std",
    "packet length variance", "fin flag count", "syn flag count", "rst flag count", "psh flag count",
    "ack flag count", "urg flag count", "cwr flag count", "ece flag count", "down/up ratio", "average packet size",
    "fwd segment size avg", "bwd segment size avg", "fwd bytes/bulk avg", "fwd packet/bulk avg",
    "fwd bulk rate avg", "bwd bytes/bulk avg", "bwd packet/bulk avg", "bwd bulk rate avg", "subflow fwd packets",
    "subflow fwd bytes", "subflow bwd packets", "subflow bwd bytes", "fwd init win bytes", "bwd init win bytes",
    "fwd act data pkts", "fwd seg size min", "active mean", "active std", "active max", "active min", "idle mean",
    "idle std", "idle max", "idle min", "icmp code", "icmp type", "total tcp flow time",
)  # fmt: skip
