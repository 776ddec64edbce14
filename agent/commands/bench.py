"""`penstock bench`: what scoring costs on this device, by engine and batch size, and which settings suit it.

It scores windows of every length around the bundle's benign medians; no packet is read and nothing is sent. The trap: a
board throttles when it grows hot, so temperatures and clocks stand beside the numbers, from before and after. What a
machine does not tell (rails, a mode) is said to be not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.config import conf_d_of, default_file, load_config
from agent.config.watching import ScoringSection
from agent.console.outfile import WholeFile, printing
from agent.measure.advice import SHARE_OF_DEADLINE, Advice, advise
from agent.measure.device import clock_words, fingerprint, moment
from agent.measure.plot import can_plot, draw
from agent.measure.timing import Contender, Floats, Result, measure
from agent.monitoring.board import Board
from agent.options.engine import MODEL_FLOAT, SOCKET, engine_of
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.errors import BundleError, ConfigError, OutputError, UsageError
from contracts.program import folder
from contracts.terminal import complain, printable
from detection.onnx_engine import CPU, OnnxEngine, import_runtime
from detection.tensorrt_client import TensorrtEngine, probe_windows

EPILOG = """\
examples:
  penstock bench
  penstock bench -o ./on-this-board    # bench.json and, with matplotlib, bench.png
  penstock bench --batch 1 --json | jq '.results[] | {engine, p99_ms}'
  sudo penstock bench --apply          # write the recommended settings into conf.d/50-bench.toml
