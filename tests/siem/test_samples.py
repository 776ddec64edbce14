"""The samples whose programs are not run here: their form is read, and every key they name is in a real line of ours.

Telegraf, Vector, Logstash, Fluent Bit and Wazuh are in none of the package archives the tests may ask.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import xml.etree.ElementTree as ET
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from contracts.alert import AlertDevice
from contracts.eve import render_eve
from tests.alerts import T0_US, make_alert

SIEM = Path(__file__).resolve().parents[2] / "deploy" / "siem"
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

FULL = make_alert(in_iface="eth0", device=AlertDevice(ip="10.77.0.66", mac="02:00:00:00:00:42", name="camera"))


def value_at(line: Any, path: str) -> Any:
    for key in path.split("."):
        line = line.get(key) if isinstance(line, dict) else None
    return line


@pytest.fixture
def line() -> dict[str, Any]:
    return json.loads(render_eve(FULL))


def test_telegraf_takes_its_values_from_keys_that_are_there_with_their_types(line):
    consumer = tomllib.loads((SIEM / "telegraf/penstock.conf").read_text())["inputs"]["mqtt_consumer"][0]
    (parser,) = consumer["json_v2"]
    kinds = {"string": str, "int": int, "float": float}

    assert consumer["topics"] == ["penstock/v1/+/alert/+"]
    assert (consumer["qos"], consumer["persistent_session"], bool(consumer["client_id"])) == (1, True, True)
    for field in parser["field"]:
        assert isinstance(value_at(line, field["path"]), kinds[field["type"]]), field["path"]
    for tag in parser["tag"]:
        assert value_at(line, tag["path"]) is not None, tag["path"]
    assert not {"src_ip", "dest_ip"} & {tag["path"] for tag in parser["tag"]}, "a series per address"


def test_telegraf_reads_our_time_stamps(line):
    layout = tomllib.loads((SIEM / "telegraf/penstock.conf").read_text())["inputs"]["mqtt_consumer"][0]["json_v2"][0]
    go = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S", "000000": "%f", "-0700": "%z"}
    form = re.sub("|".join(sorted(go, key=len, reverse=True)), lambda found: go[found[0]], layout["timestamp_format"])

    read = datetime.strptime(value_at(line, layout["timestamp_path"]), form)

    assert read == datetime.fromtimestamp((T0_US + 250_000) / 1e6, timezone.utc)


def test_vector_is_wired_from_a_file_to_a_sink_over_keys_that_are_there(line):
    config = tomllib.loads((SIEM / "vector/penstock.toml").read_text())
    parts = {**config["sources"], **config["transforms"], **config["sinks"]}
    program = config["transforms"]["penstock_alert"]["source"]
    named = re.findall(r"(?<![\w\"])\.(\w+(?:\.\w+)*)", re.sub(r"\.message|%\.f", "", program))

    assert [each for part in parts.values() for each in part.get("inputs", []) if each not in parts] == []
    assert [path for path in named if value_at(line, path) is None] == []
    assert len(named) >= 3
    assert [path for path in config["transforms"]["penstock_once"]["fields"]["match"] if not value_at(line, path)] == []
    assert value_at(line, config["sinks"]["penstock_elasticsearch"]["id_key"]) == FULL.alert_id
    read = datetime.strptime(line["timestamp"], re.search(r'"(%Y[^"]+)"', program)[1].replace("%.f", ".%f"))
    assert read.year == 2017


def test_logstash_names_fields_that_are_there_and_closes_what_it_opens(line):
    text = re.sub(r"#.*", "", (SIEM / "logstash/penstock.conf").read_text())
    copied = re.findall(r'"((?:\[\w+\])+)" => "(?:\[\w+\])+"', text)
    asked = re.findall(r"(?:!|%\{)((?:\[\w+\])+)", text)
    paths = {".".join(re.findall(r"\w+", each)) for each in [*copied, *asked]}

    assert text.count("{") == text.count("}")
    assert [section for section in ("input", "filter", "output") if not re.search(rf"^{section} {{", text, re.M)] == []
    assert len(paths) >= 8
    assert [path for path in sorted(paths) if value_at(line, path) is None] == []


def sections(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Return the sections of Fluent Bit's classic form."""
    found: list[tuple[str, dict[str, str]]] = []
    for text in path.read_text().splitlines():
        if head := re.fullmatch(r"\[(\w+)\]", text):
            found.append((head[1], {}))
        elif text.strip() and not text.startswith("#"):
            key, value = re.fullmatch(r" {4}(\S+) +(.+)", text).groups()
            found[-1][1][key] = value
    return found


