"""What the hand-made captures share: a conversation that closes, parts of tables, short ways to read a record."""

from tests.flowfeatures.meters import Measured
from tests.flowfeatures.packets import Conversation
from tests.oracle.columns import NAMES
from tests.oracle.meter import Record


def closed() -> Conversation:
    """A handshake and a graceful close: six packets in 50 ms, closed by the last ACK at 0.05 s."""
    talk = Conversation().out(0, "S").back(0.01, "SA").out(0.02, "A")
    return talk.out(0.03, "FA").back(0.04, "FA").out(0.05, "A")


def reasons(measured: Measured) -> list[int]:
    """End reasons, in the order in which the records left."""
    return [record.end_reason for record in measured.records]


def packets(measured: Measured) -> list[tuple[int, int]]:
    """(forward, backward) packets, in the order in which the records left."""
    return [(record.fwd_packets, record.bwd_packets) for record in measured.records]


def wrong_columns(record: Record, expected: dict[str, float]) -> list[str]:
    """Compare all 77 columns with a table that leaves out the zeros; return a line for each that is wrong."""
    unknown = set(expected) - set(NAMES)
    assert not unknown, unknown
    return [
        f"{name}: {seen!r}, by hand {expected.get(name, 0)!r}"
        for name, seen in zip(NAMES, record.columns, strict=True)
        if abs(seen - expected.get(name, 0)) > 1e-12 * abs(seen)
    ]


def only_forward(
    *, packets: int, payload_bytes: int, duration_us: int, header_bytes: int = 8, dst_port: int = 53
) -> dict[str, float]:
    """The columns that equal packets of one side share, without gaps, subflows, bulks and spells."""
    seconds, total = duration_us / 1e6, packets * payload_bytes
    means = ("fwd_payload_bytes", "payload_bytes")
    return {
        "dst_port": dst_port,
        "duration_us": duration_us,
        "fwd_packets": packets,
        "fwd_payload_bytes": total,
        **{f"{stem}_{which}": payload_bytes for stem in means for which in ("max", "min", "mean", "per_packet")},
        "payload_bytes_per_s": total / seconds if seconds else 0,
        "packets_per_s": packets / seconds if seconds else 0,
        "fwd_packets_per_s": packets / seconds if seconds else 0,
        "fwd_header_bytes": packets * header_bytes,
        "fwd_header_bytes_min": header_bytes,
        "fwd_data_packets": packets if payload_bytes else 0,
    }


def gaps(*, total_us: int, count: int, std_us: float, max_us: int, min_us: int) -> dict[str, float]:
    """The gap columns of a flow that has only forward packets: the flow's and the side's are one."""
    each = {"mean": total_us / count, "std": std_us, "max": max_us, "min": min_us}
    sides = {f"{stem}_{which}_us": value for stem in ("iat", "fwd_iat") for which, value in each.items()}
    return {**sides, "fwd_iat_sum_us": total_us}
