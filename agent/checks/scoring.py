"""What scores: the bundle, the runtime and its providers, JetPack's TensorRT and the worker's socket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from agent.checks.patient import Patient
from agent.options.engine import MODEL_FLOAT, SOCKET
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.errors import BundleError, MissingExtra, PenstockError
from contracts.findings import Finding, fail, ok, warn

RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
ASK_TENSORRT: Final = "import tensorrt; print(tensorrt.__version__)"
TENSORRT_WITHIN_S: Final = 30.0  # its libraries are gigabytes on an SD card


def bundle(patient: Patient) -> Iterator[Finding]:
    """Load the bundle that would serve, every file checked."""
    try:
        found = _bundle(patient)
    except BundleError as exc:
        yield fail("bundle", str(exc), "install it anew, or penstock model list and penstock model rollback")
        return
    vouched = "signed by " + found.signer if found.signer else "the package's"
    yield ok("bundle", f"{found.manifest.name} release {found.manifest.release}, {vouched}")


def runtime(patient: Patient) -> Iterator[Finding]:
    """Look which ONNX Runtime is installed: one, and not both, since both own the same folder."""
    places = sys.path if patient.packages is None else list(patient.packages)
    found: dict[str, str] = {}
    for each in distributions(path=places):
        name = _name(each)
        if name in RUNTIMES:
            found.setdefault(name, each.version)
    if len(found) > 1:
        remedy = "pip uninstall onnxruntime onnxruntime-gpu, then install one: both write the same folder"
        yield fail("runtime", " and ".join(f"{name} {version}" for name, version in sorted(found.items())), remedy)
    elif not found:
        yield fail("runtime", "no ONNX Runtime", "pip install 'penstock[cpu]', in the environment of this penstock")
    else:
        yield ok("runtime", " ".join(*found.items()))


def providers(patient: Patient) -> Iterator[Finding]:
    """Build the engine and let it score; say what else the runtime could use."""
    from detection.onnx_engine import OnnxEngine, import_runtime

    try:
        names = [str(name) for name in import_runtime().get_available_providers()]
        engine = OnnxEngine(_bundle(patient))
    except MissingExtra as exc:
        yield fail("providers", str(exc), "pip install 'penstock[cpu]', in the environment of this penstock")
        return
    except PenstockError as exc:
        yield fail("providers", str(exc), "see the line of the bundle")
        return
    others = [name for name in names if name not in (engine.provider, "AzureExecutionProvider")]
    more = f"; also there: {', '.join(others)}" if others else ""
    yield ok("providers", f"{engine.provider} scores{more}")


def tensorrt(patient: Patient) -> Iterator[Finding]:
    """Ask the interpreter that the worker runs in for tensorrt, and whether the worker listens."""
    scoring = None if patient.config is None else patient.config.scoring
    is_wanted = scoring is not None and scoring.engine == "tensorrt"
    is_jetson = bool(patient.text("etc/nv_tegra_release"))
    if not is_jetson and not is_wanted:
        yield ok("tensorrt", "not asked for: no Jetson")
        return
    bad = fail if is_wanted else warn
    said = _tensorrt_version(patient.root / "usr/bin/python3")
    if said is None:
        remedy = 'apt-get install python3-libnvinfer (JetPack), or scoring.engine = "cpu"'
        yield bad("tensorrt", "the system's python3 has no tensorrt", remedy)
        return
    yield ok("tensorrt", f"TensorRT {said} in the system's python3")
    socket = Path(SOCKET if scoring is None else scoring.tensorrt_socket)
    if not socket.is_socket():
        yield bad("tensorrt", f"no worker listens at {socket}", "systemctl enable --now penstock-tensorrt")
    try:
        if MODEL_FLOAT not in _bundle(patient).manifest.files:
            yield bad(
                "tensorrt", f"the bundle has no {MODEL_FLOAT}", "export it with its float graph (docs/tensorrt.md)"
            )
    except BundleError:
        return  # the bundle's own line says it


def _bundle(patient: Patient) -> Bundle:
    scoring = None if patient.config is None else patient.config.scoring
    if scoring is None or scoring.bundle is None:
        return default_bundle()
    return load_bundle(scoring.bundle, trust=scoring.trust_dir)


def _name(distribution: Distribution) -> str:
    return str(distribution.metadata["Name"] or "").lower().replace("_", "-")


def _tensorrt_version(interpreter: Path) -> str | None:
    try:
        asked = subprocess.run(
            [str(interpreter), "-E", "-s", "-c", ASK_TENSORRT],
            capture_output=True, text=True, timeout=TENSORRT_WITHIN_S, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()[:64] or None
