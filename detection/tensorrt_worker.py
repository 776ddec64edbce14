"""TensorRT as processes of its own, run by JetPack's interpreter; `detection.tensorrt_client` is their other end.

A program of one file in the syntax of Python 3.6, standard library and `tensorrt` only, for TensorRT 8.2 (Jetson Nano)
to 10.x. It listens on a Unix socket (SOCK_SEQPACKET: a message is a datagram) and forks a session for each client. A
session takes a model and a piece of shared memory by descriptor, has the plan built by a child (`tensorrt_build.py`
beside it) and scores what lies in the memory. The trap: CUDA does not outlive a fork; the listener never touches it.
"""

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import mmap
import os
import pwd
import select
import signal
import socket
import struct
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Tuple  # noqa: UP035 - what Python 3.6 has

# ruff: noqa: UP006 - list[int] is not for Python 3.6

MAGIC, VERSION = b"PTRT", 1
OPEN, SCORE, ANSWER = 1, 2, 3
OK, BUILDING, BAD_REQUEST, BAD_MODEL, OUT_OF_MEMORY, FAILED = range(6)
HEADER = struct.Struct("<4sHHQ")  # magic, version, kind, sequence: one more than in the message before
OPEN_BODY = struct.Struct("<32sQ6I")  # the model's sha256 and length, the five sizes of Shape, number of the precision
SCORE_BODY = struct.Struct("<I")  # windows in the batch
ANSWER_BODY = struct.Struct("<HI64s")  # status, windows in the batch, what to tell people
PRECISIONS = ("fp32", "fp16")
MAX_MESSAGE_BYTES, MAX_MODEL_BYTES, MAX_PLAN_BYTES, MAX_SESSIONS = 256, 16 << 20, 256 << 20, 8
OPEN_WITHIN_S = 10  # a client that says nothing for so long after connecting is put out
LOAD_WITHIN_S, SCORE_WITHIN_S = 300, 30  # a session that hangs in the driver for longer is ended by its alarm
BUILD_WITHIN_S = 3600  # a build that takes longer is taken for hung
F_GET_SEALS, SHRINK, GROW, WRITE = 1034, 2, 4, 8  # seals of a memfd; fcntl names them from Python 3.9 on
CUDARTS = ("libcudart.so.10.2", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13", "libcudart.so")


class Shape(NamedTuple):
    """The sizes both ends agree on, and where each array lies in the shared memory."""

    window: int
    features: int
    classes: int
    embedding: int
    max_batch: int

    def arrays(self) -> Dict[str, Tuple[int, ...]]:
        """Return the six float32 arrays in the order they stand in the memory, each with its axes behind the batch."""
        return {
            "windows": (self.window, self.features), "mask": (self.window,), "probabilities": (self.classes,),
            "embedding": (self.embedding,), "unknown_score": (), "attention": (self.window,),
        }  # fmt: skip

    def row_bytes(self, name: str) -> int:
        count = 1
        for axis in self.arrays()[name]:
            count *= axis
        return count * ctypes.sizeof(ctypes.c_float)

    def offsets(self) -> Dict[str, int]:
        """Return where each array begins, on multiples of 256, and under "" how many octets all of them take."""
        offsets, at = {}, 0
        for name in self.arrays():
            offsets[name] = at
            at += -(-self.max_batch * self.row_bytes(name) // 256) * 256
        offsets[""] = at
        return offsets


class Refusal(Exception):
    """What a client is answered with instead of scores; `status` is the protocol's word for it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Cuda:
    """The few functions of libcudart that scoring needs. Raises OSError where there is no such library."""

    def __init__(self) -> None:
        for name in CUDARTS:
            with contextlib.suppress(OSError):
                self.lib = ctypes.CDLL(name)
                break
        else:
            raise OSError("no libcudart: looked for " + ", ".join(CUDARTS))
        self.lib.cudaGetErrorString.restype = ctypes.c_char_p
        self.stream = ctypes.c_void_p()
        self.check("cudaStreamCreate", ctypes.byref(self.stream))

    def check(self, function: str, *arguments: Any) -> None:
        """Call it; raises Refusal where memory is short, RuntimeError where only a new process can help."""
        code = getattr(self.lib, function)(*arguments)
        if code != 0:
            self.lib.cudaGetLastError()  # forget it, where it can be forgotten
            text = f"{function}: {self.lib.cudaGetErrorString(code).decode('ascii', 'replace')}"
            raise Refusal(OUT_OF_MEMORY, text) if code == 2 else RuntimeError(text)  # 2: cudaErrorMemoryAllocation

    def device(self) -> str:
        """Return the device's name and compute capability, as `NVIDIA Tegra X1 sm_53`."""
        properties = ctypes.create_string_buffer(16384)  # a struct of about 1 KB, in any release; the name comes first
        self.check("cudaGetDeviceProperties", properties, ctypes.c_int(0))
        capability = [ctypes.c_int(), ctypes.c_int()]
        for number, attribute in zip(capability, (75, 76)):  # noqa: B905 - major, minor
            self.check("cudaDeviceGetAttribute", ctypes.byref(number), ctypes.c_int(attribute), ctypes.c_int(0))
        return f"{properties.value.decode('utf-8', 'replace')} sm_{capability[0].value}{capability[1].value}"

    def allocate(self, size: int) -> int:
        address = ctypes.c_void_p()
        self.check("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value or 0

    def copy(self, to: int, source: int, size: int, *, kind: int) -> None:
        """Copy in stream order; kind 1 is from the host to the device, 2 back."""
        addresses = ctypes.c_void_p(to), ctypes.c_void_p(source)
        self.check("cudaMemcpyAsync", *addresses, ctypes.c_size_t(size), ctypes.c_int(kind), self.stream)


class Plan:
    """A plan on the device, with memory for its largest batch. Raises Refusal where it does not fit the client."""

    def __init__(self, trt: Any, cuda: Cuda, plan: bytes, shape: Shape) -> None:
        self.cuda, self.shape = cuda, shape
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self.engine = self.runtime.deserialize_cuda_engine(plan) if plan else None  # type: Any
        if self.engine is None:
            raise Refusal(FAILED, "TensorRT does not take the plan")
        self.is_named = hasattr(self.engine, "num_io_tensors")  # from 8.5 on; bindings by number are gone in 10
        self.names = self._checked_names(trt.float32)
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise Refusal(OUT_OF_MEMORY, "no memory for an execution context")
        self.memory = {name: cuda.allocate(shape.max_batch * shape.row_bytes(name)) for name in self.names}
        for count in (1, shape.max_batch):  # kernels are loaded when first run: not while a client waits
            self._execute(count)

    def _checked_names(self, float32: Any) -> List[str]:
        engine = self.engine
        if self.is_named:
            names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
            seen = {each: (tuple(engine.get_tensor_shape(each)), engine.get_tensor_dtype(each)) for each in names}
        else:
            names = [engine.get_binding_name(index) for index in range(engine.num_bindings)]
            seen = {each: (tuple(engine.get_binding_shape(each)), engine.get_binding_dtype(each)) for each in names}
        if seen != {name: ((-1, *axes), float32) for name, axes in self.shape.arrays().items()}:
            raise Refusal(BAD_MODEL, f"other arrays than asked for: {sorted((name, seen[name][0]) for name in seen)}")
        return names

    def _execute(self, count: int) -> None:
        context, stream = self.context, self.cuda.stream.value or 0
        inputs = {name: (count, *self.shape.arrays()[name]) for name in ("windows", "mask")}
        if self.is_named:
            is_ready = all(context.set_input_shape(name, axes) for name, axes in inputs.items())
            is_ready = is_ready and all(context.set_tensor_address(name, self.memory[name]) for name in self.names)
            is_done = is_ready and context.execute_async_v3(stream)
        else:
            is_ready = all(context.set_binding_shape(self.names.index(name), inputs[name]) for name in inputs)
            is_done = is_ready and context.execute_async_v2([self.memory[name] for name in self.names], stream)
        self.cuda.check("cudaStreamSynchronize", self.cuda.stream)
        if not is_done:
            raise Refusal(FAILED, "TensorRT did not execute the plan")

    def score(self, address: int, count: int) -> None:
        """Score the first windows of the shared memory at an address; afterwards their scores lie there."""
        offsets = self.shape.offsets()
        for name in ("windows", "mask"):
            self.cuda.copy(self.memory[name], address + offsets[name], count * self.shape.row_bytes(name), kind=1)
        self._execute(count)
        for name in ("probabilities", "embedding", "unknown_score", "attention"):
            self.cuda.copy(address + offsets[name], self.memory[name], count * self.shape.row_bytes(name), kind=2)
        self.cuda.check("cudaStreamSynchronize", self.cuda.stream)


class Session:
    """One client, from its first message to its last, in a process of its own."""

    def __init__(self, connection: socket.socket, settings: argparse.Namespace) -> None:
        self.connection, self.settings, self.sequence = connection, settings, 0
        self.plan = None  # type: Any # a Plan, from OPEN on
        self.memory = None  # type: Any # a view of the mapping, which lives as long as the view

    def run(self) -> None:
        """Answer until the client leaves. Raises Refusal (told to the client), OSError where it is gone."""
        self.connection.settimeout(OPEN_WITHIN_S)
        while True:
            descriptors = []  # type: List[int]
            try:
                room, wish = socket.CMSG_SPACE(8 * 4), socket.MSG_CMSG_CLOEXEC
                message, extra, flags, _ = self.connection.recvmsg(MAX_MESSAGE_BYTES, room, wish)
                for _, kind, content in extra:
                    if kind == socket.SCM_RIGHTS:
                        descriptors += memoryview(content[: len(content) // 4 * 4]).cast("i")
                if not message:
                    return
                self._handle(message, flags, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            self.connection.settimeout(None)

    def answer(self, status: int, text: str, count: int = 0) -> None:
        body = ANSWER_BODY.pack(status, count, text.encode("ascii", "replace")[:64])
        self.connection.send(HEADER.pack(MAGIC, VERSION, ANSWER, self.sequence) + body)

    def _handle(self, message: bytes, flags: int, descriptors: List[int]) -> None:
        is_whole = not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) and len(message) >= HEADER.size
        magic, version, kind, sequence = HEADER.unpack(message[: HEADER.size]) if is_whole else (b"", 0, 0, 0)
        if (magic, version, sequence) != (MAGIC, VERSION, self.sequence + 1):
            raise Refusal(BAD_REQUEST, "no message of this protocol, or out of sequence")
        self.sequence, body = sequence, message[HEADER.size :]
        if kind == OPEN and not self.plan and len(body) == OPEN_BODY.size and len(descriptors) == 2:
            self._open(body, *descriptors)
        elif kind == SCORE and self.plan and len(body) == SCORE_BODY.size:
            (count,) = SCORE_BODY.unpack(body)
            if not 1 <= count <= self.plan.shape.max_batch:
                raise Refusal(BAD_REQUEST, "more windows than agreed on, or none")
            signal.alarm(SCORE_WITHIN_S)
            self.plan.score(ctypes.addressof(self.memory), count)
            signal.alarm(0)
            self.answer(OK, "", count)
        else:
            raise Refusal(BAD_REQUEST, "not what can be asked for now")

    def _open(self, body: bytes, model: int, memory: int) -> None:
        digest, model_bytes, *sizes, precision = OPEN_BODY.unpack(body)
        shape = Shape(*sizes)
        seen, most = (*sizes, model_bytes, precision + 1), (256, 1024, 64, 4096, 256, MAX_MODEL_BYTES, len(PRECISIONS))
        if not all(1 <= number <= limit for number, limit in zip(seen, most)):  # noqa: B905 - strict is not in 3.6
            raise Refusal(BAD_REQUEST, "sizes or precision out of bounds")
        check_sealed(model, SHRINK | GROW | WRITE, model_bytes)
        check_sealed(memory, SHRINK | GROW, shape.offsets()[""])
        if hashlib.sha256(os.pread(model, model_bytes, 0)).digest() != digest:
            raise Refusal(BAD_MODEL, "the model is not the one whose sha256 was named")
        self.memory = (ctypes.c_char * shape.offsets()[""]).from_buffer(mmap.mmap(memory, shape.offsets()[""]))
        trt, cuda = importlib.import_module("tensorrt"), Cuda()
        if not 8 <= int(trt.__version__.split(".")[0]) <= 10:
            raise Refusal(FAILED, f"TensorRT {trt.__version__}, wanted 8.2 to 10")
        key = {"tensorrt": trt.__version__, "device": cuda.device(), "precision": PRECISIONS[precision]}
        key.update(shape._asdict(), model=digest.hex(), workspace_mib=self.settings.workspace_mib)
        signal.alarm(BUILD_WITHIN_S + LOAD_WITHIN_S)
        self.plan = self._plan(trt, cuda, key, shape, model)
        signal.alarm(0)
        self.answer(OK, f"{trt.__version__} {key['precision']} {key['device']}")

    def _plan(self, trt: Any, cuda: Cuda, key: Dict[str, Any], shape: Shape, model: int) -> Plan:
        """Load the plan of a key from the cache; where there is none that works, have it built first."""
        name = json.dumps(key, sort_keys=True)
        path = os.path.join(self.settings.cache, hashlib.sha256(name.encode()).hexdigest()[:32] + ".plan")
        digest, content = read_plan(path, name)
        try:
            return Plan(trt, cuda, content, shape)
        except Refusal as exc:
            if exc.status != FAILED:
                raise
        self.answer(BUILDING, "")
        self._build(key, name, path, digest, model)
        return Plan(trt, cuda, read_plan(path, name)[1], shape)

    def _build(self, key: Dict[str, Any], name: str, path: str, stale: str, model: int) -> None:
        """Have another plan built than the stale one. Raises Refusal."""
        names = "window", "features", "max_batch", "precision", "workspace_mib"
        options = [f"--{each.replace('_', '-')}={key[each]}" for each in names]
        timing = hashlib.sha256(f"{key['tensorrt']} {key['device']}".encode()).hexdigest()[:32] + ".timing"
        options += [f"--plan={path}", f"--name={name}", f"--stale={stale}", f"--model-fd={model}"]
        options += [f"--timing={os.path.join(self.settings.cache, timing)}"]
        builder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tensorrt_build.py")
        try:
            code = subprocess.call([sys.executable, builder, *options], pass_fds=[model], timeout=BUILD_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Refusal(FAILED, "the build hung") from None
        if code != 0:  # ten above our word for it; or -9, with which the kernel ends a process where memory is short
            known = {10 + BAD_MODEL: BAD_MODEL, 10 + OUT_OF_MEMORY: OUT_OF_MEMORY, -signal.SIGKILL: OUT_OF_MEMORY}
            raise Refusal(known.get(code, FAILED), f"no plan: the build ended with {code}")


def check_sealed(descriptor: int, seals: int, size: int) -> None:
    """Raise Refusal unless nobody can shrink the file any more: reading past its end would end this process."""
    try:
        is_sealed = fcntl.fcntl(descriptor, F_GET_SEALS) & seals == seals
    except OSError:
        is_sealed = False
    if not is_sealed or os.fstat(descriptor).st_size < size:
        raise Refusal(BAD_REQUEST, f"a descriptor is no sealed memory of {size} octets or more")


def read_plan(path: str, name: str) -> Tuple[str, bytes]:
    """Return the digest and content of a plan in the cache; content is empty for none, a damaged or another one."""
    try:
        with open(path, "rb") as file:
            digest, rest = file.read(64), file.read(MAX_PLAN_BYTES)
        os.utime(path)  # the least lately used leaves first
    except OSError:
        return "", b""
    head = name.encode() + b"\n"
    is_whole = hashlib.sha256(rest).hexdigest().encode() == digest and rest.startswith(head)
    return digest.decode("ascii", "replace"), rest[len(head) :] if is_whole else b""


def say(text: str) -> None:
    print("penstock-tensorrt: " + text, file=sys.stderr, flush=True)


def serve(connection: socket.socket, settings: argparse.Namespace) -> None:
    """Run one session to its end, and tell the client why where it is we who end it."""
    session = Session(connection, settings)
    try:
        session.run()
    except Exception as exc:  # whatever it is, it ends this session and no other
        say(f"ends a session: {type(exc).__name__}: {exc}")
        status = exc.status if isinstance(exc, Refusal) else OUT_OF_MEMORY if isinstance(exc, MemoryError) else FAILED
        with contextlib.suppress(OSError):  # the client may be gone
            session.answer(status, str(exc))


def listen(settings: argparse.Namespace) -> socket.socket:
    """Return the listening socket, open to its group. Raises OSError where another worker has it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        if other.connect_ex(settings.socket) == 0:
            raise OSError("another worker listens there")
    if os.path.exists(settings.socket) and not os.path.isfile(settings.socket):
        os.unlink(settings.socket)
    os.umask(0o117)
    listener.bind(settings.socket)
    os.umask(0o077)
    os.makedirs(settings.cache, mode=0o700, exist_ok=True)
    facts = os.stat(settings.cache)
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise OSError(settings.cache + " must be this user's, and nobody else's to write: a plan is a program")
    listener.listen(MAX_SESSIONS)
    return listener


def accept(listener: socket.socket, settings: argparse.Namespace, sessions: List[int]) -> None:
    """Fork a session for the next client, if it may have one."""
    connection = listener.accept()[0]
    uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    if uid not in settings.uids or len(sessions) >= MAX_SESSIONS:
        say(f"put out a client of user {uid}; {len(sessions)} have a session")
    else:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no session outlives the listener
            listener.close()
            try:
                serve(connection, settings)
            finally:
                os._exit(0)  # whatever happens here, what follows is the listener's
        sessions.append(pid)
    connection.close()


def notify(state: bytes) -> None:
    """Tell systemd, where it listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state, "\0" + path[1:] if path.startswith("@") else path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Score windows with TensorRT for the agent on this machine.")
    parser.add_argument("--socket", default="/run/penstock-tensorrt/socket", help="where to listen")
    parser.add_argument("--cache", default="/var/cache/penstock-tensorrt", help="folder for built plans")
    parser.add_argument("--user", action="append", default=[], help="user that may connect, besides root and this one")
    parser.add_argument("--workspace-mib", type=int, default=64, help="memory a plan may use while it runs")
    settings = parser.parse_args()
    settings.uids = {0, os.geteuid(), *(pwd.getpwnam(user).pw_uid for user in settings.user)}
    if importlib.util.find_spec("tensorrt") is None:
        say("this interpreter has no tensorrt; run it with JetPack's: /usr/bin/python3")
        return 69
    try:
        listener = listen(settings)
    except OSError as exc:
        say(f"cannot listen at {settings.socket}: {exc}")
        return 73
    sessions = []  # type: List[int]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        notify(b"READY=1")
        while True:
            if select.select([listener], [], [], 1.0)[0]:
                accept(listener, settings, sessions)
            sessions[:] = [pid for pid in sessions if os.waitpid(pid, os.WNOHANG)[0] == 0]
            notify(b"WATCHDOG=1")
    finally:
        os.unlink(settings.socket)


if __name__ == "__main__":
    sys.exit(main())
