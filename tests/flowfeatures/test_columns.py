"""The column table against the specification as the oracle wrote it down."""

from flowfeatures import COLUMNS, VECTOR_COLUMNS, WINDOW_COLUMNS
from tests.oracle.columns import NAMES


def test_the_names_are_the_specifications_in_its_order():
    assert tuple(column.name for column in COLUMNS) == NAMES


def test_numbers_run_from_0_to_77_without_the_duplicate():
    assert [column.number for column in COLUMNS] == [number for number in range(78) if number != 55]


def test_the_vector_leaves_the_raw_port_out():
    assert tuple(VECTOR_COLUMNS) == NAMES[1:]
    assert tuple(WINDOW_COLUMNS)[:76] == NAMES[1:]
