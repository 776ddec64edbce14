"""`penstock-train ablations`: the network without some of what it has, taught and judged as `networks` does.

    columns    the shipped kind without each group of context columns
    each       the shipped kind without each context column that is in a group with others
    attention  the papers' networks without their attention, and one kind of layer only
    windows    the shipped kind on windows of 8, 16 and 32 records
    partials   the shipped kind without records of unfinished flows, in teaching, in judging, in both
Every line is one fit per seed. The last two parts leave out the variants of captures. Needs torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from flowfeatures import CONTEXT_COLUMNS
from training.captures import CapturesBySide
from training.datasets import WindowSet
from training.fit import FitSettings, fit
from training.kept import KeptStreams
from training.networks_compared import Save, conditions, facts_of, predictor, saver, studied
from training.other_windows import WindowKind, gather_other
from training.progress import Progress
from training.side_by_side import Judge, run_facts
from training.splits import TEACHING_SIDES
from training.study_pages import write_ablations_page
from training.teach import head_windows
from training.unknown_compare import FEW, Sides

COLUMN_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "port buckets": ("port_",),
    "protocol": ("is_tcp", "is_udp", "is_icmp"),
    "device_initiated": ("device_initiated",),
    "peer_is_home": ("peer_is_home",),
    "fwd_rst, bwd_rst": ("fwd_rst", "bwd_rst"),
    "is_partial": ("is_partial",),
    "log_gap": ("log_gap",),
    "repeats": ("repeats",),
    "peers": ("peers_",),
    "ports": ("ports_",),
    "half_open": ("half_open_",),
    "failed": ("failed_",),
    "counts over 10 s": ("peers_10s", "ports_10s", "half_open_10s", "failed_10s"),
    "counts over 60 s": ("peers_60s", "ports_60s", "half_open_60s", "failed_60s"),
}
"""What one line hides, by prefixes of columns' names; every context column stands in one at least."""
EACH: Final = tuple(name for name in CONTEXT_COLUMNS if name not in COLUMN_GROUPS)
"""Columns that no group hides alone."""
WITH_ATTENTION: Final = ("conv_bilstm_small", "cnn_lstm_attention", "cnn_self_attention")
PLAIN: Final = ("dnn", "rnn", "cnn")
LENGTHS: Final = (8, 16, 32)
WHOLE, ENDED = WindowKind(), WindowKind(partials=False)
PARTIAL_KINDS: Final = {
    "taught and judged with them": (WHOLE, WHOLE),
    "taught without, judged with": (ENDED, WHOLE),
    "taught with, judged without": (WHOLE, ENDED),
    "taught and judged without": (ENDED, ENDED),
}
Line = TypeVar("Line")


def columns_of(prefixes: Sequence[str]) -> tuple[str, ...]:
    """Return the context columns of one group."""
    return tuple(name for name in CONTEXT_COLUMNS if name.startswith(tuple(prefixes)))


def changes_of(part: str, settings: FitSettings) -> Iterator[tuple[str, FitSettings]]:
    """Give the name and the settings of every line of a part whose windows are the usual ones."""
    if part == "columns":
        yield "all columns", settings
        for name, prefixes in COLUMN_GROUPS.items():
            yield f"without {name}", replace(settings, hidden_columns=(*settings.hidden_columns, *columns_of(prefixes)))
    elif part == "each":
        for name in EACH:
            yield f"without {name}", replace(settings, hidden_columns=(*settings.hidden_columns, name))
    else:
        for network in WITH_ATTENTION:
            yield f"{network}", replace(settings, network=network)
            yield f"{network} without attention", replace(settings, network=network, sizes={"attention": False})
        for network in PLAIN:
            yield f"{network}", replace(settings, network=network)


