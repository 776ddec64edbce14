"""What every section of the configuration has in common, and what a field wants to be, in words."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from agent.config.values import Wanted

RESTART: Final[JsonDict] = {"restart": True}
"""On a field: a reload does not change it, the agent has to be started anew."""


class Section(BaseModel):
    """Frozen and strict; a key it does not know is an error, since a misspelt setting would be silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Conflict(ValueError):
    """Two settings of one section that cannot both hold; told under the key that should change."""

    def __init__(self, key: str, seen: str, wanted: str) -> None:
        super().__init__(f"{key}: {seen}, wanted {wanted}")
        self.key = key
        self.seen = seen
        self.wanted = wanted


def wanted(field: FieldInfo) -> str:
    """Return what a field wants to be.

    >>> from pydantic import Field
    >>> class Example(Section):
    ...     batch_windows: int = Field(256, ge=1, le=4096)
    >>> wanted(Example.model_fields["batch_windows"])
    'a whole number from 1 to 4,096'
    """
    return _wanted(field.annotation, field.metadata)


def takes_text(field: FieldInfo) -> bool:
    """Tell whether every value of a field is a text, so that one from the environment needs no quotes."""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not type(None)]
    return all(get_origin(kind) is Literal or (isinstance(kind, type) and not _is_plain(kind)) for kind in kinds)


def restarts(field: FieldInfo) -> bool:
    """Tell whether a change of a field wants a restart."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("restart"))


def _is_plain(kind: type) -> bool:
    return kind in (bool, int, float, tuple) or issubclass(kind, BaseModel)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types an annotation allows, without what is written around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _alternatives(each)]
    return [tuple] if origin is tuple else [annotation]


def _wanted(annotation: Any, metadata: list[Any]) -> str:
    for each in metadata:
        if isinstance(each, Wanted):
            return each.text
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _wanted(inner, [*more, *metadata])
    if origin in (Union, UnionType):
        return " or ".join(_wanted(each, metadata) for each in get_args(annotation) if each is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(f'"{each}"' for each in get_args(annotation))
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        return ("a whole number" if annotation is int else "a number") + _bounds(metadata)
    return "a text"


def _bounds(metadata: list[Any]) -> str:
    low = high = multiple = ""
    for each in metadata:
        if isinstance(each, annotated_types.Ge):
            low = f" from {each.ge:,}"
        elif isinstance(each, annotated_types.Gt):
            low = f" above {each.gt:,}"
        elif isinstance(each, annotated_types.Le):
            high = f" to {each.le:,}" if low.startswith(" from") else f" and up to {each.le:,}"
        elif isinstance(each, annotated_types.MultipleOf):
            multiple = f", a multiple of {each.multiple_of:,}"
    return low + high + multiple
