"""What a call of an engine costs, by engine and batch size, on a machine that does other things as well.

Every cell (an engine, a batch size) is warmed up, then measured in slices; each round takes one slice of every cell, in
an order of its own, so that a board that grows hot or a neighbour that wakes up is shared by all of them. The trap: an
engine with a fall-back gives scores whatever happens, so it is asked afterwards who computed them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.monitoring.facts import Reading
from detection.engine import Engine
from detection.tensorrt_client import TensorrtEngine

ROUNDS: Final = 10
WARM_UP_CALLS, WARM_UP_S = 20, 0.2
RAILS_EVERY_S: Final = 0.1  # the monitors average over some milliseconds; read between two calls, never within one
LEAST_FOR_P999: Final = 1000
INPUT_RAILS: Final = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "VIN")  # what the whole board takes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Contender:
    """An engine under the name people know it by."""

    name: str
    engine: Engine


@dataclass(frozen=True, kw_only=True)
class Result:
    """One cell. Milliseconds of a call, wall clock; None is what was not measured, and `trouble` says why."""

    engine: str
    batch: int
    calls: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    """None below a thousand calls: it would be the largest, or nearly."""
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    """Of the medians of the rounds: what the machine's other work did."""
    windows_per_s: float | None = None
    watts: dict[str, float] | None = None
    """Mean of each rail while this cell was measured."""
    joules_per_window: float | None = None
    """Of the board's input rail, idle power included."""
    trouble: str = ""


@dataclass
class _Cell:
    contender: Contender
    batch: int
    slices: list[NDArray[Any]] = field(default_factory=list)
    rails: dict[str, list[float]] = field(default_factory=dict)
    trouble: str = ""


def measure(
    contenders: Sequence[Contender],
    windows: Floats,
    mask: Floats,
    *,
    batches: Sequence[int],
    calls: int,
    rails: Callable[[], Sequence[Reading]],
    progress: Callable[[str], None] = lambda _: None,
    seed: int = 0,
) -> list[Result]:
    """Return a result for every engine and batch size, in that order.

    `windows` float32[N, W, F] and `mask` float32[N, W] hold at least as many windows as the largest batch.
    """
    cells = [_Cell(contender, batch) for contender in contenders for batch in batches]
    order = random.Random(seed)
    for cell in cells:
        _guarded(cell, lambda each: _warm_up(each, windows, mask))
    rounds = min(ROUNDS, calls)
    shares = [calls * (n + 1) // rounds - calls * n // rounds for n in range(rounds)]
    for number, share in enumerate(shares, start=1):
        progress(f"round {number} of {rounds}")
        take = partial(_slice, windows=windows, mask=mask, calls=share, rails=rails)
        for cell in order.sample(cells, len(cells)):
            _guarded(cell, take)
    return [_result(cell) for cell in cells]


def _guarded(cell: _Cell, work: Callable[[_Cell], None]) -> None:
    """Do a part of a cell's work, unless it has failed already; an engine that falls back has."""
    if cell.trouble:
        return
    engine = cell.contender.engine
    before = _fallbacks(engine)
    work(cell)
    if isinstance(engine, TensorrtEngine) and (after := _fallbacks(engine)) != before:
        cell.trouble = f"the CPU had to score {after - before} batches: {engine.last_problem or 'not ready'}"


def _fallbacks(engine: Engine) -> int:
    return sum(engine.tally.fallbacks.values()) if isinstance(engine, TensorrtEngine) else 0


def _warm_up(cell: _Cell, windows: Floats, mask: Floats) -> None:
    until_s = time.perf_counter() + WARM_UP_S
    done = 0
    while done < WARM_UP_CALLS or time.perf_counter() < until_s:
        cell.contender.engine.score(windows[: cell.batch], mask[: cell.batch])
        done += 1


def timed(engine: Engine, inputs: Iterable[tuple[Floats, Floats]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return nanoseconds of each call: wall clock, and CPU time of this thread, which is all of it where one works.

    Whatever `inputs` does to give windows and masks is done between two calls, and in neither.
    """
    taken_ns: list[tuple[int, int]] = []
    for values, marks in inputs:
        cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
        engine.score(values, marks)
        taken_ns.append((time.perf_counter_ns() - wall_ns, time.thread_time_ns() - cpu_ns))
    wall, cpu = np.array(taken_ns, np.int64).reshape(-1, 2).T
    return wall, cpu


def _slice(cell: _Cell, *, windows: Floats, mask: Floats, calls: int, rails: Callable[[], Sequence[Reading]]) -> None:
    def inputs() -> Iterator[tuple[Floats, Floats]]:
        batch, room = cell.batch, len(windows) - cell.batch + 1
        read_at_s = time.perf_counter() + RAILS_EVERY_S / 2
        for n in range(calls):
            first = n * batch % room
            yield windows[first : first + batch], mask[first : first + batch]
            if time.perf_counter() >= read_at_s or n == calls - 1:
                for reading in rails():
                    cell.rails.setdefault(reading.name, []).append(reading.value)
                read_at_s = time.perf_counter() + RAILS_EVERY_S

    cell.slices.append(timed(cell.contender.engine, inputs())[0])


def _result(cell: _Cell) -> Result:
    name, batch = cell.contender.name, cell.batch
    if cell.trouble:
        return Result(engine=name, batch=batch, trouble=cell.trouble)
    wall_ms = np.concatenate(cell.slices) / 1e6
    medians = [float(np.median(each)) / 1e6 for each in cell.slices]
    watts = {rail: float(np.mean(values)) for rail, values in cell.rails.items()}
    windows_per_s = batch * len(wall_ms) / float(wall_ms.sum()) * 1e3
    whole = next((watts[rail] for rail in INPUT_RAILS if rail in watts), None)
    return Result(
        engine=name,
        batch=batch,
        calls=len(wall_ms),
        p50_ms=float(np.percentile(wall_ms, 50)),
        p99_ms=float(np.percentile(wall_ms, 99)),
        p999_ms=float(np.percentile(wall_ms, 99.9)) if len(wall_ms) >= LEAST_FOR_P999 else None,
        p50_low_ms=min(medians),
        p50_high_ms=max(medians),
        windows_per_s=windows_per_s,
        watts=watts or None,
        joules_per_window=None if whole is None else whole / windows_per_s,
    )
