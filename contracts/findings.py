"""What a doctor says: findings, each with its state and what to do, as lines for people and as one JSON object.

`penstock doctor` and `penstock-aggregator doctor` speak alike. Every check is made, whatever the others found.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

from contracts.terminal import printable

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
SOMETHING_FAILS: Final = 1
State: TypeAlias = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What a check saw. `remedy` is what to do, empty where all is well."""

    check: str
    state: State
    seen: str
    remedy: str = ""


def ok(check: str, seen: str) -> Finding:
    """Return a finding that is well."""
    return Finding(check, OK, seen)


def warn(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding the service can work with, and that will be noticed."""
    return Finding(check, WARN, seen, remedy)


def fail(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding the service cannot work with, or that makes what it says wrong."""
    return Finding(check, FAIL, seen, remedy)


def looked(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Give what a check finds; one that breaks down is a finding of its own, and the others are still asked."""
    try:
        yield from check()
    except Exception as exc:
        logging.getLogger("penstock").debug("a check broke down", exc_info=exc)
        yield fail(name, f"could not be looked at: {exc}", "please report it")


def exit_code_of(findings: Sequence[Finding]) -> int:
    """Return what a doctor ends with."""
    return SOMETHING_FAILS if any(each.state == FAIL for each in findings) else 0


def json_text(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON object on one line."""
    counts = Counter(each.state for each in findings)
    summary = {state: counts[state] for state in (OK, WARN, FAIL)}
    content = {"healthy": not counts[FAIL], **summary, "findings": [asdict(each) for each in findings]}
    return json.dumps(content) + "\n"


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Give the findings as lines, each with what to do below it, and a last one that sums them up."""
    width = max(len(each.check) for each in findings)
    for each in findings:
        yield f"{each.state:<4}  {each.check:<{width}}  {printable(each.seen)}"
        if each.remedy:
            yield f"{'':<{width + 8}}-> {printable(each.remedy)}"
    counts = Counter(each.state for each in findings)
    yield f"{counts[OK]} ok, {counts[WARN]} to be looked at, {counts[FAIL]} failed"
