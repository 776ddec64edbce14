"""The engine behind the TensorRT worker: a real process over a real socket, and all that can go wrong with it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.bundle import Bundle
from detection import tensorrt_worker
from detection.engine import Engine, Scores
from detection.onnx_engine import OnnxEngine
from detection.tensorrt_client import (
    COMPARED_BATCHES,
    FIRST_PAUSE_S,
    LAST_PAUSE_S,
    TensorrtEngine,
    Tolerance,
    probe_windows,
)
from tests.descriptors import descriptors
from tests.detection.onnx_model import C, F, W, model_bytes
from tests.detection.tensorrt_process import RELEASES, Clock, WorkerProcess, build_cudart, until, until_trusted, windows
from tests.detection.windows import make_bundle

WEIGHTS = np.random.default_rng(7).normal(size=(F, C)).astype(np.float32) / 100
MODEL = model_bytes(WEIGHTS)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cudart(tmp_path_factory.mktemp("cudart"))


@pytest.fixture(scope="module")
def cpu() -> OnnxEngine:
    pytest.importorskip("onnxruntime")
    bundle: Bundle = replace(make_bundle(), path=Path("somewhere"), model=MODEL)
    return OnnxEngine(bundle)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(tmp_path: Path, libraries: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path / "worker", libraries) as running:
        yield running


@pytest.fixture
def engine(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock) -> Iterator[TensorrtEngine]:
    made = engine_for(cpu, worker.socket_path, clock)
    yield made
    made.close()


def engine_for(
    cpu: Engine, path: str, clock: Clock, *, model: bytes = MODEL, deadline_s: float = 10.0
) -> TensorrtEngine:
    """Return an engine whose deadline is a hang guard: nothing here measures how fast the fakes are."""
    return TensorrtEngine(cpu, model, socket_path=path, probe=windows(32), deadline_s=deadline_s, clock=clock)


def assert_same(scores: Scores, expected: Scores, *, within: float = 1e-3) -> None:
    for name, mine, theirs in zip(Scores._fields, scores, expected, strict=True):
        assert mine.dtype == theirs.dtype, name
        assert mine.shape == theirs.shape, name
        assert np.abs(mine - theirs).max(initial=0.0) <= within * max(1.0, np.abs(theirs).max(initial=0.0)), name


@pytest.mark.parametrize("version", RELEASES)
def test_the_scores_are_those_of_the_cpu(version: str, cpu: OnnxEngine, tmp_path: Path, libraries: Path):
    with WorkerProcess(tmp_path / "worker", libraries, version=version) as worker:
        engine = until_trusted(engine_for(cpu, worker.socket_path, Clock()))

        scores = {count: engine.score(*windows(count)) for count in (1, 255, 256, 257, 600)}

        for count, seen in scores.items():
            assert_same(seen, cpu.score(*windows(count)))
        assert engine.tally.scored == 1 + 1 + 1 + 2 + 3
        assert engine.provider == f"TensorRT {version} fp16 Fake Tegra sm_53"
        engine.close()


def test_the_first_answers_are_only_compared(engine: TensorrtEngine, cpu: OnnxEngine):
    until(engine, lambda: engine.tally.compared > 0)

    answers = [engine.score(*windows(4)) for _ in range(COMPARED_BATCHES - 1)]

    assert all(answer.probabilities.tobytes() == cpu.score(*windows(4)).probabilities.tobytes() for answer in answers)
    assert (engine.tally.compared, engine.tally.scored) == (COMPARED_BATCHES, 0)


def test_no_windows_never_reach_the_worker(engine: TensorrtEngine):
    until_trusted(engine)

    scores = engine.score(*windows(0))

    assert [each.shape for each in scores] == [(0, C), (0, F), (0,), (0, W)]
    assert engine.tally.batches == 0


def test_every_batch_is_counted_once(engine: TensorrtEngine, worker: WorkerProcess, clock: Clock):
    until_trusted(engine)
    worker.switch("execute", "nan")
    for count in (1, 300, 2):
        engine.score(*windows(count))
        clock.now_s += 0.1

    assert engine.tally.batches == 4
    assert engine.tally.fallbacks == {"nonsense": 1, "waiting": 3}


def test_without_a_worker_everything_is_scored_on_the_cpu(cpu: OnnxEngine, tmp_path: Path, clock: Clock):
    engine = engine_for(cpu, str(tmp_path / "nobody"), clock)

    scores = engine.score(*windows(3))

    assert_same(scores, cpu.score(*windows(3)), within=0.0)
    assert engine.tally.fallbacks == {"unavailable": 1}
    assert engine.provider == cpu.provider


def test_a_path_too_long_for_a_socket_is_a_worker_that_is_not_there(cpu: OnnxEngine, clock: Clock):
    engine = engine_for(cpu, "/" + "x" * 200, clock)

    engine.score(*windows(1))

    assert engine.tally.fallbacks == {"unavailable": 1}


def test_the_pause_doubles_up_to_a_minute_and_is_kept(cpu: OnnxEngine, tmp_path: Path, clock: Clock):
    engine = engine_for(cpu, str(tmp_path / "nobody"), clock)
    tried_at = []
    for _ in range(400):
        before = engine.tally.fallbacks["unavailable"]
        engine.score(*windows(1))
        if engine.tally.fallbacks["unavailable"] > before:
            tried_at.append(clock.now_s - 1000.0)
        clock.now_s += 0.5

    assert tried_at == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]
    assert np.diff(tried_at).max() == LAST_PAUSE_S


def test_a_killed_session_costs_one_batch_and_is_replaced(engine: TensorrtEngine, worker: WorkerProcess, clock: Clock):
    until_trusted(engine)
    worker.signal_session(signal.SIGKILL)

    scores = engine.score(*windows(5))

    assert len(scores.probabilities) == 5
    assert engine.tally.fallbacks == {"died": 1}
    clock.now_s += 2.0
    until_trusted(engine)
    assert worker.builds() == 1


def test_the_pause_is_short_again_once_the_worker_was_of_use(
    engine: TensorrtEngine, worker: WorkerProcess, clock: Clock
):
    for _ in range(3):
        until_trusted(engine)
        worker.signal_session(signal.SIGKILL)
        engine.score(*windows(1))
        clock.now_s += FIRST_PAUSE_S

    until_trusted(engine)


def test_a_killed_worker_takes_its_sessions_along_and_another_takes_over(
    engine: TensorrtEngine, worker: WorkerProcess, clock: Clock
):
    until_trusted(engine)
    worker.__exit__()

    until(engine, lambda: engine.tally.fallbacks["died"] > 0)

    assert engine.tally.fallbacks["died"] == 1
    worker.start()
    clock.now_s += 100.0
    until_trusted(engine)
    assert worker.builds() == 1, "the plan was in the cache"


def test_a_hung_worker_costs_one_deadline(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    engine = until_trusted(engine_for(cpu, worker.socket_path, clock))
    engine._deadline_s = 0.05
    worker.signal_session(signal.SIGSTOP)

    answers = [engine.score(*windows(2)) for _ in range(5)]

    assert engine.tally.fallbacks == {"late": 1, "waiting": 4}
    assert_same(answers[0], cpu.score(*windows(2)), within=0.0)


def test_an_answer_that_comes_too_late_is_not_taken_for_another(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    engine = until_trusted(engine_for(cpu, worker.socket_path, clock))
    engine._deadline_s = 0.05
    worker.signal_session(signal.SIGSTOP)
    engine.score(*windows(7))
    worker.signal_session(signal.SIGCONT)
    engine._deadline_s = 10.0
    clock.now_s += 2.0
    until_trusted(engine)

    assert_same(engine.score(*windows(2)), cpu.score(*windows(2)))


def test_a_listener_that_hangs_costs_nothing_but_its_silence(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    assert worker.process is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    engine = engine_for(cpu, worker.socket_path, clock, deadline_s=600.0)

    for _ in range(20):
        engine.score(*windows(1))
    clock.now_s += 3601.0
    engine.score(*windows(1))

    assert engine.tally.fallbacks == {"opening": 20, "late": 1}


FAILURES = {
    ("execute", "nan"): "nonsense",
    ("execute", "false"): "failed",
    ("execute", "raise"): "failed",
    ("execute", "memory"): "out_of_memory",
    ("execute", "kill"): "died",
    ("broken", ""): "failed",
}


@pytest.mark.parametrize("failure", FAILURES, ids=" ".join)
def test_what_fails_in_the_worker_costs_one_batch(
    failure: tuple[str, str], engine: TensorrtEngine, worker: WorkerProcess, clock: Clock, cpu: OnnxEngine
):
    until_trusted(engine)
    worker.switch(*failure)

    scores = engine.score(*windows(3))

    assert_same(scores, cpu.score(*windows(3)), within=0.0)
    assert engine.tally.fallbacks == {FAILURES[failure]: 1}
    worker.switch_off(failure[0])
    clock.now_s += 2.0
    until_trusted(engine)


def test_a_device_without_memory_is_out_of_memory_until_there_is_some(
    engine: TensorrtEngine, worker: WorkerProcess, clock: Clock
):
    worker.switch("memory")

    until(engine, lambda: engine.tally.fallbacks["out_of_memory"] > 0)

    assert "out of memory" in engine.last_problem
    worker.switch_off("memory")
    clock.now_s += 100.0
    until_trusted(engine)
    assert worker.builds() == 1


@pytest.mark.parametrize(
    ("word", "reason"), [("memory", "out_of_memory"), ("kill", "out_of_memory"), ("none", "failed")]
)
def test_a_build_that_fails_is_told_and_not_tried_again_at_once(
    word: str, reason: str, engine: TensorrtEngine, worker: WorkerProcess, clock: Clock
):
    worker.switch("build", word)

    until(engine, lambda: engine.tally.fallbacks[reason] > 0)
    clock.now_s += 2.0
    before = sum(engine.tally.fallbacks.values())
    until(engine, lambda: sum(engine.tally.fallbacks.values()) - engine.tally.fallbacks["opening"] > before)

    assert worker.builds() == 1


def test_wrong_scores_are_given_up_first_in_fp16_then_altogether(
    engine: TensorrtEngine, worker: WorkerProcess, clock: Clock, cpu: OnnxEngine
):
    worker.switch("execute", "wrong")

    until(engine, lambda: engine.tally.fallbacks["parity"] == 1)
    clock.now_s += 10.0
    until(engine, lambda: engine.tally.fallbacks["parity"] == 2)
    clock.now_s += 10_000.0
    scores = engine.score(*windows(4))

    assert engine.tally.fallbacks["disabled"] == 1
    assert engine.tally.scored == engine.tally.compared == 0
    assert_same(scores, cpu.score(*windows(4)), within=0.0)


def test_what_only_fp16_gets_wrong_is_scored_in_fp32(engine: TensorrtEngine, worker: WorkerProcess, clock: Clock):
    worker.switch("execute", "wrong fp16")

    until(engine, lambda: engine.tally.fallbacks["parity"] == 1)
    clock.now_s += 10.0
    until_trusted(engine)

    assert engine.provider == "TensorRT 10.3.0 fp32 Fake Tegra sm_53"


def test_a_device_that_goes_wrong_later_is_found_out(
    engine: TensorrtEngine, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("detection.tensorrt_client.COMPARED_EVERY", 10)
    until_trusted(engine)
    worker.switch("execute", "wrong")

    for _ in range(10):
        engine.score(*windows(8))

    assert engine.tally.fallbacks["parity"] == 1


def test_a_tolerance_is_kept_to_its_number(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    engine = engine_for(cpu, worker.socket_path, clock)
    engine._tolerance = Tolerance(typical=0.0)

    until(engine, lambda: engine.tally.fallbacks["parity"] == 1)

    assert "fp16" in engine.last_problem


def test_values_beyond_fp16_reach_the_network_whole(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    engine = until_trusted(engine_for(cpu, worker.socket_path, clock))
    values, mask = windows(4)
    values *= 1e-3
    values[:, 0, 0] = 70_000.0  # a number of octets; fp16 ends at 65,504
    values[:, 1, 0] = -70_000.0

    scores = engine.score(values, mask)

    assert_same(scores, cpu.score(values, mask), within=2e-3)
    assert engine.tally.scored == 1


def test_a_replaced_model_gets_a_plan_of_its_own(
    engine: TensorrtEngine, cpu: OnnxEngine, worker: WorkerProcess, clock: Clock
):
    until_trusted(engine).close()
    other = model_bytes(-WEIGHTS)
    new_cpu = OnnxEngine(replace(make_bundle(), path=Path("somewhere"), model=other))

    replaced = until_trusted(engine_for(new_cpu, worker.socket_path, clock, model=other))

    assert_same(replaced.score(*windows(5)), new_cpu.score(*windows(5)))
    assert worker.builds() == 2


def test_another_model_than_the_cpu_s_does_not_pass(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    engine = engine_for(cpu, worker.socket_path, clock, model=model_bytes(-WEIGHTS))

    until(engine, lambda: engine.tally.fallbacks["parity"] == 1)

    assert engine.tally.scored == 0


def test_two_clients_have_their_scores_and_one_build(
    engine: TensorrtEngine, cpu: OnnxEngine, worker: WorkerProcess, clock: Clock
):
    second = engine_for(cpu, worker.socket_path, clock)
    second.score(*windows(1))

    until_trusted(engine)
    until_trusted(second)

    for count in (3, 200, 9):
        assert_same(engine.score(*windows(count)), cpu.score(*windows(count)))
        assert_same(second.score(*windows(count + 1)), cpu.score(*windows(count + 1)))
    assert worker.builds() == 1


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[socket.socket]:
    """A listener that says what the test wants."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "impostor"))
        listener.listen()
        yield listener


