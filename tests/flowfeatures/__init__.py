"""Tests of the flow meter: golden rows, captures made by hand, and comparison with `tests.oracle`."""
