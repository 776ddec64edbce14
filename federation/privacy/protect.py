"""A delta -> the int8 steps that leave: clipped, thinned by the round's shared places, rounded at its shared scale.

    v = clip(delta + residual)        L2 norm at most clip_norm: one gateway can move a head only so far
    steps = round(v[places] / scale)  within -127 .. 127
    residual' = v - what was sent     error feedback: what rounding and thinning kept back goes with the next update

The residual counts into the clip, so what leaves is bounded whatever was left before, and its own norm is bounded too.
Trap: it belongs to one network; after another bundle, or where a round failed, begin with none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.update import INT8_MAX, Call

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Protected:
    """What leaves (`steps` int8[k]), what stays for the next round, and how long the delta was before clipping."""

    steps: NDArray[np.int8]
    residual: Floats
    norm: float
    clipped: bool


def protect(delta: Floats, call: Call, *, residual: Floats | None = None) -> Protected:
    """Return what of a delta float32[P] leaves under a call. Raises ValueError for what is no delta of its head."""
    wanted = (call.header.parameters,)
    kept_back = np.zeros(wanted, np.float32) if residual is None else residual
    for what, values in (("delta", delta), ("residual", kept_back)):
        if values.shape != wanted or not np.isfinite(values).all():
            raise ValueError(f"a {what} of {values.shape} finite numbers, wanted {wanted}")
    whole = delta.astype(np.float64) + kept_back
    bounded = clip(whole, call.header.clip_norm)
    sent_at = call.places
    steps = np.clip(np.rint(bounded[sent_at] / call.header.scale), -INT8_MAX, INT8_MAX).astype(np.int8)
    left = bounded.copy()
    left[sent_at] -= steps * call.header.scale
    norm = float(np.linalg.norm(whole))
    return Protected(steps, left.astype(np.float32), norm, norm > call.header.clip_norm)


def clip(values: NDArray[np.float64], norm: float) -> NDArray[np.float64]:
    """Return the values, shortened to an L2 norm where they are longer."""
    length = float(np.linalg.norm(values))
    return values if length <= norm else values * (norm / length)


def restored(steps: NDArray[np.int8], call: Call) -> NDArray[np.float64]:
    """Return what steps say as float64[k], at the places of the call."""
    return steps.astype(np.float64) * call.header.scale
