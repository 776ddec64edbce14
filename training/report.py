"""What the shipped bundle does on every side of the split, in one JSON file and one table.

Incidents and rates come from `evaluate`, one line per source and for its whole; captures of one source are told
together. `report_page` makes the page in docs/results of it. Needs a runtime, not torch.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from typing import Any

from contracts.bundle import Bundle
from contracts.classes import BENIGN, NAMES
from detection.engine import Engine
from training.captures import CapturesBySide, LabelledCapture
from training.checkpoint import training_commit
from training.evaluate import evaluate
from training.figures.outcomes import CaptureOutcome, figures, whole

REPORTED_SIDES = ("validation", "test", "evaluation")


def report_sides(bundle: Bundle, engine: Engine, captures: CapturesBySide) -> dict[str, Any]:
    """Return the report: facts of the run, then by side a figure block per source, per class and for the whole."""
    sides = {}
    for side in REPORTED_SIDES:
        members = captures.sides[side]
        outcomes = evaluate(bundle, engine, [member.truth for member in members])
        sides[side] = _side(members, outcomes)
    return {
        "bundle": {"manifest_sha256": bundle.manifest_sha256, "release": bundle.manifest.release},
        "thresholds": {name: pair.model_dump() for name, pair in sorted(bundle.manifest.thresholds.items())},
        "machine": {"machine": platform.machine(), "python": platform.python_version()},
        "commit": training_commit(),
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "sides": sides,
    }


def source_of(capture: LabelledCapture) -> str:
    """Return under which name a capture's figures are told: its source; alone where captures of it differ in kind.

    >>> from types import SimpleNamespace
    >>> source_of(SimpleNamespace(name="scans/a.pcap", source="scans", truth=SimpleNamespace(attack="malicious")))
    'scans/a.pcap'
    """
    if capture.source == "iot_sentinel":
        return "/".join(capture.name.split("/")[:2])
    attacks_told_apart = capture.source != "lab" and capture.truth.attack != "benign"
    return capture.name if attacks_told_apart else capture.source


def markdown(told: dict[str, Any]) -> str:
    """Return the tables of a report as Markdown."""
    lines = []
    for side, blocks in told["sides"].items():
        lines += [f"### {side}", "", *_table("source", blocks["sources"]), "", *_table("class", blocks["classes"]), ""]
    return "\n".join(lines)


def _side(members: Sequence[LabelledCapture], outcomes: Sequence[CaptureOutcome]) -> dict[str, Any]:
    by_source: dict[str, list[CaptureOutcome]] = {}
    for member, outcome in zip(members, outcomes, strict=True):
        by_source.setdefault(source_of(member), []).append(outcome)
    classes = {NAMES[index]: figures(outcomes, class_index=index) for index in range(len(NAMES)) if index != BENIGN}
    return {
        "sources": {source: _with_bounds(each) for source, each in sorted(by_source.items())},
        "classes": {name: told for name, told in classes.items() if told["windows_attack"] or told["incidents"]},
        "total": _with_bounds(outcomes),
    }


def _with_bounds(outcomes: Sequence[CaptureOutcome]) -> dict[str, Any]:
    """Return the figures, which say what their sample supports, and what only several captures have."""
    return figures(outcomes) | whole(outcomes) | {"captures": len(outcomes)}


COLUMNS = (
    ("windows_benign", "benign"), ("windows_attack", "attack"), ("tpr", "TPR"), ("fpr", "FPR"), ("auc", "AUC"),
    ("incidents", "incidents"), ("false_incidents", "false"), ("days", "days"), ("first_alert_s", "first alert, s"),
)  # fmt: skip


def _table(what: str, blocks: dict[str, dict[str, Any]]) -> list[str]:
    lines = [f"| {what} | " + " | ".join(title for _, title in COLUMNS) + " |", "|---" + "|--:" * len(COLUMNS) + "|"]
    for name, block in blocks.items():
        lines.append(f"| {name} | " + " | ".join(_cell(block[key]) for key, _ in COLUMNS) + " |")
    return lines


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,d}" if isinstance(value, int) else f"{value:.4g}"
