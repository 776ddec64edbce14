"""Which of several seeds is kept."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: make install, on Python 3.11 or later")

from contracts.classes import BENIGN, HEAD_NAMES
from training.teach import found_among


def scores(attack: list[float], label: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities whose windows are attacks with these scores, and their labels."""
    probabilities = np.zeros((len(attack), len(HEAD_NAMES)), np.float32)
    probabilities[:, BENIGN] = 1 - np.array(attack, np.float32)
    probabilities[:, 1] = attack
    return probabilities, np.array(label)


def test_it_is_the_share_above_what_benign_windows_reach_and_every_class_counts_alike():
    attacks = [0.9, 0.9, 0.1, 0.9]

    assert found_among(*scores([0.5, 0.2, *attacks], [0, 0, 1, 1, 1, 2]), rate=0.0) == pytest.approx((2 / 3 + 1) / 2)


def test_a_share_of_the_benign_windows_may_lie_above():
    label = [0] * 100 + [1]

    assert found_among(*scores([0.99] + [0.1] * 99 + [0.5], label), rate=0.0) == 0.0
    assert found_among(*scores([0.99] + [0.1] * 99 + [0.5], label), rate=0.02) == 1.0


@pytest.mark.parametrize("label", [[0, 0], [1, 1]])
def test_without_attacks_or_without_benign_windows_nothing_is_found(label: list[int]):
    assert found_among(*scores([0.9, 0.1], label)) == 0.0
