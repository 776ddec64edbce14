"""What callers hand to `FrameBlock.of` and `.view`, checked: whole numbers as int64 arrays, and link types.

Nothing is rounded or guessed: a float or a datetime64 in place of microseconds is refused, since either reads well and
is wrong by a factor.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowfeatures.packet import LINK_TYPES

_INT64 = np.iinfo(np.int64)
_LINK_NUMBERS = {name: number for number, name in sorted(LINK_TYPES.items())}
"""By short name; of the three numbers of `raw` the highest, which is the registered one (101)."""
_HINT = {"times_us": ' of microseconds since the epoch (from datetime64: .astype("datetime64[us]").astype("int64"))'}


def whole_numbers(name: str, values: Any, count: int | None = None) -> NDArray[np.int64]:
    """Return the values as int64[n], with no copy where they are that already.

    Raises TypeError where they are no whole numbers, ValueError where one does not fit or there are not `count`.
    """
    if not isinstance(values, np.ndarray) and hasattr(values, "__array__"):
        values = np.asarray(values)  # a column of a DataFrame
    numbers = _checked(name, values) if isinstance(values, np.ndarray) else _gathered(name, values)
    if count is not None and len(numbers) != count:
        raise ValueError(f"{name}: {len(numbers)} values, wanted {count}, one per frame")
    return numbers


def pairs(name: str, values: Any, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the second numbers of the pairs: of an array [n, 2] or a sequence of pairs."""
    if isinstance(values, np.ndarray):
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(f"{name}: shape {values.shape}, wanted ({count}, 2)")
        return whole_numbers(name, values[:, 0], count), whole_numbers(name, values[:, 1], count)
    first, second = [], []
    for at, pair in enumerate(values):
        try:
            one, two = pair
        except (TypeError, ValueError) as exc:
            raise TypeError(f"{name}[{at}]: {pair!r:.40}, wanted a pair of int") from exc
        first.append(one)
        second.append(two)
    return whole_numbers(name, first, count), whole_numbers(name, second, count)


def link_number(link_type: Any) -> int:
    """Return the LINKTYPE_ number of a number or a short name. Raises ValueError where it is not decoded."""
    named: Any = _LINK_NUMBERS.get(link_type) if isinstance(link_type, str) else link_type
    if isinstance(named, bool) or not hasattr(named, "__index__") or operator.index(named) not in LINK_TYPES:
        known = ", ".join(f"{number} {name}" for number, name in sorted(LINK_TYPES.items()))
        raise ValueError(f"link_type: {link_type!r}, wanted one of {known}")
    return operator.index(named)


def _checked(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name}: an array of {values.dtype}, wanted int64{_HINT.get(name, '')}")
    if values.ndim != 1:
        raise ValueError(f"{name}: shape {values.shape}, wanted one dimension")
    if values.dtype.kind == "u" and values.dtype.itemsize == 8 and (beyond := values > _INT64.max).any():
        at = int(beyond.argmax())
        raise ValueError(f"{name}[{at}]: {values[at]}, wanted at most {_INT64.max}")
    return np.require(values, np.int64, "A")  # C reads it in place, gaps and all, but not off its alignment


def _gathered(name: str, values: Any) -> NDArray[np.int64]:
    """Return a sequence of int as an array; numpy itself would make floats of what does not fit."""
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}: {type(values).__name__}, wanted a sequence of int{_HINT.get(name, '')}")
    values = list(values)
    try:
        return np.asarray(array("q", values), np.int64)
    except (TypeError, OverflowError):
        for at, value in enumerate(values):
            if not hasattr(value, "__index__"):
                message = f"{name}[{at}]: {type(value).__name__}, wanted int{_HINT.get(name, '')}"
                raise TypeError(message) from None
            if not _INT64.min <= operator.index(value) <= _INT64.max:
                raise ValueError(f"{name}[{at}]: {value}, wanted {_INT64.min} to {_INT64.max}") from None
        raise
