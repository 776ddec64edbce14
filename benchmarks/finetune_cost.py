"""What one run of `penstock-finetune` costs on 2,000 windows: peak memory, CPU and wall seconds, in a child process.

The windows are those of the demo's capture, benign ones two days to two weeks old and an incident of the last hours, as
an agent would have kept them; a call and anchors lie in `in/`. The child is the program itself, loaded, run and asked
for its peak (VmHWM): nothing of what made the windows is in it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import harness

FLEET: Final = "homes"
WINDOWS: Final = 2000
OF_INCIDENT: Final = 100
SPACING_US: Final = 480_000_000
CLASS: Final = "flood"
INCIDENT: Final = "00000000-0000-7000-8000-0000000000a1"


def measured(*, mode: str, runs: int) -> list[dict[str, Any]]:
    """Return each run's peak bytes, CPU and wall seconds, and what the program said."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            _prepare(Path(folder), mode=mode)
            found.append(harness.run_worker("benchmarks.finetune_cost", folder))
    return [dict(each) for each in found]


def _prepare(folder: Path, *, mode: str) -> None:
    """Write the state of a gateway that kept so many windows, and what an aggregator sent it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from contracts.anchors import pack_anchors
    from contracts.bundle import default_bundle
    from contracts.classes import BENIGN, NAMES
    from contracts.samples import DAY_US, SAMPLES_FILE, Sample, SampleBook
    from detection.decide import Thresholds
    from detection.onnx_engine import OnnxEngine
    from federation.aggregator.anchors import choose
    from federation.aggregator.ledger import Ledger
    from federation.aggregator.rounds import Rounds, RoundSettings

    bundle, now_us = default_bundle(), time.time_ns() // 1000
    values, lengths, device, label = _windows()
    mask = (np.arange(values.shape[1])[None, :] < lengths[:, None]).astype(np.float32)
    thresholds = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
    scores = OnnxEngine(bundle).score(values, mask)
    margin = thresholds.margins(scores).known
    calm = np.flatnonzero((label == BENIGN) & (margin < -3.0))
    alarm = np.flatnonzero((label == NAMES.index(CLASS)) & (margin > 0))
    with SampleBook(folder / SAMPLES_FILE, write=True) as book:
        for turn in range(WINDOWS):
            is_alarm = turn < OF_INCIDENT
            place = int((alarm if is_alarm else calm)[turn % len(alarm if is_alarm else calm)])
            due_us = now_us - (60_000_000 * (turn + 1) // 2 if is_alarm else 2 * DAY_US + turn * SPACING_US)
            book.add(
                Sample(
                    device=device[place].tobytes(), due_us=due_us, rows=values[place, : lengths[place]],
                    margin=float(margin[place]), incident_id=INCIDENT if is_alarm else None,
                    class_index=int(label[place]),
                )
            )  # fmt: skip
        kept = len(book)
    if kept != WINDOWS:
        raise RuntimeError(f"{kept} windows kept, wanted {WINDOWS}")
    (folder / "rules.json").write_text(json.dumps({"verdicts": {INCIDENT: "malicious"}}), encoding="utf-8")
    key, inbox, trust = Ed25519PrivateKey.generate(), folder / "federation" / "in", folder / "aggregators.d"
    inbox.mkdir(parents=True)
    trust.mkdir(mode=0o755)
    public = trust / "aggregator.pub"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    public.chmod(0o644)
    settings = RoundSettings(mode=mode)  # type: ignore[arg-type]
    rounds = Rounds(Ledger(folder / "aggregator.db"), bundle, fleet=FLEET, key=key, settings=settings)
    (inbox / "1.call").write_bytes(rounds.open(now_us=now_us))
    chosen = choose(scores.embedding, label, head=rounds.head, thresholds=thresholds)
    (inbox / "1.anchors").write_bytes(pack_anchors(chosen, fleet=FLEET, bundle_sha256=bundle.manifest_sha256, key=key))


def _windows() -> tuple[Any, Any, Any, Any]:
    """Return the demo's windows, their lengths, devices and labels."""
    from contracts import ground_truth
    from flowfeatures import DeviceWindows, FlowMeter, FlowSettings, open_capture

    (truth,) = ground_truth.load(Path(__file__).resolve().parents[1] / "lab" / "demo" / "ground_truth.json")
    assert truth.home_nets is not None
    meter, windows = FlowMeter(FlowSettings(partials=True)), DeviceWindows(home_nets=truth.home_nets)
    batches = []
    with open_capture(truth.path) as capture:
        for records in meter.read(capture, packet_labels=truth.packet_labels()):
            truth.label(records)
            batches += list(windows.add(records))
    for records in meter.flush():
        truth.label(records)
        batches += list(windows.add(records))
    batches += list(windows.flush())
    values, mask, device, label = (
        np.concatenate([getattr(each, name) for each in batches]) for name in ("values", "mask", "device", "label")
    )
    return values, mask.sum(axis=1).astype(np.int64), device, label.astype(np.int64)


def main(argv: Sequence[str] | None = None) -> int:
    """Be the child: run the program in a folder that was prepared, print what it cost."""
    (folder,) = sys.argv[1:] if argv is None else argv
    from federation.gateway import program

    said, started = io.StringIO(), time.perf_counter()
    places = ["--state-dir", folder, "--aggregators", f"{folder}/aggregators.d", "--peers", f"{folder}/peers.d"]
    with contextlib.redirect_stdout(said):
        code = program.main([*places, "--fleet", FLEET, "--gateway", "gateway-00", "--now", "--json"])
    report = json.loads(said.getvalue())
    if code != 0 or report["outcome"] != "sent":
        raise RuntimeError(f"penstock-finetune ended with {code}: {said.getvalue()[:1000]}")
    told = {key: report[key] for key in ("outcome", "learnt_from", "anchors", "steps", "update_bytes")}
    cost = {"peak_bytes": harness.peak_bytes(), "cpu_s": harness.cpu_s(), "wall_s": time.perf_counter() - started}
    print(json.dumps({**cost, **told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
