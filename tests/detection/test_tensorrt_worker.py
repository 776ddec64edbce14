"""The TensorRT worker's own manners: its syntax, its protocol, its plans, its socket."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from detection import tensorrt_build, tensorrt_link, tensorrt_worker
from detection.tensorrt_link import Link, LinkBroken
from detection.tensorrt_worker import HEADER, OPEN_BODY, SCORE_BODY, Shape
from tests.detection.onnx_model import C, F, W, model_bytes
from tests.detection.tensorrt_process import (
    FAKES,
    HANG_GUARD_S,
    RELEASES,
    WORKER,
    WorkerProcess,
    build_cudart,
    fake_module,
)

PROGRAMS = [Path(tensorrt_worker.__file__), Path(tensorrt_build.__file__)]
MODEL = model_bytes(np.random.default_rng(7).normal(size=(F, C)).astype(np.float32) / 100)
SHAPE = Shape(window=W, features=F, classes=C, embedding=F, max_batch=256)
ANYONE = frozenset({0, os.geteuid()})


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cudart(tmp_path_factory.mktemp("cudart"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, libraries: Path) -> Iterator[WorkerProcess]:
    """One worker for all tests that cannot harm it: that they cannot is part of each."""
    with WorkerProcess(tmp_path_factory.mktemp("shared") / "worker", libraries) as running:
        yield running
        assert running.process is not None
        assert running.process.poll() is None


@pytest.fixture
def worker(tmp_path: Path, libraries: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path / "worker", libraries) as running:
        yield running


def opened(worker: WorkerProcess, *, model: bytes = MODEL, precision: str = "fp16", shape: Shape = SHAPE) -> Link:
    """Return a link whose plan is loaded; raises what the worker has to say against it."""
    link = Link(worker.socket_path, shape, uids=ANYONE)
    try:
        link.open(model, precision)
        while not link.is_opened():
            link.wait(HANG_GUARD_S)
    except LinkBroken:
        link.close()
        raise
    return link


def assert_serves(worker: WorkerProcess) -> None:
    """One client gets the scores that numpy computes."""
    link = opened(worker)
    values = np.random.default_rng(1).normal(size=(3, W, F)).astype(np.float32)
    scores = link.score(values, np.ones((3, W), np.float32), deadline_s=HANG_GUARD_S)
    link.close()
    assert np.abs(scores.embedding - values.sum(axis=1)).max() < 0.05


def test_importing_it_needs_no_tensorrt():
    assert "tensorrt" not in sys.modules


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_its_syntax_is_that_of_python_3_6(program: Path):
    ast.parse(program.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_an_interpreter_of_a_jetson_s_release_takes_it(version: str, program: Path, tmp_path: Path):
    """Its compiler and its standard library: `--help` runs every import and every definition of the file."""
    found = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    run = None
    for interpreter in filter(None, found):
        # With no variables: PYTHONPATH is for the interpreter of the tests.
        command = [interpreter, program, "--help"]
        run = subprocess.run(command, env={}, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120)
        if run.returncode == 0:
            break
    if run is None or "command not found" in run.stderr:
        pytest.skip(f"no Python {version} on this machine")

    assert run.stderr == ""
    assert "usage: " + program.name in run.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_it_imports_the_standard_library_alone(program: Path):
    nodes = list(ast.walk(ast.parse(program.read_text())))

    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}

    assert {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("version", RELEASES)
def test_the_fake_has_the_names_and_arguments_that_release_has(version: str, monkeypatch: pytest.MonkeyPatch):
    recorded = json.loads((FAKES / "api.json").read_text())
    wanted = {
        kind: recorded["both"].get(kind, {}) | recorded[version].get(kind, {})
        for kind in recorded["both"] | recorded[version]
    }
    module = fake_module(version, monkeypatch)

    seen: dict[str, dict[str, list[str] | None]] = {}
    for kind, each in vars(module).items():
        if inspect.isclass(each) and each.__module__ == module.__name__ and not kind.startswith("_"):
            names = list(each.__members__) if issubclass(each, Enum) else vars(each)
            seen[kind] = {name: arguments_of(each, name) for name in names if not name.startswith("_")}
            if not issubclass(each, Enum) and "__init__" in wanted.get(kind, {}):
                seen[kind]["__init__"] = arguments_of(each, "__init__")

    del seen["DataType"]  # constants of the module: float32, float16
    seen["Logger"] = {name: seen["Logger"][name] for name in ("__init__", "WARNING")}
    assert seen == wanted


def arguments_of(kind: type, name: str) -> list[str] | None:
    member = inspect.getattr_static(kind, name)
    return list(inspect.signature(member).parameters)[1:] if inspect.isfunction(member) else None


class Raw:
    """A client that writes its messages itself."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(HANG_GUARD_S)
        self.socket.connect(worker.socket_path)
        self.descriptors: list[int] = []

    def memory(self, size: int, *, content: bytes = b"", seals: int = 0, is_sealed: bool = True) -> int:
        descriptor = tensorrt_link._sealed("test", content, size, seals) if is_sealed else os.memfd_create("test")
        if not is_sealed:
            os.ftruncate(descriptor, size)
        self.descriptors.append(descriptor)
        return descriptor

    def open_body(
        self, *, digest: bytes = hashlib.sha256(MODEL).digest(), size: int = len(MODEL), **sizes: int
    ) -> bytes:
        return OPEN_BODY.pack(digest, size, *SHAPE._replace(**sizes), 1)

    def send(self, kind: int, body: bytes, *, sequence: int = 1, descriptors: list[int] | None = None) -> None:
        header = HEADER.pack(tensorrt_worker.MAGIC, tensorrt_worker.VERSION, kind, sequence)
        socket.send_fds(self.socket, [header + body], descriptors or [])

    def status(self) -> int | None:
        """Return the status of the last answer before the worker hangs up, None if there was none."""
        last = None
        try:
            while message := self.socket.recv(256):
                last = tensorrt_worker.ANSWER_BODY.unpack(message[HEADER.size :])[0]
                if last == tensorrt_worker.OK:
                    break
        except ConnectionResetError:
            pass
        return last

    def close(self) -> None:
        self.socket.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


