"""Kinds of attack nobody taught: which measure of how unlike benign a row is finds them, and at what price.

Each group of kinds is left out in turn as `--protocol kinds` does; a random forest is taught on the rest, every measure
on the benign rows among it. A measure becomes a rarity among benign validation rows; `+` adds rarities, `or` takes the
larger. The trap: of some hundred benign rows "one in a thousand" is the largest alone, so that a threshold chosen on
some of them has another rate on others. Hence the same measures also at rates set on the judged benign rows, which
says how well they rank and nothing of what an operator would get.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import cicids2017, harness, nsl_kdd, tables
from benchmarks.table_pages import FOLDER
from contracts.program import Parser, run_program
from training.baselines import FOREST
from training.progress import Progress
from training.study_pages import wrapped
from training.tables import metrics
from training.tables import sides as dividing
from training.tables.density import NAMES, Rarity, fit_density
from training.tables.encode import fit_encoder
from training.tables.learners import classes_of, fit_learner, log_odds
from training.tables.table import Table

PROGRAM: Final = "benchmarks.novelty"
EXAMPLES: Final = """examples:
  every measure on the kinds of CICIDS2017 left out in turn:
    python -m benchmarks.novelty --table cicids2017 --train cicids2017_improved_train.csv.xz
  the same of NSL-KDD, added to the page under docs/results:
    python -m benchmarks.novelty --table nsl_kdd --train KDDTrain+.txt.xz --keep
"""
TITLES: Final = {"cicids2017": "CICIDS2017, corrected format", "nsl_kdd": "NSL-KDD"}
OWN, KEPT = "own", "own + local"
MEASURES: Final = (
    *NAMES,
    "mahalanobis",
    "nearest ranks",
    "principal components",
    "isolation forest",
    "shuffled columns",
)
COMBINED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    OWN: ("+", (OWN,)),
    "entropy": ("+", ("entropy",)),
    **{name: ("+", (name,)) for name in MEASURES},
    **{f"{OWN} + {name}": ("+", (OWN, name)) for name in MEASURES},
    "own + neighbours + mixture": ("+", (OWN, "neighbours", "mixture")),
    "entropy + local": ("+", ("entropy", "local")),
    "own + local + mahalanobis": ("+", (OWN, "local", "mahalanobis")),
    "own or local": ("or", (OWN, "local")),
    "own or local or mahalanobis": ("or", (OWN, "local", "mahalanobis")),
    "own or local or nearest ranks": ("or", (OWN, "local", "nearest ranks")),
}
"""What is set beside each other: how rarities are joined, and of which measures."""
LEVEL: Final = 1e-3
LEVELS: Final = (1e-3, 4e-3, 1e-2)
SPENT_AT_MOST: Final = 1.5  # times LEVEL: one benign row more or less of some hundred is no difference
MOST_ROWS: Final = 2000  # of a kind, judged: a neighbour search over forty thousand floods tells no more
BENIGN_ROWS: Final = 6000  # that the measures of this module learn from
COMPONENTS: Final = 20
PART: Final = 1024

Scores = NDArray[np.float64]
Measure = Callable[[Table], Scores]


def measures(train: Table, *, seed: int) -> Callable[[Table], dict[str, Scores]]:
    """Return what gives each of MEASURES of a table's rows, higher = less like benign rows of `train`."""
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA
    from sklearn.ensemble import ExtraTreesClassifier, IsolationForest
    from sklearn.neighbors import NearestNeighbors

    density = fit_density(train, seed=seed)
    rng = np.random.default_rng(seed)
    benign = train.take(~train.attack)
    benign = benign.take(np.sort(rng.permutation(len(benign))[:BENIGN_ROWS]))
    logs, ranks = (
        fit_encoder(train, scale="log", least_share=0.001),
        fit_encoder(benign, scale="rank", least_share=0.001),
    )
    inputs, ranked = logs.encode(benign).astype(np.float64), ranks.encode(benign)
    spread = LedoitWolf().fit(inputs)
    near = NearestNeighbors(n_neighbors=5, algorithm="brute", metric="manhattan").fit(ranked)
    components = PCA(min(COMPONENTS, inputs.shape[1]), random_state=seed).fit(inputs)
    isolation = IsolationForest(random_state=seed).fit(inputs)
    # Benign rows against rows whose columns come each from another benign row: no attack, and no benign row either.
    shuffled = np.column_stack([rng.permutation(column) for column in inputs.T])
    truth = np.repeat([0, 1], len(inputs))
    unlike = ExtraTreesClassifier(min_samples_leaf=2, random_state=seed).fit(np.vstack([inputs, shuffled]), truth)

    def found(table: Table) -> dict[str, Scores]:
        values, places = logs.encode(table).astype(np.float64), ranks.encode(table)
        parts = [places[start : start + PART] for start in range(0, len(places), PART)]
        left_over = values - components.inverse_transform(components.transform(values))
        return {
            **dict(zip(NAMES, density.scores(table).T, strict=True)),
            "mahalanobis": spread.mahalanobis(values),
            "nearest ranks": np.concatenate([near.kneighbors(part)[0].mean(axis=1) for part in parts]),
            "principal components": (left_over**2).sum(axis=1),
            "isolation forest": -isolation.score_samples(values),
            "shuffled columns": unlike.predict_proba(values)[:, 1],
        }

    return found


