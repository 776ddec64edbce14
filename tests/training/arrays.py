"""Arrays of a network made up for tests, without torch."""

from __future__ import annotations

import numpy as np

from training.shapes import Described, array_shapes


def arrays_of(described: Described, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random arrays of the shapes a network has, all above 0."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.1, 1.0, shape).astype(np.float32) for name, shape in array_shapes(described).items()}
