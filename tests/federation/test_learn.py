"""Fine-tuning: the gradient against differences, the end against the loss itself, balance, nothing left to chance."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.head import Head, head_of
from federation.gateway.learn import LearnSettings, balanced, fine_tune, loss

C, E = 11, 6


def problem(count: int = 200) -> tuple[Head, np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(4)
    head = head_of(chance.normal(0, 0.5, C * E + C).astype(np.float32))
    embedding = np.tanh(chance.normal(size=(count, E))).astype(np.float32)
    label = np.where(chance.random(count) < 0.8, 0, chance.integers(1, 4, count))
    return head, embedding, label.astype(np.int64), np.ones(count)


def objective(flat: np.ndarray, *, start: Head, proximal: float) -> float:
    """Return the loss as its docstring has it, by another path than the code under test."""
    _, embedding, label, weight = problem()
    share = balanced(label, weight, classes=C)
    w, b = flat[: C * E].reshape(C, E), flat[C * E :]
    logits = embedding.astype(np.float64) @ w.T + b
    own = -(logits[np.arange(len(label)), label] - np.log(np.exp(logits).sum(axis=1)))
    return float((share * own).sum() + proximal / 2 * ((flat - start.flat) ** 2).sum())


def test_where_it_ends_no_direction_leads_down():
    head, embedding, label, weight = problem()
    settings = LearnSettings(steps=20_000, proximal=0.1, stop_below=1e-9)

    tuned, steps = fine_tune(head, embedding, label, weight, settings=settings)

    flat, step = tuned.flat.astype(np.float64), 1e-4
    slopes = []
    for place in range(flat.size):
        ahead, behind = flat.copy(), flat.copy()
        ahead[place] += step
        behind[place] -= step
        slopes.append(
            (objective(ahead, start=head, proximal=0.1) - objective(behind, start=head, proximal=0.1)) / (2 * step)
        )
    assert steps < 20_000
    assert np.abs(slopes).max() < 1e-5


def test_the_same_examples_give_the_same_head_to_the_last_bit():
    first, _ = fine_tune(*problem())
    second, _ = fine_tune(*problem())

    assert first.sha256 == second.sha256


def test_the_more_it_is_held_the_less_it_moves():
    head, embedding, label, weight = problem()

    moved = [
        float(np.linalg.norm(fine_tune(head, embedding, label, weight, settings=LearnSettings(proximal=held))[0].flat
                             - head.flat))
        for held in (0.01, 0.1, 1.0, 10.0)
    ]  # fmt: skip

    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.1


def test_learning_lowers_the_loss():
    head, embedding, label, weight = problem()
    share = balanced(label, weight, classes=C)

    tuned, _ = fine_tune(head, embedding, label, weight)

    assert loss(tuned, embedding, label, share) < 0.8 * loss(head, embedding, label, share)


def test_benign_and_attacks_count_the_same_in_all_and_attack_classes_alike():
    label = np.array([0] * 60 + [1] * 20 + [2] * 20)

    share = balanced(label, np.ones(100), classes=C)

    assert [round(float(share[label == index].sum()), 6) for index in (0, 1, 2)] == [0.5, 0.25, 0.25]


def test_one_window_of_a_class_does_not_count_like_a_thousand():
    label = np.array([0] * 999 + [1])

    share = balanced(label, np.ones(1000), classes=C)

    assert share[-1] == pytest.approx(10 / (10 + 999 * 0.5 / 0.999), rel=1e-6)
    assert share.sum() == pytest.approx(1.0)
