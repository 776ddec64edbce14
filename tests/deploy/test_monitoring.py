"""The Grafana dashboard and the Prometheus rules: what they name exists, is of the right kind, and fires when due."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.monitoring.metric_table import MetricRow, rows
from tests.deploy.promql import SCRAPED, grouping_labels, uses

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "penstock.rules.yml"
UNIT_TESTS = DEPLOY / "prometheus" / "penstock.rules.test.yml"
DASHBOARD = DEPLOY / "grafana" / "penstock.json"
RATES = {"rate", "irate", "increase", "resets"}
BESIDE_THE_TABLE = {  # served by the page itself (agent/monitoring/metrics.py), or by Prometheus
    "penstock_facts_age_seconds": ("gauge", ()),
    "penstock_metrics_requests_total": ("counter", ("result",)),
    "up": ("gauge", ()),
}


def known() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return every series the page may hold: its kind and labels."""
    found: dict[str, tuple[str, tuple[str, ...]]] = dict(BESIDE_THE_TABLE)
    row: MetricRow
    for row in rows():
        if row.kind == "histogram":
            for end in ("_bucket", "_sum", "_count"):
                found[row.name + end] = ("counter", row.labels)
        else:
            found[row.name] = (row.kind, row.labels)
    return found


def rule_blocks() -> list[str]:
    """Return the text of each rule; the file is ours, so its indentation is known."""
    return re.split(r"^  - ", RULES.read_text(), flags=re.MULTILINE)[1:]


def expression_of(rule: str) -> str:
    found = re.search(r"expr: (?:>\n((?:      .*\n)+)|(.*))", rule)
    assert found is not None, rule
    return " ".join((found[1] or found[2]).split())


def recorded() -> set[str]:
    return {match[1] for rule in rule_blocks() if (match := re.match(r"record: (\S+)", rule))}


def panels() -> Iterator[dict]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> list[tuple[str, str]]:
    """Return (where it stands, expression) of everything in rules and dashboard."""
    rules = [(rule.splitlines()[0], expression_of(rule)) for rule in rule_blocks()]
    shown = [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", [])]
    return rules + shown


@pytest.mark.parametrize(("place", "expression"), expressions(), ids=lambda text: text[:60])
def test_what_an_expression_names_exists_and_only_what_rises_is_rated(place: str, expression: str):
    metrics, written = known(), recorded()
    found = [each for each in uses(expression) if each.metric not in written]

    assert [each.metric for each in found if each.metric not in metrics] == []
    for each in found:
        kind, labels = metrics[each.metric]
        assert (each.function in RATES) == each.is_range, each
        assert kind == "counter" or each.function not in RATES, f"{each.metric} is a {kind}"
        assert kind != "counter" or each.is_range, f"{each.metric} only rises: its value says nothing"
        assert each.labels <= {*labels, *SCRAPED}, each
    reachable = SCRAPED.union(*(metrics[each.metric][1] for each in found))
    assert grouping_labels(expression) <= reachable


def test_the_reader_of_expressions_sees_what_a_person_would():
    found = uses('sum by (le, x) (rate(a_total{b="c_d", e=~"f"}[5m])) / on (job) g_seconds > 0 or vector(0)')

    assert [(each.metric, each.function, each.is_range) for each in found] == [
        ("a_total", "rate", True),
        ("g_seconds", "", False),
    ]
    assert found[0].labels == {"b", "e"}
    assert grouping_labels("sum by (le, x) (a_b) / on (job) c_d") == {"le", "x", "job"}


def test_legends_and_summaries_use_labels_that_are_there():
    metrics = known()
    for panel in panels():
        for target in panel.get("targets", []):
            labels = SCRAPED.union(*(metrics[each.metric][1] for each in uses(target["expr"])))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]
    written = {re.match(r"record: (\S+)", rule)[1]: rule for rule in rule_blocks() if rule.startswith("record")}
    for rule in rule_blocks():
        told = uses(expression_of(rule))
        told += [each for name in told if name.metric in written for each in uses(expression_of(written[name.metric]))]
        labels = SCRAPED.union(*(metrics[each.metric][1] for each in told if each.metric in metrics))
        assert set(re.findall(r"\$labels\.(\w+)", rule)) <= labels, rule.splitlines()[0]


def test_every_alert_rule_has_a_unit_test():
    named = set(re.findall(r"alert: (\w+)", RULES.read_text()))

    fired = re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- ", UNIT_TESTS.read_text())

    assert len(named) >= 15
    assert named - set(fired) == set()


def test_the_dashboard_is_one_grafana_can_lay_out():
    dashboard = json.loads(DASHBOARD.read_text())
    places = [panel["gridPos"] for panel in panels()]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    numbers = [panel["id"] for panel in panels()]

    assert dashboard["uid"] == "penstock"
    assert len(cells) == len(set(cells)), "two panels lie on each other"
    assert max(x for x, _ in cells) < 24
    assert len(numbers) == len(set(numbers))
    assert {"datasource", "instance"} == {each["name"] for each in dashboard["templating"]["list"]}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if (program := shutil.which("promtool")) is None:
        pytest.skip("no promtool (Debian: apt-get install prometheus)")
    return subprocess.run(
        [program, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )


def test_promtool_takes_the_rules_and_their_unit_tests():
    """Consumed by promtool: the rules, and the series of the unit tests, through Prometheus' own engine."""
    checked, tested = promtool("check", "rules", RULES.name), promtool("test", "rules", UNIT_TESTS.name)

    assert (checked.returncode, tested.returncode) == (0, 0), checked.stdout + tested.stdout + tested.stderr


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path):
    shown = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    rules = [f"  - record: dashboard:{number}\n    expr: {json.dumps(each)}\n" for number, each in enumerate(shown)]
    (tmp_path / "rules.yml").write_text("groups:\n- name: dashboard\n  rules:\n" + "".join(rules))

    checked = promtool("check", "rules", str(tmp_path / "rules.yml"))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(shown)} rules found" in checked.stdout
