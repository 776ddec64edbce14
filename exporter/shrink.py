"""`penstock-export prune`: a pruned, fine-tuned network beside one of the same size taught from scratch.

Both are taught with `training.fit`, on the same windows and seeds; the control is given all the epochs the pruned one
had, those before the cut included, and the whole network is taught on as long as the pruned one: without either the
comparison would flatter pruning, whose gain may be that of more teaching. What is kept is the pruned network; which
of the two is better stands in the facts and is printed. Seeds are chosen on validation, figures of `test` are only
told. The trap: a checkpoint taught on other captures than there are now is judged beside networks taught on these.
Needs torch.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from exporter.gate import Step
from exporter.graph import build_graph
from exporter.measure import accuracy, serialised
from exporter.prune import importance, prune
from exporter.units import cuts_of
from training.captures import CapturesBySide
from training.checkpoint import WINDOWS_FILE, Checkpoint, training_commit
from training.datasets import WindowSet, gather
from training.errors import CheckpointError
from training.fit import FitSettings, Fitted, fit, predict
from training.networks import Network, build, network_of
from training.splits import TEACHING_SIDES
from training.teach import head_windows, plain_benign, window_figures
from training.thresholds import choose

FIGURE_SIDES = ("validation", "test")
STEP_NAME = "pruning"
FIGURES = ("accuracy", "tpr", "fpr", "auc")
# What the unknown score was fitted on is the embedding that was.
FORGOTTEN_FACTS = ("unknown",)


@dataclass(frozen=True, eq=False)
class Sets:
    """Windows by side, and the benign validation windows by source that thresholds are chosen on."""

    by_side: dict[str, WindowSet]
    plain: dict[str, WindowSet]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One line of the table: a network, how it was taught, and its figures by seed and side."""

    name: str
    parameters: int
    model_bytes: int
    epochs: int
    seeds: tuple[dict[str, dict[str, float | None]], ...]


@dataclass(frozen=True, eq=False)
class Shrunk:
    """The pruned checkpoint and the lines of the comparison."""

    checkpoint: Checkpoint
    sides: tuple[Side, ...]


def windows_for(captures: CapturesBySide) -> Sets:
    """Return the windows that `penstock-train fit` teaches, chooses and is judged on."""
    for side in TEACHING_SIDES:
        captures.add_variants(side)
    sides = {
        side: gather(captures.truths(side), title=f"{side} windows", keep=head_windows)
        for side in ("train", *FIGURE_SIDES)
    }
    return Sets(sides, plain_benign(captures, sides["validation"]))


def shrink(checkpoint: Checkpoint, sets: Sets, *, keep: float, seeds: Sequence[int], settings: FitSettings) -> Shrunk:
    """Return the network with a share of its units, fine-tuned for `settings.epochs`, beside its control."""
    original = network_of(checkpoint.arrays, checkpoint.network.facts())
    cut = prune(original, importance(original, sets.by_side["validation"]), keep=keep)
    whole, pruned, scratch = [], [], []
    before_epochs = _epochs_before(checkpoint)
    control_settings = replace(settings, epochs=settings.epochs + before_epochs)
    for seed in seeds:
        whole.append(_fit(sets, replace(settings, seed=seed), start=original))
        pruned.append(_fit(sets, replace(settings, seed=seed), start=cut))
        scratch.append(_fit(sets, replace(control_settings, seed=seed), start=fresh_like(cut, seed)))
    sides = (
        _side("whole", [original], sets, epochs=before_epochs),
        _side("pruned", [cut], sets, epochs=before_epochs),
        *(
            _side(name, [each.network for each in taught], sets, epochs=control_settings.epochs)
            for name, taught in (
                ("whole, taught on", whole),
                ("pruned, taught on", pruned),
                ("scratch at that size", scratch),
            )
        ),
    )
    kept = min(pruned, key=lambda each: each.validation_loss)
    return Shrunk(_checkpoint(checkpoint, kept, sets, sides, own=pruned.index(kept), keep=keep), sides)


def save(shrunk: Shrunk, folder: Path, *, beside: Path) -> None:
    """Write the pruned checkpoint, with the windows of the one it came from to compare graphs on."""
    if folder.resolve() == beside.resolve():
        raise CheckpointError(f"{folder}: is the checkpoint to prune, wanted another folder")
    shrunk.checkpoint.save(folder)
    shutil.copyfile(beside / WINDOWS_FILE, folder / WINDOWS_FILE)


def table(sides: Sequence[Side]) -> list[str]:
    """Return the comparison as lines: for each network and side of the split, the seeds' lowest .. highest."""
    lines = [
        f"{'network':<24}{'parameters':>12}{'bytes':>9}{'epochs':>8}{'seeds':>7}  side        accuracy, tpr, fpr, auc"
    ]
    for side in sides:
        head = f"{side.name:<24}{side.parameters:>12,}{side.model_bytes:>9,}{side.epochs:>8}{len(side.seeds):>7}"
        for split in FIGURE_SIDES:
            told = ", ".join(_range([seed[split][key] for seed in side.seeds if split in seed]) for key in FIGURES)
            lines.append(f"{head}  {split:<12}{told}")
            head = " " * len(head)
    return lines