@pytest.fixture
def raw(shared: WorkerProcess) -> Iterator[Raw]:
    client = Raw(shared)
    yield client
    client.close()


MODEL_SEALS = 8  # F_SEAL_WRITE


def model_of(raw: Raw) -> int:
    return raw.memory(len(MODEL), content=MODEL, seals=MODEL_SEALS)


def arrays_of(raw: Raw) -> int:
    return raw.memory(SHAPE.offsets()[""])


@pytest.mark.parametrize(
    "message",
    [
        b"\0",
        b"x" * 15,
        b"PTRT" + b"\0" * 12,
        os.urandom(64),
        os.urandom(4096),
        HEADER.pack(b"PTRT", 1, 1, 2),
        b"P" * 256,
    ],
    ids=["nul", "short", "version", "noise", "long", "sequence", "full"],
)
def test_garbage_is_answered_with_a_refusal(message: bytes, raw: Raw, shared: WorkerProcess):
    raw.socket.send(message)

    assert raw.status() == tensorrt_worker.BAD_REQUEST
    assert_serves(shared)


Open = Callable[[Raw], tuple[bytes, list[int]]]
BAD_OPENS: dict[str, tuple[Open, int]] = {
    "no descriptors": (lambda raw: (raw.open_body(), []), tensorrt_worker.BAD_REQUEST),
    "one descriptor": (lambda raw: (raw.open_body(), [model_of(raw)]), tensorrt_worker.BAD_REQUEST),
    "nine descriptors": (lambda raw: (raw.open_body(), [model_of(raw)] * 9), tensorrt_worker.BAD_REQUEST),
    "short body": (lambda raw: (raw.open_body()[:-1], [model_of(raw), arrays_of(raw)]), tensorrt_worker.BAD_REQUEST),
    "no window": (lambda raw: (raw.open_body(window=0), [model_of(raw), arrays_of(raw)]), tensorrt_worker.BAD_REQUEST),
    "a batch of 257": (
        lambda raw: (raw.open_body(max_batch=257), [model_of(raw), arrays_of(raw)]), tensorrt_worker.BAD_REQUEST,
    ),
    "an empty model": (
        lambda raw: (raw.open_body(size=0), [model_of(raw), arrays_of(raw)]), tensorrt_worker.BAD_REQUEST,
    ),
    "a model shorter than said": (
        lambda raw: (raw.open_body(size=len(MODEL) + 1), [model_of(raw), arrays_of(raw)]), tensorrt_worker.BAD_REQUEST,
    ),
    "a model that can change": (
        lambda raw: (raw.open_body(), [raw.memory(len(MODEL), content=MODEL), arrays_of(raw)]),
        tensorrt_worker.BAD_REQUEST,
    ),
    "a memory too short": (
        lambda raw: (raw.open_body(), [model_of(raw), raw.memory(SHAPE.offsets()[""] - 1)]),
        tensorrt_worker.BAD_REQUEST,
    ),
    "a memory that can shrink": (
        lambda raw: (raw.open_body(), [model_of(raw), raw.memory(SHAPE.offsets()[""], is_sealed=False)]),
        tensorrt_worker.BAD_REQUEST,
    ),
    "a pipe for a memory": (
        lambda raw: (raw.open_body(), [model_of(raw), *pipe_of(raw)]), tensorrt_worker.BAD_REQUEST,
    ),
    "another sha256": (
        lambda raw: (raw.open_body(digest=b"\1" * 32), [model_of(raw), arrays_of(raw)]), tensorrt_worker.BAD_MODEL,
    ),
}  # fmt: skip


