"""One fine-tuning, top to bottom: call -> examples -> head -> gate -> what leaves -> signed update on the desk.

Where the whole step does not pass the gate, half of it is tried, a quarter, an eighth; then nothing leaves. A dry run
does all of it, from the bundle's own head where no round is open, and writes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contracts.anchors import Anchors
from contracts.bundle import Bundle
from contracts.classes import BENIGN
from contracts.head import Head, head_of, read_head
from contracts.samples import SampleBook
from contracts.update import MAX_EXAMPLES, Call, UpdateHeader, pack_update
from detection.decide import Thresholds
from detection.engine import Engine
from detection.rules import Verdict
from detection.sustained import quiet_below
from federation.at_thresholds import is_over
from federation.gateway.desk import Desk, Learnt, residual_of
from federation.gateway.gate import held, refusals
from federation.gateway.labels import Examples, gather
from federation.gateway.learn import DEFAULTS, LearnSettings, fine_tune
from federation.gateway.private import PrivateDesk
from federation.privacy.protect import protect

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

STEPS: Final = (1.0, 0.5, 0.25, 0.125)  # how much of what was learnt is tried
LEAST_EXAMPLES: Final = 50  # below, one device's hour would speak for the gateway


@dataclass
class Report:
    """What a fine-tuning did, for people and for `--json`. `outcome` is one word: sent, dry, refused or idle."""

    outcome: str = "idle"
    why: str = ""
    round: int | None = None
    verdicts: int = 0
    pseudo_labels: int = 0
    learnt_from: int = 0
    anchors: int = 0
    steps: int = 0
    share_of_step: float = 0.0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    judged_benign: int = 0
    judged_benign_over_before: int = 0
    judged_benign_over_after: int = 0
    delta_norm: float = 0.0
    clipped: bool = False
    update_bytes: int = 0
    private_only: bool = False
    refused: dict[str, int] = field(default_factory=dict)
    refused_calls: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A head that passed the gate, or None and why none did."""

    head: Head | None
    why: str


def train(base: Head, examples: Examples, thresholds: Thresholds, report: Report, settings: LearnSettings) -> Trained:
    """Fine-tune a head and hold it to the gate; fill in the report."""
    learnt = examples.is_learnt
    report.verdicts, report.pseudo_labels = examples.verdicts, examples.pseudo
    report.learnt_from = int((learnt & ~examples.is_anchor).sum())
    report.anchors = int(examples.is_anchor.sum())
    if report.learnt_from < LEAST_EXAMPLES:
        return Trained(None, f"{report.learnt_from} windows to learn from, wanted {LEAST_EXAMPLES}")
    tuned, report.steps = fine_tune(
        base, examples.embedding[learnt], examples.label[learnt], examples.weight[learnt], settings=settings
    )
    before = held(base, examples, thresholds)
    broken: list[str] = []
    for share in STEPS:
        head = head_of((base.flat + share * (tuned.flat - base.flat)).astype(np.float32))
        after = held(head, examples, thresholds)
        broken = list(refusals(before=before, after=after))
        if not broken:
            report.before, report.after, report.share_of_step = asdict(before), asdict(after), share
            _tell_judged(report, examples, thresholds, before=base, after=head)
            return Trained(head, "")
    report.before = report.after = asdict(before)
    return Trained(None, f"the local gate: {'; '.join(broken)}")


def finetune(
    bundle: Bundle,
    engine: Engine,
    book: SampleBook,
    verdicts: Mapping[str, Verdict],
    *,
    call: Call | None,
    anchors: Anchors | None,
    learnt: Learnt,
    now_us: int,
    settings: LearnSettings = DEFAULTS,
    sender: tuple[str, Ed25519PrivateKey] | None = None,
    desk: Desk | None = None,
    call_message: bytes = b"",
    private: PrivateDesk | None = None,
) -> Report:
    """Learn, and with a sender and a desk answer the call; in mode private, begin to.

    Raises StateRefused, SamplesRefused or OutputError.
    """
    report = Report(round=None if call is None else call.header.round)
    base = read_head(bundle.model) if call is None else call.head
    examples = gather(book, verdicts, engine, window=bundle.manifest.window, now_us=now_us, anchors=anchors)
    thresholds = quiet_below(bundle.manifest)
    trained = train(base, examples, thresholds, report, settings)
    if trained.head is None:
        report.outcome, report.why = "refused", trained.why
        return report
    delta = trained.head.flat - base.flat
    report.delta_norm = float(np.linalg.norm(delta))
    report.outcome = "dry"
    if call is None:
        return report
    protected = protect(delta, call, residual=residual_of(learnt, call))
    report.clipped = protected.clipped
    if sender is None or desk is None:
        return report
    name, key = sender
    answered = Learnt(
        round=call.header.round,
        call_sha256=call.sha256,
        bundle_sha256=call.header.bundle_sha256,
        residual=base64.b64encode(protected.residual.astype("<f4").tobytes()).decode(),
        verdicts=len(book.incidents() & set(verdicts)),
        learnt_us=now_us,
    )
    report.outcome = "sent"
    if call.header.mode == "private":
        assert private is not None
        report.update_bytes = private.begin(call, call_message, protected.steps, answered, gateway=name)
        return report
    header = UpdateHeader(
        fleet=call.header.fleet,
        round=call.header.round,
        gateway=name,
        call_sha256=call.sha256,
        examples=min(report.learnt_from, MAX_EXAMPLES),
        made_us=now_us,
    )
    message = pack_update(header, protected.steps, key)
    report.update_bytes = len(message)
    desk.hand_over(answered.model_copy(update={"update": base64.b64encode(message).decode()}))
    return report


def _tell_judged(report: Report, examples: Examples, thresholds: Thresholds, *, before: Head, after: Head) -> None:
    """Say what became of the windows that an operator called benign."""
    marked = examples.embedding[examples.is_verdict & (examples.label == BENIGN)]
    report.judged_benign = len(marked)
    report.judged_benign_over_before = int(is_over(before, marked, thresholds).sum())
    report.judged_benign_over_after = int(is_over(after, marked, thresholds).sum())
