"""The faults an agent must survive, one file each; `python -m tests.faults` makes the page of their figures."""
