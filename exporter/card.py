"""MODEL_CARD.md: what a bundle is for, what it was made of, what it does and where it fails, for who decides on it.

Written from the manifest, the checkpoint's facts and the report of the held-out captures; nothing is typed in by hand,
and what was not measured says so. The trap: a card is read more than a report, so a baseline that is better stands
beside the network's own figure, not in a footnote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.bundle import Manifest
from exporter.gate import MAX_POINTS_LOST, Benign, Step

NOT_MEASURED = "not measured"
PER_DAY_BOUND = "false_incidents_per_day_upper_bound"
JUDGING_SIDES = ("test", "evaluation")
LEAST_DAYS = 0.5  # of capture, to speak of false incidents a day; lab captures play a day in minutes
# A baseline is called better where its AUC is higher by more than the last digit told.
LEAST_LEAD = 0.0005
SIDE_TEXT = {
    "validation": "chose the epochs and the thresholds",
    "test": "the same sources, other makers and other lab seeds",
    "evaluation": "other networks, tools and makers, none of them this project's",
}


@dataclass(frozen=True, kw_only=True)
class CardInputs:
    """What the card tells. `held_out` is the report by side; `baselines` is what `penstock-train compare` wrote."""

    manifest: Manifest
    steps: Sequence[Step]
    torch_difference: float
    held_out: Mapping[str, Any] = field(default_factory=dict)
    benign: Mapping[str, Benign] = field(default_factory=dict)
    replaced: str = ""
    replaced_benign: Mapping[str, Benign] = field(default_factory=dict)
    louder: str = ""
    baselines: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()


def card(told: CardInputs) -> str:
    """Return the card as Markdown."""
    parts = (_head, _data, _figures, _benign, _baselines, _compression, _limits, _again)
    return "\n".join(line for part in parts for line in part(told)).rstrip() + "\n"


def better_baselines(told: CardInputs) -> list[str]:
    """Return a sentence for each baseline whose AUC is above that of every seed of the network, by side."""
    own, others = _own_and_others(told)
    sentences = []
    for side in JUDGING_SIDES:
        mine = [auc for figures in own.values() if (auc := _auc(figures, side)) is not None]
        for name, figures in others.items():
            auc = _auc(figures, side)
            if mine and auc is not None and auc > max(mine) + LEAST_LEAD:
                sentences.append(
                    f"**{name} does better there**: on {side} its AUC is {auc:.4f}, that of the best "
                    f"`{told.manifest.name}` taught as briefly {max(mine):.4f}."
                )
    return sentences


def _head(told: CardInputs) -> Iterator[str]:
    manifest = told.manifest
    yield f"# `{manifest.name}`, release {manifest.release}"
    yield ""
    yield (
        "Finds attacks on and by the devices behind an IoT gateway, from flow records alone: of each device the newest "
        f"{manifest.window} records, {manifest.features} columns each, as {len(manifest.classes)} classes "
        f"({', '.join(manifest.classes)}). It reads no payload and stores no address. Made for Penstock's agent; "
        "it is a detector to be looked at by people, not a ground for punishing anybody."
    )
    yield ""
    made = f"seed {manifest.seed}, code {manifest.training_commit}, {manifest.created}"
    yield f"{manifest.parameters:,} parameters, {made}."
    yield f"Weights: {manifest.quantisation}. Unknown score: {manifest.unknown_score}. Attention: {manifest.attention}."
    yield ""


def _data(told: CardInputs) -> Iterator[str]:
    yield "## What it was taught on"
    yield ""
    yield "| source | captures | windows | terms |"
    yield "|---|--:|--:|---|"
    for source in told.manifest.data:
        yield f"| {_cell_text(source.name)} | {source.captures:,} | {source.windows:,} | {_cell_text(source.terms)} |"
    yield ""
    yield "Split by capture, device maker and lab seed, never by row (`training/splits.toml`):"
    yield ""
    for side, text in SIDE_TEXT.items():
        yield f"- {side}: {text}"
    yield ""


def _figures(told: CardInputs) -> Iterator[str]:
    yield "## What it finds"
    yield ""
    yield "Over windows, thresholds as in the manifest; the spread is over the seeds that were fitted."
    yield ""
    for name, block in sorted(told.manifest.figures.items()):
        if "tpr" in block.values:
            yield f"- {name} ({block.split}): {_with_spread(block.values)}"
    yield ""
    if not told.held_out:
        yield f"Captures held out: {NOT_MEASURED}."
        yield ""
        return
    yield "Whole captures held out, through the detector that ships (bounds: 95 %, one-sided):"
    yield ""
    yield "| side | source | attack windows | TPR | FPR | FPR bound | false incidents | days | false/day bound |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for side, block in told.held_out.items():
        for source, figures in [*block["sources"].items(), ("**all**", block["total"])]:
            yield f"| {side} | {_cell_text(source)} | {_row(figures)} |"
    yield ""


def _benign(told: CardInputs) -> Iterator[str]:
    yield "## Beside the bundle it replaces"
    yield ""
    if not told.replaced_benign:
        yield f"Nothing replaced, nothing compared{': ' + told.replaced if told.replaced else ''}."
        yield ""
        return
    yield f"On benign captures held out, beside {told.replaced}:"
    yield ""
    yield "| side | bundle | false incidents | FPR |"
    yield "|---|---|---|---|"
    for side, new in told.benign.items():
        yield f"| {side} | this one | {new.incidents_text()} | {new.fpr_text()} |"
        old = told.replaced_benign[side]
        yield f"| {side} | the replaced one | {old.incidents_text()} | {old.fpr_text()} |"
    yield ""
    if told.louder:
        yield f"Let pass although it may be louder, because: {_cell_text(told.louder)}."
        yield ""


def _baselines(told: CardInputs) -> Iterator[str]:
    yield "## Beside baselines"
    yield ""
    own, others = _own_and_others(told)
    if not others:
        yield f"{NOT_MEASURED.capitalize()}: no baseline was fitted beside this network, so what it is worth is open."
        yield ""
        return
    yield "Taught briefly and all alike, on the windows and the split of their own commits (docs/results/networks.md):"
    yield "to be held against each other, not against the figures above. TPR / FPR / AUC over windows."
    yield ""
    yield "| model | " + " | ".join(JUDGING_SIDES) + " |"
    yield "|---" + "|--:" * len(JUDGING_SIDES) + "|"
    for name, sides in {**own, **others}.items():
        yield f"| {_cell_text(name)} | " + " | ".join(_three(sides.get(side, {})) for side in JUDGING_SIDES) + " |"
    yield ""
    otherwise = "No baseline has a higher AUC than the best seed of the network, on any side."
    if not own:
        otherwise = f"`{told.manifest.name}` itself was not fitted in that comparison, so who is better is open."
    yield from better_baselines(told) or [otherwise]
    yield ""


def _compression(told: CardInputs) -> Iterator[str]:
    yield "## Compression, each step measured"
    yield ""
    yield f"torch to float graph: largest difference of any output {told.torch_difference:.1e}."
    yield ""
    yield "| step | bytes | accuracy | points lost | windows |"
    yield "|---|--:|--:|--:|--:|"
    for step in told.steps:
        yield (
            f"| {step.name} | {step.bytes_before:,} to {step.bytes_after:,} | {step.accuracy_before:.4f} to "
            f"{step.accuracy_after:.4f} | {step.points_lost:.2f} | {step.windows:,} |"
        )
    yield ""
    if not all(step.labelled for step in told.steps):
        yield "Where accuracy before a step is 1, no labels were kept: the classes found before it stand for them."
    yield f"More than {MAX_POINTS_LOST} points for a step are refused. int8 storage makes the file smaller, not faster."
    yield ""


def _limits(told: CardInputs) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield from (f"- {note}" for note in told.notes)
    yield from (f"- {line}" for line in _weak_spots(told.held_out))
    yield "- A rate seen on n windows or d days says nothing below 3/n or 3/d; the bounds are what the sample allows."
    yield "- The held-out captures are looked at for every release: they show what got worse, not that all is well."
    yield "- Months in one home, IPv6 beyond samples and every board: " + NOT_MEASURED + "."
    yield ""


def _again(told: CardInputs) -> Iterator[str]:
    yield "## Made by"
    yield ""
    yield from (f"    {command}" for command in told.commands)
    yield ""
    yield "The same checkpoint gives the same bytes; the same seed, data and torch give equal weights on one machine."
    yield ""


def _weak_spots(held_out: Mapping[str, Any]) -> Iterator[str]:
    """Give the sources of which less than half of the attack windows are found, and those with false incidents."""
    for side, block in held_out.items():
        for source, figures in block["sources"].items():
            tpr = figures["tpr"]
            if tpr is not None and tpr < 0.5:
                yield f"{side}, {source}: TPR {tpr:.2f} of {figures['windows_attack']:,} attack windows."
            if figures["false_incidents"]:
                yield f"{side}, {source}: {figures['false_incidents']} false incidents in {figures['days']:.3g} days."


def _own_and_others(told: CardInputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the network's seeds and the baselines, without the network's ablations."""
    name = told.manifest.name
    seeds = {key: value for key, value in told.baselines.items() if key.startswith(f"{name}, seed")}
    others = {key: value for key, value in told.baselines.items() if key.split(",")[0].split(" ")[0] != name}
    return seeds, others


