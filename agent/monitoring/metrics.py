"""The page that Prometheus scrapes: the newest facts in its text format, behind a small bounded listener.

The pipeline counts plain ints and posts them; only a scrape makes Prometheus' objects of them, in a thread of the
listener. Where facts grow old, `penstock_facts_age_seconds` shows it: a page that is served says nothing about a
pipeline that hangs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.config import read_secret
from agent.config.certificates import server_context
from agent.config.values import host_and_port
from agent.monitoring.facts import AgentFacts, FactsBoard
from agent.monitoring.histogram import HistogramFacts
from agent.monitoring.listener import Answer, Listener, Request
from agent.monitoring.metric_table import MetricRow, rows
from agent.monitoring.page import LocalPage, hosts_of

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

    from agent.config.telling import MetricsSection

AGE: Final = "penstock_facts_age_seconds"
REQUESTS: Final = "penstock_metrics_requests_total"
PATH: Final = "/metrics"


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """Where the page is served, to whom, and under what protection."""

    listen: str = "127.0.0.1:9744"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cert_file: Path | None = None
    key_file: Path | None = None
    page: bool = False
    """Whether the page for people is served beside (`agent.monitoring.page`)."""
    page_hosts: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: MetricsSection, *, environ: Mapping[str, str]) -> MetricsSettings:
        """Return the settings of `[metrics]`. Raises ConfigError where the password cannot be read."""
        named = section.password_file
        return cls(
            listen=section.listen,
            username=section.username,
            password=None if named is None else read_secret(named, environ=environ),
            cert_file=section.cert_file,
            key_file=section.key_file,
            page=section.page,
            page_hosts=section.page_hosts,
        )


class FactsCollector:
    """Makes Prometheus' families of the newest facts, each time it is asked."""

    def __init__(self, board: FactsBoard, *, requests: Callable[[], Mapping[str, int]] = dict) -> None:
        self._board = board
        self._requests = requests
        self._rows = rows()

    def collect(self) -> Iterator[Metric]:
        """Give every metric that has a series now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        facts = self._board.latest
        for row in self._rows:
            if (metric := _family(row, facts)) is not None:
                yield metric
        if (age_s := self._board.age_s) is not None:
            yield GaugeMetricFamily(AGE, "How old what this page shows is.", value=age_s)
        requests = CounterMetricFamily(REQUESTS, "Requests of this page, by what came of them.", labels=["result"])
        for result, count in self._requests().items():
            requests.add_metric([result], count)
        yield requests


class MetricsServer:
    """Serves `/metrics`, and the local page where it is wanted.

    `start` raises ListenError where the address is taken; ConfigError for a bad certificate comes before.
    """

    def __init__(self, board: FactsBoard, settings: MetricsSettings) -> None:
        self._board = board
        self._made: tuple[tuple[AgentFacts, int] | None, bytes] = (None, b"")
        self._digest = _digest(settings)
        hosts = hosts_of(settings.listen, settings.page_hosts)
        self._local_page = LocalPage(board, hosts=hosts) if settings.page else None
        self._registry = _registry_of(FactsCollector(board, requests=lambda: self.listener.results))
        self.listener = Listener(
            *host_and_port(settings.listen), answer=self._answer, tls=_context(settings), name="penstock-metrics"
        )

    def start(self) -> None:
        """Begin to serve."""
        self.listener.start()

    def stop(self) -> None:
        """End; clients that are being served are not waited for."""
        self.listener.stop()

    def _answer(self, request: Request) -> Answer:
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        if self._digest is not None and not _is_allowed(request, self._digest):
            return Answer.text(401, "who are you?", ("WWW-Authenticate", 'Basic realm="penstock"'))
        if request.method not in ("GET", "HEAD"):
            return Answer.text(405, "only GET", ("Allow", "GET, HEAD"))
        if self._local_page is not None and (answer := self._local_page.answer(request)) is not None:
            return answer
        if request.path == "/":
            return Answer.text(200, f"penstock: metrics stand at {PATH}")
        if request.path != PATH:
            return Answer.text(404, f"nothing here; metrics stand at {PATH}")
        return Answer(200, CONTENT_TYPE_LATEST, self._page(generate_latest))

    def _page(self, render: Callable[[CollectorRegistry], bytes]) -> bytes:
        """Return the page, made once for the same facts and second of age: asking often must cost little."""
        key = self._board.latest, int(self._board.age_s or 0)
        made, page = self._made
        if made is None or made[0] is not key[0] or made[1] != key[1]:
            page = render(self._registry)
            self._made = key, page
        return page


def _family(row: MetricRow, facts: AgentFacts) -> Metric | None:
    """Return a row of the table as a family, None where it has no series."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    samples = list(row.samples(facts))
    if not samples:
        return None
    if row.kind == "info":
        info = InfoMetricFamily(row.name.removesuffix("_info"), row.told)
        for values, _ in samples:
            info.add_metric([], dict(zip(row.labels, values, strict=True)))
        return info
    if row.kind == "histogram":
        histogram = HistogramMetricFamily(row.name, row.told, labels=row.labels)
        for values, value in samples:
            assert isinstance(value, HistogramFacts)
            histogram.add_metric(values, buckets=_buckets(value), sum_value=value.sum_s)
        return histogram
    family = (CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily)(
        row.name, row.told, labels=row.labels
    )
    for values, value in samples:
        assert not isinstance(value, HistogramFacts)
        family.add_metric(values, float(value))
    return family


def _buckets(histogram: HistogramFacts) -> list[tuple[str, float]]:
    """Return cumulative counts by upper edge, as Prometheus wants them."""
    found, total = [], 0
    counts = histogram.counts or (0,) * (len(histogram.edges_s) + 1)
    for edge, count in zip([*map(str, histogram.edges_s), "+Inf"], counts, strict=True):
        total += count
        found.append((edge, float(total)))
    return found


def _registry_of(collector: FactsCollector) -> CollectorRegistry:
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def _digest(settings: MetricsSettings) -> bytes | None:
    if settings.username is None or settings.password is None:
        return None
    return hashlib.sha256(f"{settings.username}:{settings.password}".encode()).digest()


def _is_allowed(request: Request, digest: bytes) -> bool:
    """Tell whether a request names user and password. Digests are compared, which takes one time for all texts."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        given = b""
    is_same = hmac.compare_digest(hashlib.sha256(given).digest(), digest)
    return is_same and scheme.lower() == "basic"


def _context(settings: MetricsSettings) -> ssl.SSLContext | None:
    if settings.cert_file is None:
        return None
    return server_context(settings.cert_file, settings.key_file or settings.cert_file)
