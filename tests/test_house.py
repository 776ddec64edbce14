"""What holds for the tree as a whole: sizes, names, words, what an import may load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
# A path on somebody's own machine; a note to self; a secret.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.}])/(?:home|root|work|Users)/[\w.]"),
    "a note to self": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}


def tracked_files() -> list[Path]:
    """Return the files git tracks; skips the test where this is not a git checkout."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=120)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_no_module_outside_the_tests_is_longer_than_400_lines():
    sources = [path for path in tracked_files() if path.suffix in {".py", ".pyx", ".pxd"}]
    sources = [path for path in sources if "tests" not in path.relative_to(ROOT).parts]

    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}

    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_result_that_is_kept_is_above_a_megabyte():
    kept = [path for path in tracked_files() if path.parent.name == "results"]

    assert {path.name: path.stat().st_size for path in kept if path.stat().st_size > 1_000_000} == {}


def test_no_module_is_a_drawer():
    names = {path.stem for path in tracked_files()} | {path.parent.name for path in tracked_files()}

    assert names & {"utils", "common", "helpers", "misc"} == set()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str):
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in FORBIDDEN[what].finditer(text)]

    assert found == []


@pytest.mark.parametrize("module", ["agent.cli", "detection", "contracts", "flowfeatures"])
def test_importing_what_the_gateway_runs_loads_no_torch_no_scapy_all_and_no_runtime(module: str):
    heavy = "torch", "scapy.all", "onnxruntime", "onnx", "matplotlib", "pandas", "pyarrow", "sklearn"
    script = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"

    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout.strip() == "[]"


def test_scoring_leaves_nothing_in_the_home_folder(tmp_path: Path):
    """onnxruntime keeps a device id and a queue of usage events there, unless it is told not to."""
    pytest.importorskip("onnxruntime")
    script = (
        "from contracts.bundle import default_bundle; from detection.onnx_engine import OnnxEngine;"
        "OnnxEngine(default_bundle())"
    )

    subprocess.run([sys.executable, "-B", "-c", script], cwd=ROOT, env={"HOME": str(tmp_path)}, check=True, timeout=120)

    assert list(tmp_path.rglob("*")) == []


def test_onnxruntime_is_imported_in_one_module():
    sources = [path for path in tracked_files() if path.suffix == ".py" and "tests" not in path.parts]

    importing = [
        str(path.relative_to(ROOT))
        for path in sources
        if re.search(r"""^\s*(?:from|import) onnxruntime|import_module\("onnxruntime"\)""", path.read_text(), re.M)
    ]

    assert importing == ["detection/onnx_engine.py"]


def test_scapy_is_imported_in_one_module_at_most():
    sources = [path for path in tracked_files() if path.suffix in {".py", ".pyx"}]
    shipped = [path for path in sources if path.relative_to(ROOT).parts[0] not in {"tests", "lab", "benchmarks"}]

    importing = [path for path in shipped if re.search(r"^\s*(?:from|import) scapy\b", path.read_text(), re.MULTILINE)]

    assert len(importing) <= 1, importing


def test_the_only_model_in_the_tree_is_the_shipped_bundle():
    models = [path.relative_to(ROOT) for path in tracked_files() if path.suffix in {".onnx", ".pt", ".npz", ".pkl"}]

    assert [str(path) for path in models if path.parts[:2] != ("models", "default")] == []


def test_make_help_names_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()) - {"help"}

    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout

    assert set(re.findall(r"^make (\S+)", helped, re.MULTILINE)) == targets