def judge(sides: dividing.Sides, *, kinds: Sequence[str], by_kind: bool, seed: int) -> dict[str, dict[str, Any]]:
    """Return by combination what its threshold for LEVEL finds of these kinds and of benign rows, and at LEVELS."""
    fitted = fit_learner(FOREST, sides, classes_of(sides.train, by_kind=by_kind), seed=seed)
    measured = measures(sides.train, seed=seed)
    rng = np.random.default_rng(seed)
    judged = [np.flatnonzero(~sides.test.attack)]
    judged += [rng.permutation(np.flatnonzero(sides.test.kind == kind))[:MOST_ROWS] for kind in kinds]
    test = sides.test.take(np.concatenate(judged))
    seen = []
    for table in (sides.validation.take(~sides.validation.attack), test):
        probabilities = fitted.probabilities(table)
        entropy = -(probabilities * np.log(probabilities + 1e-9)).sum(axis=1)
        seen.append({OWN: log_odds(probabilities), "entropy": entropy, **measured(table)})
    benign, rows = seen
    rarity = {name: Rarity.of(scores) for name, scores in benign.items()}
    told = {}
    for name, (how, parts) in COMBINED.items():
        join = np.sum if how == "+" else np.max
        chosen, scores = (join([rarity[part](each[part]) for part in parts], axis=0) for each in (benign, rows))
        if len(parts) == 1:  # a rarity cannot tell two rows that lie above every benign one; the measure can
            chosen, scores = benign[parts[0]], rows[parts[0]]
        quiet = scores[~test.attack]
        threshold = metrics.threshold_for(np.asarray(chosen), LEVEL)
        unknown = scores[test.attack]
        told[name] = {
            "at_validation_threshold": metrics.at_threshold(unknown, quiet, threshold),
            "tpr_at_fpr": {f"{level:g}": metrics.tpr_at_fpr(unknown, quiet, level)["tpr"] for level in LEVELS},
            "by_kind": {kind: float((scores[test.kind == kind] > threshold).mean()) for kind in kinds},
        }
    return told


def study(table: Table, groups: Sequence[Sequence[str]], *, by_kind: bool) -> dict[str, Any]:
    """Return the figures of every group left out, and the benign rows that chose and judged in each."""
    told = []
    with Progress("kinds left out", len(groups)) as progress:
        for seed, group in enumerate(groups, 1):
            kinds = [kind for kind in group if (table.kind == kind).any()]
            sides = dividing.without_kinds(table, kinds, seed=seed)
            benign = [int((~side.attack).sum()) for side in (sides.validation, sides.test)]
            figures = judge(sides, kinds=kinds, by_kind=by_kind, seed=seed)
            told.append(
                {
                    "kinds": kinds, "seed": seed, "benign_chose": benign[0], "benign_judged": benign[1],
                    "figures": figures,
                }
            )  # fmt: skip
            progress.step(note=", ".join(kinds))
    return {"groups": told}


def page(kept: Mapping[str, Any]) -> str:
    """Return the Markdown of all tables studied."""
    lines = ["# Kinds nobody taught: what was tried", "", wrapped(PREAMBLE.format(most=MOST_ROWS)), ""]
    for table, told in kept.items():
        lines += [
            f"## {TITLES[table]}",
            "",
            *_table(told["groups"]),
            "",
            *_most(told["groups"]),
            "",
            *_by_kind(told["groups"]),
            "",
        ]
        lines += [
            "```",
            told["command"],
            "```",
            "",
            f"Commit {told['machine']['commit']}, {told['machine']['time']}.",
            "",
        ]
    lines += _across(kept)
    return "\n".join(lines).rstrip() + "\n"


PREAMBLE: Final = """
Written by `python -m benchmarks.novelty --keep` from novelty.json. Every group of attack kinds is left out in turn; a
random forest stands for the learner (`own`), each measure learns benign rows alone. `+` adds rarities among benign
validation rows, `or` takes the larger. Of a kind at most {most:,d} rows judge. Means over groups.
The first two columns are what a threshold for FPR 1e-3 on
benign validation rows finds, and what it costs on benign rows that judged; the others set the threshold on those
judged rows and say how well a measure ranks. A line that finds more in the first column and costs more in the second
is no better; hold lines against each other at one rate.
"""


