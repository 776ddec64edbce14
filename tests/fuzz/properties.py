"""What holds for every input, however hostile: `broken(...)` says which of it does not.

A packet is counted once, by reason or in one flow; every flow leaves a record that is not partial; a column is a finite
number. Only `FlowFeaturesError` may be raised, which is for the caller to see to.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowfeatures import RECORD


def broken(chunks: Iterable[NDArray[np.void]], counters: Mapping[str, Any], *, frames: int | None = None) -> list[str]:
    """Return one line per property that does not hold; `chunks` are all records of a meter that was flushed.

    `frames` is what the meter was given, where that is known.
    """
    given = list(chunks)
    records = given[0] if len(given) == 1 else np.concatenate(given) if given else np.zeros(0, RECORD)
    final = records[records["partial"] == 0]
    in_records = int(final["fwd_packets"].sum(dtype=np.uint64) + final["bwd_packets"].sum(dtype=np.uint64))
    undecoded = sum(counters["undecoded"].values())
    claims = {
        "every frame is counted": frames is None or counters["packets"] == frames,
        "packets = decoded + undecoded": counters["packets"] == counters["decoded"] + undecoded,
        "each decoded packet stands in one record": in_records == counters["decoded"],
        "every flow leaves a record": len(final) >= counters["flows"],
        "no record is empty": bool((records["fwd_packets"] + records["bwd_packets"] > 0).all()),
        "records are counted": len(records) == counters["records"],
        "partial records are counted": len(records) - len(final) == counters["partial_records"],
        "nothing lives after flush": counters["live_flows"] == 0,
        "columns are finite": bool(np.isfinite(records["columns"]).all()),
        "ends have reasons": bool(((final["end_reason"] >= 1) & (final["end_reason"] <= 5)).all()),
    }
    numbers = (
        f"{len(records)} records, {len(final)} final, {in_records} packets in them, {frames} frames, {dict(counters)}"
    )
    return [f"does not hold: {claim} ({numbers})" for claim, holds in claims.items() if not holds]
