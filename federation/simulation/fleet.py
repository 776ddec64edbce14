"""Rounds over clients by FedAvg, in one process: each steps from the same weights, the mean by rows goes on.

McMahan et al., AISTATS 2017: the server's weights become the mean of the clients', weighted by their rows. Sums run in
float64 and in the order of the clients, so that a run gives the same weights twice. No message is made here; what one
would weigh is counted by who asks (`benchmarks.federation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from federation.simulation.clients import Arrays, Client, Learnt


def hold_round(
    clients: Sequence[Client], arrays: Mapping[str, NDArray[np.float32]], *, turn: int
) -> tuple[Arrays, float]:
    """Return the weights after one round of all clients, and their mean loss by rows."""
    told = [client.step(arrays, turn=turn) for client in clients]
    rows = sum(each.examples for each in told)
    return averaged(told), sum(each.loss * each.examples for each in told) / rows


def averaged(told: Sequence[Learnt]) -> Arrays:
    """Return the mean of what clients say, weighted by their rows. Raises ValueError where arrays differ."""
    names = list(told[0].arrays)
    total = sum(each.examples for each in told)
    if total < 1 or any(list(each.arrays) != names for each in told):
        raise ValueError("clients with the same arrays and at least one row in all are wanted")
    return {
        name: sum(
            (each.arrays[name].astype(np.float64) * (each.examples / total) for each in told),
            np.zeros(told[0].arrays[name].shape),
        ).astype(np.float32)
        for name in names
    }
