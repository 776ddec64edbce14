"""The compiled core once more, under AddressSanitizer and UndefinedBehaviorSanitizer with coverage, in .cache/fuzz.

What setup.py compiles is compiled, with its directives; then the package is put together beside it. Any Python will do:
the sanitizers' runtime and libFuzzer are preloaded into it (`environment`). Policy: whatever the C standard leaves
undefined is a finding and ends the run, signed overflow, misaligned access and casts out of range included; unsigned
numbers may wrap, since hashes and sequence numbers live by it.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "fuzz"
TREE = CACHE / "tree"
HARNESS = ("driver", "feeder")
NEEDED = "on Debian or Ubuntu: sudo apt-get install clang libclang-rt-14-dev (the number is that of `clang --version`)"

SANITIZE = "-fsanitize=address,undefined,float-cast-overflow"
IGNORED = Path(__file__).with_name("ignored.txt")
COVER = "-fsanitize=fuzzer-no-link"
FLAGS = ("-g", "-O1", "-fPIC", "-fno-omit-frame-pointer")
QUIET = ("-Wno-unused-function", "-Wno-unreachable-code", "-Wno-unreachable-code-fallthrough")


class CannotBuild(Exception):
    """Says what is missing, or what the compiler said."""


def said_by(*command: str) -> str:
    """Return what a command prints; raises CannotBuild where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except FileNotFoundError as exc:
        raise CannotBuild(f"missing: {command[0]}; {NEEDED}") from exc
    except subprocess.CalledProcessError as exc:
        raise CannotBuild(f"{' '.join(command)}\n{exc.stderr.strip()}") from exc


def runtime(name: str) -> Path:
    """Return one of clang's runtime libraries; raises CannotBuild where it is not installed."""
    machine = os.uname().machine
    for file in (name.format(f"-{machine}"), name.format("")):
        found = Path(said_by("clang", f"--print-file-name={file}"))
        if found.is_absolute() and found.exists():
            return found
    raise CannotBuild(f"missing: {name.format('-' + machine)} of clang's runtime; {NEEDED}")


def extensions() -> list[tuple[str, Path, list[str]]]:
    """Return (module, C source, libraries) of what setup.py compiles, translated by Cython, and of the harness."""
    import setuptools
    from Cython.Build import cythonize

    with mock.patch.object(setuptools, "setup") as setup, mock.patch.object(sys, "argv", ["setup.py"]):
        runpy.run_path(str(ROOT / "setup.py"))
    core = setup.call_args.kwargs["ext_modules"]
    harness = cythonize(
        [setuptools.Extension(f"tests.fuzz.{name}", [f"tests/fuzz/{name}.pyx"]) for name in HARNESS],
        build_dir=str(CACHE / "c"),
        compiler_directives={"language_level": 3},
    )
    return [(each.name, ROOT / each.sources[0], list(each.libraries)) for each in (*core, *harness)]


def compile_module(module: str, source: Path, libraries: list[str]) -> None:
    """Compile one module into the cache, if it is older than its source or this file."""
    made = CACHE / "lib" / (module.replace(".", "/") + EXTENSION_SUFFIXES[0])
    newest = max(path.stat().st_mtime for path in (source, Path(__file__), IGNORED))
    if made.exists() and made.stat().st_mtime > newest:
        return
    made.parent.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{ROOT}"]
    how = [SANITIZE, "-fno-sanitize-recover=all", "-shared-libsan", *FLAGS, *QUIET]
    how += [f"-fsanitize-ignorelist={IGNORED}"]
    how += [] if module.startswith("tests.") else [COVER]
    said_by("clang", "-shared", *how, *includes, str(source), *(f"-l{name}" for name in libraries), "-o", f"{made}.new")
    Path(f"{made}.new").replace(made)


def link_libfuzzer() -> Path:
    """Return libFuzzer as a library that can be preloaded."""
    made, archive = CACHE / "libfuzzer.so", runtime("libclang_rt.fuzzer_no_main{}.a")
    if not made.exists() or made.stat().st_mtime < Path(__file__).stat().st_mtime:
        made.parent.mkdir(parents=True, exist_ok=True)
        whole = ("-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive")
        said_by("clang++", "-shared", "-fsanitize=address", "-shared-libsan", *whole, "-o", str(made), "-lm")
    return made


def put_together(modules: list[str]) -> None:
    """Lay the package's Python files and the instrumented modules into one folder, from which a run imports."""
    shutil.rmtree(TREE, ignore_errors=True)
    for folder in ("flowfeatures", "tests/fuzz", "tests/flowfeatures", "tests/oracle"):
        for source in (ROOT / folder).glob("*.py"):
            place = TREE / source.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)
    for module in modules:
        name = module.replace(".", "/") + EXTENSION_SUFFIXES[0]
        (TREE / name).symlink_to(CACHE / "lib" / name)


def build() -> None:
    """Compile what is out of date; raises CannotBuild with the reason where that fails."""
    runtime("libclang_rt.asan{}.so")
    link_libfuzzer()
    every = extensions()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(compile_module, *each) for each in every]:
            done.result()
    put_together([module for module, _, _ in every])


def environment() -> dict[str, str]:
    """Return the environment in which a run imports the instrumented modules.

    Python's own allocations go to malloc, so that AddressSanitizer sees them. Leaks are looked for by replaying the
    corpus (child.py): CPython leaves much behind at its end, all of it reachable.
    """
    asan = {
        "detect_leaks": 0,
        "verify_asan_link_order": 0,  # libFuzzer comes first: its callbacks must win over the runtime's empty ones
        "allocator_may_return_null": 1,
        "detect_stack_use_after_return": 1,
        "strict_string_checks": 1,
        "quarantine_size_mb": 32,
        "handle_abort": 1,
    }
    return os.environ | {
        "LD_PRELOAD": f"{CACHE / 'libfuzzer.so'} {runtime('libclang_rt.asan{}.so')}",
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in asan.items()),
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(TREE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
