"""`make fuzz`: build, show that the sanitizers are awake, fuzz each target for its share of the time, look for leaks.

One line a target on stdout; ends with 1 where anything was found, with 69 where clang is missing. What libFuzzer says
is kept beside the corpus it grew, in .cache/fuzz; an input that breaks something lies in .cache/fuzz/findings.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz.build import CACHE, TREE, CannotBuild, build, environment
from tests.fuzz.corpus import CORPUS
from tests.fuzz.targets import TARGETS

FINDINGS = CACHE / "findings"
PLANTED = {"read_beyond": "heap-buffer-overflow", "overflow": "signed integer overflow", "raise_error": "IndexError"}
SLOWEST_S = 20  # for one input: it is a few kilobytes, and the machine may be busy with other work
EX_UNAVAILABLE = 69


def child(*words: str, log: Path) -> int:
    """Run tests/fuzz/child.py under the sanitizers; return its exit status. What it says goes to the log."""
    command = [sys.executable, "-m", "tests.fuzz.child", *words]
    with log.open("ab") as said:
        return subprocess.run(command, cwd=TREE, env=environment(), stdout=said, stderr=said, check=False).returncode


def sleeping(folder: Path) -> list[str]:
    """Return the planted mistakes that nobody noticed."""
    unseen = []
    for mistake, said in PLANTED.items():
        log = folder / f"planted-{mistake}.log"
        log.unlink(missing_ok=True)
        if child("planted", mistake, log=log) == 0 or said not in log.read_text(errors="replace"):
            unseen.append(mistake)
    return unseen


def fuzz(name: str, seconds: int, *, rss_mb: int) -> tuple[str, bool]:
    """Fuzz one target; return its summary line and whether something was found."""
    target, log = TARGETS[name], CACHE / f"{name}.log"
    grown, findings, words = CACHE / "corpus" / name, FINDINGS / name, CACHE / f"{name}.dict"
    log.unlink(missing_ok=True)
    for folder in (grown, findings):
        folder.mkdir(parents=True, exist_ok=True)
    words.write_text("".join('"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n' for word in target.words))
    before = set(findings.iterdir())
    limits = [f"-max_total_time={seconds}", f"-max_len={target.max_bytes}", f"-timeout={SLOWEST_S}"]
    limits += [f"-rss_limit_mb={rss_mb}", f"-malloc_limit_mb={rss_mb // 4}"]
    limits += [f"-dict={words}"] if target.words else []
    say = [f"-artifact_prefix={findings}/", "-print_final_stats=1", "-use_value_profile=1"]
    status = child("fuzz", name, *limits, *say, str(grown), str(CORPUS / name), log=log)
    crashed = status != 0
    leaking = not crashed and child("leaks", name, str(grown), str(CORPUS / name), log=log) != 0
    found = sorted(set(findings.iterdir()) - before)
    line = f"{name:10} {summary(log.read_text(errors='replace'))}, corpus {len(list(grown.iterdir())):,}"
    line += f", findings {len(found) or int(crashed) + int(leaking)}"
    line += "".join(f"\n  {path}" for path in found) + (f"\n  {log}" if crashed or leaking else "")
    return line + ("\n  the heap goes on growing" if leaking else ""), crashed or leaking


def summary(log: str) -> str:
    """Return executions, speed, edges and memory as libFuzzer last told them, and what a replay left on the heap."""
    statuses = re.findall(r"^#(\d+)\s.* cov: (\d+) ft: (\d+)", log, re.MULTILINE)
    executions, edges, features = statuses[-1] if statuses else ("0", "0", "0")
    told = dict(re.findall(r"^stat::(\w+):\s+(\d+)", log, re.MULTILINE))
    executions = told.get("number_of_executed_units", executions)
    edge_count = re.findall(r"\((\d+) inline 8-bit counters\)|\((\d+) counters\)", log)
    of = f" of {int(edge_count[0][0] or edge_count[0][1]):,}" if edge_count else ""
    leaks = re.findall(r", ([+-][\d,]+) in the last round", log)
    return (
        f"{int(executions):,} executions, {told.get('average_exec_per_sec', '?')}/s, {int(edges):,}{of} edges, "
        f"{int(features):,} features, {told.get('peak_rss_mb', '?')} MiB at most, heap {leaks[-1] if leaks else '?'}"
    )


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (600)")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    parser.add_argument("--rss-mb", type=int, default=1024, help="a process above this is a finding (1024)")
    parser.add_argument("--fresh", action="store_true", help="forget the corpus earlier runs have grown")
    parser.add_argument("--again", type=Path, help="run one input of the one target, and say all there is to say")
    options = parser.parse_args()
    if options.again and len(options.target or ()) != 1:
        parser.error("--again wants one --target")
    try:
        print("fuzz: compiling the core under sanitizers", flush=True)
        build()
    except CannotBuild as exc:
        print(f"fuzz: {exc}", file=sys.stderr)
        return EX_UNAVAILABLE
    if options.fresh:
        shutil.rmtree(CACHE / "corpus", ignore_errors=True)
    unseen = sleeping(CACHE)
    if unseen:
        print(f"fuzz: nobody noticed the planted {', '.join(unseen)}: the sanitizers are not at work", file=sys.stderr)
        return 1
    if options.again:
        log = CACHE / "again.log"
        log.unlink(missing_ok=True)
        status = child("fuzz", options.target[0], str(options.again.resolve()), log=log)
        print(log.read_text(errors="replace"))
        return int(status != 0)
    names = options.target or list(TARGETS)
    shares = sum(TARGETS[name].share for name in names)
    found = False
    for name in names:
        line, broke = fuzz(name, max(1, int(options.seconds * TARGETS[name].share / shares)), rss_mb=options.rss_mb)
        print(line, flush=True)
        found |= broke
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
