"""Where two meters disagree: counts, sums, extremes and times bit for bit, what was divided to 1e-9 of its size.

A column is a float64, so beyond 2^53 the nearest one is what bit for bit means.

NaN equals nothing. The engine keeps sums of squares exactly up to 92 bits, which gaps of years exceed: there alone,
with a forged clock, a deviation is compared to 1e-9 of the largest value it was made from.
"""

import math

from tests.flowfeatures.meters import META, Measured
from tests.oracle.columns import NAMES
from tests.oracle.meter import Record

RELATIVE = 1e-9
DIVIDED = ("_mean", "_std", "_var", "_per_s", "_ratio", "_per_packet")
IS_DIVIDED = tuple(any(part in name for part in DIVIDED) for name in NAMES)
YEARS_US = 2**44  # 64 gaps of half a year: their squares still fit
COUNTERS = (
    "packets",
    "decoded",
    "undecoded",
    "super_frames",
    "flows",
    "records",
    "partial_records",
    "evicted_flows",
    "emergencies",
)


def disagreements(oracle: Measured, engine: Measured) -> list[str]:
    """Return one line per difference, none where the two agree in everything."""
    lines = [f"error: oracle {oracle.error}, engine {engine.error}"] if oracle.error != engine.error else []
    lines += [
        f"{name}: oracle {oracle.counters[name]}, engine {engine.counters[name]}"
        for name in (*COUNTERS, "live_flows")
        if oracle.counters[name] != engine.counters[name]
    ]
    if len(oracle.records) != len(engine.records):
        lines.append(f"records: oracle {len(oracle.records)}, engine {len(engine.records)}")
    for i, (expected, seen) in enumerate(zip(oracle.records, engine.records, strict=False)):
        lines += [f"record {i} {line}" for line in record_differences(expected, seen)]
    return lines


def record_differences(expected: Record, seen: Record) -> list[str]:
    """Return the fields and columns in which two records differ."""
    names = ("number", *META)
    lines = [
        f"{name}: oracle {getattr(expected, name)}, engine {getattr(seen, name)}"
        for name in names
        if getattr(expected, name) != getattr(seen, name)
    ]
    for name, is_divided, ours, theirs in zip(NAMES, IS_DIVIDED, expected.columns, seen.columns, strict=True):
        if float(ours) == theirs:
            continue
        if is_divided and (math.isclose(ours, theirs, rel_tol=RELATIVE) or is_forged_deviation(name, expected, theirs)):
            continue
        lines.append(f"{name}: oracle {ours!r}, engine {theirs!r}")
    return lines


def is_forged_deviation(name: str, expected: Record, theirs: float) -> bool:
    """Say whether a deviation over gaps of years comes as near as its largest value allows."""
    if not name.endswith("_std_us"):
        return False
    highest, lowest = (expected.columns[NAMES.index(name.replace("_std_", f"_{which}_"))] for which in ("max", "min"))
    largest = max(abs(highest), abs(lowest))
    return largest > YEARS_US and abs(expected.columns[NAMES.index(name)] - theirs) <= RELATIVE * largest


def report(lines: list[str], *, what: str) -> str:
    """Return the first differences as text for an assertion."""
    return "\n".join([f"{what}: {len(lines)} differences", *lines[:25]])
