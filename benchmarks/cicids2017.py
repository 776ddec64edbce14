"""CICIDS2017 in either format: known classes, unknown attack kinds, at random, by time, or against a test file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import tables
from benchmarks.tables import GIVEN, KINDS, RANDOM, TIME, Mark, Study
from contracts.errors import UsageError
from contracts.program import run_program

PROGRAM = "benchmarks.cicids2017"
EXAMPLES = """examples:
  corrected format, rows divided at random, one network beside a forest:
    python -m benchmarks.cicids2017 --train cicids2017_improved_train.csv.xz --model gru
  later rows judge: the last benign day, the last 30 % of each attack:
    python -m benchmarks.cicids2017 --train cicids2017_improved_train.csv.xz --protocol time --model best
  attack kinds left out in turn:
    python -m benchmarks.cicids2017 --train cicids2017_improved_train.csv.xz --protocol kinds --model best
  a test file nobody has learned from:
    python -m benchmarks.cicids2017 --train train.csv.xz --test test.csv.xz --model best --json
"""
GROUPS = (
    ("portscan",),
    ("ddos",),
    ("dos hulk",),
    ("dos goldeneye",),
    ("dos slowloris", "dos slowhttptest"),
    ("ftp-patator",),
    ("ssh-patator",),
    ("web attack - brute force", "web attack - xss", "web attack - sql injection"),
)
# Paper D's table; malware propagation and DDoS have no row in the shared sample of the original format.
PAPER_D = {
    "ddos": {"accuracy": 0.986, "precision": 0.974, "recall": 0.969, "f1": 0.972},
    "portscan": {"accuracy": 0.972, "precision": 0.958, "recall": 0.961, "f1": 0.960},
    "botnet": {"accuracy": 0.989, "precision": 0.981, "recall": 0.978, "f1": 0.979},
}
UNKNOWN_TPR = ("unknown", "with_novelty", "at_validation_threshold", "tpr")


def marks_for(form: str) -> tuple[Mark, ...]:
    """Return what is asked for: of the corrected format the design's aims, of the original paper D's table."""
    if form == "original":
        return tuple(
            Mark(model, RANDOM, f"{name} {figure} (paper D)", ("classes", "per_class", name, figure), wanted)
            for model in ("gru", "best")
            for name, figures in PAPER_D.items()
            for figure, wanted in figures.items()
        )
    known = [
        Mark("best", each, "macro-F1 of known classes", ("classes", "macro_f1"), 0.99) for each in (RANDOM, TIME, GIVEN)
    ]
    unknown = [
        Mark("best", each, "unknown kinds TPR at FPR 1e-3, with novelty", UNKNOWN_TPR, 0.8) for each in (KINDS, GIVEN)
    ]
    return (*known, *unknown)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = tables.parser("cicids2017", __doc__.splitlines()[0], examples=EXAMPLES, protocols=(RANDOM, TIME, KINDS))
    arguments = parser.parse_args(argv)
    tables.check_options(arguments)
    form, study = _study(arguments)
    result = tables.run(study, tables.chosen_models(arguments.model), seeds=arguments.seeds)
    result["format"] = form
    result = tables.finish(result, study.marks)
    if arguments.keep:
        from benchmarks.table_pages import keep

        keep(result, name="cicids2017", marks=study.marks)
    tables.show(result, as_json=arguments.json)
    return 0


def _study(arguments: argparse.Namespace) -> tuple[str, Study]:
    from training.tables import cicids2017, sides

    form, table = cicids2017.read(arguments.train)
    protocol = GIVEN if arguments.test else arguments.protocol or RANDOM
    cleaned, left_out = dict(tables.table_rows(table)), {}
    if protocol == GIVEN:
        test_form, test = cicids2017.read(arguments.test)
        if test_form != form:
            raise UsageError(f"--train is of the {form} format and --test of the {test_form}: they must not be mixed")
        table, test = sides.under_shared_columns(table, test)
        cleaned |= {f"test: {what}": count for what, count in tables.table_rows(test).items()}
        left_out = sides.given(table, test, seed=1)[1]
    usable = sides.with_known_labels(table)
    groups = [group for group in GROUPS if set(group) & set(usable.kind.tolist())]

    def divide(seed: int) -> sides.Sides:
        if protocol == GIVEN:
            return sides.given(table, test, seed=seed)[0]
        if protocol == KINDS:
            return sides.without_kinds(usable, groups[seed - 1], seed=seed)
        return sides.by_time(usable, seed=seed) if protocol == TIME else sides.at_random(usable, seed=seed)

    return form, Study(
        benchmark="cicids2017",
        protocol=protocol,
        by_kind=form == cicids2017.CORRECTED,
        divide=divide,
        folds=tables.folds_for(protocol, arguments.seeds, groups=len(groups)),
        cleaned=cleaned,
        left_out=left_out,
        marks=marks_for(form),
    )


if __name__ == "__main__":
    sys.exit(main())
