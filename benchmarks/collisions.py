"""What do crafted keys cost the flow table, beside random ones?

    python -m benchmarks.collisions [--json] [--runs N] [--flows N] [--keep]

So many flows of two packets, one that opens each and one that finds it again; the families differ in their addresses
and ports alone (benchmarks/crafted.py). Every run draws a seed of its own, as every agent does. The attackers know the
code, down to our hash, but not the seed. The controls are attackers who know that too, so that the instrument is seen
to move: the same keys, the table told the seed they were made for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import crafted, harness, lookups, tuples
from benchmarks.harness import Bars, Spread
from benchmarks.marks import Marked, mark_lines
from benchmarks.traffic import CACHE

CAPTION = "CPU of decoding and table for flows opened and found again, in microseconds per flow; no records"
RANDOM = "random"
CONTROLS = {"control_equal": "equal_siphash", "control_neighbours": "neighbours_siphash"}
MOST = 1.5
SEEN_BY_CONTROL = 5.0  # what an instrument that can see collisions must show where they do happen
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Family:
    """One family of keys beside random ones of the same turn."""

    flows: int
    opening_us: Spread
    finding_us: Spread
    ratio: Spread
    opening_ratio: Spread
    finding_ratio: Spread

    @classmethod
    def of(cls, samples: Sequence[Sample], beside: Sequence[Sample]) -> Family:
        flows = samples[0]["flows"]

        def ratio(what: str) -> Spread:
            return Spread.of([own[what] / other[what] for own, other in zip(samples, beside, strict=True)])

        return cls(
            flows=int(flows),
            opening_us=Spread.of([1e6 * sample["opening_s"] / flows for sample in samples]),
            finding_us=Spread.of([1e6 * sample["steady_s"] / flows for sample in samples]),
            ratio=ratio("both_s"),
            opening_ratio=ratio("opening_s"),
            finding_ratio=ratio("steady_s"),
        )

    def text(self) -> str:
        parts = f"{self.opening_ratio.median:.2f} opening, {self.finding_ratio.median:.2f} finding"
        return (
            f"opened {self.opening_us.text(3)} us  found {self.finding_us.text(3)} us  "
            f"{self.ratio.text(2)} x random ({parts})"
        )


def captures(family: str, *, flows: int) -> list[str]:
    """Return the two captures of one family, made from its keys in one fixed random order each."""
    sources = b"".join(Path(module.__file__ or "").read_bytes() for module in (crafted, lookups, tuples))
    folder = CACHE / f"collisions-{flows}-{hashlib.sha256(sources).hexdigest()[:8]}"
    if not (folder / f"{family}-steady.pcap").exists():
        keys = crafted.at_random(flows) if family == RANDOM else crafted.FAMILIES[family](flows)
        shuffle = np.random.default_rng(3).permutation
        stages = {"opening": shuffle(keys), "steady": tuples.reversed_ends(shuffle(keys))}
        return lookups.write_series(folder, family, stages)
    return [str(folder / f"{family}-{stage}.pcap") for stage in ("opening", "steady")]


def measure(*, flows: int, runs: int) -> dict[str, Family]:
    turns = {
        family: partial(harness.run_worker, "benchmarks.lookups", *captures(family, flows=flows))
        for family in (RANDOM, *crafted.FAMILIES)
    }
    for control, family in CONTROLS.items():
        turns[control] = partial(turns[family], "--seed", crafted.ZERO_SEED.hex())
    samples = harness.interleave(turns, runs=runs)
    return {family: Family.of(taken, samples[RANDOM]) for family, taken in samples.items()}


def marked(families: Mapping[str, Family]) -> list[Marked]:
    attacks = {name: family for name, family in families.items() if name != RANDOM and name not in CONTROLS}
    worst = max(attacks, key=lambda name: attacks[name].ratio.median)
    return [
        Marked.at_most(f"worst family ({worst}) over random keys", attacks[worst].ratio.median, MOST, "x"),
        Marked.at_least(
            "strongest control: the seed is known, over random keys",
            max(families[control].ratio.median for control in CONTROLS),
            SEEN_BY_CONTROL,
            "x",
        ),
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.parser("collisions", __doc__.splitlines()[0], runs=9)
    parser.add_argument("--flows", type=int, default=100_000, help="flows of each family (100000)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    machine = harness.fingerprint(["numpy"])
    families = measure(flows=settings.flows, runs=settings.runs)
    marks = marked(families)
    result = {
        "benchmark": "collisions",
        "caption": CAPTION,
        "machine": machine,
        "shared_bits": crafted.SHARED_BITS,
        "families": {name: asdict(family) for name, family in families.items()},
        "marks": [each.record() for each in marks],
    }
    harness.write_json(result, harness.result_path("collisions", "json", keep=settings.keep))
    panels = [
        Bars("the seed is not known", "times random keys",
             {name: family.ratio for name, family in families.items() if name not in CONTROLS}, digits=2),
        Bars("controls: it is", "times random keys",
             {name: families[name].ratio for name in (RANDOM, *CONTROLS)}, digits=1),
    ]  # fmt: skip
    harness.write_plot(panels, title=CAPTION, path=harness.result_path("collisions", "png", keep=settings.keep))
    lines = [f"{name:22s} {family.text()}" for name, family in families.items()]
    print(json.dumps(result, indent=2) if settings.json else "\n".join([*lines, "", *mark_lines(marks)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
