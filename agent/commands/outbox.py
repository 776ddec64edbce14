"""`penstock outbox`: the letters that wait for the broker, read from the file, beside the agent or without one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agent.commands.status import asked, read_report
from agent.config import AgentConfig, conf_d_of, default_file, load_config
from agent.console.ages import ago, span
from agent.console.outfile import printing
from agent.delivery.contents import Contents, Pile, contents_of
from agent.delivery.outbox import Bounds
from agent.live.outlets import bounds_of
from agent.monitoring.facts import DeliveryFacts
from agent.state.rules import STATE_DIR
from contracts.errors import ListenError
from contracts.terminal import printable

HEADINGS: Final = {"minute": "< 1 min", "hour": "< 1 h", "day": "< 1 d", "older": "older", "unknown": "unknown"}
TOLD: Final = ("broker", "broker_state", "broker_reason", "in_flight", "delivered", "dropped")

EPILOG = """\
FILE is what --outbox of replay or run named, or the temporary file that a replay left; without one it is the agent's.
Nothing is changed, and the agent is not held up: letters leave by themselves once the broker takes them.

examples:
  sudo penstock outbox
  sudo penstock outbox --json | jq .waiting
  penstock outbox /tmp/penstock-outbox-x3k9.db
  sudo watch -n 2 penstock outbox
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock outbox`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="an outbox, instead of the agent's")
    add("--config", type=Path, metavar="FILE", help="configuration that says where the agent's stands")
    add("--state-dir", type=Path, metavar="DIR", help=f"folder of the agent's state, instead (default {STATE_DIR})")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Show what waits and return the exit code."""
    now_us = time.time_ns() // 1000
    config = None if args.file is not None else _configured(args)
    path, bounds = _place(args, config)
    contents = contents_of(path, now_us=now_us)
    agent = _sending(config, path)
    with printing() as stream:
        if args.json:
            stream.write(json.dumps(_tree(path, contents, bounds, agent)) + "\n")
        else:
            stream.writelines(printable(line) + "\n" for line in _lines(path, contents, bounds, agent, now_us=now_us))
    return 0


def _configured(args: argparse.Namespace) -> AgentConfig | None:
    """Return the agent's settings, None where no file has them or only a folder is named. Raises ConfigError."""
    file = args.config or default_file()
    if file is None or (args.state_dir is not None and args.config is None):
        return None
    return load_config(file.absolute(), conf_d=conf_d_of(file.absolute()), environ=os.environ, overrides={})


def _place(args: argparse.Namespace, config: AgentConfig | None) -> tuple[Path, Bounds | None]:
    """Return the file and what it may hold; of a file that is not the agent's only its owner knows that."""
    if args.file is not None:
        return args.file, None
    if config is None:
        return (args.state_dir or STATE_DIR) / "outbox.db", Bounds()
    folder = args.state_dir or config.gateway.state_dir
    return config.outbox.path or folder / "outbox.db", bounds_of(config)


def _sending(config: AgentConfig | None, path: Path) -> DeliveryFacts | None:
    """Return what the agent that owns the file says of its broker, None where none answers."""
    if config is None or not config.status.enabled:
        return None
    try:
        facts = read_report(asked(config.status.socket), config.status.socket).facts.delivery
    except ListenError:
        return None
    return facts if facts.outbox_path == str(path) else None


def _lines(
    path: Path, contents: Contents, bounds: Bounds | None, agent: DeliveryFacts | None, *, now_us: int
) -> Iterator[str]:
    most = "" if bounds is None else f" of {bounds.rows:,}"
    most_bytes = "" if bounds is None else f" of {bounds.size_bytes:,}"
    yield f"outbox   {path}"
    yield f"letters  {contents.letters:,}{most}, {contents.size_bytes:,}{most_bytes} octets"
    if contents.oldest_us is not None:
        kept = "" if bounds is None else f"; kept for {span(bounds.age_s)}"
        yield f"oldest   {_text(contents.oldest_us)}, {ago(contents.oldest_us, now_us)} ago{kept}"
    if agent is not None:
        lost = ", ".join(f"{reason} {count:,}" for reason, count in agent.dropped if count)
        yield f"broker   {agent.broker_reason or f'{agent.broker}: {agent.broker_state}'}, {agent.in_flight} in flight"
        yield f"since its start the agent delivered {agent.delivered:,}, dropped {lost or 'none'}"
    for each, size_bytes in contents.aside:
        yield f"aside    {each}, {size_bytes:,} octets: damaged, or of a later format; nothing sends it"
    if contents.piles:
        yield ""
        yield from _table(contents.piles, now_us=now_us)


def _table(piles: tuple[Pile, ...], *, now_us: int) -> Iterator[str]:
    """Give a row per topic and severity, with its letters by age."""
    rows: defaultdict[tuple[str, int], list[Pile]] = defaultdict(list)
    for pile in piles:
        rows[printable(pile.topic), pile.severity].append(pile)
    width = max(len(topic) for topic, _ in rows)
    ages = "".join(f"{heading:>9}" for heading in HEADINGS.values())
    yield f"{'topic':<{width}}  severity  letters      octets  {'oldest':<11}{ages}"
    for (topic, severity), same in rows.items():
        letters, octets = sum(each.letters for each in same), sum(each.size_bytes for each in same)
        oldest = ago(min(each.oldest_us for each in same), now_us)
        counts = {each.age: each.letters for each in same}
        ages = "".join(f"{counts.get(age, 0):>9,}" for age in HEADINGS)
        yield f"{topic:<{width}}  {severity:>8}  {letters:>7,}  {octets:>10,}  {oldest:<11}{ages}"


def _tree(path: Path, contents: Contents, bounds: Bounds | None, agent: DeliveryFacts | None) -> dict[str, Any]:
    tree: dict[str, Any] = {"path": str(path), "letters": contents.letters, "size_bytes": contents.size_bytes}
    tree["oldest_us"] = contents.oldest_us
    tree["most"] = None if bounds is None else dataclasses.asdict(bounds)
    tree["waiting"] = [dataclasses.asdict(pile) for pile in contents.piles]
    tree["aside"] = [{"path": str(each), "size_bytes": size_bytes} for each, size_bytes in contents.aside]
    tree["agent"] = None if agent is None else {name: getattr(agent, name) for name in TOLD}
    if agent is not None:
        tree["agent"]["dropped"] = dict(agent.dropped)
    return tree


def _text(at_us: int) -> str:
    try:
        return datetime.fromtimestamp(at_us // 1_000_000, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at_us} us, which is in no calendar"
