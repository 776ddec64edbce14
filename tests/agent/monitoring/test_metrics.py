"""The page: golden, clean for promtool, scraped by a real Prometheus, without an address, behind password and TLS."""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.monitoring.facts import AgentFacts, FactsBoard
from agent.monitoring.metric_table import rows
from agent.monitoring.metrics import MetricsServer, MetricsSettings
from contracts.errors import ConfigError, ListenError
from tests.agent.monitoring.conftest import Serve
from tests.agent.monitoring.facts import full_facts
from tests.delivery.certificates import Authority
from tests.ports import free_port

GOLDEN = Path(__file__).with_name("metrics.txt")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|([0-9a-f]{2}:){5}|[0-9a-f]{1,4}::", re.IGNORECASE)


def got(server: MetricsServer, path: str = "/metrics", *, user: str = "", tls: ssl.SSLContext | None = None) -> str:
    scheme = "http" if tls is None else "https"
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{server.listener.port}{path}")
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    with urllib.request.urlopen(request, timeout=120, context=tls) as answer:
        return answer.read().decode()


def status_of(server: MetricsServer, path: str = "/metrics", **others: object) -> int:
    try:
        got(server, path, **others)
    except urllib.error.HTTPError as exc:
        return exc.code
    return 200


def test_the_page_of_an_agent_that_has_seen_everything_is_the_golden_one(serve: Serve):
    page = got(serve(full_facts()))

    assert page.splitlines() == GOLDEN.read_text().splitlines()


def test_the_page_before_the_first_facts_has_no_series_that_would_be_a_lie(serve: Serve):
    page = got(serve())

    assert "penstock_kernel_seen_total{" not in page
    assert "penstock_facts_age_seconds" not in page
    assert 'penstock_inference_seconds_bucket{le="0.021"} 0.0' in page


@pytest.mark.parametrize("facts", [None, full_facts()], ids=["empty", "full"])
def test_promtool_has_nothing_to_say_against_the_page(serve: Serve, facts: AgentFacts | None):
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool (Debian: apt-get install prometheus)")

    run = subprocess.run(
        [promtool, "check", "metrics"], input=got(serve(facts)), capture_output=True, text=True, check=False, timeout=60
    )

    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_no_address_stands_on_the_page_whatever_the_facts_hold(serve: Serve):
    facts = full_facts()
    assert ADDRESS.search(repr(facts))

    page = got(serve(facts))

    assert ADDRESS.findall(page) == []
    assert "camera" not in page


def test_no_series_stands_on_the_page_twice(serve: Serve):
    series = [line.rpartition(" ")[0] for line in got(serve(full_facts())).splitlines() if not line.startswith("#")]

    assert len(series) == len(set(series)) > 150


def test_the_buckets_of_an_inference_add_up_and_have_an_edge_at_21_ms(serve: Serve):
    page = got(serve(full_facts()))

    buckets = re.findall(r'^penstock_inference_seconds_bucket\{le="(.+)"\} (.+)$', page, re.M)

    assert [float(count) for _, count in buckets] == [100, 250, 290, 300, 305, 307, 308, 309, 309, 309, 310]
    assert ("0.021", "307.0") in buckets
    assert "penstock_inference_seconds_count 310.0" in page


def test_every_metric_is_on_its_page_of_the_documentation_with_kind_and_labels():
    told = dict(re.findall(r"^\| `(\w+)` \| (\w+ ?[\w`, ]*) \|", PAGE.read_text(), re.M))

    wanted = {row.name: " ".join([row.kind, *(f"`{label}`" for label in row.labels)]) for row in rows()}
    wanted["penstock_facts_age_seconds"] = "gauge"
    wanted["penstock_metrics_requests_total"] = "counter `result`"
    assert told == wanted


@pytest.mark.parametrize(("path", "status"), [("/metrics?x=1", 200), ("/", 200), ("/metric", 404), ("/metrics/", 404)])
def test_only_metrics_and_a_word_about_them_are_served(serve: Serve, path: str, status: int):
    assert status_of(serve(full_facts()), path) == status


