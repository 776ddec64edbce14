"""CrowdSec reads our eve.json: whom it bans, with our own parser and scenario, and with those it has for Suricata.

Consumed: eve.json lines, by `crowdsec -dsn file://eve.json`; what came of them, by `cscli decisions list`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from contracts.alert import Alert
from contracts.eve import render_eve
from tests.alerts import make_alert
from tests.siem.crowdsec import Crowdsec, NoCrowdsec, find_crowdsec

pytestmark = pytest.mark.slow

OURS = Path(__file__).resolve().parents[2] / "deploy" / "siem" / "crowdsec"
BASE = ("parsers/s00-raw/crowdsecurity/syslog-logs", "parsers/s02-enrich/crowdsecurity/dateparse-enrich")
SURICATA = ("parsers/s01-parse/crowdsecurity/suricata-logs", "scenarios/crowdsecurity/suricata-alerts")

TWO_WAY, FORGED, STRANGE, INSIDE = "203.0.113.9", "203.0.113.10", "203.0.113.11", "192.168.1.23"


@pytest.fixture(scope="module", autouse=True)
def crowdsec_is_here() -> None:
    try:
        find_crowdsec()
    except NoCrowdsec as exc:
        pytest.skip(str(exc))


def alerts() -> list[Alert]:
    """Return one of each kind, of this minute: a decision about an old one would have run out already."""
    now_us = time.time_ns() // 1000 - 5_000_000

    def alert(number: int, src_ip: str, **changes: object) -> Alert:
        return make_alert(number, timestamp_us=now_us + number, src_ip=src_ip, direction="inbound", **changes)

    return [
        alert(1, TWO_WAY, severity=1),
        *(alert(2 + number, FORGED, attack_class="flood", spoofable=True) for number in range(20)),
        alert(30, STRANGE, attack_class="unknown", severity=3),
        make_alert(31, timestamp_us=now_us, src_ip=INSIDE, direction="outbound"),
    ]


def test_a_two_way_attacker_outside_is_banned_and_nobody_else(tmp_path: Path):
    eve = tmp_path / "eve.json"
    eve.write_text("".join(f"{render_eve(each)}\n" for each in alerts()))

    with Crowdsec(tmp_path / "crowdsec", hub=BASE, local=OURS) as crowdsec:
        crowdsec.read(eve, kind="penstock")
        decisions = crowdsec.decisions()

    assert decisions == [("ban", TWO_WAY, "penstock/severity-1")]


def test_a_line_that_was_tampered_with_bans_nobody(tmp_path: Path):
    """Whoever can write into the file, but not make an alert: severity 1 of a forged source, or of a device inside."""
    eve, line = tmp_path / "eve.json", render_eve(alerts()[0])
    forged = line.replace('"spoofable":false', '"spoofable":true').replace(TWO_WAY, FORGED)
    inside = line.replace('"direction":"inbound"', '"direction":"outbound"').replace(TWO_WAY, INSIDE)
    assert len({line, forged, inside}) == 3
    eve.write_text(f"{forged}\n{inside}\nnot JSON\n{{}}\n")

    with Crowdsec(tmp_path / "crowdsec", hub=BASE, local=OURS) as crowdsec:
        crowdsec.read(eve, kind="penstock")
        decisions = crowdsec.decisions()

    assert decisions == []


def test_crowdsec_takes_our_acquisition_with_the_rest(tmp_path: Path):
    (tmp_path / "eve.json").touch()
    text = (OURS / "acquis.d" / "penstock.yaml").read_text()
    crowdsec = Crowdsec(tmp_path / "crowdsec", hub=BASE, local=OURS)

    said = crowdsec.check(text.replace("/var/log/penstock/eve.json", str(tmp_path / "eve.json")))

    assert "penstock.yaml" in said
    assert "level=fatal" not in said
    assert "type: penstock" in text


def test_crowdsecs_own_items_for_suricata_ban_the_same_one(tmp_path: Path):
    eve = tmp_path / "eve.json"
    eve.write_text("".join(f"{render_eve(each)}\n" for each in alerts()))

    with Crowdsec(tmp_path / "crowdsec", hub=[*BASE, *SURICATA], local=None) as crowdsec:
        crowdsec.read(eve, kind="suricata-evelogs")
        decisions = crowdsec.decisions()

    assert decisions == [("ban", TWO_WAY, "crowdsecurity/suricata-major-severity")]
