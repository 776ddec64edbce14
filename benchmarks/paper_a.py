"""Paper A as written: NSL-KDD, 10 clients, 100 rounds of FedAvg, SGD 0.01, batches of 32; beside it its ablations.

What the paper leaves open, and our choice: rows are read as 41 steps of one value (the paper shows attention per
column), symbols as their place in the alphabet, everything min-max to [0, 1]; weights begin as He et al. draw them;
clients have equal parts of the rows at random; in a round a client sees `--share` of its rows, in turn. The figures are
those of the last round: no round is chosen by the test rows. A run goes on where it was stopped (`--state`). Needs
torch; `--share 1` takes hours on a core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from contracts.errors import MissingExtra
from contracts.program import Parser, run_program
from contracts.whole_file import write_whole
from training.progress import Progress

PROGRAM: Final = "benchmarks.paper_a"
CLIENTS: Final = 10
ROUNDS: Final = 100
NETWORK: Final = "cnn_self_attention"
# Name: how many clients, attention.
RUNS: Final = {
    "federated": (CLIENTS, True),
    "federated, no attention": (CLIENTS, False),
    "centralised": (1, True),
    "centralised, no attention": (1, False),
}
SAVED_EVERY: Final = 5
JUDGED_EVERY: Final = 5
EXAMPLES: Final = """examples:
  python -m benchmarks.paper_a --train KDDTrain+.txt.xz --keep
  python -m benchmarks.paper_a --train KDDTrain+.txt.xz --test KDDTest+.txt --share 1
"""

Arrays = dict[str, NDArray[np.float32]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    return run_program(PROGRAM, lambda: _run(_parser().parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    for package in ("torch", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"{package} is not installed: pip install 'penstock[train]'")
    result = measure(args)
    if args.keep:
        from benchmarks.paper_a_page import keep

        keep(result)
    print(json.dumps(result, indent=1) if args.json else "\n".join(lines(result)))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the result of all runs, gone on with where they were stopped."""
    from training.tables import nsl_kdd, sides

    table = sides.with_known_labels(nsl_kdd.read(args.train))
    split = (
        sides.given(table, nsl_kdd.read(args.test), seed=args.seed)[0]
        if args.test
        else sides.at_random(table, seed=args.seed)
    )
    inputs = {name: ordinal(split.train, each) for name, each in (("train", split.train), ("test", split.test))}
    label = {name: each.attack.astype(np.int64) for name, each in (("train", split.train), ("test", split.test))}
    runs = {name: _one(name, inputs, label, args) for name in args.only}
    return {
        "benchmark": "paper_a",
        "command": harness.command_line("benchmarks.paper_a", sys.argv[1:]),
        "split": split.told,
        "rows": {name: {"benign": int((each == 0).sum()), "attack": int(each.sum())} for name, each in label.items()},
        "rounds": args.rounds,
        "share": args.share,
        "machine": harness.fingerprint(["torch", "scikit-learn", "numpy"]),
        "runs": runs,
    }


def ordinal(train: Any, table: Any) -> NDArray[np.float32]:
    """Return float32[N, 41]: each column min-max by the training rows, a symbol by its place in the alphabet."""
    from training.tables.nsl_kdd import COLUMNS, SYMBOLS

    columns = []
    for name in COLUMNS:
        if name in SYMBOLS:
            place = train.symbol_names.index(name)
            known = sorted({str(value) for value in train.symbols[:, place]})
            of = {value: index / max(1, len(known) - 1) for index, value in enumerate(known)}
            columns.append(np.array([of.get(str(value), 0.0) for value in table.symbols[:, place]]))
            continue
        place = train.number_names.index(name)
        low, high = train.numbers[:, place].min(), train.numbers[:, place].max()
        columns.append(np.clip((table.numbers[:, place] - low) / (high - low or 1.0), 0.0, 1.0))
    return np.column_stack(columns).astype(np.float32)


