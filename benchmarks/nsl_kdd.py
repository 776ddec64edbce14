"""NSL-KDD: networks, baselines and `best` under the papers' random split, left-out attack kinds, or a test file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import tables
from benchmarks.tables import GIVEN, KINDS, RANDOM, Mark, Study
from contracts.program import run_program

PROGRAM = "benchmarks.nsl_kdd"
EXAMPLES = """examples:
  the papers' protocol, 70/15/15 at random, one network beside a forest:
    python -m benchmarks.nsl_kdd --train KDDTrain+.txt.xz --model gru
  a test file nobody has learned from:
    python -m benchmarks.nsl_kdd --train KDDTrain+.txt --test KDDTest+.txt --model best --json
  attack kinds left out in turn, every learner:
    python -m benchmarks.nsl_kdd --train KDDTrain+.txt.xz --protocol kinds --model all
"""
# Every kind is left out once; each group has kinds of several classes, so that no class is left without any.
GROUPS = (
    ("neptune", "nmap", "warezclient", "rootkit"),
    ("smurf", "satan", "guess_passwd", "buffer_overflow"),
    ("back", "ipsweep", "warezmaster", "imap", "loadmodule"),
    ("teardrop", "portsweep", "ftp_write", "multihop", "perl"),
    ("pod", "land", "phf", "spy"),
)
OWN_ACCURACY = ("detection", "own", "accuracy")
OWN_AUC = ("detection", "own", "auc")
WITH_DENSITY_AUC = ("detection", "with_density", "auc")
MARKS = (
    Mark("cnn_self_attention", RANDOM, "accuracy of attack against benign (paper A)", OWN_ACCURACY, 0.985),
    Mark("cnn_lstm_attention", RANDOM, "accuracy over classes (paper B)", ("classes", "accuracy"), 0.875),
    Mark("conv_bilstm", RANDOM, "AUC (paper C)", OWN_AUC, 0.995),
    Mark("best", RANDOM, "accuracy of attack against benign", OWN_ACCURACY, 0.998),
    Mark("best", RANDOM, "AUC", OWN_AUC, 0.9999),
    Mark("best", GIVEN, "AUC with density", WITH_DENSITY_AUC, 0.97),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = tables.parser("nsl_kdd", __doc__.splitlines()[0], examples=EXAMPLES, protocols=(RANDOM, KINDS))
    arguments = parser.parse_args(argv)
    tables.check_options(arguments)
    result = tables.run(_study(arguments), tables.chosen_models(arguments.model), seeds=arguments.seeds)
    result = tables.finish(result, MARKS)
    if arguments.keep:
        from benchmarks.table_pages import keep

        keep(result, name="nsl-kdd", marks=MARKS)
    tables.show(result, as_json=arguments.json)
    return 0


def _study(arguments: argparse.Namespace) -> Study:
    from training.tables import nsl_kdd, sides

    table = nsl_kdd.read(arguments.train)
    protocol = GIVEN if arguments.test else arguments.protocol or RANDOM
    cleaned, left_out = dict(tables.table_rows(table)), {}
    if protocol == GIVEN:
        test = nsl_kdd.read(arguments.test)
        cleaned |= {f"test: {what}": count for what, count in tables.table_rows(test).items()}
        left_out = sides.given(table, test, seed=1)[1]
    usable = sides.with_known_labels(table)

    def divide(seed: int) -> sides.Sides:
        if protocol == GIVEN:
            return sides.given(table, test, seed=seed)[0]
        if protocol == KINDS:
            return sides.without_kinds(usable, GROUPS[seed - 1], seed=seed)
        return sides.at_random(usable, seed=seed)

    return Study(
        benchmark="nsl_kdd",
        protocol=protocol,
        by_kind=False,
        divide=divide,
        folds=tables.folds_for(protocol, arguments.seeds, groups=len(GROUPS)),
        cleaned=cleaned,
        left_out=left_out,
        marks=MARKS,
    )


if __name__ == "__main__":
    sys.exit(main())
