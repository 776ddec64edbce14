"""As much of PromQL as it takes to see which metrics an expression uses, how, and by which labels.

It knows no grammar: names, selectors and the function right around a range are found by their marks. Enough for the
expressions of deploy/, which `promtool` reads besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_USE = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(\{[^}]*\})?\s*(\[[^\]]*\])?")
_CALLED = re.compile(r"(\w+)\(\s*$")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
SCRAPED = {"instance", "job", "le"}  # what Prometheus and a histogram add to any series


@dataclass(frozen=True)
class Use:
    """One selector: the metric, the function right around it, whether over a range, and the labels it matches."""

    metric: str
    function: str
    is_range: bool
    labels: frozenset[str]


def uses(expression: str) -> list[Use]:
    """Return the selectors of an expression."""
    text = _GROUPING.sub(" ", _STRING.sub('""', expression))
    found = []
    for match in _USE.finditer(text):
        name, selector, span = match.groups()
        if not re.search(r"[_:]|^up$", name):
            continue
        called = _CALLED.search(text[: match.start()])
        labels = frozenset(_MATCHER.findall(selector or ""))
        found.append(Use(name, called[1] if called else "", span is not None, labels))
    return found


def grouping_labels(expression: str) -> set[str]:
    """Return the labels an expression groups or joins by."""
    return {label.strip() for each in _GROUPING.findall(expression) for label in each.split(",") if label.strip()}
