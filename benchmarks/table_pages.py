"""Writes a result into the pages under docs/results: one JSON per table, the Markdown and the plots made from it.

`python -m benchmarks.table_pages nsl-kdd cicids2017` writes them anew from the JSON that is kept, without any training.
Results of several commands meet in one JSON, by format and protocol; a model judged again replaces itself. What a page
says comes from the JSON alone, so that no figure is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.marks import MET
from benchmarks.table_ablations import ablations
from benchmarks.tables import HEADLINES, Mark, at, finish
from training.baselines import CLASSICAL, FOREST
from training.tables.learners import BEST

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "results"
TITLES: Final = {"nsl-kdd": "NSL-KDD", "cicids2017": "CICIDS2017"}
PROTOCOLS: Final = {
    "random": "The papers' protocol: rows of one file, divided at random",
    "time": "Later rows judge",
    "kinds": "Attack kinds left out in turn",
    "given": "A test file that taught and chose nothing",
}
DIGITS: Final = 9  # a page shows four; more say nothing, and are half of a file
NEVER_DRAWN: Final = ("with_novelty", "novelty")  # scores whose ROC curve no plot has
PREAMBLE: Final = """Written by `python -m {program} ... --keep`; every figure stands in
[{name}.json]({name}.json) with its command line, seeds, split and machine. Means over seeds with their standard
deviation; the 95 % intervals (Student's t) are in the JSON.

`own` is a learner's log-odds of attack. `with density` adds how rare a row is among benign rows (nearest neighbours
and a mixture of Gaussians), `with novelty` the same by its distance over the distances among the benign rows around it.
Thresholds come from benign validation rows, never from a test row. The papers taught for 100
epochs in batches of 32; here a network sees as many rows per training row as its line says, which a processor core
does in minutes.
"""


def keep(result: Mapping[str, Any], *, name: str, marks: Sequence[Mark], folder: Path = FOLDER) -> None:
    """Add a result to the table's JSON and write page and plots anew."""
    path = folder / f"{name}.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    key = " ".join(filter(None, (result.get("format"), result["protocol"])))
    section = kept.get(key)
    if section is None or section["split"] != result["split"] or section["cleaned"] != result["cleaned"]:
        section = {**result, "models": {}}
    said = {"command": result["command"], "machine": result["machine"]}
    # The forest runs beside every model: its run over the most seeds stands, so that all are held against one.
    judged = {each: {**model, **said} for each, model in result["models"].items()}
    section["models"] = {
        **section["models"],
        **{n: m for n, m in judged.items() if n != FOREST or _has_more_seeds(m, section["models"].get(n))},
    }
    kept[key] = finish(section, marks)
    folder.mkdir(parents=True, exist_ok=True)
    write(kept, name=name, folder=folder)


def write(kept: Mapping[str, Any], *, name: str, folder: Path = FOLDER) -> None:
    """Write a table's JSON, page and plots: its figures to DIGITS, of its ROC curves those that are drawn."""
    kept = _thinned(kept)
    (folder / f"{name}.json").write_text(_text(kept) + "\n", encoding="utf-8")
    plots = {each: _plots(section, folder / f"{name}-{each.replace(' ', '-')}") for each, section in kept.items()}
    (folder / f"{name}.md").write_text(page(kept, name=name, plots=plots), encoding="utf-8")


