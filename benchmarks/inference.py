"""What scoring costs on one thread: a window alone, as most come, and batches of 256, as a flood brings them.

`python -m benchmarks.inference --json [--bundle DIR]` scores windows of the capture `mixed` through the agent's engine
(ONNX Runtime, CPU), each run in a process of its own. The trap: a capture's first windows hold few records, and a
recurrent layer's cost does not fall with them; the windows here are a gateway's, empty rows and all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks import harness, traffic
from benchmarks.harness import Bars, Spread
from benchmarks.marks import Marked, mark_lines
from benchmarks.scoring import BATCH
from contracts.bundle import DEFAULT_DIR, Bundle, load_bundle
from contracts.errors import BundleError
from contracts.pinned import DEFAULT_MANIFEST_SHA256
from contracts.program import folder
from contracts.terminal import printable

ALONE_MOST_MS = 0.25
LEAST_WINDOWS_PER_S = 60_000.0
CAPTION = (
    "Scoring on one thread, ONNX Runtime on the CPU, through detection.onnx_engine: checks of the scores included, "
    "features, decisions and alerts not. Wall clock; CPU time beside it."
)


@dataclass(frozen=True)
class Inference:
    """Milliseconds of a window alone and windows a second in batches, by wall clock and by CPU time."""

    alone_p50_ms: Spread
    alone_p99_ms: Spread
    alone_cpu_p50_ms: Spread
    alone_cpu_p99_ms: Spread
    windows_per_s: Spread
    windows_per_cpu_s: Spread

    @classmethod
    def of(cls, samples: Sequence[Mapping[str, float]]) -> Inference:
        def spread(key: str, factor: float = 1.0) -> Spread:
            return Spread.of([sample[key] for sample in samples]).scaled(factor)

        return cls(
            alone_p50_ms=spread("alone_p50_us", 1e-3),
            alone_p99_ms=spread("alone_p99_us", 1e-3),
            alone_cpu_p50_ms=spread("alone_cpu_p50_us", 1e-3),
            alone_cpu_p99_ms=spread("alone_cpu_p99_us", 1e-3),
            windows_per_s=spread("windows_per_s"),
            windows_per_cpu_s=spread("windows_per_cpu_s"),
        )

    def marked(self) -> list[Marked]:
        return [
            Marked.at_most("a window alone, 99th percentile", self.alone_p99_ms.median, ALONE_MOST_MS, "ms"),
            Marked.at_least(
                f"windows in batches of {BATCH}", self.windows_per_s.median, LEAST_WINDOWS_PER_S, "windows/s"
            ),
        ]

    def lines(self) -> list[str]:
        batches = f"batches of {BATCH}    {self.windows_per_s.text(0)} windows/s"
        return [
            f"a window alone    p50 {self.alone_p50_ms.text(3)} ms  p99 {self.alone_p99_ms.text(3)} ms",
            f"  of CPU time     p50 {self.alone_cpu_p50_ms.text(3)} ms  p99 {self.alone_cpu_p99_ms.text(3)} ms",
            f"{batches}  {self.windows_per_cpu_s.text(0)} windows per CPU second",
        ]

    def bars(self) -> list[Bars]:
        alone = {"p50": self.alone_p50_ms, "p99": self.alone_p99_ms, "p99, CPU time": self.alone_cpu_p99_ms}
        many = {"wall clock": self.windows_per_s.scaled(1e-3), "CPU time": self.windows_per_cpu_s.scaled(1e-3)}
        return [
            Bars(title="a window alone", unit="ms", values=alone, digits=3),
            Bars(title=f"batches of {BATCH}", unit="thousand windows a second", values=many),
        ]


def measure(bundle: Path, *, packets: int, runs: int) -> Inference:
    capture = str(traffic.capture("mixed", packets=packets))
    turn = partial(harness.run_worker, "benchmarks.scoring", str(bundle.resolve()), capture)
    return Inference.of(harness.interleave({"engine": turn}, runs=runs)["engine"])


def named(bundle: Bundle) -> dict[str, object]:
    """Return what a reader must know of the bundle that was measured."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "release": manifest.release,
        "parameters": manifest.parameters,
        "model_bytes": len(bundle.model),
        "manifest_sha256": bundle.manifest_sha256,
        "unsigned": bundle.manifest_sha256 != DEFAULT_MANIFEST_SHA256,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.parser("inference", __doc__.splitlines()[0], runs=7)
    parser.add_argument("--bundle", type=folder, default=DEFAULT_DIR, metavar="DIR", help="what to score with")
    parser.add_argument("--packets", type=int, default=100_000, help="packets of the capture (100000)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    if find_spec("onnxruntime") is None:
        print("onnxruntime is missing: pip install 'penstock[cpu]'", file=sys.stderr)
        return 69
    try:
        bundle = load_bundle(settings.bundle)
    except BundleError as exc:
        print(printable(str(exc)), file=sys.stderr)
        return exc.exit_code
    machine = harness.fingerprint(["numpy", "onnxruntime"])
    inference = measure(settings.bundle, packets=settings.packets, runs=settings.runs)
    marks = inference.marked()
    result = {
        "benchmark": "inference",
        "caption": CAPTION,
        "machine": machine,
        "bundle": named(bundle),
        "inference": asdict(inference),
        "marks": [mark.record() for mark in marks],
    }
    harness.write_json(result, harness.result_path("inference", "json", keep=settings.keep))
    harness.write_plot(
        inference.bars(), title=CAPTION, path=harness.result_path("inference", "png", keep=settings.keep)
    )
    told = [f"{named(bundle)['name']} release {named(bundle)['release']}", *inference.lines(), ""]
    print(json.dumps(result, indent=2) if settings.json else "\n".join([*told, *mark_lines(marks)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
