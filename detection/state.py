"""State that a restart brings back: plain values, checked to the last number before any is used.

A state file may be cut off, of another version or written by somebody else. It is taken as a whole or refused as a
whole, in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.bundle import first_complaint
from contracts.errors import PenstockError


class StateRefused(PenstockError):
    """A file of state or rules is not what it must be; what it was to bring back is not used."""

    exit_code = 65


class StrictState(BaseModel):
    """What a state is made of: unknown names, wrong types and numbers that are none are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


TimeUs = Annotated[int, Field(ge=0, le=253_402_300_799_000_000)]
"""Microseconds since 1970, up to the end of the year 9999."""

_State = TypeVar("_State", bound=StrictState)


def checked(kind: type[_State], state: Mapping[str, Any], *, what: str) -> _State:
    """Return a state of a kind. Raises StateRefused, naming what it was to be and the first thing wrong with it."""
    try:
        return kind.model_validate(state)
    except (ValidationError, RecursionError) as exc:
        complaint = first_complaint(exc) if isinstance(exc, ValidationError) else "nested too deeply"
        raise StateRefused(f"{what}: {complaint}") from exc
