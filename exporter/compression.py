"""`penstock-export compression`: what storing in int8 and pruning cost, beside the same size taught from scratch.

Every network is taught on the windows of `penstock-train networks` and judged as it does, through the detector; `int8`
lines run the graph that a bundle would ship, the others run torch. A pruned network is taught on for half as many
epochs as the whole one had, the whole one as well, and the control of the pruned size gets all of them: without either
the comparison would flatter pruning. Needs torch, onnx and a runtime.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from detection.onnx_engine import import_runtime
from exporter.graph import build_graph
from exporter.measure import serialised
from exporter.prune import importance, prune
from exporter.shrink import fresh_like
from training.datasets import WindowSet
from training.figures.models_table import by_name, table
from training.fit import FitSettings, Fitted, fit, predict
from training.networks import Network
from training.networks_compared import Save, conditions, saver, studied
from training.progress import Progress
from training.shapes import WINDOW
from training.side_by_side import Floats, Judge, Predict, run_facts
from training.study_pages import how_to_read, runs_of, wrapped
from training.unknown_compare import Sides

KEEP: Final = 0.5
WHAT_LINES_ARE: Final = (
    "`float` is the graph for TensorRT, `int8` the one the agent runs: its weight matrices are stored in int8 and "
    "computed in float32, which makes the file smaller, not faster. The pruned network keeps half of the units of "
    "every layer and is taught on for half as many epochs as the whole one; `taught on` is the whole one with as much "
    "more teaching; the control has the pruned size and all those epochs."
)


def compress(
    sides: Sides, judge: Judge, settings: FitSettings, *, networks: Sequence[str], seeds: Sequence[int], save: Save
) -> None:
    """Give `save` the figures of all lines so far, by `LINE, seed N`, each time one is judged."""
    told: dict[str, Any] = {}
    with Progress("compression", len(networks) * len(seeds) * 8) as progress:
        for name in networks:
            for seed in seeds:
                for line, network in lines_of(name, sides, replace(settings, network=name, seed=seed)):
                    graph = serialised(build_graph(network.arrays(), name=name, window=WINDOW, int8=True))
                    floats = serialised(build_graph(network.arrays(), name=name, window=WINDOW, int8=False))
                    parameters = sum(each.numel() for each in network.parameters())
                    for stored, predicts, size in (
                        ("float", _torch(network), len(floats)),
                        ("int8", graph_predictor(graph), len(graph)),
                    ):
                        facts = {"parameters": parameters, "bytes": size}
                        told[f"{name}, {line}, {stored}, seed {seed}"] = judge.figures(predicts) | facts
                        save(told)
                        progress.step(note=f"{line}, {stored}")


def lines_of(name: str, sides: Sides, settings: FitSettings) -> Iterator[tuple[str, Network]]:
    """Give the networks of one comparison: whole, whole taught on, pruned and taught on, scratch at that size."""

    def taught(epochs: int, start: Network | None) -> Fitted:
        return fit(sides.teaching, sides.choosing, replace(settings, epochs=epochs), start=start)

    more = max(1, settings.epochs // 2)
    whole = taught(settings.epochs, None).network
    yield "whole", whole
    yield "whole, taught on", taught(more, whole).network
    cut = prune(whole, importance(whole, sides.choosing), keep=KEEP)
    yield f"{KEEP:.0%} of the units, taught on", taught(more, cut).network
    yield "that size from scratch", taught(settings.epochs + more, fresh_like(cut, settings.seed)).network


def graph_predictor(model: bytes) -> Predict:
    """Return what gives the class probabilities of a serialised graph, on one thread."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predicts(windows: WindowSet) -> Floats:
        (found,) = session.run(["probabilities"], {"windows": windows.values, "mask": windows.mask})
        return found  # type: ignore[no-any-return]

    return predicts


def write_page(path: Path, told: Mapping[str, Any]) -> None:
    """Write the page beside the JSON."""
    runs = by_name(told["models"])
    lines = [
        "# Compression", "", how_to_read(told), "", wrapped(WHAT_LINES_ARE), "",
        "| line | parameters | bytes of the graph |", "|---|--:|--:|",
        *(f"| {name} | {each[0]['parameters']:,d} | {each[0]['bytes']:,d} |" for name, each in runs.items()), "",
        *table(runs, what="line"), "",
    ]  # fmt: skip
    path.with_suffix(".md").write_text("\n".join([*lines, *runs_of(told["runs"], path)]))


def _torch(network: Network) -> Predict:
    return lambda windows: predict(network, windows)


def run_command(arguments: argparse.Namespace) -> int:
    """Compress, write file and page, say where."""
    _, sides, judge, settings = studied(arguments)
    words = ["penstock-export compression", f"-o {arguments.output.name}", "--networks", *arguments.networks]
    words += ["--seeds", *map(str, arguments.seeds), "--epochs", str(arguments.epochs)]
    run = run_facts(" ".join(words), seeds=arguments.seeds, **conditions(sides, settings))
    save = saver(arguments.output, run, add=arguments.add, page=write_page)
    compress(sides, judge, settings, networks=arguments.networks, seeds=arguments.seeds, save=save)
    print(arguments.output.with_suffix(".md"))
    return 0