def test_without_the_right_user_and_password_nothing_is_shown(serve: Serve):
    server = serve(full_facts(), username="prometheus", password="pass:wörd")

    codes = [status_of(server, user=user) for user in ("", "prometheus:", "prometheus:pass", "x:pass:wörd", ":")]

    assert codes == [401] * 5
    assert "penstock_flows" in got(server, user="prometheus:pass:wörd")
    assert server.listener.results["refused"] == 5


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic \xff", "Bearer cHJvbWV0aGV1czpwYXNz", "basic  ="])
def test_a_broken_authorization_is_none(serve: Serve, header: str):
    server = serve(full_facts(), username="prometheus", password="pass")
    request = urllib.request.Request(f"http://127.0.0.1:{server.listener.port}/metrics")
    request.add_header("Authorization", header)

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=120)

    assert caught.value.code == 401


def test_the_page_is_served_over_tls_to_who_trusts_its_authority(serve: Serve, tmp_path: Path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("gateway")
    server = serve(full_facts(), cert_file=cert, key_file=key)

    page = got(server, tls=ssl.create_default_context(cafile=authority.ca))

    assert page.startswith("# HELP")
    with pytest.raises((urllib.error.URLError, OSError)):
        got(server)


def test_a_certificate_that_cannot_be_used_is_refused_before_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        MetricsServer(FactsBoard(), MetricsSettings(cert_file=tmp_path / "none.pem"))


def test_a_port_that_is_taken_is_an_error_that_names_it(serve: Serve):
    port = serve().listener.port
    second = MetricsServer(FactsBoard(), MetricsSettings(listen=f"127.0.0.1:{port}"))

    with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1, port {port}"):
        second.start()


def test_settings_come_from_the_configuration_and_its_secret(tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "secret").chmod(0o600)
    section = AgentConfig.model_validate(
        {
            "capture": {"interfaces": ["lo"]},
            "metrics": {"username": "me", "password_file": str(tmp_path / "secret"), "listen": "[::1]:9999"},
        }
    ).metrics

    settings = MetricsSettings.of(section, environ={})

    assert (settings.listen, settings.username, settings.password) == ("[::1]:9999", "me", "hunter2")
    assert "hunter2" not in repr(settings)


@pytest.mark.slow
def test_a_real_prometheus_scrapes_the_page(serve: Serve, tmp_path: Path):
    if (prometheus := shutil.which("prometheus")) is None:
        pytest.skip("no prometheus (Debian: apt-get install prometheus)")
    (tmp_path / "secret").write_text("pass")
    server = serve(full_facts(), username="prometheus", password="pass")
    api = free_port()
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n- job_name: penstock\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
        f"  basic_auth: {{username: prometheus, password_file: {tmp_path}/secret}}\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{server.listener.port}']}}]\n"
    )
    arguments = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb"]
    process = subprocess.Popen(
        [prometheus, *arguments, f"--web.listen-address=127.0.0.1:{api}", "--log.level=error"],
        stderr=subprocess.DEVNULL,
    )
    try:

        def asked_for(query: str) -> list[str]:
            url = f"http://127.0.0.1:{api}/api/v1/query?query={urllib.request.quote(query)}"
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return [each["value"][1] for each in json.load(answer)["data"]["result"]]
            except OSError:
                return []

        half = "histogram_quantile(0.5, penstock_inference_seconds_bucket)"
        wanted = {
            'up{job="penstock"}': ["1"],
            "penstock_flows": ["1234"],
            'penstock_kernel_drops_total{interface="eth0"}': ["90"],
        }
        found: dict[str, list[str]] = {}
        deadline_s = time.monotonic() + 120
        # On a busy machine one scrape may be too late and the next one not: then all is away for a while.
        while found != wanted or not asked_for(half):
            assert time.monotonic() < deadline_s, found
            time.sleep(0.2)
            found = {query: asked_for(query) for query in wanted}
    finally:
        process.terminate()
        process.wait(120)
