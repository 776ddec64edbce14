"""What a doctor says, as lines and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from contracts.findings import Finding, exit_code_of, fail, json_text, lines, looked, ok, warn

SAID = [
    ok("store", "12 entries"),
    warn("certificate", "ends\x1b[2J soon", "renew it"),
    fail("broker", "silent", "start"),
]


def test_a_line_each_with_what_to_do_below_it_and_a_sum():
    assert list(lines(SAID)) == [
        "ok    store        12 entries",
        "warn  certificate  ends\\x1b[2J soon",
        "                   -> renew it",
        "fail  broker       silent",
        "                   -> start",
        "1 ok, 1 to be looked at, 1 failed",
    ]


def test_json_counts_and_a_warning_alone_is_healthy():
    told = json.loads(json_text(SAID[:2]))

    assert {key: told[key] for key in ("healthy", "ok", "warn", "fail")} == {
        "healthy": True, "ok": 1, "warn": 1, "fail": 0,
    }  # fmt: skip
    assert told["findings"][1] == {
        "check": "certificate", "state": "warn", "seen": "ends\x1b[2J soon", "remedy": "renew it",
    }  # fmt: skip
    assert (exit_code_of(SAID[:2]), exit_code_of(SAID)) == (0, 1)


def test_a_check_that_breaks_down_is_a_finding():
    def broken() -> Iterator[Finding]:
        raise RuntimeError("no such thing")
        yield

    assert [(each.check, each.state) for each in looked("broken", broken)] == [("broken", "fail")]
