"""Flower's strategies, applied in process: no grid, no nodes, no network; updates in, one delta out.

To a strategy of Flower a gateway's update is a reply of a node whose model is the delta, and the model before is zero.
FedAdam remembers two moments from round to round: `Memory`, of the whole head, kept by the aggregator and not here, so
that a restart forgets nothing. FedProx differs from FedAvg on the gateway alone, which always learns with a proximal
term. Trap: Krum and Bulyan must be told how many liars to expect; as many as n updates allow (n >= 2f + 3, 4f + 3).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.errors import MissingExtra

Floats = NDArray[np.float64]
Memory = Mapping[str, Floats]

NAMES: Final = ("fedavg", "fedprox", "fedadam", "fedmedian", "fedtrimmedavg", "krum", "bulyan")
ADAM_RATE: Final = 0.01  # Flower's 0.1 would move each number by a tenth in the first round
_KEY: Final = "head"


def is_installed() -> bool:
    """Return whether Flower is there."""
    return importlib.util.find_spec("flwr") is not None


def need() -> None:
    """Raise MissingExtra where it is not."""
    if not is_installed():
        raise MissingExtra("flwr is not installed: pip install 'penstock[federate]'")


def aggregate(
    name: str, values: Floats, examples: NDArray[np.int64], *, round_number: int, memory: Memory, trimmed: int
) -> tuple[Floats, Memory]:
    """Return the delta float64[k] of updates float64[n, k] by a strategy of Flower, and what it remembers.

    `trimmed` is how many fedtrimmedavg leaves out at either end; `memory` holds float64[k] by name. Raises
    MissingExtra.
    """
    need()
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    from flwr.serverapp import strategy

    count = len(values)
    kinds: dict[str, Any] = {
        "fedavg": strategy.FedAvg,
        "fedprox": lambda: strategy.FedProx(proximal_mu=0.0),
        "fedadam": lambda: strategy.FedAdam(eta=ADAM_RATE),
        "fedmedian": strategy.FedMedian,
        # int(beta * n) leave at either end; the quarter keeps rounding on the right side of it.
        "fedtrimmedavg": lambda: strategy.FedTrimmedAvg(beta=(trimmed + 0.25) / count),
        "krum": lambda: strategy.Krum(num_malicious_nodes=max(0, (count - 3) // 2)),
        "bulyan": lambda: strategy.Bulyan(num_malicious_nodes=max(0, (count - 3) // 4)),
    }
    made = kinds[name]()
    if name == "fedadam":
        made.current_arrays = {_KEY: np.zeros(values.shape[1])}
        made.m_t, made.v_t = ({_KEY: memory[each].copy()} if each in memory else None for each in ("m", "v"))
    arrays, _ = made.aggregate_train(round_number, [_reply(*each) for each in zip(values, examples, strict=True)])
    remembered = {"m": made.m_t[_KEY], "v": made.v_t[_KEY]} if name == "fedadam" else {}
    (merged,) = arrays.to_numpy_ndarrays()
    return np.asarray(merged, np.float64), remembered


class _Reply(NamedTuple):
    """What a strategy asks of a reply. Flower's own Message wants a run of Flower's around it."""

    content: Any

    def has_error(self) -> bool:
        """Return False: what was refused does not come here."""
        return False


def _reply(row: Floats, examples: int) -> _Reply:
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

    return _Reply(
        RecordDict(
            {
                "arrays": ArrayRecord({_KEY: Array(row.copy())}),
                "metrics": MetricRecord({"num-examples": int(examples)}),
            }
        )
    )
