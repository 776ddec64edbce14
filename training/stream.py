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
    Capture,
    CaptureTruncated,
    DeviceWindows,
    FlowFeaturesError,
    FlowMeter,
    FlowSettings,
    WindowBatch,
    open_capture,
)
from training.spans import AttackSpans

Records = NDArray[np.void]  # RECORD[n] or FLOW_META[n]
DAY_US = 86_400e6
# A longer silence is a seam between recordings (protocol samples years apart in one file), not a time of watching.
LONGEST_SILENCE_US = 7 * DAY_US


class LabelledStream:
    """The windows of a capture, labelled by its ground truth; iterate once.

    While it is read, `attacks` gathers when home devices had a part in one, `days` the packet time covered, first
    packet to last less silences above a week, and `share_read` how much of the file is behind. A capture that raises
    one of `forgives` gives all windows before that place and leaves the error in `broken`; whatever else reading a
    capture raises is raised.
    """

    def __init__(self, truth: GroundTruth, *, forgives: type[FlowFeaturesError] = CaptureTruncated) -> None:
        home_nets = truth.home_nets or DEFAULT_HOME_NETS
        self.truth = truth
        self._covered_us = 0.0
        self._last_us: int | None = None
        self.records = self.packets = 0
        self.share_read = 0.0
        self.attacks = AttackSpans(home_nets)
        self.broken: FlowFeaturesError | None = None
        self._forgives = forgives
        self._saw_window = False
        self._meter = FlowMeter(FlowSettings(partials=True))
        self._windows = DeviceWindows(home_nets=home_nets)

    @property
    def days(self) -> float:
        """Return the packet time covered so far, in days."""
        return self._covered_us / DAY_US

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what whoever reads the figures of this capture should know, once it was read."""
        labels, nets = self.truth.packet_labels(), self.truth.home_nets or DEFAULT_HOME_NETS
        found = {
            "it holds no packet": not self.packets and self.broken is None,
            "no flow of its attack was seen: it counts in no rate": self.truth.outside_observation
            and (bool(self.records) or self.broken is None),
            f"no home device was seen: home_nets are {', '.join(nets)}": bool(self.records) and not self._saw_window,
            "no packet is later than 1970, where earlier time stamps are cut": self._last_us == 0,
        }
        if labels is not None and len(labels) - 1 > self.packets and self.broken is None:
            found[f"its packet labels go up to {len(labels) - 1}, it has {self.packets} packets"] = True
        return tuple(note for note, holds in found.items() if holds)

    def __iter__(self) -> Iterator[WindowBatch]:
        for batch in self._batches():
            self._saw_window |= bool(len(batch.label))
            yield batch

    def _batches(self) -> Iterator[WindowBatch]:
        try:
            with open_capture(self.truth.path) as capture:
                yield from self._read(capture)
        except self._forgives as exc:
            self.broken = exc
        for records in self._meter.flush():
            yield from self._windows.add(self._labelled(records))
        yield from self._windows.flush()

    def _read(self, capture: Capture) -> Iterator[WindowBatch]:
        try:
            for records in self._meter.read(capture, packet_labels=self.truth.packet_labels()):
                self.share_read = capture.position_bytes / (capture.size_bytes or capture.position_bytes)
                yield from self._windows.add(self._labelled(records))
        finally:
            self.packets = capture.frames_read

    def _labelled(self, records: Records) -> Records:
        self.truth.label(records)
        self.records += len(records)
        for start_us, end_us in zip(records["start_us"].tolist(), records["end_us"].tolist(), strict=True):
            self._cover(start_us, end_us)
        if (attack := records["label"] > 0).any():
            self.attacks.add(records[attack])
        return records

    def _cover(self, start_us: int, end_us: int) -> None:
        """Count the time of one record; records come nearly in order of time."""
        last_us = start_us if self._last_us is None else self._last_us
        silence_us = max(0, start_us - last_us)
        if silence_us > LONGEST_SILENCE_US:
            last_us = start_us
        self._covered_us += max(0, end_us - last_us)
        self._last_us = max(last_us, end_us)
