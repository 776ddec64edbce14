"""From a taught network to the arrays, facts and threshold of its unknown score. Needs torch.

The one place where teaching meets `unknown`: training windows give the benign mean and spread, benign validation
windows of real devices calibrate, the lab's only take part in the threshold. Trap: give it windows without variants for
the calibration, for no gateway ever saw a variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.datasets import WindowSet
from training.networks import Network
from training.thresholds import tail_of
from training.unknown import (
    LEAST_WINDOWS,
    NEVER,
    Arrays,
    Outputs,
    UnknownSettings,
    choose_threshold,
    fit_unknown,
    score_of,
    unknown_scores,
)

MOST_WINDOWS = 40_000  # of training, drawn evenly: a mean and a covariance of 32 numbers need no more
LAB = "lab"


def unknown_of(
    network: Network, train: WindowSet, benign: Mapping[str, WindowSet], *, settings: UnknownSettings | None = None
) -> tuple[Arrays, dict[str, Any], dict[str, dict[str, float]]]:
    """Return the arrays for the checkpoint, its facts under `unknown`, and what goes beside the classes' thresholds.

    `benign` holds benign validation windows by source; what is not from the lab is told apart by the folder of its
    capture, which is the device's. Without LEAST_WINDOWS of real devices there is no score: no arrays, no threshold.
    """
    how = settings or UnknownSettings()
    few = train
    if len(train) > MOST_WINDOWS:
        few = train.where(np.sort(np.random.default_rng(0).permutation(len(train))[:MOST_WINDOWS]))
    devices: dict[str, Outputs] = {}
    for source, windows in benign.items():
        if source != LAB:
            folders = np.array([Path(name).parent.name for name in windows.groups])[windows.group]
            outputs = outputs_of(network, windows)
            devices |= {f"{source}/{folder}": outputs.where(folders == folder) for folder in np.unique(folders)}
    if sum(len(outputs.logits) for outputs in devices.values()) < LEAST_WINDOWS:
        return {}, {"kind": "constant", "calibrated_on": {"devices": [], "windows": 0}}, {}
    arrays, told = fit_unknown(outputs_of(network, few), few.label, devices, settings=how)
    real = [unknown_scores(arrays, outputs) for outputs in devices.values()]
    nothing = np.zeros(0, np.float32)
    lab = unknown_scores(arrays, outputs_of(network, benign[LAB])) if LAB in benign and len(benign[LAB]) else nothing
    scores = np.concatenate([nothing, *real])
    threshold = choose_threshold(scores, lab, settings=how)
    told["benign_scores"] = tail_of([(scores, 0.0), *([(lab, how.tolerated)] if len(lab) else [])])
    if threshold["open"] < NEVER:
        told["interval"] = {"lo": min(score_of(how.rate), threshold["open"]), "hi": how.severe}
    return arrays, told, {"unknown": threshold}


def outputs_of(network: Network, windows: WindowSet) -> Outputs:
    """Return logits and embedding of raw windows."""
    logits, embedding = (
        [np.zeros((0, network.head.out_features), "f4")],
        [np.zeros((0, network.head.in_features), "f4")],
    )
    with torch.no_grad():
        for at in range(0, len(windows), 2048):
            values = torch.from_numpy(windows.values[at : at + 2048])
            judged = network.judge(network.scale(values), torch.from_numpy(windows.lengths[at : at + 2048]))
            logits.append(judged.logits.numpy())
            embedding.append(judged.embedding.numpy())
    return Outputs(np.concatenate(logits), np.concatenate(embedding))