def test_fluent_bit_reads_lines_with_its_own_parser_and_filters_by_a_key_that_is_there(line):
    config, (parser,) = sections(SIEM / "fluent-bit/penstock.conf"), sections(SIEM / "fluent-bit/parsers.conf")
    by_kind = dict(config)
    keys, pattern = re.fullmatch(r"\$(\w+(?:\['\w+'\])+) (\S+)", by_kind["FILTER"]["Regex"]).groups()

    assert [kind for kind, _ in config] == ["INPUT", "FILTER", "OUTPUT"]
    assert by_kind["INPUT"]["Parser"] == parser[1]["Name"]
    assert {settings["Match"] for kind, settings in config[1:]} == {by_kind["INPUT"]["Tag"]}
    assert re.search(pattern, value_at(line, ".".join(re.findall(r"\w+", keys))))
    time_format = parser[1]["Time_Format"].replace("%L", "%f")
    assert datetime.strptime(line[parser[1]["Time_Key"]], time_format).year == 2017


RULES = {rule.get("id"): rule for rule in ET.parse(SIEM / "wazuh/penstock_rules.xml").getroot().iter("rule")}


def wazuh_says(alert: Any) -> set[str]:
    """Return the rules that match a line, the base among them; what they ask is simple enough to ask here."""
    line = json.loads(render_eve(alert))

    def holds(rule: ET.Element) -> bool:
        parent = rule.findtext("if_sid")
        if parent in RULES and not holds(RULES[parent]):
            return False
        for field in rule.iter("field"):
            value = value_at(line, field.get("name"))
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if value is None or not re.search(field.text.replace(r"\.", "."), text):
                return False
        return True

    return {number for number, rule in RULES.items() if holds(rule)}


@pytest.mark.parametrize(
    ("alert", "wanted"),
    [
        (make_alert(severity=1, direction="inbound"), {"110900", "110901"}),
        (make_alert(direction="inbound", spoofable=True), {"110900"}),
        (make_alert(direction="outbound"), {"110900", "110902"}),
        (make_alert(severity=3, attack_class="unknown"), {"110900", "110903"}),
        (make_alert(direction="inbound", state="closed"), {"110900", "110904"}),
    ],
    ids=["outside", "forged", "inside", "unknown", "closed"],
)
def test_wazuhs_rules_part_alerts_by_what_they_are(alert, wanted):
    assert wazuh_says(alert) == wanted


def test_wazuhs_rules_have_numbers_of_their_own_and_name_fields_that_are_there(line):
    named = {name for rule in RULES.values() for name in re.findall(r"\$\(([\w.]+)\)", rule.findtext("description"))}
    levels = {number: int(rule.get("level")) for number, rule in RULES.items()}
    local = ET.parse(SIEM / "wazuh/localfile.xml").getroot()

    assert all(100_000 <= int(number) <= 120_000 for number in RULES), "the range Wazuh leaves to its users"
    assert [name for name in sorted(named) if value_at(line, name) is None] == []
    assert max(levels, key=levels.get) == "110901"
    assert local.findtext("localfile/log_format") == "json"


def test_no_line_holds_what_wazuhs_decoder_cannot_read(line):
    def arrays_of_objects(value: Any) -> int:
        if isinstance(value, list):
            return sum(isinstance(each, dict) for each in value)
        return sum(map(arrays_of_objects, value.values())) if isinstance(value, dict) else 0

    assert arrays_of_objects(line) == 0
