"""What Prometheus scrapes of an aggregator: the ledger's counters and how round and roll-out stand.

Facts are posted by the worker's loop; a scrape, in a thread of the server, only turns the newest into text. Labels hold
states and reasons of a fixed list, never a gateway's name or an address. Served on 127.0.0.1 alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from contracts.errors import ListenError
from contracts.update import REASONS
from federation.aggregator.rollout import CANARY, FLEET, HALTED, ROLLED_BACK

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

ADDRESS: Final = "127.0.0.1"
PREFIX: Final = "penstock_aggregator_"
STATES: Final = (CANARY, FLEET, HALTED, ROLLED_BACK)


class Board:
    """The newest facts of a worker, and the page made of them."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._facts: Mapping[str, Any] | None = None
        self._posted_s = 0.0

    def post(self, facts: Mapping[str, Any]) -> None:
        """Take the newest facts: those of `Office.facts`, with `broker` added."""
        self._facts, self._posted_s = facts, self._now_s()

    def collect(self) -> Iterator[Metric]:
        """Give every metric that has a series now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        facts = self._facts
        if facts is None:
            return
        counters: Mapping[str, int] = facts["counters"]
        for name, told, labels, series in _counted(counters, facts["broker"]):
            counter = CounterMetricFamily(PREFIX + name, told, labels=labels)
            for values, count in series:
                counter.add_metric(values, count)
            yield counter
        for name, told, labels, series in _standing(facts):
            gauge = GaugeMetricFamily(PREFIX + name, told, labels=labels)
            for values, value in series:
                gauge.add_metric(values, value)
            yield gauge
        age_s = self._now_s() - self._posted_s
        yield GaugeMetricFamily(PREFIX + "facts_age_seconds", "How old what this page shows is.", value=age_s)

    def serve(self, port: int) -> Callable[[], None]:
        """Serve the page; return what ends that. Raises ListenError where the port is taken."""
        from prometheus_client import start_http_server
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            server, thread = start_http_server(port, addr=ADDRESS, registry=registry)
        except OSError as exc:
            raise ListenError(f"metrics: cannot listen on {ADDRESS}, port {port}: {exc.strerror or exc}") from exc

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


_Series = list[tuple[list[str], float]]


def _counted(counters: Mapping[str, int], broker: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str], _Series]]:
    # Private rounds count what they take by kind, behind the same word.
    taken: _Series = [
        ([each], sum(count for what, count in counters.items() if what.split()[0] == each))
        for each in ("accepted", "repeated")
    ]
    yield "updates_total", "Updates taken, and those that came once more.", ["result"], taken
    refused: _Series = [([reason], counters.get(f"refused: {reason}", 0)) for reason in REASONS]
    yield "refused_updates_total", "Updates turned away, by reason.", ["reason"], refused
    ended: _Series = [([each], counters.get(each, 0)) for each in ("adopted", "refused", "void")]
    yield "rounds_total", "Rounds that ended, by how.", ["state"], ended
    orders: _Series = [(["forward"], counters.get("orders", 0)), (["back"], counters.get("rollback orders", 0))]
    yield "orders_total", "Orders to gateways to run a bundle.", ["direction"], orders
    none = counters.get("releases refused", 0)
    yield "refused_releases_total", "Heads of which no bundle was made.", [], [([], none)]
    yield "connects_total", "Connections to the broker.", [], [([], broker["connects"])]
    yield "broker_refusals_total", "Topics that the broker does not let us use.", [], [([], broker["refusals"])]


def _standing(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str], _Series]]:
    gateways = facts["gateways"]
    revoked = sum(each["is_revoked"] for each in gateways)
    series: _Series = [(["enrolled"], len(gateways) - revoked), (["revoked"], revoked)]
    yield "gateways", "Gateways by whether they may take part.", ["state"], series
    drifting = sum(each["calibration"] == "drift" for each in gateways)
    yield "drifting_gateways", "Gateways whose thresholds drift, as they say.", [], [([], drifting)]
    held = facts["round"] or {"number": 0, "state": "", "updates": 0}
    yield "round", "Number of the newest round.", [], [([], held["number"])]
    yield "round_open", "1 while a round waits for updates.", [], [([], float(held["state"] == "open"))]
    what = "Updates of the newest round; of a private one, who has answered in its state."
    yield "round_updates", what, [], [([], held["updates"])]
    yield "release", "Release of the bundle that the fleet runs.", [], [([], facts["bundle"]["release"])]
    out = facts["rollout"] or {"release": 0, "state": "", "ordered": 0, "running": 0}
    yield "rollout_release", "The newest release.", [], [([], out["release"])]
    states: _Series = [([each.replace(" ", "_")], float(out["state"] == each)) for each in STATES]
    yield "rollout_state", "1 for the state of the newest release.", ["state"], states
    counts: _Series = [([each], out[each]) for each in ("ordered", "running")]
    yield "rollout_gateways", "Gateways ordered to run the newest release, and running it.", ["kind"], counts
    yield "connected", "1 while the broker answers.", [], [([], float(facts["broker"]["is_connected"]))]
