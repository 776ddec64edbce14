"""The papers' ablations on NSL-KDD, as one table of its page: each network whole, then with less of it.

What a paper says of a line stands beside ours, as `PAPERS` holds it; where one names an ablation without a figure,
that is said. The trap: of paper B only a range is told for its plain networks, over classes and after 100 epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks.tables import HEADLINES
from training.tables.learners import NO_ATTENTION

NONE_GIVEN: Final = "no figure given"
PLAIN_OF_B: Final = "accuracy about 0.82 to 0.86"
# Paper, what of its network is left, model, what the paper says.
PAPERS: Final = (
    ("A", "whole", "cnn_self_attention", "accuracy 0.985"),
    ("A", "without attention", f"cnn_self_attention{NO_ATTENTION}", NONE_GIVEN),
    ("B", "whole", "cnn_lstm_attention", "accuracy 0.875"),
    ("B", "without attention", f"cnn_lstm_attention{NO_ATTENTION}", NONE_GIVEN),
    ("B", "DNN only", "dnn", PLAIN_OF_B),
    ("B", "RNN only", "rnn", PLAIN_OF_B),
    ("B", "CNN only", "cnn", PLAIN_OF_B),
    ("C", "whole", "conv_bilstm", "AUC 0.995"),
    ("C", "without attention", f"conv_bilstm{NO_ATTENTION}", NONE_GIVEN),
)
SHOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "accuracy": HEADLINES["accuracy"],
    "accuracy over classes": ("classes", "accuracy"),
    "macro-F1": HEADLINES["macro-F1"],
    "AUC": HEADLINES["AUC"],
    "TPR at FPR 1 %": HEADLINES["TPR at FPR 1 %"],
}


Cell = Callable[[Mapping[str, Any], Sequence[str]], str]


def ablations(section: Mapping[str, Any], *, cell: Cell) -> list[str]:
    """Return the table's lines, of the models a section has; nothing where it has no ablation of a paper.

    `cell` shows the figure at a path of a model's summary.
    """
    models = section["models"]
    if not any(model in models for _, left, model, _ in PAPERS if left != "whole"):
        return []
    told = [
        "The papers' ablations, each under its network; all taught alike, for the rows of their lines above:",
        "",
        "| paper | left of it | model | seeds | the paper says | " + " | ".join(SHOWN) + " |",
        "|---|---|---|--:|---|" + "--:|" * len(SHOWN),
    ]
    for paper, left, model, says in PAPERS:
        if model in models:
            cells = " | ".join(cell(models[model]["summary"], path) for path in SHOWN.values())
            told.append(f"| {paper} | {left} | {model} | {len(models[model]['runs'])} | {says} | {cells} |")
    return [*told, ""]
