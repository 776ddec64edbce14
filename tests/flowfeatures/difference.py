"""Where two meters disagree: integers exactly, floats to 1e-9 of their size.

A deviation is a difference of large sums: it is compared to 1e-9 of the largest value it was made from.
"""

from dataclasses import asdict

import numpy as np

from tests.flowfeatures.meters import META, Measured
from tests.oracle.columns import NAMES
from tests.oracle.meter import Record

RELATIVE = 1e-9
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
    ours, theirs = np.array(expected.columns, np.float64), np.array(seen.columns, np.float64)
    for i in np.flatnonzero(~np.isclose(ours, theirs, rtol=RELATIVE, atol=0.0)):
        if not (is_deviation(NAMES[i]) and abs(ours[i] - theirs[i]) <= RELATIVE * scale(expected, NAMES[i])):
            lines.append(f"{NAMES[i]}: oracle {ours[i]!r}, engine {theirs[i]!r}")
    return lines


def is_deviation(name: str) -> bool:
    """Say whether a column is a standard deviation or a variance."""
    return "_std" in name or name.endswith("_var")


def scale(record: Record, name: str) -> float:
    """Return the size of the values a deviation was computed from."""
    stem, ending = name.split("_std", maxsplit=1)[0].split("_var", maxsplit=1)[0], "_us" if name.endswith("_us") else ""
    largest = max(abs(record.columns[NAMES.index(f"{stem}_{which}{ending}")]) for which in ("max", "min"))
    return largest**2 if name.endswith("_var") else largest


def report(lines: list[str], *, what: str) -> str:
    """Return the first differences as text for an assertion."""
    return "\n".join([f"{what}: {len(lines)} differences", *lines[:25]])


def as_text(record: Record) -> str:
    """Return a record for a report, columns left out."""
    return str({name: value for name, value in asdict(record).items() if name != "columns"})