@pytest.mark.parametrize(
    "answer",
    [b"x", b"PTRT", b"\0" * 86, os.urandom(86), b"PTRT" + b"\xff" * 82, b"PTRT\x01\0\x03\0" + b"\xff" * 78],
    ids=["short", "magic", "zeros", "noise", "version", "sequence"],
)
def test_garbage_for_an_answer_is_counted(answer: bytes, impostor: socket.socket, cpu: OnnxEngine, clock: Clock):
    engine = engine_for(cpu, impostor.getsockname(), clock)
    engine.score(*windows(1))
    with impostor.accept()[0] as connection:
        connection.send(answer)

        scores = engine.score(*windows(2))

    assert_same(scores, cpu.score(*windows(2)), within=0.0)
    assert engine.tally.fallbacks == {"opening": 1, "garbage": 1}


def told(status: int, *, sequence: int, count: int = 0) -> bytes:
    header = tensorrt_worker.HEADER.pack(
        tensorrt_worker.MAGIC, tensorrt_worker.VERSION, tensorrt_worker.ANSWER, sequence
    )
    return header + tensorrt_worker.ANSWER_BODY.pack(status, count, b"a worker's words")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (told(tensorrt_worker.OK, sequence=2, count=31), "garbage"),
        (told(tensorrt_worker.OK, sequence=1, count=32), "garbage"),
        (told(tensorrt_worker.BUILDING, sequence=2, count=32), "garbage"),
        (told(99, sequence=2, count=32), "garbage"),
        (told(tensorrt_worker.OK, sequence=2, count=32), "nonsense"),
        (told(tensorrt_worker.OUT_OF_MEMORY, sequence=2), "out_of_memory"),
        (b"", "died"),
    ],
    ids=["fewer", "old", "not yet", "status", "nothing written", "memory", "empty"],
)
def test_an_answer_to_another_question_is_none(
    answer: bytes, reason: str, impostor: socket.socket, cpu: OnnxEngine, clock: Clock
):
    engine = engine_for(cpu, impostor.getsockname(), clock)
    engine.score(*windows(1))
    with impostor.accept()[0] as connection:
        connection.send(told(tensorrt_worker.OK, sequence=1))
        connection.send(answer)  # to the probe of 32 windows

        scores = engine.score(*windows(2))

    assert_same(scores, cpu.score(*windows(2)), within=0.0)
    assert engine.tally.fallbacks == {"opening": 1, reason: 1}