def _thinned(value: Any) -> Any:
    """Return a tree of figures as it is kept."""
    if isinstance(value, Mapping):
        return {
            key: {each: _thinned(figure) for each, figure in under.items() if each != "roc"}
            if key in NEVER_DRAWN and isinstance(under, Mapping)
            else _thinned(under)
            for key, under in value.items()
        }
    if isinstance(value, list):
        return [_thinned(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _text(value: Any, indent: str = "") -> str:
    """Return JSON with a line for each mapping or list that holds no other."""
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(parts, list) or not any(isinstance(each, Mapping | list) for each in parts):
        return json.dumps(value)
    deeper = f"{indent} "
    texts = [_text(each, deeper) for each in parts]
    if isinstance(value, Mapping):
        texts = [f"{json.dumps(key)}: {text}" for key, text in zip(value, texts, strict=True)]
    begin, end = "{}" if isinstance(value, Mapping) else "[]"
    return f"{begin}\n{deeper}" + f",\n{deeper}".join(texts) + f"\n{indent}{end}"


def _has_more_seeds(model: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    return before is None or len(model["runs"]) > len(before["runs"])


def page(kept: Mapping[str, Any], *, name: str, plots: Mapping[str, Sequence[Path]]) -> str:
    """Return the Markdown of a table's results."""
    program = f"benchmarks.{name.replace('-', '_')}"
    told = [f"# {TITLES.get(name, name)}", "", PREAMBLE.format(program=program, name=name)]
    for key, section in kept.items():
        told += [f"## {_title(key)}", "", *_section(section), ""]
        told += [f"![{path.stem}]({path.name})" for path in plots.get(key, ())]
        told.append("")
    return "\n".join(told).rstrip() + "\n"


def _title(key: str) -> str:
    form, _, protocol = key.rpartition(" ")
    return PROTOCOLS[protocol] + (f" ({form} format)" if form else "")


def _section(section: Mapping[str, Any]) -> list[str]:
    told = [f"Split: {section['split']}. Rows: {_rows(section['rows'])}.", ""]
    told += [f"Cleaned: {_counts(section['cleaned'])}. Left out of training: {_counts(section['left_out'])}.", ""]
    told += [*_headlines(section), ""]
    told += _forest(section)
    if section["marks"]:
        told += ["| mark | seen | wanted | |", "|---|--:|--:|---|"]
        told += [f"| {m['what']} | {m['seen']:.4f} | {m['wanted']} | {MET[m['met']]} |" for m in section["marks"]]
        told += [""]
    told += ablations(section, cell=_mean_sd) if section["benchmark"] == "nsl_kdd" else []
    told += _levels(section)
    for name in (BEST, "gru", FOREST):
        if name in section["models"]:
            told += _per_class(name, section["models"][name])
            told += _unknown(name, section["models"][name])
    told += ["Commands:", "", "```"]
    told += list(dict.fromkeys(model["command"] for model in section["models"].values()))
    return [*told, "```", ""]


def _headlines(section: Mapping[str, Any]) -> list[str]:
    shown = {
        title: path
        for title, path in HEADLINES.items()
        if any(at(model["summary"], path) is not None for model in section["models"].values())
    }
    lines = ["| model | kind | seeds | rows seen per row | " + " | ".join(shown) + " | CPU s |"]
    lines.append("|---|---|--:|--:|" + "--:|" * (len(shown) + 1))
    for name, model in section["models"].items():
        kind = "baseline" if name in CLASSICAL else "ensemble" if name == BEST else "network"
        seen = model["runs"][0]["facts"].get("rows_seen_per_row", "-")
        cells = " | ".join(_mean_sd(model["summary"], path) for path in shown.values())
        lines.append(f"| {name} | {kind} | {len(model['runs'])} | {seen} | {cells} | {model['cpu_s']:.0f} |")
    return lines


def _forest(section: Mapping[str, Any]) -> list[str]:
    told = [
        f"- `{name}` is beaten by a random forest in: {', '.join(model['beaten_by_forest_in'])}."
        for name, model in section["models"].items()
        if model.get("beaten_by_forest_in")
    ]
    return [*told, ""] if told else []


def _levels(section: Mapping[str, Any]) -> list[str]:
    """Return what low false-positive rates give, with what the sample supports."""
    told = [
        "| model, score | TPR at FPR 1e-2 | at 1e-3 | at 1e-4 | bound on the FPR there | supported |",
        "|---|--:|--:|--:|---|---|",
    ]
    for name, model in section["models"].items():
        for score in ("own", "with_density", "with_novelty"):
            if score not in model["runs"][0]["detection"]:
                continue
            levels = model["runs"][0]["detection"][score]["tpr_at_fpr"]
            means = [_mean_sd(model["summary"], ("detection", score, "tpr_at_fpr", level, "tpr")) for level in levels]
            bounds = ", ".join(f"{each['fpr_bound']:.1e}" for each in levels.values())
            supported = ", ".join("yes" if each["supported"] else "no" for each in levels.values())
            told.append(f"| {name}, {score.replace('_', ' ')} | {' | '.join(means)} | {bounds} | {supported} |")
    return [*told, ""]


def _per_class(name: str, model: Mapping[str, Any]) -> list[str]:
    per_class = model["summary"].get("classes", {}).get("per_class", {})
    rows = [(each, figures) for each, figures in per_class.items() if figures.get("f1")]
    if not rows:
        return []
    told = [
        f"`{name}` by class:",
        "",
        "| class | rows | accuracy | precision | recall | F1 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for each, figures in rows:
        cells = " | ".join(_mean_sd(figures, (key,)) for key in ("accuracy", "precision", "recall", "f1"))
        told.append(f"| {each} | {figures['rows']['mean']:.0f} | {cells} |")
    return [*told, ""]


def _unknown(name: str, model: Mapping[str, Any]) -> list[str]:
    """Return, for kinds never taught, what the validation threshold for FPR 1e-3 found; of each run that has them."""
    runs = [run["unknown"] for run in model["runs"] if run.get("unknown")]
    if not runs:
        return []
    scores = [score for score in ("own", "with_density", "with_novelty", "novelty") if score in runs[0]]
    head = f"`{name}`, kinds never taught, threshold for FPR 1e-3 on benign validation rows:"
    told = [head, "", "| kind | rows | " + " | ".join(f"TPR, {s.replace('_', ' ')}" for s in scores) + " | FPR had |"]
    told.append("|---|--:|" + "--:|" * len(scores) + "---|")
    seen: dict[str, list[Any]] = {}
    for run in runs:
        for kind in run["kinds"]:
            seen.setdefault(kind, []).append(run)
    for kind, having in seen.items():
        cells = [f"{_mean([run[s]['by_kind'][kind]['tpr'] for run in having]):.3f}" for s in scores]
        fprs = [f"{_mean([run[s]['at_validation_threshold']['fpr'] for run in having]):.4f}" for s in scores]
        told.append(f"| {kind} | {having[0]['kinds'][kind]} | {' | '.join(cells)} | {', '.join(fprs)} |")
    return [*told, ""]


def _plots(section: Mapping[str, Any], start: Path) -> list[Path]:
    from benchmarks.table_plots import draw

    return draw(section, start)


def _mean_sd(summary: Mapping[str, Any], path: Sequence[str]) -> str:
    found: Any = summary
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or "mean" not in found:
        return "-"
    sd = "" if found["sd"] is None else f" ± {found['sd']:.4f}"
    return f"{found['mean']:.4f}{sd}"


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _rows(rows: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{side} {sum(kinds.values()):,}" for side, kinds in rows.items())


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counted.items()) or "nothing"


if __name__ == "__main__":
    for named in sys.argv[1:]:
        write(json.loads((FOLDER / f"{named}.json").read_text(encoding="utf-8")), name=named)