def who_is_ahead(sides: Sequence[Side]) -> str:
    """Return who is ahead on validation accuracy, pruned or scratch, and whether the seeds' ranges leave it open."""
    ranges = {}
    for side in sides[-2:]:
        values = [seed["validation"]["accuracy"] or 0.0 for seed in side.seeds]
        ranges[side.name] = (min(values), max(values))
    (pruned, scratch) = ranges.values()
    if pruned[0] > scratch[1]:
        return "pruning is ahead of the same size taught from scratch: its worst seed beats the other's best"
    if scratch[0] > pruned[1]:
        return "the same size taught from scratch is ahead of pruning: its worst seed beats the other's best"
    return "pruned and taught from scratch are level: their seeds overlap"


def _fit(sets: Sets, settings: FitSettings, *, start: Network) -> Fitted:
    return fit(sets.by_side["train"], sets.by_side["validation"], settings, start=start)


def fresh_like(like: Network, seed: int) -> Network:
    """Return an untaught network of the same sizes and scaling."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = dict(like.described.sizes)
    fresh = build(like.described.name, layout=like.described.layout, **sizes)
    for name in ("unit", "mean", "std", "keep"):
        getattr(fresh, name).copy_(getattr(like, name))
    return fresh


def _epochs_before(checkpoint: Checkpoint) -> int:
    """Return how many epochs the network was taught before the cut, by its history."""
    return len(checkpoint.facts.get("history", ()))


def _side(name: str, networks: Sequence[Network], sets: Sets, *, epochs: int) -> Side:
    first = networks[0]
    return Side(
        name=name,
        parameters=sum(each.numel() for each in first.parameters()),
        model_bytes=_model_bytes(first, sets),
        epochs=epochs,
        seeds=tuple(_figures(each, sets) for each in networks),
    )


def _model_bytes(network: Network, sets: Sets) -> int:
    window = sets.by_side["train"].values.shape[1]
    return len(serialised(build_graph(network.arrays(), name=network.described.name, window=window, int8=True)))


def _figures(network: Network, sets: Sets) -> dict[str, dict[str, Any]]:
    """Return the figures of one network by side, under thresholds of its own."""
    chosen = choose({source: predict(network, windows) for source, windows in sets.plain.items()})
    figures = {}
    for side in FIGURE_SIDES:
        windows = sets.by_side[side]
        if len(windows):
            said = predict(network, windows)
            figures[side] = {
                "accuracy": accuracy(said, windows.label),
                **window_figures(said, windows.label, chosen),
            }
    return figures


def _checkpoint(
    before: Checkpoint, kept: Fitted, sets: Sets, sides: Sequence[Side], *, own: int, keep: float
) -> Checkpoint:
    """Return the pruned network's checkpoint: facts of the one before, what changed, what the step cost."""
    whole, _, whole_on, pruned, scratch = sides
    figures = pruned.seeds[own]
    # The better of the two: a whole network that more teaching would have bettered is no measure of what pruning costs.
    accuracies = [each["validation"]["accuracy"] or 0.0 for each in (whole.seeds[0], whole_on.seeds[own])]
    step = Step(
        name=STEP_NAME,
        accuracy_before=max(accuracies),
        accuracy_after=figures["validation"]["accuracy"] or 0.0,
        bytes_before=whole.model_bytes,
        bytes_after=pruned.model_bytes,
        windows=len(sets.by_side["validation"]),
    )
    chosen = choose({source: predict(kept.network, windows) for source, windows in sets.plain.items()})
    facts = {key: value for key, value in before.facts.items() if key not in FORGOTTEN_FACTS}
    facts |= {
        "network": kept.network.described.facts(),
        "seed": int(kept.settings["seed"]),
        "settings": kept.settings,
        "history": [*before.facts.get("history", ()), *kept.history],
        "compression": [*before.facts.get("compression", ()), asdict(step)],
        "pruning": {"keep": keep, "units": _units(kept.network), "ahead": who_is_ahead(sides)},
        "figures": _told_figures(before, pruned, scratch, own=own),
        "training_commit": training_commit(),
        "created": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        **chosen.facts(),
    }
    return Checkpoint(arrays=kept.network.arrays(), facts=facts)


def _units(network: Network) -> dict[str, int]:
    return {
        cut.size if cut.place is None else f"{cut.size}.{cut.place}": cut.units for cut in cuts_of(network.described)
    }


def _told_figures(before: Checkpoint, pruned: Side, scratch: Side, *, own: int) -> dict[str, Any]:
    """Return what the manifest and the card say by side: the kept seed with the spread, the control beside it."""
    told: dict[str, Any] = {}
    for side, figures in pruned.seeds[own].items():
        split = before.facts["figures"].get(side, {}).get("split", f"{side} windows of splits.toml")
        values: dict[str, Any] = {**figures, "seeds": len(pruned.seeds), **_spread(pruned, side)}
        told[side] = {"split": split, "values": values}
        control: Mapping[str, Any] = {"seeds": len(scratch.seeds), **_spread(scratch, side)}
        told[f"{side}_scratch_control"] = {"split": f"{split}; the same size taught from scratch", "values": control}
    return told


def _spread(side: Side, split: str) -> dict[str, float]:
    spread: dict[str, float] = {}
    for key in FIGURES:
        values = [value for seed in side.seeds if (value := seed[split][key]) is not None]
        if values:
            spread |= {f"{key}_least_of_seeds": min(values), f"{key}_most_of_seeds": max(values)}
    return spread


def _range(values: Sequence[float | None]) -> str:
    told = [value for value in values if value is not None]
    if not told:
        return "-"
    least, most = min(told), max(told)
    return f"{least:.4f}" if least == most else f"{least:.4f} .. {most:.4f}"