"""
BATCHES: Final = (1, 4, 16, 64, 256)
CALLS: Final = 1000
CONF_NAME: Final = "50-bench.toml"
ELSEWHERE: Final = frozenset({"AzureExecutionProvider"})  # scores on another machine
NOT_MEASURED: Final = "not measured"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock bench`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--bundle", type=folder, metavar="DIR", help="score with this bundle (default: the one in the package)")
    add("--batch", type=_batch, action="append", metavar="N", help=f"windows at once, may be repeated {BATCHES}")
    add("--calls", type=_calls, default=CALLS, metavar="N", help="timed calls of each engine and batch (%(default)s)")
    add("--tensorrt-socket", default=SOCKET, metavar="PATH", help="of the worker (default %(default)s)")
    wait_help = "seconds to wait for the worker's plan (default %(default)g)"
    add("--wait", type=float, default=600.0, metavar="S", help=wait_help)
    add("-o", "--output", type=folder, metavar="DIR", help="write bench.json there, and bench.png with matplotlib")
    add("--json", action="store_true", help="print one JSON object")
    add("--apply", action="store_true", help=f"write the recommended settings into conf.d/{CONF_NAME}")
    config_help = "whose deadline counts, and what --apply adds to (default /etc/penstock/agent.toml)"
    add("--config", type=Path, metavar="FILE", help=config_help)
    add("--root", type=folder, default=Path("/"), metavar="DIR", help="where proc, sys and etc stand (default /)")


def run(args: argparse.Namespace) -> int:
    """Measure, say what was seen, and return the exit code."""
    config_file, deadline_ms = _settings(args)
    bundle = default_bundle() if args.bundle is None else load_bundle(args.bundle)
    if bundle.unsigned:
        complain(f"{args.bundle}: unsigned, used because it was named")
    content, results, advice = measured(bundle, args, deadline_ms=deadline_ms)
    with printing() as stream:
        if args.json:
            stream.write(json.dumps(content, indent=2) + "\n")
        else:
            stream.writelines(line + "\n" for line in lines(content, results, advice))
    if args.output is not None:
        _write(args.output, content, results)
    if args.apply:
        assert config_file is not None
        if advice is None:
            raise UsageError("bench --apply: nothing was measured that scoring.engine could be set to")
        apply(config_file, advice)
    return 0


def measured(
    bundle: Bundle, args: argparse.Namespace, *, deadline_ms: int
) -> tuple[dict[str, Any], list[Result], Advice | None]:
    """Return everything as one JSON object, the results, and what they speak for."""
    batches = sorted(set(args.batch or BATCHES))
    device = fingerprint(args.root)
    contenders, absent = contenders_of(bundle, socket_path=args.tensorrt_socket, wait_s=args.wait)
    windows, mask = _windows(bundle, most=2 * max(batches))
    board = Board(args.root)
    before, began_s = moment(args.root), time.monotonic()
    results = measure(
        contenders, windows, mask, batches=batches, calls=args.calls, rails=lambda: board.look().power_watts,
        progress=_progress,
    )  # fmt: skip
    _progress("")
    after = moment(args.root)
    results += [Result(engine=name, batch=0, trouble=why) for name, why in absent.items()]
    advice = advise(results, deadline_ms=deadline_ms)
    manifest = bundle.manifest
    content = {
        "device": device,
        "before": before,
        "after": after,
        "deadline_ms": deadline_ms,
        "seconds": round(time.monotonic() - began_s, 3),
        "bundle": {
            "name": manifest.name,
            "release": manifest.release,
            "parameters": manifest.parameters,
            "manifest_sha256": bundle.manifest_sha256,
            "unsigned": bundle.unsigned,
        },
        "not_in_it": "capture, features, waiting for a batch, decisions, alerts",
        "results": [asdict(each) for each in results],
        "power": "watts" if before["power_watts"] else NOT_MEASURED,
        "advice": None if advice is None else asdict(advice),
    }
    return content, results, advice


def contenders_of(bundle: Bundle, *, socket_path: str, wait_s: float) -> tuple[list[Contender], dict[str, str]]:
    """Return the engines there are, and of those that are not to be had by name why."""
    found, absent = [Contender("cpu", OnnxEngine(bundle))], {}
    for name in import_runtime().get_available_providers():
        if name == CPU or name in ELSEWHERE:
            continue
        try:
            engine = OnnxEngine(bundle, provider=name)
        except BundleError as exc:
            absent[name] = str(exc)
            continue
        if engine.provider == name:
            found.append(Contender(name, engine))
        else:
            absent[name] = f"the runtime took {engine.provider} in its place"
    if not Path(socket_path).is_socket():
        absent["tensorrt"] = f"no worker listens at {socket_path}"
    elif MODEL_FLOAT not in bundle.manifest.files:
        absent["tensorrt"] = f"the bundle has no {MODEL_FLOAT}"
    else:
        worker = engine_of(bundle, choice="tensorrt", socket_path=socket_path)
        assert isinstance(worker, TensorrtEngine)
        trouble = _wait_for(worker, bundle, wait_s)
        if trouble:
            absent["tensorrt"] = trouble
        else:
            found.append(Contender("tensorrt", worker))
    return found, absent


def lines(content: dict[str, Any], results: list[Result], advice: Advice | None) -> list[str]:
    """Return what a person reads."""
    device, before, after = content["device"], content["before"], content["after"]
    runtime = next((f"{name} {v}" for name, v in device["packages"].items() if name.startswith("onnx")), "")
    named = device["board"] or device["processor"] or device["architecture"]
    governors = sorted({each["governor"] or "?" for each in device["cpu_clocks"] or ()})
    mode, governor = device["power_mode"] or "not told", ", ".join(governors) or "not told"
    carried = content["bundle"]
    heads = f"{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'windows/s':>12}{'mJ/window':>14}"
    told = [
        f"{named}, {device['cores']} cores, mode {mode}, governor {governor}, {runtime}",
        f"{carried['name']} release {carried['release']}, {carried['parameters']:,} parameters",
        "",
        f"{'engine':<24}{'batch':>6}{heads}",
    ]
    for each in results:
        if each.trouble:
            told.append(f"{each.engine:<24}{each.batch or '':>6}  {NOT_MEASURED}: {each.trouble}")
            continue
        energy = None if each.joules_per_window is None else each.joules_per_window * 1e3
        cells = [_cell(each.p50_ms, 3), _cell(each.p99_ms, 3), _cell(each.p999_ms, 3)]
        row = f"{each.engine:<24}{each.batch:>6}" + "".join(f"{cell:>10}" for cell in cells)
        told.append(f"{row}{_cell(each.windows_per_s, 0):>12}{_cell(energy, 3) if energy else NOT_MEASURED:>14}")
    told += ["", f"clocks: {clock_words(device) or 'not told'}"]
    told += [f"temperatures: {_range(before, after, 'temperatures_celsius', 'C')}"]
    told.append(f"power: {_range(before, after, 'power_watts', 'W')}")
    told.append(f"not in it: {content['not_in_it']}")
    load = max(before["load_1min"] or 0.0, after["load_1min"] or 0.0)
    if load > (device["cores"] or 1) + 1:  # one of it is this program
        told.append(f"the machine was busy (load {load:.1f} on {device['cores']} cores): measure again when it is not")
    told.append("no recommendation" if advice is None else f"recommended: {advice.reason}")
    told.append(f"a window may wait {content['deadline_ms']} ms (scoring.deadline_ms), half of it for its scores")
    if advice is not None and advice.is_slow:
        told.append("no batch leaves half the deadline free: raise scoring.deadline_ms, or take a smaller network")
    return [printable(each) for each in told]


def apply(file: Path, advice: Advice) -> Path:
    """Write the settings into conf.d, where they hold with the rest, and return their file. Raises ConfigError."""
    conf_d = conf_d_of(file)
    assert conf_d is not None
    path = conf_d / CONF_NAME
    before = path.read_text() if path.exists() else None
    try:
        conf_d.mkdir(exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{conf_d}: cannot be made: {exc.strerror or exc}") from exc
    _put(path, advice.toml())
    try:
        config = load_config(file, conf_d=conf_d, environ=os.environ, overrides={})
    except ConfigError:
        path.unlink() if before is None else _put(path, before)
        raise
    complain(f"{path}: written; systemctl restart penstock takes it up")
    if (config.scoring.engine, config.scoring.batch_windows) != (advice.engine, advice.batch_windows):
        complain(f"{path}: something later than it (a file of conf.d, the environment) sets it otherwise")
    return path


def _put(path: Path, text: str) -> None:
    with WholeFile(str(path)) as file:
        file.text.write(text)
        os.fchmod(file.text.fileno(), 0o644)  # no secret; the service's user must read it
        file.commit()


def _write(directory: Path, content: dict[str, Any], results: list[Result]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{directory}: cannot be made: {exc.strerror or exc}") from exc
    with WholeFile(str(directory / "bench.json")) as file:
        file.text.write(json.dumps(content, indent=2) + "\n")
        file.commit()
    if not can_plot():
        complain("no bench.png without matplotlib: pip install 'penstock[plot]'")
        return
    device = content["device"]
    named = device["board"] or device["processor"] or device["architecture"]
    before, after = content["before"], content["after"]
    title, limit_ms = f"{content['bundle']['name']} on {named}", SHARE_OF_DEADLINE * content["deadline_ms"]
    conditions = [
        f"mode {device['power_mode'] or 'not told'}; clocks: {clock_words(device) or 'not told'}",
        f"temperatures: {_range(before, after, 'temperatures_celsius', 'C')}",
        f"power: {_range(before, after, 'power_watts', 'W')}",
        f"not in it: {content['not_in_it']}",
    ]
    with WholeFile(str(directory / "bench.png")) as file:
        file.octets.write(draw(results, title=title, limit_ms=limit_ms, conditions=conditions))
        file.commit()


def _settings(args: argparse.Namespace) -> tuple[Path | None, int]:
    """Return the configuration's file and the deadline it sets, which is the default where no agent is configured.

    Raises ConfigError where a file that was named, or that --apply writes beside, does not hold.
    """
    file = default_file() if args.config is None else args.config.absolute()
    if file is None and args.apply:
        raise UsageError("bench --apply: no /etc/penstock/agent.toml, wanted --config FILE")
    try:
        if file is not None:
            config = load_config(file, conf_d=conf_d_of(file), environ=os.environ, overrides={})
            return file, config.scoring.deadline_ms
    except ConfigError as exc:
        if args.apply or args.config is not None:
            raise
        complain(f"{exc}; measured against the default deadline")
    return None, ScoringSection().deadline_ms


def _windows(bundle: Bundle, *, most: int) -> tuple[Floats, Floats]:
    medians = np.array(bundle.manifest.benign_medians, np.float32)
    return probe_windows(medians, window=bundle.manifest.window, count=max(64, most))


def _wait_for(worker: TensorrtEngine, bundle: Bundle, wait_s: float) -> str:
    """Let the worker load or build its plan; return why it cannot score, empty where it can."""
    windows, mask = _windows(bundle, most=1)
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        worker.score(windows[:1], mask[:1])
        if worker.tally.scored:
            return ""
        time.sleep(0.02)
    return worker.last_problem or f"no plan within {wait_s:g} s"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _range(before: dict[str, Any], after: dict[str, Any], key: str, unit: str) -> str:
    if not before[key]:
        return NOT_MEASURED
    pairs = [(name, value, (after[key] or {}).get(name, value)) for name, value in before[key].items()]
    return ", ".join(f"{name} {first:.1f} .. {last:.1f} {unit}" for name, first, last in pairs)


def _batch(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a whole number from 1 to 256")
    return int(text)


def _calls(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 10 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a whole number from 10 to 1,000,000")
    return int(text)
