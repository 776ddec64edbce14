"""An engine that has windows scored by the TensorRT worker and, whenever that fails, by the engine on the CPU.

Nothing the worker does or fails to do raises here or costs a batch more than one deadline: killed, hung, out of memory,
answering garbage or nonsense, it is a counted fall-back for that batch, and asked again after a pause that doubles. Its
scores count only after they agreed with the CPU's on a probe and on the first batches of each connection; where they do
not, fp16 is given up for fp32, and that for the CPU. The trap: the two engines agree within a `Tolerance`, not to the
bit, so what must be the same twice (a replay) is scored on the CPU.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detection.engine import Engine, Scores
from detection.tensorrt_link import Link, LinkBroken
from detection.tensorrt_worker import Shape

MAX_BATCH: Final = 256  # the worker's plans take no more
DEADLINE_S: Final = 0.1  # a batch on a Nano is expected well below; hung, the worker costs this once per connection
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 60.0
OPENING_S: Final = 3600.0  # a plan may take a Nano many minutes; nothing waits for it meanwhile
COMPARED_BATCHES: Final = 3  # of each connection, besides the probe
COMPARED_EVERY: Final = 1000  # and one in so many afterwards: a device can go wrong late
SUM_SLACK: Final = 0.01  # fp16 carries three decimal digits


@dataclass(frozen=True)
class Tolerance:
    """How far the worker's scores may be from the CPU's; see docs/tensorrt.md for where the numbers come from.

    Of each window the largest difference in probability, unknown score or attention is taken. `typical` bounds the mean
    over all windows compared on a connection, `largest` each of them: one near a decision may move further than most.
    """

    typical: float = 0.01
    largest: float = 0.25


@dataclass
class EngineTally:
    """Batches of up to MAX_BATCH windows by what became of them; each is in one of the three."""

    scored: int = 0
    compared: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)

    @property
    def batches(self) -> int:
        return self.scored + self.compared + sum(self.fallbacks.values())


class TensorrtEngine:
    """Score with the worker at a socket, or on the CPU.

    `model` is the float graph (its bytes were checked with the bundle), `probe` windows to compare the engines on, as
    `probe_windows` makes them. `uids` are the users a worker may run as (root and this one); others are not believed.
    """

    name: Final = "tensorrt"

    def __init__(
        self,
        cpu: Engine,
        model: bytes,
        *,
        socket_path: str,
        probe: tuple[NDArray[np.float32], NDArray[np.float32]],
        uids: frozenset[int] | None = None,
        deadline_s: float = DEADLINE_S,
        tolerance: Tolerance | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = EngineTally()
        self.last_problem = ""
        self._cpu, self._model, self._socket_path = cpu, model, socket_path
        self._uids = frozenset({0, os.geteuid()}) if uids is None else uids
        self._deadline_s, self._tolerance, self._clock = deadline_s, tolerance or Tolerance(), clock
        self._probe, self._expected = probe, cpu.score(*probe)
        self._shape = Shape(
            window=probe[0].shape[1],
            features=probe[0].shape[2],
            classes=self._expected.probabilities.shape[1],
            embedding=self._expected.embedding.shape[1],
            max_batch=MAX_BATCH,
        )
        self._precisions = ["fp16", "fp32"]  # what is left to try; none: the CPU it is
        self._link: Link | None = None
        self._is_ready = False
        self._answers, self._apart, self._compared = 0, 0.0, 0  # of this connection; windows compared
        self._pause_s, self._retry_at = FIRST_PAUSE_S, 0.0

    @property
    def provider(self) -> str:
        """Return what scores now: `TensorRT 10.3.0 fp16 Orin sm_87`, or the CPU engine's word for itself."""
        return f"TensorRT {self._link.told}" if self._link is not None and self._is_ready else self._cpu.provider

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        """Return the scores of float32[B, W, F] under float32[B, W]. Raises only what the CPU engine raises."""
        if len(windows) <= MAX_BATCH:
            return self._score_batch(windows, mask)
        starts = range(0, len(windows), MAX_BATCH)
        parts = [self._score_batch(windows[at : at + MAX_BATCH], mask[at : at + MAX_BATCH]) for at in starts]
        return Scores(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def close(self) -> None:
        """Leave the worker; the engine still scores, and would come back."""
        if self._link is not None:
            self._link.close()
        self._link, self._is_ready = None, False

    def _score_batch(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        scores = None
        if len(windows) > 0:
            try:
                scores = self._worker_scores(windows, mask)
            except LinkBroken as exc:
                self._fall_back(exc)
        return self._cpu.score(windows, mask) if scores is None else scores

    def _worker_scores(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores | None:
        """Return the scores of who is to be believed, or None while the worker is not ready. Raises LinkBroken."""
        if not self._is_ready:
            self._come_closer()
            self.tally.fallbacks["opening"] += 1
            return None
        assert self._link is not None
        scores = self._ask(self._link, windows, mask)
        if self._answers <= 1 + COMPARED_BATCHES or self._answers % COMPARED_EVERY == 0:
            expected = self._cpu.score(windows, mask)
            self._compare(scores, expected)
            self.tally.compared += 1
            return expected
        self.tally.scored += 1
        self._pause_s = FIRST_PAUSE_S  # it works: the next trouble is a new one
        return scores

    def _come_closer(self) -> None:
        """Connect, look for the answer to it, or put the probe to the worker, whichever is next. Raises LinkBroken."""
        if not self._precisions:
            raise LinkBroken("disabled")
        if self._link is None:
            if self._clock() < self._retry_at:
                raise LinkBroken("waiting")
            self._answers, self._apart, self._compared = 0, 0.0, 0
            self._link = Link(self._socket_path, self._shape, uids=self._uids)
            self._link.open(self._model, self._precisions[0])
            self._opened_at = self._clock()
        elif self._link.is_opened():
            self._compare(self._ask(self._link, *self._probe), self._expected)
            self._is_ready = True
        elif self._clock() > self._opened_at + OPENING_S:
            raise LinkBroken("late", f"no plan in {OPENING_S:g} s")

    def _ask(self, link: Link, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        scores = link.score(windows, mask, deadline_s=self._deadline_s)
        self._answers += 1
        check_scores(scores)
        return scores

    def _compare(self, scores: Scores, expected: Scores) -> None:
        """Raise LinkBroken, and give up this precision, where the worker's scores are too far from the CPU's."""
        apart = difference(scores, expected)
        self._apart, self._compared = self._apart + float(apart.sum()), self._compared + len(apart)
        typical, largest = self._apart / self._compared, float(apart.max())
        if typical > self._tolerance.typical or largest > self._tolerance.largest:
            precision = self._precisions.pop(0)
            raise LinkBroken("parity", f"{precision} is {typical:.2g} away on average, {largest:.2g} at most")

    def _fall_back(self, problem: LinkBroken) -> None:
        """Count the problem, and leave the worker for a while."""
        self.tally.fallbacks[problem.reason] += 1
        if problem.reason in ("disabled", "waiting"):
            return
        self.last_problem = str(problem)
        self.close()
        self._retry_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)


def check_scores(scores: Scores) -> None:
    """Raise LinkBroken unless these can be scores: finite, probabilities from 0 to 1 that sum to 1."""
    sums = scores.probabilities.sum(axis=1, dtype=np.float64)
    is_sane = all(np.isfinite(each).all() for each in scores) and (np.abs(sums - 1.0) <= SUM_SLACK).all()
    for each in (scores.probabilities, scores.unknown_score, scores.attention):
        is_sane = is_sane and each.min() >= -SUM_SLACK and each.max() <= 1.0 + SUM_SLACK
    if not is_sane:
        raise LinkBroken("nonsense", "scores that are no probabilities")


def difference(scores: Scores, expected: Scores) -> NDArray[np.float32]:
    """Return float32[B]: how far apart each window's scores are at most. Embeddings have no scale and are left out."""
    pairs = [
        (scores.probabilities, expected.probabilities),
        (scores.unknown_score[:, None], expected.unknown_score[:, None]),
        (scores.attention, expected.attention),
    ]
    apart: NDArray[np.float32] = np.max([np.abs(mine - theirs).max(axis=1) for mine, theirs in pairs], axis=0)
    return apart


def probe_windows(
    medians: NDArray[np.float32], *, window: int, count: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return windows float32[count, W, F] of every length around the benign medians, from nothing to a million times.

    Traffic right after a connection may be all alike; these reach the values fp16 cannot hold.
    """
    rng = np.random.default_rng(0)
    factors = 10.0 ** rng.uniform(-2.0, 2.0, (count, window, medians.size)) * 10.0 ** rng.uniform(0, 4, (count, 1, 1))
    windows = np.maximum(np.abs(medians), rng.integers(0, 2, (count, 1, medians.size))) * factors
    mask = np.arange(window) <= np.arange(count)[:, None] % window
    return (windows * mask[:, :, None]).astype(np.float32), mask.astype(np.float32)
