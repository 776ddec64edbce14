"""Splits: proportions, time, left-out kinds, and the refusal of what would leak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.errors import SplitError
from training.tables import sides
from training.tables.table import Table, joined

from .rows import clouds


def with_flows(table: Table, start: int = 0) -> Table:
    names = [f"flow {place}" for place in range(start, start + len(table))]
    return replace(table, flow=np.array(names, dtype=object), content=None)


def test_the_same_row_on_two_sides_is_refused():
    table = clouds()

    with pytest.raises(SplitError, match="1 rows or flows stand on both sides, train and test"):
        sides.check_sides({"train": table.take(np.arange(10)), "test": table.take(np.arange(9, 20))})


def test_the_same_flow_with_other_values_is_refused_too():
    table = with_flows(clouds())
    changed = replace(table, numbers=table.numbers + 1)

    with pytest.raises(SplitError, match="400 rows or flows" if len(table) == 400 else "rows or flows"):
        sides.check_sides({"train": table, "test": changed})


def test_two_flows_with_equal_values_may_stand_apart():
    table = clouds()

    sides.check_sides({"train": with_flows(table), "test": with_flows(table, start=len(table))})


def test_a_random_split_keeps_equal_rows_together_and_every_kind_on_every_side():
    table = joined([clouds(), clouds()])

    cut = sides.at_random(table, seed=3)

    assert [len(side) for side in cut] == [700, 150, 150]
    assert all(set(side.kind) == {"benign", "flood", "scan"} for side in cut)
    sides.check_sides({"train": cut.train, "test": cut.test})


def test_another_seed_divides_otherwise_and_the_same_seed_the_same():
    table = clouds()

    first, again, other = (sides.at_random(table, seed=seed).test.numbers for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_by_time_the_last_thirty_percent_of_each_attack_judge():
    table = clouds(kinds={"flood": 100}, time=True)

    cut = sides.by_time(table, seed=1)

    floods = {name: side.time_us[side.kind == "flood"] for name, side in zip("tvs", cut, strict=True)}
    assert len(floods["s"]) == 30
    assert max(floods["t"].max(), floods["v"].max()) < floods["s"].min()


def test_a_kind_that_is_left_out_teaches_and_chooses_nothing():
    cut = sides.without_kinds(clouds(), ["scan"], seed=1)

    assert "scan" not in {*cut.train.kind, *cut.validation.kind}
    assert (cut.test.kind == "scan").sum() == 100


def test_a_row_that_is_equal_to_one_of_a_kind_left_out_takes_no_part():
    table = clouds()
    numbers, symbols = table.numbers.copy(), table.symbols.copy()
    twin, original = np.flatnonzero(table.kind == "benign")[0], np.flatnonzero(table.kind == "scan")[0]
    numbers[twin], symbols[twin] = numbers[original], symbols[original]
    table = replace(table, numbers=numbers, symbols=symbols, content=None)

    cut = sides.without_kinds(table, ["scan"], seed=1)

    assert len(cut.train) + len(cut.validation) + len(cut.test) == len(table) - 1


def test_rows_without_a_named_flow_that_stand_in_the_test_file_leave_training():
    table = clouds()
    test = joined([table.take(np.arange(290, 310)), clouds(seed=9)])

    cut, left_out = sides.given(table, test, seed=1)

    assert left_out["training rows left out: they stand in the test file"] == 20
    assert len(cut.train) + len(cut.validation) == len(table) - 20
    assert len(cut.test) == len(test)


def test_the_training_file_as_test_file_is_refused():
    table = clouds()

    with pytest.raises(SplitError, match="100% of the test file's rows"):
        sides.given(table, table, seed=1)


def test_a_named_flow_in_both_files_leaves_training_whatever_its_values():
    table = with_flows(clouds())
    again = table.take(np.array([0]))
    again = replace(again, numbers=again.numbers + 1, content=None)
    test = joined([with_flows(clouds(seed=4), start=1000), again])

    cut, left_out = sides.given(table, test, seed=1)

    assert left_out["training rows left out: they stand in the test file"] == 1
    assert "flow 0" not in {*cut.train.flow, *cut.validation.flow}


@pytest.mark.parametrize("attacks", [False, True])
def test_a_test_file_may_hold_one_class_alone(attacks: bool):
    test = clouds(seed=9)
    test = test.take(test.attack == attacks)

    cut, _ = sides.given(clouds(), test, seed=1)

    assert len(cut.test) == len(test)


def test_a_training_file_whose_attacks_have_no_known_class_says_what_it_saw():
    table = clouds()
    unknown = np.where(table.attack, "unknown", table.label)
    kind = np.where(table.attack, "anomaly", table.kind)

    with pytest.raises(SplitError, match=r"known class \(seen anomaly\)"):
        sides.given(replace(table, label=unknown, kind=kind), clouds(seed=9), seed=1)


def test_sides_without_an_attack_are_refused():
    benign = clouds().take(np.arange(300))

    with pytest.raises(SplitError, match="holds no attack row"):
        sides.at_random(benign, seed=1)
