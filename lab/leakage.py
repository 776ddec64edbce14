"""Can attacks be told from benign flows by the lab's artefacts alone? Then a detector may have learned the lab.

A forest sees of each flow only MAC vendors, addresses, first TTL, place in the capture and time of day, and must tell
the flows of attacks it was not shown: folds are made by attack, and what was benign meanwhile is held out with it.
Every attack weighs the same, and so does every benign habit of every host. The trap: traits of the tools (window and
options of a SYN) are no artefacts of the lab, but they name tools; they are looked at apart. Needs scikit-learn.
"""

from __future__ import annotations

import importlib
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import GroundTruthError, MissingExtra
from lab.agreement import read_entry
from lab.flows import FLOW_FILE, PAUSE_S, read_flows, trace
from lab.frames import FlowKey, flow_key, number_of, read_frames, read_with_octets

MOST_AUC = 0.65
FOLDS, TREES, LEAST_ATTACKS = 5, 200, 5
MOST_PER_ATTACK, MOST_PER_HABIT = 40, 40  # flows looked at
DAY_S = 86_400
TCP_SYN, TCP_ACK = 2, 16
FIRST_GROUP = 224 << 24  # the first multicast address; broadcasts lie above it
ARTEFACTS = (
    "source vendor",
    "target vendor",
    "source address",
    "target address",
    "source's last octet",
    "target's last octet",
    "first TTL",
    "place in the capture",
    "time of day",
)
TRAITS = ("SYN window", "SYN options")