def pipe_of(raw: Raw) -> list[int]:
    ends = os.pipe()
    raw.descriptors.extend(ends)
    return [ends[0]]


@pytest.mark.parametrize("case", BAD_OPENS)
def test_an_opening_that_does_not_hang_together_is_refused(case: str, raw: Raw, shared: WorkerProcess):
    make, status = BAD_OPENS[case]
    body, descriptors = make(raw)

    raw.send(tensorrt_worker.OPEN, body, descriptors=descriptors)

    assert raw.status() == status
    assert_serves(shared)


def test_scores_before_a_model_are_refused(raw: Raw):
    raw.send(tensorrt_worker.SCORE, SCORE_BODY.pack(1))

    assert raw.status() == tensorrt_worker.BAD_REQUEST


@pytest.mark.parametrize("count", [0, 257, 2**32 - 1])
def test_more_windows_than_agreed_on_are_refused(count: int, raw: Raw):
    raw.send(tensorrt_worker.OPEN, raw.open_body(), descriptors=[model_of(raw), arrays_of(raw)])
    assert raw.status() == tensorrt_worker.OK

    raw.send(tensorrt_worker.SCORE, SCORE_BODY.pack(count), sequence=2)

    assert raw.status() == tensorrt_worker.BAD_REQUEST


@pytest.mark.parametrize("sequence", [0, 2, 2**64 - 1])
def test_a_conversation_that_does_not_begin_with_1_is_refused(sequence: int, raw: Raw):
    body, descriptors = raw.open_body(), [model_of(raw), arrays_of(raw)]

    raw.send(tensorrt_worker.OPEN, body, sequence=sequence, descriptors=descriptors)

    assert raw.status() == tensorrt_worker.BAD_REQUEST


@pytest.mark.parametrize("sequence", [1, 3])
def test_a_question_out_of_sequence_is_refused(sequence: int, raw: Raw):
    raw.send(tensorrt_worker.OPEN, raw.open_body(), descriptors=[model_of(raw), arrays_of(raw)])
    assert raw.status() == tensorrt_worker.OK

    raw.send(tensorrt_worker.SCORE, SCORE_BODY.pack(1), sequence=sequence)

    assert raw.status() == tensorrt_worker.BAD_REQUEST


def test_a_second_model_on_a_connection_is_refused(raw: Raw):
    raw.send(tensorrt_worker.OPEN, raw.open_body(), descriptors=[model_of(raw), arrays_of(raw)])
    assert raw.status() == tensorrt_worker.OK

    raw.send(tensorrt_worker.OPEN, raw.open_body(), sequence=2, descriptors=[model_of(raw), arrays_of(raw)])

    assert raw.status() == tensorrt_worker.BAD_REQUEST


def test_a_session_keeps_the_mapping_and_no_other_descriptor_of_its_client(shared: WorkerProcess):
    link = opened(shared)
    link.score(np.zeros((1, W, F), np.float32), np.ones((1, W), np.float32), deadline_s=HANG_GUARD_S)
    (pid,) = shared.sessions()[-1:]

    held = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    link.close()

    assert [each for each in held if "memfd" in each] == ["/memfd:penstock-arrays (deleted)"]


def test_a_model_that_is_none_is_refused_by_name(worker: WorkerProcess):
    with pytest.raises(LinkBroken, match=r"refused: no plan"):
        opened(worker, model=b"no model at all")

    assert "no model TensorRT reads" in worker.log()


def test_arrays_of_other_sizes_than_the_model_s_are_refused(worker: WorkerProcess):
    with pytest.raises(LinkBroken, match="refused: other arrays"):
        opened(worker, shape=SHAPE._replace(classes=C - 1))


def test_a_client_that_dies_while_its_session_hangs_leaves_the_others_alone(worker: WorkerProcess):
    opened(worker).close()
    worker.switch("execute", "hang")
    victim = os.fork()
    if victim == 0:
        client = Raw(worker)
        client.send(tensorrt_worker.OPEN, client.open_body(), descriptors=[model_of(client), arrays_of(client)])
        signal.pause()
        os._exit(0)
    while len(worker.calls()) < 3:  # build, load, and load by the victim's session
        signal.sigtimedwait([], 0.01)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    worker.switch_off("execute")

    assert_serves(worker)


