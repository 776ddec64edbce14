"""How windows are cut into batches says nothing: what is told is the same, whatever the operator said before."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.bundle import Bundle, SustainedRule
from detection import sustained
from detection.detector import Detector
from detection.engine import Engine, Scores
from detection.incidents import IncidentUpdate
from detection.rules import BenignRule, Mute, PrintState, Rules, RulesState
from detection.usual import Usual
from flowfeatures import WindowBatch, address_bytes
from tests.detection.windows import (
    BULB,
    CAMERA,
    ELSEWHERE,
    OUTSIDE,
    PHONE,
    T0_US,
    C,
    LegibleEngine,
    Row,
    S,
    Window,
    batch_of,
    make_bundle,
)

MARK: Final = C  # the first free columns of a row hold its embedding
PLAIN, TURNED = (3.0, 4.0), (-4.0, 3.0)
RULE = SustainedRule(weight=0.25, start=-3.0, least=-4.0, most=6.0, fades_s=300.0, open=0.6)
DEVICES = (CAMERA, PHONE, BULB)
_moves = st.tuples(st.sampled_from(DEVICES), st.sampled_from(DEVICES)).filter(lambda pair: pair[0] != pair[1])
_windows = st.tuples(
    st.sampled_from(DEVICES),
    st.sampled_from((0.02, 0.7, 0.95, 0.97, 0.9995)),
    st.sampled_from(("scan", "scan", "scan", "flood")),
    st.sampled_from((PLAIN, PLAIN, TURNED)),
    st.sampled_from((0, 0, 50_000, 50_000, 400_000_000)),  # until the next one, in microseconds
)


class EmbeddingEngine(LegibleEngine):
    """Gives the two columns after the scores as the embedding."""

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        embedding = (windows[:, :, MARK : MARK + 2] * mask[:, :, None]).sum(axis=1)
        return super().score(windows, mask)._replace(embedding=embedding.astype(np.float32))


def batches_of(seen: list[tuple[Any, ...]]) -> list[WindowBatch]:
    """Return one batch of one window each."""
    batches, at_us = [], 0
    for number, (device, score, name, like, wait_us) in enumerate(seen):
        at_us += wait_us
        peer = OUTSIDE if like == PLAIN else ELSEWHERE
        row = Row(peer, device, {name: score}, flow_id=number % 40, end_us=T0_US + at_us)
        batch = batch_of(Window(device, [row], at_us / S))
        batch.values[0, 0, MARK : MARK + 2] = like
        batches.append(batch)
    return batches


def joined(batches: list[WindowBatch]) -> WindowBatch:
    names = WindowBatch.__slots__
    return WindowBatch(**{name: np.concatenate([getattr(each, name) for each in batches]) for name in names})


def lasting_bundle() -> Bundle:
    bundle = make_bundle(open_at=0.99, severe_at=0.999)
    manifest = bundle.manifest.model_copy(update={"score": "not benign", "sustained": RULE})
    return replace(bundle, manifest=manifest)


def detector(rules: Rules | None = None, engine: Engine | None = None) -> Detector:
    return Detector(lasting_bundle(), engine or EmbeddingEngine(), rules=rules, usual=Usual())


def benign_rule(device: str) -> BenignRule:
    """Return the rule of an incident that some windows of the same look opened there."""
    look = [(device, 0.97, "scan", PLAIN, 50_000)] * 16
    (update, *_) = detector().add(joined(batches_of(look)))
    return BenignRule(
        id=f"b-{DEVICES.index(device):08x}",
        alert_id=update.alert_id,
        incident_id=update.incident_id,
        device=address_bytes(device).hex(),
        attack_class="scan",
        manifest_sha256="0" * 64,
        score=update.score,
        flows=1000,
        prints=[PrintState.of(each) for each in update.prints],
        created_us=T0_US - S,
        expires_us=T0_US + 86_400 * S,
    )


RULES = {device: benign_rule(device) for device in DEVICES}


def mute_of(device: str, name: str, *, until_us: int) -> Mute:
    return Mute(
        id="m-00000001", device=device, attack_class=name, created_us=T0_US - S, expires_us=T0_US + max(0, until_us)
    )


def what(update: IncidentUpdate) -> tuple[Any, ...]:
    """Return everything a message says, the explanation it opened with among it."""
    plain = {name: getattr(update, name) for name in vars(update) if name not in {"snapshot", "parties", "prints"}}
    parties = {name: str(value) for name, value in vars(update.parties).items()}
    snapshot = update.snapshot
    usual = None if snapshot is None or snapshot.usual is None else [np.asarray(x).tolist() for x in snapshot.usual]
    explained = None if snapshot is None else (snapshot.due_us, snapshot.values.tolist(), snapshot.alone.tolist())
    return (sorted(map(str, plain.items())), sorted(parties.items()), explained, usual)


def run(
    batches: list[WindowBatch], cuts: set[int], moves: dict[int, tuple[str, str]], rules: Rules
) -> tuple[list[tuple[Any, ...]], list[list[float]], tuple[int, ...]]:
    """Return what is told, what it was judged by, and what was counted, of windows cut before some of them."""
    made, told, judged = detector(rules), [], []
    edges = sorted({0, len(batches), *cuts, *moves})
    for first, last in pairwise(edges):
        if first in moves:
            made.moved(*(address_bytes(end) for end in moves[first]))
        told += made.add(joined(batches[first:last]))
        judged += made.judged.probabilities.tolist()
    told += made.close()
    return [what(each) for each in told], judged, (made.windows, made.detections, made.muted, made.known_benign)


@pytest.mark.parametrize("most_devices", [sustained.MAX_DEVICES, 2], ids=["room for all", "room for two"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_cut_of_the_same_windows_is_told_alike(most_devices: int, data: st.DataObject):
    stretches = data.draw(st.lists(st.tuples(_windows, st.integers(1, 14)), min_size=1, max_size=9), label="windows")
    batches = batches_of([each for each, times in stretches for _ in range(times)])
    places = st.integers(1, max(1, len(batches) - 1))
    moves = data.draw(st.dictionaries(places, _moves, max_size=2), label="moves") if len(batches) > 1 else {}
    cuts = data.draw(st.sets(places, max_size=12), label="cuts")
    marked = data.draw(st.lists(st.sampled_from(DEVICES), max_size=3, unique=True), label="marked benign")
    muted = data.draw(st.none() | st.tuples(st.sampled_from(DEVICES), st.sampled_from(("scan", "flood"))), label="mute")
    until_us = data.draw(st.integers(0, 10 * S), label="mute expires")
    mutes = [] if muted is None else [mute_of(*muted, until_us=until_us)]
    rules = Rules(RulesState(mutes=mutes, benign=[RULES[device] for device in marked]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sustained, "MAX_DEVICES", most_devices)
        whole = run(batches, set(), moves, rules)
        one_by_one = run(batches, set(range(len(batches))), moves, rules)
        parts = run(batches, cuts, moves, rules)

    assert whole == one_by_one
    assert parts == one_by_one


def test_what_a_rule_answered_for_leaves_nothing_to_the_next_window_of_the_same_batch():
    answered = [(CAMERA, 0.97, "scan", PLAIN, 50_000)] * 15
    other = [(CAMERA, 0.95, "flood", TURNED, 50_000)]  # an attack only by what came before it
    batches, rules = batches_of(answered + other), Rules(RulesState(benign=[RULES[CAMERA]]))

    without = {update.class_name for update in detector().add(joined(batches))}
    at_once, _, counted = run(batches, set(), {}, rules)
    one_by_one, _, counted_one_by_one = run(batches, set(range(16)), {}, rules)

    assert without == {"scan", "flood"}
    assert counted == counted_one_by_one
    assert counted[3] == 13  # all that would have been told
    assert at_once == one_by_one == []


class FailsOnce(EmbeddingEngine):
    """Fails at one of its calls, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.calls, self._at = 0, at

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        self.calls += 1
        if self.calls == self._at + 1:
            raise RuntimeError("the engine fails")
        return super().score(windows, mask)


def test_a_batch_the_engine_fails_on_adds_no_suspicion_and_asks_no_rule():
    batch = joined(batches_of([(CAMERA, 0.97, "scan", PLAIN, 50_000)] * 150))
    rules, engine = Rules(RulesState(benign=[RULES[CAMERA]])), FailsOnce(-1)
    sound = detector(rules, engine)
    wanted = sound.add(batch)
    assert engine.calls > 3  # of the batch, and of the records of what it shows, some at once

    for at in range(engine.calls):
        failing = detector(rules, FailsOnce(at))
        with pytest.raises(RuntimeError):
            failing.add(batch)

        assert failing.add(batch) == wanted
        assert failing.judged.probabilities.tolist() == sound.judged.probabilities.tolist()
        assert (failing.windows, failing.known_benign) == (sound.windows, sound.known_benign)
