"""Windows of another length, or without the records of unfinished flows: for ablations, never for a bundle.

What `stream` and `datasets` do, with two settings that the agent has fixed. Nothing is cached, so keep the sets few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.ground_truth import GroundTruth
from flowfeatures import AFTER, DEFAULT_HOME_NETS, EXCLUDED, DeviceWindows, FlowMeter, FlowSettings
from training.datasets import WindowSet, _Cooling  # datasets is left as it is: a change there empties every cache
from training.probes import few_of
from training.progress import Progress
from training.stream import LabelledStream


@dataclass(frozen=True)
class WindowKind:
    """How flows become windows: `window` records each, `partials` says whether unfinished flows give records too."""

    window: int = 16
    partials: bool = True

    def stream(self, truth: GroundTruth) -> LabelledStream:
        """Return the capture as windows of this kind."""
        return _OtherStream(truth, self)


class _OtherStream(LabelledStream):
    def __init__(self, truth: GroundTruth, kind: WindowKind) -> None:
        super().__init__(truth)
        self._meter = FlowMeter(FlowSettings(partials=kind.partials))
        self._windows = DeviceWindows(home_nets=truth.home_nets or DEFAULT_HOME_NETS, window=kind.window)


def gather_other(truths: Sequence[GroundTruth], kind: WindowKind, *, few: int, title: str) -> WindowSet:
    """Return at most so many windows of every class and capture, labelled as `datasets` labels them."""
    sets = []
    with Progress(title, len(truths)) as progress:
        for truth in truths:
            sets.append(few_of(_windows_of(truth, kind), few))
            progress.step(note=truth.path.name)
    return _joined(sets)


def _windows_of(truth: GroundTruth, kind: WindowKind) -> WindowSet:
    parts, cooling = [_empty(str(truth.path), kind)], _Cooling()
    for batch in kind.stream(truth):
        telling = (batch.label != AFTER) & (batch.label != EXCLUDED) & ~cooling.devices_of(batch)
        parts.append(
            WindowSet(
                values=batch.values[telling],
                lengths=batch.mask[telling].sum(axis=1).astype(np.int64),
                label=batch.label[telling].astype(np.int64),
                row_label=batch.flows["label"][telling].astype(np.int8),
                is_new=batch.is_new[telling].astype(np.uint8),
                group=np.zeros(int(telling.sum()), np.int64),
                groups=(),
            )
        )
    whole = _joined(parts)
    return WindowSet(**{**_arrays(whole), "group": np.zeros(len(whole), np.int64)}, groups=(str(truth.path),))


def _empty(name: str, kind: WindowKind) -> WindowSet:
    from flowfeatures import WINDOW_COLUMNS

    shape = (0, kind.window, len(WINDOW_COLUMNS))
    return WindowSet(
        values=np.zeros(shape, np.float32), lengths=np.zeros(0, np.int64), label=np.zeros(0, np.int64),
        row_label=np.zeros(shape[:2], np.int8), is_new=np.zeros(shape[:2], np.uint8), group=np.zeros(0, np.int64),
        groups=(name,),
    )  # fmt: skip


ARRAYS = ("values", "lengths", "label", "row_label", "is_new", "group")


def _arrays(windows: WindowSet) -> dict[str, np.ndarray]:
    return {name: getattr(windows, name) for name in ARRAYS}


def _joined(sets: Sequence[WindowSet]) -> WindowSet:
    starts = np.cumsum([0, *(len(each.groups) for each in sets)])
    whole = {name: np.concatenate([getattr(each, name) for each in sets]) for name in ARRAYS}
    whole["group"] = np.concatenate([each.group + start for each, start in zip(sets, starts.tolist(), strict=False)])
    return WindowSet(**whole, groups=tuple(name for each in sets for name in each.groups))