def test_a_client_that_dies_between_two_batches_ends_its_session(worker: WorkerProcess):
    victim = os.fork()
    if victim == 0:
        opened(worker)
        signal.pause()
    while worker.calls()[-1:] != ["load"]:
        signal.sigtimedwait([], 0.01)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)

    while worker.sessions():
        signal.sigtimedwait([], 0.01)

    assert_serves(worker)


def test_a_session_that_hangs_in_the_driver_ends_itself(tmp_path: Path, libraries: Path):
    with WorkerProcess(tmp_path / "worker", libraries).start(limits="SCORE_WITHIN_S = 2") as worker:
        link = opened(worker)
        worker.switch("execute", "hang")

        with pytest.raises(LinkBroken, match="died"):
            link.score(np.zeros((1, W, F), np.float32), np.ones((1, W), np.float32), deadline_s=HANG_GUARD_S)

        worker.switch_off("execute")
        assert_serves(worker)


def test_a_build_that_hangs_is_ended(tmp_path: Path, libraries: Path):
    for within_s in (1, 5, 25, 60):  # a busy machine needs longer than a second to get as far as the build
        with WorkerProcess(tmp_path / f"{within_s}", libraries).start(limits=f"BUILD_WITHIN_S = {within_s}") as worker:
            worker.switch("build", "hang")

            with pytest.raises(LinkBroken, match="failed: the build hung"):
                opened(worker)

            if worker.builds():
                break

    assert worker.builds() == 1
    assert [path.suffix for path in worker.cache.glob("*") if path.name != "lock"] == [".failed"]


def test_a_client_that_says_nothing_is_put_out(tmp_path: Path, libraries: Path):
    with WorkerProcess(tmp_path / "worker", libraries).start(limits="OPEN_WITHIN_S = 0.1") as worker:
        client = Raw(worker)

        assert client.status() == tensorrt_worker.FAILED
        client.close()


def test_sessions_are_bounded(worker: WorkerProcess):
    clients = [Raw(worker) for _ in range(tensorrt_worker.MAX_SESSIONS + 1)]

    assert clients[-1].status() is None, "put out without a word"
    assert len(worker.sessions()) == tensorrt_worker.MAX_SESSIONS
    for client in clients:
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_put_out(worker: WorkerProcess):
    script = f"import socket; s = socket.socket(1, 5); s.connect({worker.socket_path!r}); print(s.recv(99))"
    os.chmod(worker.socket_path, 0o777)  # the permissions would keep it out before
    for folder in [worker.folder, *worker.folder.parents][:-1]:
        if folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)

    command = ["/usr/bin/python3", "-c", script]
    run = subprocess.run(command, user=65534, capture_output=True, text=True, check=False, timeout=120)

    assert run.stdout.strip() == "b''", run.stderr
    assert "put out a client of user 65534" in worker.log()


def test_the_socket_is_for_its_user_and_group(worker: WorkerProcess):
    assert stat.S_IMODE(os.stat(worker.socket_path).st_mode) == 0o660


def test_it_takes_its_socket_along(worker: WorkerProcess):
    assert worker.process is not None
    worker.process.terminate()
    worker.process.wait(HANG_GUARD_S)

    assert not os.path.exists(worker.socket_path)


def test_a_socket_that_a_killed_worker_left_is_replaced(worker: WorkerProcess):
    worker.__exit__()
    assert os.path.exists(worker.socket_path)

    worker.start()

    assert_serves(worker)


def exit_code_of(worker: WorkerProcess, libraries: Path) -> int:
    second = WorkerProcess(worker.folder, libraries).start(wait=False)
    assert second.process is not None
    return second.process.wait(HANG_GUARD_S)


def test_a_second_worker_at_the_same_socket_leaves_the_first_alone(worker: WorkerProcess, libraries: Path):
    assert exit_code_of(worker, libraries) == 73
    assert_serves(worker)


def test_a_file_at_the_socket_s_place_is_not_removed(tmp_path: Path, libraries: Path):
    (tmp_path / "socket").write_text("precious")

    assert exit_code_of(WorkerProcess(tmp_path, libraries), libraries) == 73
    assert (tmp_path / "socket").read_text() == "precious"


def test_a_cache_that_others_can_write_is_not_used(tmp_path: Path, libraries: Path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)

    assert exit_code_of(WorkerProcess(tmp_path, libraries), libraries) == 73


