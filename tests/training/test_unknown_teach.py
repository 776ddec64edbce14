"""The unknown score of a network, from windows to threshold."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from contracts.classes import HEAD_NAMES
from flowfeatures import WINDOW_COLUMNS
from tests.training.windows import made_up_windows
from training.networks import build
from training.unknown import UnknownSettings, unknown_scores
from training.unknown_teach import outputs_of, unknown_of

pytestmark = pytest.mark.needs_torch


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return build("gru", layout="windows", features=len(WINDOW_COLUMNS), classes=len(HEAD_NAMES)).eval()


def benign_windows(count, *, seed, folder):
    windows = made_up_windows(2 * count, seed=seed)
    windows = windows.where(windows.label == 0)
    names = tuple(f"{folder}/device-{number}/a.pcap" for number in range(len(windows.groups)))
    return type(windows)(**{**vars(windows), "groups": names})


def test_real_devices_calibrate_and_the_lab_does_not(network):
    benign = {"iot": benign_windows(300, seed=2, folder="iot"), "lab": benign_windows(300, seed=3, folder="lab")}

    _, told, _ = unknown_of(network, made_up_windows(400), benign)

    assert told["calibrated_on"]["devices"] == [f"iot/device-{number}" for number in range(4)]
    assert told["calibrated_on"]["windows"] == 300


def test_no_calibration_window_of_a_real_device_is_over_the_threshold(network):
    benign = {"iot": benign_windows(300, seed=2, folder="iot")}

    arrays, _, thresholds = unknown_of(network, made_up_windows(400), benign, settings=UnknownSettings(rate=1e-2))

    scores = unknown_scores(arrays, outputs_of(network, benign["iot"]))
    assert (scores > thresholds["unknown"]["open"]).sum() == 0
    assert thresholds["unknown"]["open"] <= thresholds["unknown"]["severe"]


def test_without_real_devices_there_is_no_score(network):
    benign = {"lab": benign_windows(300, seed=3, folder="lab")}

    arrays, told, thresholds = unknown_of(network, made_up_windows(400), benign)

    assert (arrays, told["kind"], thresholds) == ({}, "constant", {})


def test_outputs_are_those_of_the_network_whatever_the_batch(network):
    windows = made_up_windows(20)

    whole, one = outputs_of(network, windows), outputs_of(network, windows.where(np.array([7])))

    assert one.logits[0] == pytest.approx(whole.logits[7], abs=1e-5)
    assert outputs_of(network, windows.where(np.zeros(0, np.intp))).embedding.shape == (0, 48)


def test_the_facts_tell_the_benign_tail_and_where_calibration_may_move_the_threshold(network):
    benign = {"iot": benign_windows(300, seed=2, folder="iot")}

    arrays, told, thresholds = unknown_of(network, made_up_windows(400), benign, settings=UnknownSettings(rate=1e-2))

    highest = unknown_scores(arrays, outputs_of(network, benign["iot"])).max()
    assert told["benign_scores"][-1] == pytest.approx(float(highest), abs=1e-6)
    assert told["interval"]["lo"] <= thresholds["unknown"]["open"] <= told["interval"]["hi"]
