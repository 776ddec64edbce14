"""Leaving a class or a maker out, on windows made up for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from contracts.classes import NAMES
from tests.training.windows import made_up_windows
from training.datasets import WindowSet, join
from training.figures.rates import threshold_at
from training.fit import FitSettings
from training.leave_device import leave_makers_out
from training.splits import Side, Splits
from training.unknown import KINDS
from training.unknown_compare import Sides, compare_unknown, weighted_threshold, without_class
from training.unknown_tables import candidates_table, classes_table, makers_table

pytestmark = pytest.mark.needs_torch
SCAN, FLOOD = NAMES.index("scan"), NAMES.index("flood")
TINY = FitSettings(epochs=1, steps=2, batch=64)


def named(windows: WindowSet, folder: str) -> WindowSet:
    return replace(windows, groups=tuple(f"{folder}/{name}.pcap" for name in windows.groups))


@pytest.fixture(scope="module")
def sides():
    def whole(seed):
        makers = ["acme", "bolt"] if seed % 2 else ["bolt", "acme"]
        parts = [
            made_up_windows(210, seed=seed + number, attack=attack) for number, attack in enumerate(("scan", "flood"))
        ]
        return join([named(part, f"iot/{maker}") for part, maker in zip(parts, makers, strict=True)])

    plain = {side: whole(10 * number) for number, side in enumerate(("train", "validation", "test", "evaluation"))}
    source_of = {name: name.split("/")[1] for each in plain.values() for name in each.groups}
    return Sides(plain["train"], plain["validation"], plain, source_of)


def test_a_class_left_out_is_neither_label_nor_record(sides):
    few = without_class(sides.teaching, SCAN)

    assert SCAN not in few.label
    assert not (few.row_label == SCAN).any()
    assert FLOOD in few.label


@pytest.fixture(scope="module")
def told(sides):
    return compare_unknown(sides, TINY, seeds=[1, 2], classes=["scan", "flood"])


def test_every_candidate_is_told_for_every_class_and_seed(told):
    assert set(KINDS) < set(told["runs"])
    assert all(len(each) == 2 for by_class in told["runs"].values() for each in by_class.values())
    assert told["means"]["log_odds"]["test"]["tpr"]["0.01"]["n"] == 2
    lines = candidates_table(told).splitlines() + classes_table(told).splitlines()
    assert sum(line.startswith("| benign_mahalanobis |") for line in lines) == 1
    assert sum(line.startswith("| scan |") for line in lines) == 1


def test_log_odds_and_the_attack_score_order_windows_alike(told):
    log_odds, attack_score = (told["means"][name]["test"]["auc"]["mean"] for name in ("log_odds", "attack_score"))

    assert log_odds == pytest.approx(attack_score, abs=1e-3)


def test_with_groups_of_equal_size_the_weighted_threshold_is_the_plain_one():
    scores = np.random.default_rng(1).random(1000).astype(np.float32)

    assert weighted_threshold(scores, np.arange(1000) % 4, 0.01) == pytest.approx(threshold_at(scores, 0.01))


def test_a_chatty_device_does_not_set_the_threshold_alone():
    scores = np.concatenate([np.full(900, 0.1), np.linspace(0.2, 0.9, 100)]).astype(np.float32)
    device = np.repeat([0, 1], [900, 100])

    assert weighted_threshold(scores, device, 0.1) > np.quantile(scores, 0.9)


def test_every_maker_is_judged_without_having_been_taught(sides):
    makers = {"acme": ("acme",), "bolt": ("bolt",)}
    empty = Side(vendors=(), data=(), lab=())
    splits = Splits(sides={"train": empty}, vendors=makers, terms={})

    told = leave_makers_out(sides, splits, TINY, seeds=[1])

    assert told["taught"] == ["acme", "bolt"]
    assert [told["means"][maker]["windows"] for maker in makers] == [315, 315]
    assert [line.split("|")[1].strip() for line in makers_table(told).splitlines()[2:]] == ["acme", "bolt"]
