"""The page of paper A's run: its table, its departures from the paper, a plot of convergence and one of attention.

Everything on it comes from the result; the paper's own figures are those it prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import harness

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "results"
PAPER: Final = {"accuracy": 0.985, "precision": 0.982, "recall": 0.988, "f1": 0.985}
PAPER_MB: Final = 55.2
MOST_COLUMNS: Final = 20


def keep(result: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Write page, JSON and plots."""
    folder.mkdir(parents=True, exist_ok=True)
    harness.write_json(result, folder / "paper-a.json")
    _convergence(result, folder / "paper-a-convergence.png")
    _attention(result, folder / "paper-a-attention.png")
    (folder / "paper-a.md").write_text(page(result), encoding="utf-8")


def page(result: Mapping[str, Any]) -> str:
    """Return the Markdown."""
    machine, runs = result["machine"], result["runs"]
    rows = ", ".join(f"{name} {sum(each.values()):,}" for name, each in result["rows"].items())
    passes = result["share"] * result["rounds"]
    told = [
        "# Paper A as written: FedAvg on NSL-KDD",
        "",
        "Written by `python -m benchmarks.paper_a ... --keep`; every figure stands in [paper-a.json](paper-a.json).",
        f"`{result['command']}`, commit {machine['commit']}, {machine['processor']}, one thread.",
        "",
        "As in the paper: three convolutions of 64, self-attention, two dense layers of 128; 10 clients,",
        f"{result['rounds']} rounds, FedAvg by rows, SGD 0.01, batches of 32, attack against normal.",
        "",
        f"What it leaves open: {result['split']}",
        f"(rows: {rows}; one seed);",
        "41 columns as 41 steps of one value, symbols by their place in the alphabet, min-max; weights begin as He et",
        "al. draw them, since from torch's own plain SGD at 0.01 did not get away from guessing in this many steps;",
        "clients have equal parts of the rows at random.",
        "",
    ]
    if result["share"] < 1.0:
        told += [
            f"**Shortened.** How long a client learns in a round is not told; here it sees {result['share']:.0%} of",
            f"its rows, {passes:g} passes over them in all rounds together. The centralised runs see as many rows.",
            "What full passes would give was not measured: `--share 1` does it, in hours.",
            "",
        ]
    told += [
        "| run | accuracy | precision | recall | F1 | AUC | numbers | MB | CPU s |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| the paper's | " + " | ".join(f"{value:.3f}" for value in PAPER.values()) + f" | | | {PAPER_MB} | |",
    ]
    for name, run in runs.items():
        figures = " | ".join(f"{run['figures'][key] or 0.0:.4f}" for key in (*PAPER, "auc"))
        weight = f"{run['megabytes']:,.1f}" if run["megabytes"] else ""
        told.append(f"| {name} | {figures} | {run['parameters']:,} | {weight} | {run['cpu_s']:,.0f} |")
    told += [
        "",
        "MB: float32 down to every client and up again, in every round, and nothing else. The paper's 55.2 MB are",
        "6,900 numbers both ways or 13,800 one way; a network of its layers has more. Our own rounds, of the head",
        "alone, weigh [less](federation.md).",
        "",
        "Three poolings leave six places of eight columns, the last of one alone: attention is told of places, each",
        "spread evenly over its columns.",
        "",
        "![accuracy and loss over rounds](paper-a-convergence.png)",
        "![mean attention by column](paper-a-attention.png)",
        "",
        "Rows divided at random resemble each other: what this network does with attack kinds it never saw, and beside",
        "forests and boosting, stands in [nsl-kdd.md](nsl-kdd.md).",
    ]
    return "\n".join(told) + "\n"


def _convergence(result: Mapping[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
    for name, run in result["runs"].items():
        judged = [each for each in run["history"] if each.get("accuracy") is not None]
        axes[0].plot([each["round"] for each in judged], [each["accuracy"] for each in judged], label=name, linewidth=1)
        axes[1].plot([each["round"] for each in run["history"]], [each["loss"] for each in run["history"]], linewidth=1)
    axes[0].axhline(PAPER["accuracy"], color="#888888", linestyle=":", linewidth=1, label="the paper's")
    axes[0].set(xlabel="round", ylabel="accuracy on test rows")
    axes[1].set(xlabel="round", ylabel="loss on the clients' rows", yscale="log")
    axes[0].legend(frameon=False, fontsize=7)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _attention(result: Mapping[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    looked = {name: run["attention"] for name, run in result["runs"].items() if run["attention"]}
    figure, axes = plt.subplots(1, max(1, len(looked)), figsize=(3.8 * max(1, len(looked)), 4), squeeze=False)
    for axis, (name, weights) in zip(axes[0], looked.items(), strict=False):
        top = sorted(weights.items(), key=lambda pair: -pair[1])[:MOST_COLUMNS]
        axis.barh([column for column, _ in top], [weight for _, weight in top], color="#3b6ea5")
        axis.invert_yaxis()
        axis.tick_params(labelsize=6)
        axis.set_title(f"{name}: mean attention", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
