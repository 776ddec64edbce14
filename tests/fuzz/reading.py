"""Read one capture as hostile ones must be read: to its end or its error, every record kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowfeatures import FlowFeaturesError, FlowMeter, open_capture


def read_to_the_end(
    path: str | Path, meter: FlowMeter
) -> tuple[list[NDArray[np.void]], int | None, FlowFeaturesError | None]:
    """Return all records, how many frames were read (None where the capture was not opened), and the error, if any."""
    chunks: list[NDArray[np.void]] = []
    frames, error = None, None
    try:
        with open_capture(path) as capture:
            try:
                for records in meter.read(capture):
                    chunks.append(records)
            finally:
                frames = capture.frames_read
    except FlowFeaturesError as exc:
        error = exc
    chunks.extend(meter.flush())
    return chunks, frames, error
