"""The 77 columns: their names, and their values from a flow's counters.

`NAMES` follows the order of the specification's table, 0 to 77 without 55. Counts stay integers.
"""

from tests.oracle.flow import BWD, FWD, Bulk, Counters, Sample

MICRO = 1_000_000


def _per_direction(side: str, *endings: str) -> list[str]:
    return [f"{side}_{ending}" for ending in endings]


_FOUR = ("max", "min", "mean", "std")
NAMES: tuple[str, ...] = (
    "dst_port",
    "duration_us",
    "fwd_packets",
    "bwd_packets",
    "fwd_payload_bytes",
    "bwd_payload_bytes",
    *(f"{side}_payload_bytes_{which}" for side in ("fwd", "bwd") for which in _FOUR),
    "payload_bytes_per_s",
    "packets_per_s",
    *(f"iat_{which}_us" for which in ("mean", "std", "max", "min")),
    *(f"{side}_iat_{which}_us" for side in ("fwd", "bwd") for which in ("sum", "mean", "std", "max", "min")),
    "fwd_psh_packets",
    "bwd_psh_packets",
    "fwd_urg_packets",
    "bwd_urg_packets",
    "fwd_header_bytes",
    "bwd_header_bytes",
    "fwd_packets_per_s",
    "bwd_packets_per_s",
    *(f"payload_bytes_{which}" for which in ("min", "max", "mean", "std", "var")),
    *(f"{flag}_packets" for flag in ("fin", "syn", "rst", "psh", "ack", "urg", "cwr", "ece")),
    "down_up_ratio",
    "payload_bytes_per_packet",
    "fwd_payload_bytes_per_packet",
    "bwd_payload_bytes_per_packet",
    *_per_direction("fwd", "bulk_bytes_mean", "bulk_packets_mean", "bulk_bytes_per_s"),
    *_per_direction("bwd", "bulk_bytes_mean", "bulk_packets_mean", "bulk_bytes_per_s"),
    *_per_direction("fwd", "subflow_packets_mean", "subflow_bytes_mean"),
    *_per_direction("bwd", "subflow_packets_mean", "subflow_bytes_mean"),
    "fwd_init_window_bytes",
    "bwd_init_window_bytes",
    "fwd_data_packets",
    "fwd_header_bytes_min",
    *(f"active_spell_{which}_us" for which in ("mean", "std", "max", "min")),
    *(f"idle_spell_{which}_us" for which in ("mean", "std", "max", "min")),
)


def columns(counters: Counters, *, dst_port: int) -> list[float]:
    """Return the 77 values in the order of NAMES; a division by zero gives 0."""
    fwd, bwd = counters.sides[FWD], counters.sides[BWD]
    duration_us = max(0, counters.last - counters.start)
    every, iat, subflows = counters.pay, counters.iat, counters.gaps + 1
    return [
        dst_port,
        duration_us,
        fwd.pay.count,
        bwd.pay.count,
        fwd.pay.total,
        bwd.pay.total,
        *max_min_mean_std(fwd.pay),
        *max_min_mean_std(bwd.pay),
        per_second(every.total, duration_us),
        per_second(every.count, duration_us),
        *mean_std_max_min(iat),
        fwd.iat.total,
        *mean_std_max_min(fwd.iat),
        bwd.iat.total,
        *mean_std_max_min(bwd.iat),
        fwd.psh,
        bwd.psh,
        fwd.urg,
        bwd.urg,
        fwd.hdr.total,
        bwd.hdr.total,
        per_second(fwd.pay.count, duration_us),
        per_second(bwd.pay.count, duration_us),
        every.low,
        every.high,
        every.mean,
        every.std,
        every.variance,
        *counters.flags,
        ratio(bwd.pay.count, fwd.pay.count),
        every.mean,
        fwd.pay.mean,
        bwd.pay.mean,
        *bulk_columns(fwd.bulk),
        *bulk_columns(bwd.bulk),
        fwd.pay.count / subflows,
        fwd.pay.total / subflows,
        bwd.pay.count / subflows,
        bwd.pay.total / subflows,
        fwd.window,
        bwd.window,
        fwd.data_packets,
        fwd.hdr.low,
        *mean_std_max_min(counters.active),
        *mean_std_max_min(counters.idle),
    ]


def ratio(above: int, below: int) -> float:
    """Return above / below, 0 where below is 0."""
    return above / below if below else 0.0


def per_second(amount: int, duration_us: int) -> float:
    """Return the amount per second, 0 for no duration."""
    return ratio(amount * MICRO, duration_us)


def max_min_mean_std(sample: Sample) -> tuple[float, float, float, float]:
    """Order of the payload columns."""
    return sample.high, sample.low, sample.mean, sample.std


def mean_std_max_min(sample: Sample) -> tuple[float, float, float, float]:
    """Order of the time columns."""
    return sample.mean, sample.std, sample.high, sample.low


def bulk_columns(bulk: Bulk) -> tuple[float, float, float]:
    """Bytes and packets per bulk, bytes per second of bulk."""
    return ratio(bulk.bytes, bulk.bulks), ratio(bulk.packets, bulk.bulks), per_second(bulk.bytes, bulk.duration)
