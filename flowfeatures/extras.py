"""Modules that flowfeatures can do without: loaded when asked for, and missed with the line that brings them."""

import importlib
from typing import Any

from flowfeatures.errors import MissingExtra


def optional(module: str, *, purpose: str) -> Any:
    """Return an optional module of the extra `tables`. Raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"no {package} in this environment, wanted {purpose}: pip install 'penstock[tables]'"
        ) from exc
