"""Build one TensorRT plan for this device and end: the child that `detection.tensorrt_worker` starts for it.

A program of one file in the syntax of Python 3.6, standard library and `tensorrt` only, for TensorRT 8.2 to 10.x. A
build takes minutes and may need more memory than a small board has, so it runs in a process that the kernel may end
first. The trap: fp16 ends at 65,504, and raw columns (octets, microseconds) do not.
"""

import argparse
import ctypes
import fcntl
import hashlib
import importlib
import os
import signal
import sys
import tempfile
import time
from typing import Any, Tuple  # noqa: UP035 - what Python 3.6 has

# ruff: noqa: UP006 - tuple[...] is not for Python 3.6

MAX_MODEL_BYTES = 16 << 20
MAX_TIMING_BYTES = 16 << 20
OPTIMAL_BATCH = 16  # a gateway's usual batch; TensorRT chooses its kernels for it
BAD_MODEL, OUT_OF_MEMORY, FAILED = 13, 14, 15  # exit codes: ten above the worker's word for the same
# Layers, by their names in 8.2 to 10.x, before which values are raw and behind which they are not: those that multiply
# by weights, and the borders of the loop that TensorRT's parser makes of a GRU or LSTM.
BORDERS = ("MATRIX_MULTIPLY", "CONVOLUTION", "FULLY_CONNECTED", "RNN_V2", "ITERATOR", "TRIP_LIMIT", "RECURRENCE")
CONSTANTS = ("CONSTANT", "SHAPE")
PLAN, FAILED_MARK, TIMING = ".plan", ".failed", ".timing"
KEEP = 8  # plans in the cache: a few models, two precisions
AGAIN_S = 600  # a build that failed, or was killed, is not tried again before


class NoPlan(Exception):
    """There is none to be had, and why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def build_plan(trt: Any, model: bytes, timing: bytes, settings: argparse.Namespace) -> Tuple[bytes, bytes]:
    """Return the plan and the timing cache for the next build; raises NoPlan."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise NoPlan(BAD_MODEL, "no model TensorRT reads: " + "; ".join(errors))
    config = builder.create_builder_config()
    workspace_bytes = settings.workspace_mib << 20
    if hasattr(config, "set_memory_pool_limit"):  # from 8.4 on
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    else:
        config.max_workspace_size = workspace_bytes
    add_profile(builder, config, settings)
    config.set_timing_cache(config.create_timing_cache(timing), False)
    if settings.precision == "fp16" and builder.platform_has_fast_fp16:
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        keep_raw_values_wide(trt, network)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise NoPlan(FAILED, "TensorRT built no plan; its own words stand above")
    cache = config.get_timing_cache()
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def add_profile(builder: Any, config: Any, settings: argparse.Namespace) -> None:
    """Let the plan take every batch from 1 to the largest."""
    most = settings.max_batch
    profile = builder.create_optimization_profile()
    for name, axes in (("windows", (settings.window, settings.features)), ("mask", (settings.window,))):
        profile.set_shape(name, *((count, *axes) for count in (1, min(OPTIMAL_BATCH, most), most)))
    if config.add_optimization_profile(profile) < 0:
        raise NoPlan(BAD_MODEL, "the model's inputs do not take this batch, window and number of features")


def keep_raw_values_wide(trt: Any, network: Any) -> int:
    """Keep in fp32 what touches raw columns, up to the first border. Return how many layers were pinned."""
    passed_over = [getattr(trt.LayerType, name) for name in BORDERS + CONSTANTS if hasattr(trt.LayerType, name)]
    raw = {network.get_input(index).name for index in range(network.num_inputs)}
    pinned = 0
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        is_raw = any(each is not None and each.name in raw for each in inputs)
        if layer.type in passed_over or not is_raw or any(each.dtype != trt.float32 for each in outputs):
            continue
        layer.precision = trt.float32
        for index, output in enumerate(outputs):
            layer.set_output_type(index, trt.float32)
            raw.add(output.name)
        pinned += 1
    return pinned


def read_timing(path: str) -> bytes:
    """Return the timing cache a build left there, or nothing where it is missing, damaged or too large."""
    try:
        with open(path, "rb") as file:
            digest, timing = file.read(64), file.read(MAX_TIMING_BYTES)
    except OSError:
        return b""
    return timing if hashlib.sha256(timing).hexdigest().encode() == digest else b""


def write(path: str, content: bytes) -> None:
    """Write a file behind its digest, whole or not at all, even where the power goes."""
    handle, draft = tempfile.mkstemp(prefix=".draft-", dir=os.path.dirname(path))
    with os.fdopen(handle, "wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def clean(folder: str) -> None:
    """Leave the plans used last, and no draft of a build that was killed. Only under the lock."""
    names = os.listdir(folder)
    drafts = [os.path.join(folder, name) for name in names if name.startswith(".draft-")]
    kinds = [
        [os.path.join(folder, name) for name in names if name.endswith(end)] for end in (PLAN, FAILED_MARK, TIMING)
    ]
    for kind in kinds:
        drafts += sorted(kind, key=os.path.getmtime)[:-KEEP]
    for path in drafts:
        os.unlink(path)


def is_built(path: str, stale: str) -> bool:
    """Tell whether another build left a plan there meanwhile."""
    try:
        with open(path, "rb") as file:
            return file.read(64).decode("ascii", "replace") != stale
    except OSError:
        return False


def be_the_first_to_go() -> None:
    """Ask the kernel to end this process, not the agent, when memory runs out; leave the agent the processor."""
    os.nice(10)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no build outlives the session that wants it
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # a sandbox without /proc; the build works all the same


def main() -> int:
    parser = argparse.ArgumentParser(description="Build one TensorRT plan; started by tensorrt_worker.py.")
    for number in ("model-fd", "window", "features", "max-batch", "workspace-mib"):
        parser.add_argument("--" + number, type=int, required=True)
    parser.add_argument("--precision", choices=("fp32", "fp16"), required=True)
    for text in ("plan", "name", "stale", "timing"):
        parser.add_argument("--" + text, required=True)
    settings = parser.parse_args()
    be_the_first_to_go()
    folder, failed = os.path.dirname(settings.plan), settings.plan + FAILED_MARK
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time: a board has memory for one
        if is_built(settings.plan, settings.stale):
            return 0
        if os.path.exists(failed) and time.time() - os.path.getmtime(failed) < AGAIN_S:
            print("penstock-tensorrt: the build failed a short time ago", file=sys.stderr)
            return FAILED
        open(failed, "w").close()  # taken away at the end: a build that is killed leaves it
        code = build(settings)
        if code == 0:
            os.unlink(failed)
        clean(folder)
        return code


def build(settings: argparse.Namespace) -> int:
    """Build, and keep what was built; return the exit code."""
    model = os.pread(settings.model_fd, MAX_MODEL_BYTES, 0)
    try:
        plan, timing = build_plan(importlib.import_module("tensorrt"), model, read_timing(settings.timing), settings)
    except NoPlan as exc:
        print(f"penstock-tensorrt: no plan: {exc}", file=sys.stderr)
        return exc.code
    except MemoryError:
        return OUT_OF_MEMORY
    write(settings.plan, settings.name.encode() + b"\n" + plan)
    if timing:
        write(settings.timing, timing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
