"""Measures of how unlike benign a row is, on kinds left out: what they tell, and the page made of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import novelty
from tests.training.tables.rows import clouds

pytestmark = pytest.mark.needs_torch
for package in ("torch", "sklearn", "matplotlib"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def told():
    table = clouds(kinds={"flood": 120, "scan": 120}, benign=600)
    return novelty.study(table, [("flood",), ("scan", "not there")], by_kind=True)


def test_a_kind_left_out_far_from_every_benign_row_is_found_by_the_measure_kept(told):
    assert [group["kinds"] for group in told["groups"]] == [["flood"], ["scan"]]
    for group in told["groups"]:
        assert group["figures"][novelty.KEPT]["at_validation_threshold"]["tpr"] > 0.9
        assert set(group["figures"]) == set(novelty.COMBINED)


def test_measures_learn_from_benign_rows_alone():
    few, many = (novelty.measures(clouds(kinds={"flood": count}), seed=1) for count in (10, 90))
    rows = clouds(seed=8)

    assert np.array_equal(few(rows)["nearest ranks"], many(rows)["nearest ranks"])
    assert set(few(rows)) == set(novelty.MEASURES)


def test_tables_kept_one_after_the_other_meet_on_one_page(told, tmp_path):
    machine = {"commit": "abc", "time": "now"}

    for name in ("cicids2017", "nsl_kdd"):
        novelty.keep({name: told | {"command": f"of {name}", "machine": machine}}, folder=tmp_path)

    page = (tmp_path / "novelty.md").read_text()
    assert list(json.loads((tmp_path / "novelty.json").read_text())) == ["cicids2017", "nsl_kdd"]
    assert page.count("| **own + local** |") == 2
    assert [line for line in page.splitlines() if line.startswith("| flood")]
    assert "of cicids2017" in page
    assert page.count("2 groups, each divided and taught once, in the order of the kinds by seeds 1, 2;") == 2
    assert "Chosen on the kinds of NSL-KDD: " in page


def test_a_line_is_chosen_among_those_alone_that_keep_the_rate():
    def line(tpr, fpr):
        return {"at_validation_threshold": {"tpr": tpr, "fpr": fpr}}

    figures = {name: line(0.2, 0.001) for name in novelty.COMBINED} | {"own or local": line(0.9, 0.004)}

    found = novelty._found([{"figures": figures}], at_most=0.0015)

    assert "own or local" not in found
    assert found[novelty.KEPT] == 0.2
