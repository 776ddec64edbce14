"""The formats an alert can be written in, by name: who renders it, and how a message says what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from contracts.alert import Alert
from contracts.cef import render_cef
from contracts.ecs import ECS_VERSION, render_ecs
from contracts.eve import SCHEMA_URN, render_eve
from contracts.ocsf import OCSF_VERSION, render_ocsf

FormatName: TypeAlias = Literal["eve", "ecs", "ocsf", "cef"]
FORMAT_NAMES: Final[tuple[str, ...]] = get_args(FormatName)


@dataclass(frozen=True)
class Format:
    """One format. `render` gives one line without its end; `schema` names what it follows."""

    name: str
    render: Callable[[Alert], str]
    content_type: str
    schema: str


FORMATS: Final[dict[str, Format]] = {
    each.name: each
    for each in (
        Format("eve", render_eve, "application/json", SCHEMA_URN),
        Format("ecs", render_ecs, "application/json", f"ecs:{ECS_VERSION}"),
        Format("ocsf", render_ocsf, "application/json", f"ocsf:{OCSF_VERSION}:2004"),
        Format("cef", render_cef, "text/plain", "cef:0"),
    )
}