def ablate(
    part: str,
    sides: Sides,
    judge: Judge,
    settings: FitSettings,
    *,
    seeds: Sequence[int],
    save: Save,
    only: Sequence[str] = (),
) -> None:
    """Give `save` the figures of a part's lines so far, by `LINE, seed N`, each time one is judged."""
    told: dict[str, Any] = {}
    lines = _asked(changes_of(part, settings), only)
    with Progress(part, len(lines) * len(seeds)) as progress:
        for name, changed in lines:
            for seed in seeds:
                progress.step(0, note=f"{name}, seed {seed}")
                fitted = fit(sides.teaching, sides.choosing, replace(changed, seed=seed))
                told[f"{name}, seed {seed}"] = {"part": part} | judge.figures(predictor(fitted)) | facts_of(fitted)
                save(told)
                progress.step()


def ablate_windows(
    part: str,
    captures: CapturesBySide,
    judge: Judge,
    settings: FitSettings,
    *,
    seeds: Sequence[int],
    save: Save,
    only: Sequence[str] = (),
) -> None:
    """Do the same for a part whose windows are of other kinds; `captures` may hold variants, which stay out."""
    told: dict[str, Any] = {}
    sets: dict[WindowKind, dict[str, WindowSet]] = {}
    lines = _asked(kinds_of(part), only)
    with Progress(part, len(lines) * len(seeds)) as progress:
        for name, (taught, judged) in lines:
            for kind in {taught, judged}:
                sets[kind] = sets.get(kind) or _sets(captures, kind)
            own = replace(judge, stream=KeptStreams(judged.stream))
            for seed in seeds:
                progress.step(0, note=f"{name}, seed {seed}")
                fitted = fit(sets[taught]["train"], sets[taught]["validation"], replace(settings, seed=seed))
                told[f"{name}, seed {seed}"] = {"part": part} | own.figures(predictor(fitted)) | facts_of(fitted)
                save(told)
                progress.step()


def kinds_of(part: str) -> Iterator[tuple[str, tuple[WindowKind, WindowKind]]]:
    """Give the name of every line of a part, and the kinds of windows that teach and that are judged."""
    if part == "partials":
        yield from PARTIAL_KINDS.items()
    else:
        for length in LENGTHS:
            yield f"{length} records", (WindowKind(window=length), WindowKind(window=length))


def _asked(lines: Iterable[tuple[str, Line]], only: Sequence[str]) -> list[tuple[str, Line]]:
    """Return the lines asked for by name, all without names."""
    return [(name, line) for name, line in lines if not only or name in only]


def _sets(captures: CapturesBySide, kind: WindowKind) -> dict[str, WindowSet]:
    """Return the teaching sides as windows of a kind, without variants."""
    found = {}
    for side in TEACHING_SIDES:
        plain = [each.truth for each in captures.sides[side] if "~" not in each.name]
        found[side] = head_windows(gather_other(plain, kind, few=FEW, title=f"{side} windows"))
    return found


def run_command(arguments: argparse.Namespace) -> int:
    """Ablate, write file and page, say where."""
    captures, sides, judge, settings = studied(arguments)
    seeds, epochs = arguments.seeds, arguments.epochs
    for number, part in enumerate(arguments.parts):
        words = ["penstock-train ablations", f"-o {arguments.output.name}", f"--parts {part}", "--seeds"]
        words += [*map(str, seeds), f"--epochs {epochs}"]
        words += ["--lines", *(f"'{name}'" for name in arguments.lines)] if arguments.lines else []
        run = run_facts(" ".join(words), seeds=seeds, **conditions(sides, settings))
        save = saver(arguments.output, run, add=arguments.add or number > 0, page=write_ablations_page)
        if part in ("windows", "partials"):
            run["windows"] = {"of a class and capture": FEW}
            ablate_windows(part, captures, judge, settings, seeds=seeds, save=save, only=arguments.lines)
        else:
            ablate(part, sides, judge, settings, seeds=seeds, save=save, only=arguments.lines)
    print(arguments.output.with_suffix(".md"))
    return 0