@dataclass
class Leaks:
    """What was found: the AUC by artefacts, that by each artefact alone, and the traits of SYNs by side."""

    auc: float
    alone: dict[str, float]
    attacks: int
    flows: int
    traits: dict[str, dict[str, float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "auc": round(self.auc, 4),
            "most": MOST_AUC,
            "attacks": self.attacks,
            "flows": self.flows,
            "alone": {name: round(auc, 4) for name, auc in self.alone.items()},
            "traits": self.traits,
        }

    def lines(self) -> list[str]:
        """Return what is printed."""
        bound = "no more than" if self.auc <= MOST_AUC else "MORE than"
        said = [f"artefacts: AUC {self.auc:.3f}, {bound} {MOST_AUC} ({self.attacks} attacks, {self.flows} flows)"]
        said += [f"  {name:<22} {auc:.3f}" for name, auc in sorted(self.alone.items(), key=lambda item: -item[1])]
        said.append("traits of the tools, which are no artefacts (share of SYNs, attack and benign):")
        for name, shares in self.traits.items():
            said.append(f"  {name:<46} {shares['attack']:.3f} {shares['benign']:.3f}")
        return said


@dataclass(frozen=True)
class _Seen:
    """One flow as the forest sees it."""

    artefacts: tuple[float, ...]
    traits: tuple[str, ...]  # empty where the flow does not begin with a SYN
    is_attack: bool
    group: Hashable  # folds keep it together
    share: Hashable  # all of it weighs as much as any other


def look_for_leaks(pairs: Sequence[tuple[Path, Path]], *, seed: int = 0) -> Leaks:
    """Look at recordings, given as (capture, ground truth); raises MissingExtra, GroundTruthError."""
    try:
        ensemble = importlib.import_module("sklearn.ensemble")
        selection = importlib.import_module("sklearn.model_selection")
        metrics = importlib.import_module("sklearn.metrics")
    except ImportError as exc:
        raise MissingExtra("check --leakage needs scikit-learn: pip install 'penstock[train]'") from exc
    rng = random.Random(seed)
    seen = [flow for capture, truth in pairs for flow in _few(_see(capture, truth), rng)]
    attacks = {flow.share for flow in seen if flow.is_attack}
    if len(attacks) < LEAST_ATTACKS:
        raise GroundTruthError(f"leakage: seen {len(attacks)} attacks with flows, wanted {LEAST_ATTACKS} at least")
    names = {group: number for number, group in enumerate(dict.fromkeys(flow.group for flow in seen))}
    groups = np.array([names[flow.group] for flow in seen])
    labels = np.array([flow.is_attack for flow in seen])
    weights = _weights(seen)
    columns = np.array([flow.artefacts for flow in seen], np.float64)

    def auc(of: NDArray[np.float64]) -> float:
        scores = np.zeros(len(seen))
        folds = selection.GroupKFold(n_splits=min(FOLDS, len(names)))
        for taught, held in folds.split(of, labels, groups):
            forest = ensemble.RandomForestClassifier(TREES, min_samples_leaf=5, random_state=seed)
            forest.fit(of[taught], labels[taught], sample_weight=weights[taught])
            scores[held] = forest.predict_proba(of[held])[:, list(forest.classes_).index(True)]
        return float(metrics.roc_auc_score(labels, scores, sample_weight=weights))

    alone = {name: auc(columns[:, [at]]) for at, name in enumerate(ARTEFACTS)}
    return Leaks(auc(columns), alone, len(attacks), len(seen), _traits(seen))


def _weights(seen: Sequence[_Seen]) -> NDArray[np.float64]:
    """Return weights that make all shares of a side equal, and both sides."""
    sizes = Counter((flow.is_attack, flow.share) for flow in seen)
    shares = Counter(is_attack for is_attack, _ in sizes)
    return np.array([1.0 / sizes[flow.is_attack, flow.share] / shares[flow.is_attack] for flow in seen]) * len(seen)


def _few(flows: Sequence[_Seen], rng: random.Random) -> list[_Seen]:
    """Return no more flows of an attack or habit than its share needs to be seen."""
    by_share: dict[tuple[bool, Hashable], list[_Seen]] = defaultdict(list)
    for flow in flows:
        by_share[flow.is_attack, flow.share].append(flow)
    few = []
    for (is_attack, _), ours in sorted(by_share.items(), key=lambda item: str(item[0])):
        few += rng.sample(ours, min(len(ours), MOST_PER_ATTACK if is_attack else MOST_PER_HABIT))
    return few


def _see(capture: Path, truth: Path) -> list[_Seen]:
    entry = read_entry(capture, truth)
    intervals = entry.get("intervals", [])
    if entry.get("flow_file"):
        flows = read_flows(capture.with_name(FLOW_FILE))
    else:
        flows = trace(read_frames(capture), intervals, sent={})
    openings = _openings(capture)
    first_s = min((flow.start_s for flow in flows), default=0.0)
    lasting_s = max((flow.end_s for flow in flows), default=first_s) - first_s or 1.0
    middles = [(interval["start"] + interval["end"]) / 2 for interval in intervals]
    seen = []
    for flow in flows:
        source, target = number_of(flow.source[0]), number_of(flow.target[0])
        key = flow_key(flow.proto, (source, flow.source[1]), (target, flow.target[1]))
        octets = openings.get((key, round(flow.start_s, 6)))
        if octets is None or not intervals or target >= FIRST_GROUP or not source:
            continue  # what is said to a group or to everyone has no host as its target
        artefacts = (
            float(int.from_bytes(octets[6:9], "big")),
            float(int.from_bytes(octets[0:3], "big")),
            float(source),
            float(target),
            float(source & 255),
            float(target & 255),
            float(octets[22]),
            (flow.start_s - first_s) / lasting_s,
            flow.start_s % DAY_S,
        )
        # A benign flow is held out with the attack that is nearest in time, so that time alone teaches nothing.
        nearest = min(range(len(middles)), key=lambda at: abs(middles[at] - flow.start_s))
        group = (str(capture), nearest if flow.interval is None else flow.interval)
        share = group if flow.interval is not None else (str(capture), flow.source[0], flow.senders)
        seen.append(_Seen(artefacts, _syn_traits(octets), flow.interval is not None, group, share))
    return seen


def _openings(capture: Path) -> dict[tuple[FlowKey, float], bytes]:
    """Return the first frame of each flow, by the flow's ends and its time."""
    openings: dict[tuple[FlowKey, float], bytes] = {}
    last_s: dict[FlowKey, float] = {}
    for frame, octets in read_with_octets(capture):
        key = flow_key(frame.proto, (frame.source, frame.source_port), (frame.target, frame.target_port))
        if frame.time_s - last_s.get(key, float("-inf")) > PAUSE_S:
            openings[key, round(frame.time_s, 6)] = octets
        last_s[key] = frame.time_s
    return openings


def _syn_traits(octets: bytes) -> tuple[str, ...]:
    at = 14 + (octets[14] & 15) * 4
    if octets[23] != 6 or len(octets) < at + 20 or octets[at + 13] & (TCP_SYN | TCP_ACK) != TCP_SYN:
        return ()
    window = int.from_bytes(octets[at + 14 : at + 16], "big")
    return str(window), _option_kinds(octets[at + 20 : at + (octets[at + 12] >> 4) * 4]) or "none"


def _option_kinds(options: bytes) -> str:
    kinds, at = [], 0
    while at < len(options) and options[at] != 0:
        kinds.append(str(options[at]))
        if options[at] != 1 and (at + 1 >= len(options) or options[at + 1] < 2):
            break
        at += 1 if options[at] == 1 else options[at + 1]
    return ",".join(kinds)


def _traits(seen: Sequence[_Seen]) -> dict[str, dict[str, float]]:
    """Return the commonest values of each trait, with their shares among the SYNs of either side."""
    found: dict[str, dict[str, float]] = {}
    weights = _weights(seen)
    for at, name in enumerate(TRAITS):
        sums: dict[str, dict[str, float]] = defaultdict(lambda: {"attack": 0.0, "benign": 0.0})
        for flow, weight in zip(seen, weights, strict=True):
            if flow.traits:
                sums[flow.traits[at]]["attack" if flow.is_attack else "benign"] += weight
        whole = {side: sum(each[side] for each in sums.values()) or 1.0 for side in ("attack", "benign")}
        for value, each in sorted(sums.items(), key=lambda item: -sum(item[1].values()))[:6]:
            found[f"{name} {value}"] = {side: round(each[side] / whole[side], 4) for side in whole}
    return found