def _table(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    chose, judged = (round(np.mean([each[key] for each in groups])) for key in ("benign_chose", "benign_judged"))
    seeds = ", ".join(str(each["seed"]) for each in groups)
    first = (
        f"{len(groups)} groups, each divided and taught once, in the order of the kinds by seeds {seeds}; benign rows: "
        f"{chose:,d} choose the threshold, {judged:,d} judge."
    )
    lines = [wrapped(first), ""]
    lines.append("| measure | TPR | FPR had | " + " | ".join(f"TPR at {level:g}" for level in LEVELS) + " |")
    lines.append("|---|--:|--:|" + "--:|" * len(LEVELS))
    for name in COMBINED:
        had = [each["figures"][name] for each in groups]
        cells = [f"{np.mean([each['at_validation_threshold']['tpr'] for each in had]):.3f}"]
        cells.append(f"{np.mean([each['at_validation_threshold']['fpr'] for each in had]):.4f}")
        cells += [f"{np.mean([each['tpr_at_fpr'][f'{level:g}'] for each in had]):.3f}" for level in LEVELS]
        lines.append(f"| {f'**{name}**' if name == KEPT else name} | " + " | ".join(cells) + " |")
    return lines


def _found(groups: Sequence[Mapping[str, Any]], *, at_most: float) -> dict[str, float]:
    """Return what the thresholds of the lines that cost at most so much find, as a mean over groups."""
    had = {name: [each["figures"][name]["at_validation_threshold"] for each in groups] for name in COMBINED}
    means = {name: [float(np.mean([run[key] for run in each])) for key in ("tpr", "fpr")] for name, each in had.items()}
    return {name: found for name, (found, cost) in means.items() if cost <= at_most}


def _most(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which lines find most at what they cost: the threshold's, of those that keep its rate, and at LEVELS."""
    told = []
    if found := _found(groups, at_most=SPENT_AT_MOST * LEVEL):
        best = max(found, key=lambda name: found[name])
        told.append(f"Of lines that cost at most {SPENT_AT_MOST * LEVEL:g}, `{best}` finds most, {found[best]:.3f}.")
    for level in LEVELS:
        rates = {
            name: np.mean([each["figures"][name]["tpr_at_fpr"][f"{level:g}"] for each in groups]) for name in COMBINED
        }
        best = max(rates, key=lambda name: rates[name])
        told.append(f"At {level:g} of the judged rows `{best}` does, {rates[best]:.3f}.")
    return [wrapped(" ".join(told))]


def _across(kept: Mapping[str, Any]) -> list[str]:
    """Say what a choice made on the kinds of one table finds of the other's, beside what is in use."""
    told = []
    for chooser, judged in ((one, other) for one in kept for other in kept if one != other):
        found = _found(kept[chooser]["groups"], at_most=SPENT_AT_MOST * LEVEL)
        others = _found(kept[judged]["groups"], at_most=1.0)
        if found:
            best = max(found, key=lambda name: found[name])
            told.append(
                f"Chosen on the kinds of {TITLES[chooser]}: `{best}`. Of {TITLES[judged]} it finds {others[best]:.3f}, "
                f"`{OWN}` {others[OWN]:.3f}, `{KEPT}` {others[KEPT]:.3f}."
            )
    return ["## Chosen on one table, judged on the other", "", wrapped(" ".join(told)), ""] if told else []


def _by_kind(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = (OWN, KEPT, "own + neighbours + mixture", "own or local", "own or local or mahalanobis")
    lines = ["By kind, at the validation threshold:", "", "| kind | " + " | ".join(shown) + " |"]
    lines.append("|---|" + "--:|" * len(shown))
    for each in groups:
        for kind in each["kinds"]:
            cells = [f"{each['figures'][name]['by_kind'][kind]:.3f}" for name in shown]
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog=f"python -m {PROGRAM}",
        description=(__doc__ or "").splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", choices=tuple(TITLES), required=True, help="which table the files are of")
    parser.add_argument(
        "--train", type=Path, nargs="+", required=True, metavar="FILE", help="tables that teach and judge"
    )
    parser.add_argument("--keep", action="store_true", help="also add it to the page under docs/results")
    arguments = parser.parse_args(argv)
    tables.check_fitting()
    groups: Sequence[Sequence[str]]
    if arguments.table == "cicids2017":
        from training.tables import cicids2017 as reader

        table, groups = reader.read(arguments.train)[1], cicids2017.GROUPS
    else:
        from training.tables import nsl_kdd as plain_reader

        table, groups = plain_reader.read(arguments.train), nsl_kdd.GROUPS
    usable = dividing.with_known_labels(table)
    there = [group for group in groups if set(group) & set(usable.kind.tolist())]
    told = study(usable, there, by_kind=arguments.table == "cicids2017")
    words = ["--table", arguments.table, "--train", *map(str, arguments.train)]
    told |= {
        "command": harness.command_line(PROGRAM, [*words, *(["--keep"] if arguments.keep else [])]),
        "machine": harness.fingerprint(["torch", "scikit-learn", "numpy"]),
    }
    if arguments.keep:
        keep({arguments.table: told}, folder=FOLDER)
    print("\n".join(_table(told["groups"])))
    return 0


def keep(told: Mapping[str, Any], *, folder: Path) -> None:
    """Add a table's figures to novelty.json and write the page anew."""
    path = folder / "novelty.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = {**kept, **told}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
