"""Windows written by hand, and an engine whose scores can be read off them.

A row's first C columns hold the probability of each class as that record alone has it; a window's score of a class is
the largest among its rows. Column `MARK` and following are free.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle, Interval, Manifest, Scaling, Threshold
from contracts.classes import HEAD_NAMES, NAMES
from detection.engine import Scores
from flowfeatures import FLOW_META, SCHEMA_ID, WINDOW_COLUMNS, WindowBatch, address_bytes

W, F, C = 16, len(WINDOW_COLUMNS), len(HEAD_NAMES)
T0_US = 1_700_000_000_000_000
S = 1_000_000
CAMERA, PHONE, BULB = "192.168.1.10", "192.168.1.20", "192.168.1.30"
OUTSIDE, ELSEWHERE = "203.0.113.9", "198.51.100.7"


@dataclass(frozen=True)
class Row:
    """One record of a window; `scores` by class name."""

    src: str
    dst: str
    scores: dict[str, float] = field(default_factory=dict)
    flow_id: int = 1
    is_new: bool = True
    handshake: bool = False
    repeats: int = 1
    dst_port: int = 23
    end_us: int = T0_US


@dataclass(frozen=True)
class Window:
    """One window of a device, due `at_s` seconds after T0."""

    device: str
    rows: Sequence[Row]
    at_s: float = 0.0


def batch_of(*windows: Window) -> WindowBatch:
    """Return the windows as DeviceWindows would hand them over."""
    b = len(windows)
    batch = WindowBatch(
        values=np.zeros((b, W, F), np.float32),
        mask=np.zeros((b, W), np.float32),
        device=np.zeros((b, 16), np.uint8),
        due_us=np.zeros(b, np.int64),
        label=np.zeros(b, np.int8),
        flows=np.zeros((b, W), FLOW_META),
        repeats=np.zeros((b, W), np.uint32),
        is_new=np.zeros((b, W), np.uint8),
    )
    for i, window in enumerate(windows):
        batch.device[i] = np.frombuffer(address_bytes(window.device), np.uint8)
        batch.due_us[i] = T0_US + round(window.at_s * S)
        for place, row in enumerate(window.rows):
            _write(batch, i, place, row)
    return batch


def _write(batch: WindowBatch, i: int, place: int, row: Row) -> None:
    for name, score in row.scores.items():
        batch.values[i, place, NAMES.index(name)] = score
    batch.mask[i, place] = 1.0
    batch.repeats[i, place] = row.repeats
    batch.is_new[i, place] = row.is_new
    flow = batch.flows[i, place]
    flow["flow_id"], flow["handshake"], flow["proto"], flow["ip_version"] = row.flow_id, row.handshake, 6, 4
    flow["src"] = np.frombuffer(address_bytes(row.src), np.uint8)
    flow["dst"] = np.frombuffer(address_bytes(row.dst), np.uint8)
    flow["src_port"], flow["dst_port"] = 40_000, row.dst_port
    flow["start_us"], flow["end_us"] = row.end_us - S // 4, row.end_us
    flow["fwd_packets"], flow["fwd_wire_bytes"] = 3, 180


class LegibleEngine:
    """Reads the scores off the first C columns; counts the windows it was given."""

    name = "legible"
    provider = "test"

    def __init__(self) -> None:
        self.windows_scored = 0

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        assert windows.dtype == mask.dtype == np.float32
        self.windows_scored += len(windows)
        b = len(windows)
        probabilities = (windows[:, :, :C] * mask[:, :, None]).max(axis=1)
        probabilities[:, 0] = 1.0 - probabilities[:, 1:].max(axis=1)
        return Scores(
            probabilities, np.zeros((b, 4), np.float32), np.zeros(b, np.float32), np.full((b, W), 1 / W, np.float32)
        )


def make_manifest(*, open_at: float = 0.5, severe_at: float = 0.9) -> Manifest:
    """Return a manifest whose every class opens and turns severe at the same scores."""
    return Manifest(
        release=1,
        name="gru",
        schema_id=SCHEMA_ID,
        window=W,
        features=F,
        classes=list(HEAD_NAMES),
        scaling=Scaling(kind="log1p", mean=[0.0] * F, std=[1.0] * F),
        thresholds={name: Threshold(open=open_at, severe=severe_at) for name in HEAD_NAMES[1:]},
        interval=Interval(lo=0.1, hi=0.99),
        benign_medians=[0.0] * F,
        files={"model.onnx": "0" * 64},
        data=[],
        figures={},
        unknown_score="constant",
        attention="uniform",
        quantisation="none",
        parameters=1,
        seed=0,
        training_commit="0000000",
        created=datetime.date(2026, 1, 1),
    )


def make_bundle(*, open_at: float = 0.5, severe_at: float = 0.9) -> Bundle:
    """Return a bundle without a model, for engines that need none."""
    return Bundle(
        path=Path("bundle"),
        manifest=make_manifest(open_at=open_at, severe_at=severe_at),
        manifest_sha256="0" * 64,
        model=b"",
        unsigned=True,
    )
