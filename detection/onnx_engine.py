"""ONNX Runtime as an engine: the bundle's model.onnx, checked against its manifest before the first window.

onnxruntime is an extra (`cpu` or `gpu`) and is imported only when an engine is built.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from contracts.classes import HEAD_NAMES
from contracts.errors import BundleCorrupt, MissingExtra, SchemaMismatch
from detection.engine import Scores

MAX_BATCH: Final = 256  # explanations and evidence ask for thousands of windows at once; a gateway has little memory
PROBABILITY_SLACK: Final = 1e-5  # a float32 softmax may leave [0, 1] by its last bits
# The runtime would read weights from any file a model names, and nobody has checked that file; here it finds none.
NO_FOLDER: Final = "/dev/null/no-weights-outside-the-model"
CPU: Final = "CPUExecutionProvider"
OUTPUTS: Final = ("probabilities", "embedding", "unknown_score", "attention")
_RUNTIME_ERRORS: Final = (
    "EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile",
    "NotImplemented", "RuntimeException",
)  # fmt: skip


class OnnxEngine:
    """Score windows with ONNX Runtime, on the CPU unless another of its providers is named.

    Raises MissingExtra without onnxruntime, BundleCorrupt for a model.onnx that is no model or keeps weights in another
    file, SchemaMismatch where its inputs or outputs are not those of the manifest.
    """

    name: Final = "onnxruntime"

    def __init__(self, bundle: Bundle, *, threads: int = 1, provider: str = CPU) -> None:
        runtime = import_runtime()
        errors = _runtime_errors()
        self._model_path = bundle.model_path
        self._shape = (bundle.manifest.window, bundle.manifest.features)
        try:
            self._session = runtime.InferenceSession(
                bundle.model, _options(runtime, threads=threads), providers=[provider]
            )
        except errors as exc:
            raise BundleCorrupt(f"{bundle.model_path}: not a model ONNX Runtime can load ({_first_line(exc)})") from exc
        self.provider: str = self._session.get_providers()[0]
        _check_names(self._session, bundle.model_path)
        try:
            self._nothing = Scores(*(output[:0] for output in self._checked_scores()))
        except errors as exc:
            raise SchemaMismatch(
                f"{bundle.model_path}: does not run on windows of {self._shape} ({_first_line(exc)})"
            ) from exc

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        """Return the scores of float32[B, W, F] under float32[B, W], at most MAX_BATCH windows at a time.

        No windows never reach the runtime: its GRU ends the process on an empty batch (onnxruntime 1.31). Raises
        BundleCorrupt where a score is no probability: compared with a threshold, NaN would find nothing and say so of
        every window.
        """
        starts = range(0, len(windows), MAX_BATCH)
        parts = [self._run(windows[at : at + MAX_BATCH], mask[at : at + MAX_BATCH]) for at in starts]
        for part in parts:
            self._check_probabilities(part)
        if len(parts) == 1:
            return parts[0]
        return Scores(*(np.concatenate(each) for each in zip(self._nothing, *parts, strict=True)))

    def _run(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        return Scores(*self._session.run(OUTPUTS, {"windows": windows, "mask": mask}))

    def _check_probabilities(self, scores: Scores) -> None:
        for output in ("probabilities", "unknown_score"):
            values = getattr(scores, output)
            is_good = (values >= -PROBABILITY_SLACK) & (values <= 1.0 + PROBABILITY_SLACK)  # false for NaN
            if not is_good.all():
                seen = float(values[~is_good].flat[0])
                raise BundleCorrupt(f"{self._model_path}: gave {seen:g} as {output}, wanted a number from 0 to 1")

    def _checked_scores(self) -> Scores:
        """Score two empty windows; raise SchemaMismatch unless every output has the promised shape and is finite."""
        window, features = self._shape
        scores = self._run(np.zeros((2, window, features), np.float32), np.ones((2, window), np.float32))
        wanted = {"probabilities": (2, len(HEAD_NAMES)), "unknown_score": (2,), "attention": (2, window)}
        for output, values in scores._asdict().items():
            shape = wanted.get(output, (2, values.shape[-1]))
            if values.shape != shape or values.dtype != np.float32:
                raise SchemaMismatch(
                    f"{self._model_path}: {output} is {values.dtype}{values.shape}, wanted float32{shape}"
                )
            if not np.isfinite(values).all():
                raise SchemaMismatch(f"{self._model_path}: {output} of an empty window is not finite")
        self._check_probabilities(scores)
        return scores


def import_runtime() -> Any:
    """Return the module onnxruntime, kept from reporting home; raises MissingExtra without it.

    From 1.29 on its Linux wheels write a device id under ~/.cache and send usage events to their maker, beginning at
    import; set before that, this variable stops all of it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as exc:
        raise MissingExtra(
            "no onnxruntime in this environment, wanted to score windows: pip install 'penstock[cpu]'"
        ) from exc


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return the runtime's own exceptions; it gives them no common base of their own."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return tuple(getattr(state, name) for name in _RUNTIME_ERRORS if hasattr(state, name))


def _options(runtime: Any, *, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a gateway has other things to do
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # widen int8 weights once, not at every call
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)
    options.log_severity_level = 4  # its errors are raised as well, and ours say it in one line
    return options


def _check_names(session: Any, model: Path) -> None:
    for kind, seen, wanted in (
        ("inputs", {each.name for each in session.get_inputs()}, {"windows", "mask"}),
        ("outputs", {each.name for each in session.get_outputs()}, set(OUTPUTS)),
    ):
        if seen != wanted:
            raise SchemaMismatch(f"{model}: {kind} are {', '.join(sorted(seen))}, wanted {', '.join(sorted(wanted))}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