def _auc(sides: Mapping[str, Any], side: str) -> float | None:
    value = sides.get(side, {}).get("auc")
    return None if value is None else float(value)


def _with_spread(values: Mapping[str, float | None]) -> str:
    told = []
    for name in ("tpr", "fpr", "auc"):
        if (value := values.get(name)) is None:
            continue
        least, most = (values.get(f"{name}_{word}_of_seeds") for word in ("least", "most"))
        spread = "" if least is None or most is None else f" ({least:.4g} .. {most:.4g})"
        told.append(f"{name} {value:.4g}{spread}")
    counts = ", ".join(
        f"{values[key]:,} {key}" for key in ("windows_benign", "windows_attack", "seeds") if values.get(key)
    )
    return "; ".join([*told, counts.replace("_", " ")])


def _row(figures: Mapping[str, Any]) -> str:
    keys = ("windows_attack", "tpr", "fpr", "fpr_upper_bound", "false_incidents")
    days = figures["days"]
    per_day = figures.get(PER_DAY_BOUND) if days >= LEAST_DAYS else None
    return " | ".join([*(_number(figures.get(key)) for key in keys), f"{days:.3g}", _number(per_day)])


def _three(figures: Mapping[str, Any]) -> str:
    return " / ".join(_number(figures.get(key)) for key in ("tpr", "fpr", "auc"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,d}" if isinstance(value, int) else f"{value:.4g}"


def _cell_text(text: str) -> str:
    """Return text that cannot leave its cell of a table."""
    return " ".join(text.replace("|", "/").split())
