"""One page per model in docs/results: what was measured, on what, by which command, with the plots beside it.

A page is made of figures that commands wrote: `report` itself (sides, probes, plots) and, where their JSON files are
named, `compare` (baselines), `unknown`, `devices` and `adversaries`. A part without its file is left out and the page
says so; nothing is typed in by hand. Needs a runtime, matplotlib and scikit-learn, not torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contracts.bundle import Bundle
from contracts.classes import BENIGN
from detection.engine import Engine
from training.adversaries import markdown as evasions_table
from training.captures import CapturesBySide
from training.checkpoint import FACTS_FILE
from training.commands import PARTS
from training.datasets import WindowSet, gather
from training.figures import plots
from training.probes import attack_score, attention, columns, few_of, importance, leakage, score
from training.report import markdown, report_sides
from training.unknown_tables import candidates_table, classes_table, makers_table

FEW = 80  # windows of a class and capture for plots and probes; the tables are over all windows
MOST_IMPORTANT = 15


@dataclass(frozen=True)
class Inputs:
    """What a page is made of: JSON files by their key in PARTS, checkpoint facts by seed for the convergence."""

    command: str
    files: Mapping[str, Path] = field(default_factory=dict)
    histories: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)


def write_page(folder: Path, *, bundle: Bundle, engine: Engine, captures: CapturesBySide, inputs: Inputs) -> Path:
    """Write NAME.json, NAME-*.png and NAME.md into a folder; return the page. NAME tells model and release."""
    name = f"{bundle.manifest.name}-release-{bundle.manifest.release}-report"
    told = report_sides(bundle, engine, captures)
    windows = {
        side: gather(captures.truths(side), title=f"{side} windows", keep=lambda each: few_of(each, FEW))
        for side in ("train", "validation", "test", "evaluation")
    }
    told["probes"] = _probes(bundle, engine, windows, captures)
    told["parts"] = {key: json.loads(path.read_text()) for key, path in inputs.files.items()}
    drawing = _Drawing(folder, name)
    drawing.rates(told, windows, engine)
    if inputs.histories:
        plots.convergence(drawing.path("convergence"), inputs.histories, title="loss while teaching")
    drawing.probes(told["probes"])
    if (evasions := told["parts"].get("adversaries")) is not None:
        drawing.evasions(evasions["rows"])
    folder.mkdir(parents=True, exist_ok=True)
    own = {key: value for key, value in told.items() if key != "parts"}  # those stand in files of their own
    (folder / f"{name}.json").write_text(json.dumps(own, indent=1) + "\n")
    page = folder / f"{name}.md"
    page.write_text(page_text(told, bundle=bundle, command=inputs.command, drawn=drawing.drawn, name=name))
    return page


def page_text(told: Mapping[str, Any], *, bundle: Bundle, command: str, drawn: Sequence[str], name: str) -> str:
    """Return the page of a report already made."""
    manifest = bundle.manifest
    parts = told["parts"]
    sections = [
        f"# {manifest.name}, release {manifest.release}",
        (
            f"`{command}` on {told['date']}, commit {told['commit'][:12]}, {told['machine']['machine']}, Python "
            f"{told['machine']['python']}; manifest {told['bundle']['manifest_sha256'][:16]}, seed {manifest.seed}, "
            f"{manifest.parameters:,d} parameters. The same figures stand in `{name}.json`."
        ),
        (
            "Captures are split by maker, recording and source (training/splits.toml): nothing that teaches or "
            "chooses judges here but `validation`. Rates are over windows, bounds are at 95 % and count windows as if "
            "drawn one by one, so the truth is wider. A false incident overlaps no labelled attack of its device."
        ),
        "## What it finds",
        _summary(told),
        markdown(dict(told)),
        "## Classes",
        *(f"### {side}\n\n{_classes(block['classes'])}" for side, block in told["sides"].items()),
        "## Plots",
        *(f"![{each}]({each})" for each in drawn),
        "## What it looks at",
        _importance(told["probes"]["importance"]),
        "## Leakage",
        _leakage(told["probes"]["leakage"]),
        "## Baselines",
        _baselines(parts["compare"]) if "compare" in parts else _absent("compare"),
        "## Attacks nobody taught",
        _of_others("unknown", parts, what="each attack class left out in turn"),
        _unknown(parts["unknown"]) if "unknown" in parts else _absent("unknown"),
        "## Makers nobody taught",
        _of_others("devices", parts, what="each maker left out in turn"),
        makers_table(parts["devices"]) if "devices" in parts else _absent("devices"),
        "## Evasion",
        "`penstock-train adversaries --bundle models/default`: this bundle." if "adversaries" in parts else "",
        evasions_table(parts["adversaries"]) if "adversaries" in parts else _absent("adversaries"),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _of_others(key: str, parts: Mapping[str, Any], *, what: str) -> str:
    """Return a line that says which networks a section is about, where it is not about this bundle."""
    if key not in parts:
        return ""
    seeds = " ".join(map(str, parts[key].get("seeds", [])))
    return (
        f"`penstock-train {key}`, seeds {seeds}: networks taught for this table with {what}, on the division of "
        "`training/splits.toml` as it was then; not this bundle."
    )


def _probes(
    bundle: Bundle, engine: Engine, windows: Mapping[str, WindowSet], captures: CapturesBySide
) -> dict[str, Any]:
    is_lab = {str(each.truth.path): each.source == "lab" for members in captures.sides.values() for each in members}
    judged = windows["test"] if len(windows["test"]) else windows["validation"]
    return {
        "importance": importance(engine, judged),
        "attention": attention(engine, judged),
        "columns": columns(engine, judged, bundle.manifest.benign_medians),
        "leakage": leakage(windows["train"], judged, is_lab=is_lab, engine=engine),
    }


class _Drawing:
    """Draws the plots of a page and remembers their names, in the order of the page."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.drawn: list[str] = []

    def path(self, what: str) -> Path:
        self.drawn.append(f"{self._name}-{what}.png")
        return self._folder / self.drawn[-1]

    def rates(self, told: Mapping[str, Any], windows: Mapping[str, WindowSet], engine: Engine) -> None:
        """Draw ROC curves by side and a confusion matrix per side."""
        curves = {}
        for side in told["sides"]:
            scores, label = attack_score(score(engine, windows[side])), windows[side].label
            curves[side] = scores[label != BENIGN], scores[label == BENIGN]
        plots.roc(self.path("roc"), curves, title="attack against benign windows")
        for side, block in told["sides"].items():
            if table := block["total"]["confusion"]:
                plots.confusion_matrix(self.path(f"confusion-{side}"), table, title=f"called by label, {side}")

    def probes(self, told: Mapping[str, Any]) -> None:
        """Draw importance, attention over records, and what columns do for each class."""
        first = dict(list(told["importance"].items())[:MOST_IMPORTANT])
        plots.bars(self.path("importance"), first, title="permutation importance", label="fall of AUC, test side")
        if spread := told["attention"]:
            rows = list(spread)
            places = [str(place) for place in range(1, len(spread[rows[0]]) + 1)]
            values = np.array([spread[row] for row in rows])
            title = "attention by record, newest first"
            plots.heat(self.path("attention-rows"), values, rows=rows, columns=places, title=title)
        if told["columns"]:
            _columns_plot(self.path("attention-columns"), told["columns"])

    def evasions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw TPR against effort, one line per evasion."""
        tpr = {kind: {r["level"]: r["tpr"] for r in rows if r["evasion"] == kind} for kind in _kinds(rows)}
        plots.lines(self.path("evasion"), tpr, title="detection against effort", label="TPR over windows")


def _kinds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [kind for kind in dict.fromkeys(row["evasion"] for row in rows) if kind != "none"]


def _columns_plot(path: Path, falls: Mapping[str, Mapping[str, float]]) -> None:
    names = list(next(iter(falls.values())))
    values = np.maximum(np.array([[falls[row][name] for name in names] for row in falls]), 0)
    most = np.argsort(-values.max(axis=0))[: 2 * MOST_IMPORTANT]
    chosen = [names[place] for place in most.tolist()]
    plots.heat(path, values[:, most], rows=list(falls), columns=chosen, title="fall of the class's score by column")


def _summary(told: Mapping[str, Any]) -> str:
    head = ["side", "TPR", "FPR", "FPR below", "TPR at FPR 1e-2", "1e-3", "1e-4", "attacks alerted", "first alert, s"]
    head += ["p95", "false incidents", "days", "a day, below", "quiet captures with none"]
    lines = [_row(head), "|---" + "|--:" * (len(head) - 1) + "|"]
    for side, block in told["sides"].items():
        whole = block["total"]
        at = whole["tpr_at_fpr"]
        cells = [side, *(_number(whole[key]) for key in ("tpr", "fpr", "fpr_upper_bound"))]
        cells += [_number(at[rate]["tpr"]) + ("" if at[rate]["is_supported"] else " (n)") for rate in at]
        cells += [f"{whole['attacks_alerted']} of {whole['attacks']}"]
        cells += [_number(whole[key]) for key in ("first_alert_s", "first_alert_s_p95", "false_incidents", "days")]
        quiet = whole["benign_captures"]
        cells += [_number(whole["false_incidents_per_day_upper_bound"])]
        cells += [f"{quiet['captures'] - quiet['with_false_incidents']} of {quiet['captures']}"]
        lines.append(_row(cells))
    return "\n".join(
        [*lines, "", "(n): fewer than three benign windows would be expected above; the rate is not measured."]
    )


def _classes(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    keys = ("precision", "recall", "f1", "mcc", "tpr", "auc")
    lines = [_row(["class", "windows", *keys, "attacks alerted"]), "|---" + "|--:" * (len(keys) + 2) + "|"]
    for name, block in blocks.items():
        cells = [name, f"{block['windows_attack']:,d}", *(_number(block[key]) for key in keys)]
        lines.append(_row([*cells, f"{block['attacks_alerted']} of {block['attacks']}"]))
    return "\n".join(lines)


def _importance(falls: Mapping[str, float]) -> str:
    first = list(falls.items())[:MOST_IMPORTANT]
    return "\n".join(
        ["| column | fall of AUC when shuffled |", "|---|--:|", *(f"| `{n}` | {f:.4f} |" for n, f in first)]
    )


def _leakage(told: Mapping[str, Any]) -> str:
    answers = {
        "attack or benign, told by the hidden columns of the TCP stack alone, by a forest": told["hidden_columns"],
        "benign window of the lab or of a real device, by a forest": told["which_source"],
        "the bundle over all windows": {"auc": told["bundle_auc"]["all"]},
        "the bundle over the lab's windows alone, where the source cannot help": {
            "auc": told["bundle_auc"]["lab alone"]
        },
        "a forest, split by row": told["split"]["by row"],
        "a forest, split by capture": told["split"]["by capture"],
    }
    lines = ["| question | AUC | TPR at FPR 1e-2 |", "|---|--:|--:|"]
    lines += [_row([what, _number(each["auc"]), _number(each.get("tpr"))]) for what, each in answers.items()]
    return "\n".join(lines)


def _baselines(told: Mapping[str, Any]) -> str:
    told = told.get("models", told)  # `networks` writes its runs beside them
    sides = [side for side, block in next(iter(told.values())).items() if isinstance(block, Mapping)]
    lines = [_row(["model", *(f"{side}: TPR / FPR / AUC" for side in sides)]), "|---" + "|--:" * len(sides) + "|"]
    for model, by_side in told.items():
        cells = [" / ".join(_number(by_side[side][key]) for key in ("tpr", "fpr", "auc")) for side in sides]
        lines.append(_row([model, *cells]))
    return "\n".join(lines)


def _unknown(told: Mapping[str, Any]) -> str:
    return f"{candidates_table(told)}\n\n{classes_table(told)}"


def _absent(key: str) -> str:
    return f"Not measured for this page: `{PARTS[key]}` writes the file it takes."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,d}" if isinstance(value, int) else f"{value:.4g}"


def run_command(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from contracts.bundle import load_bundle
    from detection.onnx_engine import OnnxEngine
    from training.captures import find_captures
    from training.splits import load_splits

    facts = [json.loads((folder / FACTS_FILE).read_text()) for folder in arguments.checkpoint]
    files = {key: path for key in PARTS if (path := getattr(arguments, key)) is not None}
    inputs = Inputs(
        command=" ".join(
            [
                f"penstock-train page --bundle {arguments.bundle.name} -o {arguments.output.name}",
                *(["--checkpoint", *(each.name for each in arguments.checkpoint)] if arguments.checkpoint else []),
                *(f"--{key} {path.name}" for key, path in files.items()),
            ]
        ),
        files=files,
        histories={f"seed {each['seed']}": each["history"] for each in facts},
    )
    bundle = load_bundle(arguments.bundle)
    engine, captures = OnnxEngine(bundle), find_captures(load_splits())
    print(write_page(arguments.output, bundle=bundle, engine=engine, captures=captures, inputs=inputs))
    return 0
