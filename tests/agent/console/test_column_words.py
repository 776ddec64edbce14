"""Columns in words, and their values with units."""

import pytest

from agent.console.column_words import told, words
from flowfeatures import WINDOW_COLUMNS


def test_every_column_has_words_of_its_own():
    found = {column: words(column) for column in WINDOW_COLUMNS}

    assert len(set(found.values())) == len(WINDOW_COLUMNS)
    assert [text for text in found.values() if "_" in text] == []


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("duration_us", 999.0, "999 us"),
        ("duration_us", 1000.0, "1 ms"),
        ("duration_us", 65_536.0, "65.5 ms"),
        ("duration_us", 99_000_000.0, "99 s"),
        ("duration_us", 120_000_000.0, "2 min"),
        ("log_gap", 0.0, "0 us"),
        ("log_gap", 0.6931471805599453, "1 s"),
        ("fwd_payload_bytes", 1_048_576.0, "1,048,576 B"),
        ("payload_bytes_per_s", 12.345, "12.3 B/s"),
        ("packets_per_s", 250.4, "250/s"),
        ("payload_bytes_var", 9.0, "9 B²"),
        ("is_tcp", 1.0, "yes"),
        ("fwd_rst", 0.0, "no"),
        ("ports_10s", 13.0, "13"),
    ],
)
def test_a_value_has_its_unit(column, value, text):
    assert told(column, value) == text
