"""Gateways for tests: the demo's windows as samples with incidents, keys, calls, and an aggregator beside them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray

from contracts import ground_truth
from contracts.bundle import Bundle, default_bundle
from contracts.classes import BENIGN, NAMES
from contracts.head import Head, read_head
from contracts.samples import DAY_US, SAMPLES_FILE, Sample, SampleBook
from contracts.update import Call, CallHeader, pack_call, read_call
from detection.decide import Thresholds
from detection.onnx_engine import OnnxEngine
from federation.aggregator.ledger import Ledger
from federation.aggregator.release import HoldOut
from federation.aggregator.rounds import Rounds, RoundSettings
from flowfeatures import DeviceWindows, FlowMeter, FlowSettings, open_capture

DEMO = Path(__file__).resolve().parents[2] / "lab" / "demo" / "ground_truth.json"
FLEET = "homes"
NOW_US = 1_800_000_000_000_000
FALSE_ALARM = "00000000-0000-7000-8000-0000000000f1"
STORE = "store"  # in an aggregator's folder names its store, where that is not aggregator.db
TRUE_ALARM = "00000000-0000-7000-8000-0000000000a1"


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a capture: values, rows that hold a record, device, label, and what the shipped network says."""

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    device: NDArray[np.uint8]
    label: NDArray[np.int64]
    embedding: NDArray[np.float32]
    margin: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.label)

    def where(self, which: NDArray[np.bool_]) -> Windows:
        fields = ("values", "lengths", "device", "label", "embedding", "margin")
        return Windows(**{name: getattr(self, name)[which] for name in fields})


@functools.cache
def bundle() -> Bundle:
    return default_bundle()


PARAMETERS = read_head(default_bundle().model).flat.size


def shipped_thresholds() -> Thresholds:
    """Return those the shipped bundle begins with."""
    return Thresholds(bundle().manifest.thresholds, score=bundle().manifest.score)


@functools.cache
def engine() -> OnnxEngine:
    return OnnxEngine(bundle())


@functools.cache
def demo() -> Windows:
    """Return the windows of the capture that comes with penstock."""
    (truth,) = ground_truth.load(DEMO)
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
    values, mask = (np.concatenate([getattr(each, name) for each in batches]) for name in ("values", "mask"))
    scores = engine().score(values, mask)
    return Windows(
        values=values,
        lengths=mask.sum(axis=1).astype(np.int64),
        device=np.concatenate([each.device for each in batches]),
        label=np.concatenate([each.label for each in batches]).astype(np.int64),
        embedding=scores.embedding,
        margin=shipped_thresholds().margins(scores).known,
    )


def benign() -> Windows:
    """Return the demo's benign windows far from any threshold."""
    return demo().where((demo().label == BENIGN) & (demo().margin < -3.0))


def attacks(name: str) -> Windows:
    """Return the demo's windows of a class that the shipped network finds."""
    return demo().where((demo().label == NAMES.index(name)) & (demo().margin > 0))


def near_alarms() -> Windows:
    """Return benign windows nearest to a threshold: what a false alarm looks like."""
    windows = demo().where(demo().label == BENIGN)
    return windows.where(windows.margin >= np.sort(windows.margin)[-40])


def fill(
    state_dir: Path,
    *,
    alarm: Windows | None = None,
    incident_id: str = FALSE_ALARM,
    called: str = "scan",
    now_us: int = NOW_US,
) -> Path:
    """Keep aged benign windows, and an incident's of the last hours, as an agent would; return the state folder."""
    with SampleBook(state_dir / SAMPLES_FILE, write=True) as book:
        calm = benign()
        for place in range(len(calm)):
            due_us = now_us - 2 * DAY_US - place * 600_000_000  # some two weeks of them, every ten minutes
            book.add(_sample(calm, place, due_us=due_us))
        for place in range(0 if alarm is None else len(alarm)):
            due_us = now_us - 3_600_000_000 + place * 1_000_000
            index = NAMES.index(called)
            book.add(_sample(alarm, place, due_us=due_us, incident_id=incident_id, class_index=index))
    return state_dir


def _sample(
    windows: Windows, place: int, *, due_us: int, incident_id: str | None = None, class_index: int = BENIGN
) -> Sample:
    return Sample(
        device=windows.device[place].tobytes(),
        due_us=due_us,
        rows=windows.values[place, : windows.lengths[place]],
        margin=float(windows.margin[place]),
        incident_id=incident_id,
        class_index=class_index,
    )


def hold_out(which: Windows | None = None) -> HoldOut:
    """Return the demo's windows as an aggregator's hold-out."""
    windows = which or demo().where(demo().label >= 0)
    return HoldOut(windows.embedding, windows.label, shipped_thresholds())


def trust(folder: Path, key: Ed25519PrivateKey, name: str = "aggregator") -> Path:
    """Put a public key into a folder of trusted ones."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = folder / f"{name}.pub"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    path.chmod(0o644)
    return folder


def call_header(**changes: object) -> CallHeader:
    told: dict[str, object] = {
        "fleet": FLEET, "round": 1, "mode": "robust", "bundle_sha256": bundle().manifest_sha256,
        "schema_id": bundle().manifest.schema_id, "parameters": read_head(bundle().model).flat.size, "kept": 100,
        "seed": "5" * 64, "clip_norm": 2.0, "scale": 1 / 127, "opened_us": NOW_US - 1_000_000,
        "deadline_us": NOW_US + DAY_US,
    }  # fmt: skip
    return CallHeader(**{**told, **changes})


def call_of(key: Ed25519PrivateKey, head: Head | None = None, **changes: object) -> tuple[bytes, Call]:
    message = pack_call(call_header(**changes), head or read_head(bundle().model), key)
    return message, read_call(message, [key.public_key()])


def store_of(folder: Path) -> Path | str:
    """Return where the ledger of an aggregator's folder stands."""
    told = folder / STORE
    return told.read_text() if told.exists() else folder / "aggregator.db"


def rounds_at(path: Path, key: Ed25519PrivateKey, **settings: object) -> tuple[Ledger, Rounds]:
    ledger = Ledger(store_of(path.parent))
    return ledger, Rounds(ledger, bundle(), fleet=FLEET, key=key, settings=RoundSettings(**settings))