def _one(name: str, inputs: Any, label: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return the history and the last figures of one run."""
    import torch

    from federation.simulation.clients import NetworkClient
    from federation.simulation.fleet import hold_round
    from training.finetune import LocalSettings, put_weights, weights, without_dropout
    from training.networks import build

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    clients, attention = RUNS[name]
    network = build(NETWORK, layout="row", features=inputs["train"].shape[1], classes=2, attention=attention)
    _begin(without_dropout(network))
    settings = LocalSettings(share=args.share)
    rows, labels = torch.from_numpy(inputs["train"]), torch.from_numpy(label["train"])
    parts = np.array_split(np.random.default_rng(args.seed).permutation(len(labels)), clients)
    fleet = [
        NetworkClient(network, rows[part], labels[part], settings, seed=args.seed * 1000 + place)
        for place, part in enumerate(parts)
    ]
    state = _State(args.state, f"{name} seed {args.seed} share {args.share:g}".replace(" ", "-").replace(",", ""))
    arrays, told = state.read(weights(network))
    with Progress(name, args.rounds) as progress:
        progress.step(len(told["history"]))
        for turn in range(len(told["history"]), args.rounds):
            started = time.process_time()
            arrays, loss = hold_round(fleet, arrays, turn=turn)
            put_weights(network, arrays)
            is_last = turn + 1 == args.rounds
            figures = {}
            if (turn + 1) % JUDGED_EVERY == 0 or is_last:
                figures = _judged(network, inputs["test"], label["test"])
            told["history"].append({"round": turn + 1, "loss": loss, **figures})
            told["cpu_s"] += time.process_time() - started
            progress.step(note=f"loss {loss:.4f}")
            if (turn + 1) % SAVED_EVERY == 0 or is_last:
                state.write(arrays, told)
    put_weights(network, arrays)
    numbers = sum(array.size for array in arrays.values())
    return {
        **told,
        "clients": clients,
        "parameters": numbers,
        "figures": told["history"][-1],
        "megabytes": bytes_of(numbers, clients=clients, rounds=args.rounds) / 1e6 if clients > 1 else 0.0,
        "attention": _attention(network, inputs["test"]) if attention else None,
    }


def _begin(network: Any) -> None:
    """Draw the weights as He et al. (ICCV 2015) do for ReLU: from torch's own, SGD at 0.01 does not get away at all."""
    from torch import nn

    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)


def bytes_of(numbers: int, *, clients: int, rounds: int) -> int:
    """Return the octets of FedAvg: float32 down to every client and up again, in every round, and nothing else."""
    return 2 * 4 * numbers * clients * rounds


def _judged(network: Any, inputs: NDArray[np.float32], label: NDArray[np.int64]) -> dict[str, float | None]:
    import torch

    from training.tables.metrics import detection

    with torch.no_grad():
        logits = torch.cat([network.logits(part) for part in torch.from_numpy(inputs).split(2048)]).numpy()
    score = (logits[:, 1] - logits[:, 0]).astype(np.float64)
    figures = detection(label == 1, score, called=score > 0)
    return {key: figures[key] for key in ("accuracy", "precision", "recall", "f1", "fpr", "auc")}


def _attention(network: Any, inputs: NDArray[np.float32]) -> dict[str, float]:
    import torch

    from training.tables.nsl_kdd import COLUMNS

    with torch.no_grad():
        total = sum(network.judge(part).attention.sum(dim=0) for part in torch.from_numpy(inputs).split(2048))
    return dict(zip(COLUMNS, [round(float(each) / len(inputs), 5) for each in total], strict=True))


class _State:
    """Where one run stands on disk: weights and history, written together or not at all."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.npz"

    def read(self, untaught: Arrays) -> tuple[Arrays, dict[str, Any]]:
        if not self._path.exists():
            return untaught, {"history": [], "cpu_s": 0.0}
        with np.load(self._path) as stored:
            told = json.loads(bytes(stored["told"]).decode())
            return {name: stored[f"w {name}"] for name in untaught}, told

    def write(self, arrays: Arrays, told: dict[str, Any]) -> None:
        import io

        raw = io.BytesIO()
        content = {f"w {name}": array for name, array in arrays.items()}
        np.savez(raw, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **content)  # type: ignore[arg-type]
        write_whole(self._path, raw.getvalue())


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table a terminal shows."""
    told = [
        f"paper A on NSL-KDD: {result['split']}; {result['rounds']} rounds of {result['share']:.0%} of a client's rows"
    ]
    for name, run in result["runs"].items():
        last = run["figures"]
        cells = "  ".join(f"{key} {last[key] or 0.0:.4f}" for key in ("accuracy", "precision", "recall", "f1"))
        told.append(f"{name:28} {cells}  {run['megabytes']:8.1f} MB  {run['cpu_s']:6.0f} CPU s")
    return told


def _parser() -> argparse.ArgumentParser:
    first = (__doc__ or "").splitlines()[0]
    made = Parser(
        prog=f"python -m {PROGRAM}", description=first, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--train", type=Path, nargs="+", required=True, metavar="FILE", help="KDDTrain+, plain or packed")
    made.add_argument(
        "--test", type=Path, nargs="+", metavar="FILE", help="rows that judge (default: 15 %% of --train)"
    )
    made.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds, or passes of the centralised runs (%(default)s)"
    )
    made.add_argument(
        "--share", type=float, default=0.1, help="of its rows that a client sees in a round (%(default)s)"
    )
    made.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help=", ".join(RUNS))
    made.add_argument("--seed", type=int, default=1, help="of split, clients, weights and order (%(default)s)")
    made.add_argument(
        "--state", type=Path, default=Path(".cache/paper-a"), metavar="DIR", help="where a run goes on from"
    )
    made.add_argument("--json", action="store_true", help="print the whole result as JSON")
    made.add_argument("--keep", action="store_true", help="also write docs/results/paper-a.md, its JSON and its plots")
    return made


if __name__ == "__main__":
    sys.exit(main())
