"""Tests of every package; `tests.oracle` is importable from them."""
