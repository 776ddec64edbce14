"""One labelled capture as device windows, exactly as the agent's replay sees it.

Training and evaluation both read captures through `LabelledStream`; it decides nothing and scores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from contracts.ground_truth import GroundTruth
from flowfeatures import (
    DEFAULT_HOME_NETS,
    FLOW_META,
    CaptureTruncated,
    DeviceWindows,
    FlowMeter,
    FlowSettings,
    WindowBatch,
    open_capture,
)

Records = NDArray[np.void]  # RECORD[n] or FLOW_META[n]
DAY_US = 86_400e6
# A longer silence is a seam between recordings (protocol samples years apart in one file), not a time of watching.
LONGEST_SILENCE_US = 7 * DAY_US


class LabelledStream:
    """The windows of a capture, labelled by its ground truth; iterate once.

    While it is read, `attacks` gathers the attack records (FLOW_META[n]) and `days` the packet time covered, first
    packet to last less silences above a week. A capture that ends within a frame gives all windows before it and leaves
    its error in `truncated`; whatever else reading a capture raises is raised.
    """

    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self._covered_us = 0.0
        self._last_us: int | None = None
        self.records = 0
        self.truncated: CaptureTruncated | None = None
        self._attacks: list[Records] = []
        self._meter = FlowMeter(FlowSettings(partials=True))
        self._windows = DeviceWindows(home_nets=truth.home_nets or DEFAULT_HOME_NETS)

    @property
    def attacks(self) -> Records:
        """Return the attack records so far, FLOW_META[n]."""
        return np.concatenate(self._attacks) if self._attacks else np.zeros(0, dtype=FLOW_META)

    @property
    def days(self) -> float:
        """Return the packet time covered so far, in days."""
        return self._covered_us / DAY_US

    def __iter__(self) -> Iterator[WindowBatch]:
        try:
            with open_capture(self.truth.path) as capture:
                for records in self._meter.read(capture, packet_labels=self.truth.packet_labels()):
                    yield from self._windows.add(self._labelled(records))
        except CaptureTruncated as exc:
            self.truncated = exc
        for records in self._meter.flush():
            yield from self._windows.add(self._labelled(records))
        yield from self._windows.flush()

    def _labelled(self, records: Records) -> Records:
        self.truth.label(records)
        self.records += len(records)
        for start_us, end_us in zip(records["start_us"].tolist(), records["end_us"].tolist(), strict=True):
            self._cover(start_us, end_us)
        if (attack := records["label"] > 0).any():
            found = np.zeros(int(attack.sum()), dtype=FLOW_META)
            for name in FLOW_META.names or ():
                found[name] = records[name][attack]
            self._attacks.append(found)
        return records

    def _cover(self, start_us: int, end_us: int) -> None:
        """Count the time of one record; records come nearly in order of time."""
        last_us = start_us if self._last_us is None else self._last_us
        silence_us = max(0, start_us - last_us)
        if silence_us > LONGEST_SILENCE_US:
            last_us = start_us
        self._covered_us += max(0, end_us - last_us)
        self._last_us = max(last_us, end_us)
