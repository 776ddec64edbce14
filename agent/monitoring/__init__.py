"""What others may know of a running agent: facts gathered once a second, metrics, status, the board."""
