"""A status report for a person: what is wrong first, then capture, judgement, delivery, machine, last incidents.

Every text in it may come from the wire or a broker (names of devices, reasons), so all of it is made printable here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TextIO

from agent.console.ages import ago, span
from agent.console.terminal import BOLD, DIM, RED, YELLOW, Paint
from agent.monitoring.facts import AgentFacts, DeliveryFacts, InterfaceFacts
from agent.monitoring.histogram import HistogramFacts
from agent.monitoring.status_server import StatusReport
from contracts.terminal import printable

LABEL: Final = 15
SHOWN_INCIDENTS: Final = 10
MANY_DROPS: Final = 0.001


def write_status(report: StatusReport, stream: TextIO, *, now_us: int) -> None:
    """Write a report; `now_us` is the time of day, from which ages are told."""
    paint, facts = Paint(stream), report.facts
    stream.write(paint(_head(facts, now_us), BOLD) + "\n")
    problems = list(problems_of(report, now_us=now_us))
    for problem in problems:
        stream.write(paint(f"  ! {printable(problem)}", RED) + "\n")
    stream.write("\n")
    for line in _interfaces(report, now_us):
        stream.write(printable(line) + "\n")
    for label, text in _lines(report, now_us):
        stream.write(f"{paint(f'{label:<{LABEL}}', DIM)}{printable(text)}\n")
    _write_incidents(facts, stream, now_us=now_us)


def problems_of(report: StatusReport, *, now_us: int) -> Iterator[str]:
    """Give what an operator has to look at, worst first; nothing where all is well."""
    facts, delivery = report.facts, report.facts.delivery
    if report.age_s is None:
        yield "no numbers yet: the pipeline has not begun"
    elif report.age_s > 10:
        yield f"the pipeline does not move: its last numbers are {report.age_s:.0f} s old"
    for silence in facts.silences:
        yield f"{silence.text or f'{silence.interface}: {silence.kind}'} (since {ago(silence.since_us, now_us)})"
    for each in facts.interfaces:
        if each.is_absent or each.is_down:
            yield f"{each.name}: the interface is {'absent' if each.is_absent else 'down'}"
        if each.dropped > MANY_DROPS * max(1, each.seen):
            yield f"{each.name}: the kernel dropped {_percent(each.dropped, each.seen)} of the packets"
    if delivery.broker and delivery.broker_state != "connected":
        yield f"broker {delivery.broker_reason or f'{delivery.broker}: {delivery.broker_state}'}"
    if delivery.outbox_trouble:
        yield f"outbox: {delivery.outbox_trouble}"
    if dropped := sum(count for _, count in delivery.dropped):
        yield f"{dropped:,} alerts dropped ({_counted(delivery.dropped)})"
    for sink in delivery.sinks:
        if sink.trouble:
            yield f"{sink.name}: {sink.trouble}; {sink.failed:,} alerts not written, {sink.waiting:,} waiting"
    if facts.calibration.state == "drift":
        yield f"drift: more incidents than the budget of {facts.calibration.budget_per_day:g} a day"
    if facts.last_reload not in ("", "applied"):
        yield f"last reload: {facts.last_reload}"
    if facts.federation.trouble:
        yield f"federation: {facts.federation.trouble}"
    if facts.bundle.last_refusal:
        yield f"bundle refused: {facts.bundle.last_refusal}"


def _head(facts: AgentFacts, now_us: int) -> str:
    up = f"up {span((now_us - facts.started_us) / 1e6)}" if facts.started_us else "not started yet"
    return printable("  ".join(filter(None, ["penstock", facts.version, facts.gateway, up, facts.config])))


def _interfaces(report: StatusReport, now_us: int) -> Iterator[str]:
    yield f"{'interface':<{LABEL}}{'packets/s':>12}{'seen':>16}{'dropped':>20}  last packet"
    for each in report.facts.interfaces:
        dropped = f"{each.dropped:,} ({_percent(each.dropped, each.seen)})" if each.dropped else "0"
        rate = report.packets_per_s.get(each.name, 0.0)
        yield f"{each.name:<{LABEL}}{rate:>12,.0f}{each.seen:>16,}{dropped:>20}  {_last(each, now_us)}"
    if not report.facts.interfaces:
        yield "none"
    yield ""


def _last(each: InterfaceFacts, now_us: int) -> str:
    last = "never" if each.last_packet_us is None else f"{ago(each.last_packet_us, now_us)} ago"
    state = "absent" if each.is_absent else "down" if each.is_down else ""
    glued = f"{', '.join(each.offloads)} on" if each.offloads else ""
    return "  ".join(filter(None, [last, state, glued]))


def _lines(report: StatusReport, now_us: int) -> Iterator[tuple[str, str]]:
    facts = report.facts
    flows, windows = facts.flows, facts.windows
    undecoded = sum(count for _, count in flows.undecoded)
    yield "home", ", ".join(facts.home_nets) or "none"
    yield "devices", f"{facts.devices.devices:,}, {facts.devices.named:,} of them with a name"
    yield (
        "flows",
        (
            f"{flows.live:,} of {flows.most:,} live, {flows.opened:,} opened, {flows.evicted:,} evicted; "
            f"{_percent(undecoded, flows.packets)} of {flows.packets:,} packets not decoded"
        ),
    )
    yield (
        "windows",
        (
            f"{windows.scored:,} scored ({report.windows_per_s:,.1f}/s), {windows.shed:,} shed, "
            f"{windows.waiting:,} waiting"
        ),
    )
    yield "engine", _engine(facts)
    yield "bundle", _bundle(facts, now_us)
    yield "calibration", _calibration(facts)
    spent, budget = facts.calibration.spent_today, facts.calibration.budget_per_day
    yield "budget", f"{spent:g} incidents in a day not called malicious, of {budget:g} that may be false"
    yield "broker", _broker(facts.delivery, now_us)
    if facts.federation.is_enabled:
        yield "federation", _federation(facts)
    for sink in facts.delivery.sinks:
        yield sink.name, f"{sink.written:,} alerts written"
    if facts.wire_to_alert.total:
        yield "wire to alert", _quantiles(facts.wire_to_alert)
    yield "machine", _machine(report)


def _engine(facts: AgentFacts) -> str:
    engine = facts.engine
    text = f"{engine.name or 'none'}, {engine.provider or 'no provider'}; {engine.batches:,} batches"
    text += f", {_quantiles(engine.inference)}" if engine.inference.total else ""
    return f"{text}; fallbacks: {_counted(engine.fallbacks)}" if engine.fallbacks else text


def _bundle(facts: AgentFacts, now_us: int) -> str:
    bundle = facts.bundle
    if not bundle.name:
        return "none"
    trust = f"trusted by {bundle.trusted_by}" if bundle.trusted_by else "unsigned"
    text = f"{bundle.name} release {bundle.release}, {trust}, for {ago(bundle.active_since_us, now_us)}"
    if bundle.shadow_release is not None:
        text += (
            f"; release {bundle.shadow_release} tried on {bundle.shadow_windows:,} of {bundle.shadow_wanted:,} windows"
        )
    return f"{text}; on trial" if bundle.on_probation else text


def _federation(facts: AgentFacts) -> str:
    federation, messages = facts.federation, dict(facts.federation.messages)
    text = f"{federation.samples:,} windows kept, {_mib(federation.samples_bytes)}"
    text += f"; {messages.get('in taken', 0):,} messages taken, {messages.get('out sent', 0):,} sent"
    return f"{text}; order {federation.order}: {federation.outcome}" if federation.order else text


def _calibration(facts: AgentFacts) -> str:
    calibration = facts.calibration
    if calibration.state == "off":
        return "off: the bundle's own thresholds"
    text = f"{calibration.state}, {calibration.windows:,} of {calibration.windows_wanted:,} windows"
    text += f"; threshold {calibration.threshold:.4g}"
    text += f" (between {calibration.threshold_low:.4g} and {calibration.threshold_high:.4g})"
    if (bound := calibration.false_positive_bound) is not None:
        text += f"; false positives below {100 * bound:.2g} % of windows"
    return f"{text}; {calibration.reason}" if calibration.reason else text


def _broker(delivery: DeliveryFacts, now_us: int) -> str:
    if not delivery.broker:
        return "none"
    text = f"{delivery.broker} {delivery.broker_state}; {delivery.delivered:,} alerts delivered"
    text += f"; outbox {delivery.outbox_rows:,} of {delivery.outbox_max_rows:,}, {delivery.in_flight} in flight"
    if delivery.outbox_oldest_us is not None:
        text += f", the oldest {ago(delivery.outbox_oldest_us, now_us)} old"
    return text


def _machine(report: StatusReport) -> str:
    board = report.facts.board
    parts = [board.model, board.power_mode]
    if board.memory_bytes is not None:
        limit = f" of {_mib(board.memory_limit_bytes)}" if board.memory_limit_bytes is not None else ""
        parts.append(f"{_mib(board.memory_bytes)}{limit}")
    parts.append(f"{100 * report.cpu_ratio:.1f} % of a core")
    parts += [f"{each.name} {each.value:.0f} C" for each in board.temperatures_celsius[:3]]
    parts += [f"{each.name} {each.value:.2f} W" for each in board.power_watts[:3]]
    if board.gpu_load_ratio is not None:
        parts.append(f"GPU {100 * board.gpu_load_ratio:.0f} %")
    return ", ".join(filter(None, parts))


def _write_incidents(facts: AgentFacts, stream: TextIO, *, now_us: int) -> None:
    incidents, paint = facts.incidents, Paint(stream)
    opened = sum(count for _, count in incidents.opened)
    rules = f", {incidents.rules} rules silenced {incidents.muted:,} detections" if incidents.rules else ""
    stream.write(f"\n{paint(f'incidents: {opened:,} opened, {incidents.open:,} open{rules}', BOLD)}\n")
    for each in incidents.recent[:SHOWN_INCIDENTS]:
        name = f" ({each.device_name})" if each.device_name else ""
        state = "open" if each.is_open else "closed"
        text = (
            f"  {ago(each.opened_us, now_us) + ' ago':<14}{each.severity}  {each.class_name:<14}{state:<8}"
            f"{each.attacker or '?'} -> {each.victim or '?'}  {each.device}{name}  {each.score:.2f}  "
            f"{each.flows:,} flows"
        )
        stream.write(paint(printable(text), *([YELLOW] if each.is_open else [])) + "\n")


def _quantiles(histogram: HistogramFacts) -> str:
    return ", ".join(f"p{round(100 * share)} {_edge(histogram, share)}" for share in (0.5, 0.95))


def _edge(histogram: HistogramFacts, share: float) -> str:
    edge_s = histogram.quantile_s(share)
    return f"over {histogram.edges_s[-1]:g} s" if edge_s is None else f"within {1000 * edge_s:g} ms"


def _counted(counts: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in counts if count)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.2g} %"


def _mib(octets: int) -> str:
    return f"{octets / (1 << 20):.0f} MiB"
