"""The local page: what `penstock status` says, for a browser, on the listener of the metrics and read-only.

Two paths: `/`, one file without anything from elsewhere, and `/facts.json`, which it asks every two seconds. The trap
is that any web site may point a name at 127.0.0.1 and ask in a visitor's browser, so only known names in the Host
header are answered. Another is that devices name themselves: what they say goes out as JSON alone, and the file makes
text of it, never markup (its policy forbids markup from a script, and any script but its own).
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config.values import host_and_port
from agent.monitoring.facts import AgentFacts, FactsBoard
from agent.monitoring.listener import Answer, Request
from agent.monitoring.status_page import problems_of
from agent.monitoring.status_server import StatusReport

FILE: Final = Path(__file__).with_name("page.html")
PAGE, FACTS = "/", "/facts.json"
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
EVERYWHERE: Final = frozenset({"0.0.0.0", "[::]"})
PROTECTION: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


@dataclass(frozen=True, kw_only=True)
class PageReport:
    """What the page is made of."""

    now_us: int
    """The agent's time of day: ages are told by it, whatever the browser's clock says."""
    problems: tuple[str, ...]
    """What an operator has to look at, as `penstock status` says it."""
    history: Mapping[str, list[float]]
    status: StatusReport


class LocalPage:
    """Answers requests for the page; of any other path it says nothing."""

    def __init__(
        self,
        board: FactsBoard,
        *,
        hosts: Iterable[str],
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        from pydantic import TypeAdapter

        self._board = board
        self._hosts = LOCAL | {host.lower() for host in hosts}
        self._now_us = now_us
        self._adapter = TypeAdapter(PageReport)
        self._html = FILE.read_bytes()
        self._policy = ("Content-Security-Policy", policy_of(self._html.decode()))
        self._made: tuple[AgentFacts | None, int, bytes] = (None, 0, b"")

    def answer(self, request: Request) -> Answer | None:
        """Return the answer to a GET or HEAD of one of the two paths, None for others."""
        if request.path not in (PAGE, FACTS):
            return None
        if host_of(request.headers.get("host", "")) not in self._hosts:
            return Answer.text(421, "not a name of this page; the setting metrics.page_hosts lists them", *PROTECTION)
        if request.path == PAGE:
            return Answer(200, "text/html; charset=utf-8", self._html, (*PROTECTION, self._policy))
        return Answer(200, "application/json", self._report(), PROTECTION)

    def _report(self) -> bytes:
        """Return the report, made once for the same facts and second of age: asking often must cost little."""
        facts, second = self._board.latest, int(self._board.age_s or 0)
        made, at, octets = self._made
        if made is not facts or at != second:
            now_us, status = self._now_us(), StatusReport.of(self._board)
            report = PageReport(
                now_us=now_us,
                problems=tuple(problems_of(status, now_us=now_us)),
                history=self._board.history.series(),
                status=status,
            )
            octets = self._adapter.dump_json(report)
            self._made = facts, second, octets
        return octets


def hosts_of(listen: str, more: Iterable[str]) -> frozenset[str]:
    """Return the names a page is asked for by, beside the local ones: its address, unless that is any, and others.

    >>> sorted(hosts_of("192.168.1.2:9744", ["cellar.lan"]))
    ['192.168.1.2', 'cellar.lan']
    """
    host, _ = host_and_port(listen)
    own = f"[{host}]" if ":" in host else host
    return frozenset(more) | ({own} - EVERYWHERE)


def host_of(header: str) -> str:
    """Return the host in a Host header, without its port, in lower case; empty where it names none.

    The port is not looked at: it is another one where a tunnel leads here.

    >>> host_of("LocalHost:9744"), host_of("[::1]:80"), host_of("localhost@evil.example")
    ('localhost', '[::1]', '')
    """
    match = re.fullmatch(r"([A-Za-z0-9_.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", header)
    return match[1].lower() if match else ""


def policy_of(html: str) -> str:
    """Return the policy under which the page's own script and style run, known by their digests, and nothing else."""
    own = {
        tag: base64.b64encode(hashlib.sha256(_only(tag, html).encode()).digest()).decode()
        for tag in ("script", "style")
    }
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{own['script']}'",
            f"style-src 'sha256-{own['style']}'",
            "connect-src 'self'",
            "img-src data:",  # its icon stands in the file
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _only(tag: str, html: str) -> str:
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return str(text)