def test_a_worker_of_a_user_nobody_named_is_not_believed(worker: WorkerProcess, cpu: OnnxEngine, clock: Clock):
    engine = engine_for(cpu, worker.socket_path, clock)
    engine._uids = frozenset({os.geteuid() + 1})

    engine.score(*windows(1))

    assert engine.tally.fallbacks == {"stranger": 1}


def test_leaving_closes_every_descriptor(cpu: OnnxEngine, worker: WorkerProcess, clock: Clock):
    before = descriptors()
    engine = until_trusted(engine_for(cpu, worker.socket_path, clock))

    engine.close()

    assert descriptors() - before == set()


def test_without_memfd_the_cpu_scores(
    worker: WorkerProcess, cpu: OnnxEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delattr(os, "memfd_create")
    engine = engine_for(cpu, worker.socket_path, clock)

    engine.score(*windows(1))

    assert engine.tally.fallbacks == {"unavailable": 1}
    assert "memfd_create" in engine.last_problem


def test_the_probe_is_the_same_each_time_and_leaves_fp16_behind():
    medians = np.geomspace(1e-3, 1e6, F).astype(np.float32)

    values, mask = probe_windows(medians, window=W)

    assert values.tobytes() == probe_windows(medians, window=W)[0].tobytes()
    assert np.isfinite(values).all()
    assert values.max() > 65_504 > np.median(values[values > 0])
    assert sorted(set(mask.sum(axis=1).astype(int))) == list(range(1, W + 1))
    assert not values[mask == 0].any()