def test_without_tensorrt_it_says_which_interpreter_has_it(tmp_path: Path):
    command = [sys.executable, WORKER, "--socket", tmp_path / "socket", "--cache", tmp_path / "cache"]

    run = subprocess.run(command, env={}, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert run.returncode == 69
    assert "/usr/bin/python3" in run.stderr


def test_tensorrt_11_is_refused(tmp_path: Path, libraries: Path):
    with (
        WorkerProcess(tmp_path / "worker", libraries, version="11.0.0") as worker,
        pytest.raises(LinkBroken, match=r"failed: TensorRT 11\.0\.0"),
    ):
        opened(worker)


def test_a_plan_is_built_once(worker: WorkerProcess):
    opened(worker).close()
    opened(worker).close()

    assert worker.builds() == 1


@pytest.mark.parametrize("version", RELEASES)
def test_a_build_has_its_bounds(version: str, tmp_path: Path, libraries: Path):
    with WorkerProcess(tmp_path / "worker", libraries, version=version) as worker:
        opened(worker, precision="fp32").close()

        assert worker.calls()[0] == f"build fp16=False timing=0 workspace={64 << 20}"


def test_the_next_build_starts_from_the_last_one_s_timings(worker: WorkerProcess):
    opened(worker).close()
    opened(worker, precision="fp32").close()
    (timing,) = worker.cache.glob("*.timing")
    timing.write_bytes(timing.read_bytes()[:-1])
    opened(worker, model=model_bytes(np.zeros((F, C), np.float32))).close()

    seen = [each.split()[2] for each in worker.calls() if each.startswith("build")]

    assert seen == ["timing=0", "timing=8", "timing=0"], "a damaged one is as good as none"


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: b"",
    ],
    ids=["cut", "last bit", "digest", "empty"],
)
def test_a_damaged_plan_is_built_again(harm: Callable[[bytes], bytes], worker: WorkerProcess):
    opened(worker).close()
    (plan,) = worker.cache.glob("*.plan")
    plan.write_bytes(harm(plan.read_bytes()))

    assert_serves(worker)

    assert worker.builds() == 2
    assert_serves(worker)
    assert worker.builds() == 2


def test_a_plan_under_another_s_name_is_not_taken_for_it(worker: WorkerProcess):
    opened(worker).close()
    (half,) = worker.cache.glob("*.plan")
    opened(worker, precision="fp32").close()
    (single,) = set(worker.cache.glob("*.plan")) - {half}
    shutil.copy(single, half)

    opened(worker).close()

    assert worker.builds() == 3


def test_a_whole_plan_that_tensorrt_refuses_is_built_again(worker: WorkerProcess):
    """As after an update that kept TensorRT's version but not its plans."""
    opened(worker).close()
    (path,) = worker.cache.glob("*.plan")
    rest = path.read_bytes()[64:].replace(b'"version": "10.3.0"', b'"version": "10.2.0"')
    path.write_bytes(hashlib.sha256(rest).hexdigest().encode() + rest)

    assert_serves(worker)

    assert worker.builds() == 2


@pytest.mark.parametrize("changed", [{"version": "8.2.1"}, {"device": "Another GPU"}], ids=str)
def test_a_plan_is_for_one_release_and_device(changed: dict[str, str], worker: WorkerProcess, libraries: Path):
    opened(worker).close()
    worker.__exit__()

    with WorkerProcess(worker.folder, libraries, **changed) as other:
        assert_serves(other)

        assert other.builds() == 2
        assert len(list(other.cache.glob("*.plan"))) == 2


def test_plans_are_bounded_and_the_one_in_use_stays(worker: WorkerProcess):
    opened(worker).close()
    (used,) = worker.cache.glob("*.plan")
    for number in range(tensorrt_build.KEEP):
        old = worker.cache / f"{number:032}.plan"
        old.write_bytes(b"")
        os.utime(old, (number + 1, number + 1))
    (worker.cache / ".draft-killed").write_bytes(b"")

    opened(worker, precision="fp32").close()

    left = {path.name for path in worker.cache.glob("*.plan")}
    assert len(left) == tensorrt_build.KEEP
    assert used.name in left
    assert not (worker.cache / ".draft-killed").exists()


def test_arrays_do_not_overlap_and_fit_the_memory():
    offsets = SHAPE.offsets()

    ends = {name: offsets[name] + SHAPE.max_batch * SHAPE.row_bytes(name) for name in SHAPE.arrays()}

    assert all(ends[one] <= offsets[next_one] for one, next_one in zip(ends, [*list(ends)[1:], ""], strict=True))
    assert all(offset % 256 == 0 for offset in offsets.values())
