"""Every format of an alert: its golden line, its schema, and device names that were chosen to break it."""

import csv
import functools
import ipaddress
import json
import re
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contracts.alert import AlertDevice, AlertFlow
from contracts.cef import render_cef
from contracts.classes import CLASSES, NAMES
from contracts.ecs import protocol_number, render_ecs
from contracts.eve import MAX_LINE_BYTES, render_eve
from contracts.formats import FORMAT_NAMES, FORMATS
from contracts.ocsf import render_ocsf
from contracts.techniques import TECHNIQUE_NAMES, techniques_of
from tests.alerts import T0_US, extreme_alerts, make_alert

GOLDEN = Path(__file__).parent / "golden"
HOSTILE_NAMES = [
    "two\nlines",
    "two\r\nlines",
    "a|b|10|",
    "x dst=6.6.6.6",
    "tail\\",
    "\\n\\=",
    "\u202egnp.exe\u202c",
    "nul\0nul",
    "\x1b[2Jclear",
    " lead and trail ",
    "\u2028sep\x85sep",
    "K\u00fcche \U0001f47e",
    "<script>",
]
names = st.text(min_size=1, max_size=200) | st.sampled_from(HOSTILE_NAMES)
quick = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def named(name, **changes):
    return make_alert(device=AlertDevice(ip="10.77.0.66", mac="02:00:00:00:00:42", name=name), **changes)


GOLDEN_ALERTS = {
    "plain": make_alert(),
    # Everything that may be absent is there, the victim opened the flow, addresses are IPv6, the name is hostile.
    "full": make_alert(
        in_iface="eth0",
        src_ip="2001:db8::66",
        dest_ip="fd00::12",
        src_port=443,
        dest_port=50_000,
        flow=AlertFlow(
            src_is_initiator=False,
            pkts_toserver=3,
            pkts_toclient=5,
            bytes_toserver=180,
            bytes_toclient=4_096,
            start_us=T0_US,
            end_us=T0_US + 2_000_000,
        ),
        attack_class="flood",
        severity=1,
        direction="inbound",
        update=2,
        state="closed",
        device=AlertDevice(ip="fd00::12", mac="02:00:00:00:00:12", name="cam|1 a=b\\\n\u202e\0K\u00fcche"),
        clock="unsynchronised",
    ),
    "bare": make_alert(
        src_port=None, dest_port=None, proto="ICMP", attack_class="unknown", severity=3, spoofable=True, columns=()
    ),
}


@pytest.mark.parametrize("case", GOLDEN_ALERTS)
@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_a_line_is_the_golden_one(format_name, case):
    rendered = FORMATS[format_name].render(GOLDEN_ALERTS[case])

    assert rendered + "\n" == (GOLDEN / f"{case}.{format_name}").read_text()


@quick
@given(alert=extreme_alerts())
@example(named("\0" * 1024))
@example(named("\u202e=|\\" * 256))
def test_no_alert_makes_a_line_that_ends_early_or_is_too_long(alert):
    for each in FORMATS.values():
        line = each.render(alert)

        assert len(line.encode()) <= MAX_LINE_BYTES, each.name
        assert len(line.splitlines()) == 1, each.name
        assert not any(unicodedata.category(letter) in {"Cc", "Cf"} for letter in line), each.name


@quick
@given(name=names)
def test_the_formats_in_json_are_ascii_and_give_the_name_back(name):
    for render, place in (
        (render_eve, lambda line: line["alert"]["context"]["penstock"]["device"]["name"]),
        (render_ecs, lambda line: line["penstock"]["device"]["name"]),
        (render_ocsf, lambda line: line["evidences"][0]["src_endpoint"]["name"]),
    ):
        line = render(named(name))

        assert line.isascii()
        seen = place(json.loads(line))
        assert seen == name or (seen.endswith("...") and name.startswith(seen[:-3]))


# ECS


@functools.cache
def ecs_fields(path):
    with path.open(newline="") as file:
        return {row["Field"]: (row["Type"], row["Normalization"]) for row in csv.DictReader(file)}


def flat(value, prefix=""):
    for key, each in value.items():
        if isinstance(each, dict):
            yield from flat(each, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", each


def is_of_type(value, kind):
    if kind in {"keyword", "match_only_text", "wildcard", "constant_keyword"}:
        return isinstance(value, str)
    if kind == "long":
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    if kind == "float":
        return type(value) in {int, float}
    if kind == "ip":
        return str(ipaddress.ip_address(value)) == value
    if kind == "date":
        return bool(datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ"))
    raise AssertionError(kind)


@quick
@given(alert=extreme_alerts())
@example(GOLDEN_ALERTS["full"])
@example(GOLDEN_ALERTS["bare"])
def test_every_key_of_ecs_is_a_field_of_its_type_or_ours(shared, alert):
    fields = ecs_fields(shared("schemas/ecs-fields.csv"))

    for key, value in flat(json.loads(render_ecs(alert))):
        if key.startswith("penstock."):
            continue
        kind, normalization = fields[key]
        values = value if normalization == "array" else [value]
        assert isinstance(values, list), key
        assert all(is_of_type(each, kind) for each in values), (key, value)


def test_every_technique_of_the_class_table_has_a_name():
    assert [each.technique for each in CLASSES if each.technique and each.technique not in TECHNIQUE_NAMES] == []
    assert [each.name for each in techniques_of("T1498.001")] == ["Network Denial of Service", "Direct Network Flood"]
    assert [each.uid for each in techniques_of("T1046")] == ["T1046"]


def test_ecs_counts_by_source_where_eve_counts_by_client():
    line = json.loads(render_ecs(GOLDEN_ALERTS["full"]))

    assert (line["source"]["bytes"], line["destination"]["bytes"]) == (4_096, 180)
    assert line["destination"]["mac"] == "02-00-00-00-00-12"
    assert line["tags"] == ["clock_unsynchronised"]


@pytest.mark.parametrize(
    ("name", "number"),
    [("TCP", 6), ("IPv6-ICMP", 58), ("000", 0), ("089", 89), ("255", 255), ("256", 255), ("X-1", 255)],
)
def test_the_name_of_a_protocol_leads_back_to_its_number(name, number):
    assert protocol_number(name) == number


# OCSF


@quick
@given(alert=extreme_alerts())
@example(GOLDEN_ALERTS["full"])
@example(GOLDEN_ALERTS["bare"])
def test_py_ocsf_models_takes_every_finding(alert):
    finding = pytest.importorskip("py_ocsf_models.events.findings.detection_finding", reason="no py-ocsf-models")

    line = json.loads(render_ocsf(alert))

    taken = finding.DetectionFinding.model_validate(line)
    assert taken.type_uid == 100 * taken.class_uid + taken.activity_id
    known = set(finding.DetectionFinding.model_fields) | {"is_alert"}  # is_alert: of 1.4, not yet in that package
    assert set(line) <= known


# What the schema of class 2004 (1.5.0) calls required, and the values it knows; from its own pages, by hand.
REQUIRED = ("activity_id", "category_uid", "class_uid", "finding_info", "metadata", "severity_id", "time", "type_uid")


@quick
@given(alert=extreme_alerts())
@example(named("\0" * 1024))
def test_a_finding_holds_what_its_class_requires(alert):
    line = json.loads(render_ocsf(alert))

    assert [key for key in REQUIRED if key not in line] == []
    assert (line["class_uid"], line["category_uid"]) == (2004, 2)
    assert line["activity_id"] in {1, 2, 3}
    assert line["severity_id"] in {2, 3, 4}
    assert {"title", "uid"} <= line["finding_info"].keys()
    assert {"name", "type_id"} <= line["finding_info"]["analytic"].keys()
    assert {"product", "version"} <= line["metadata"].keys()
    assert "direction_id" in line["evidences"][0]["connection_info"]


@pytest.mark.parametrize(("changes", "activity"), [({}, 1), ({"update": 1}, 2), ({"update": 4, "state": "closed"}, 3)])
def test_a_finding_is_created_updated_and_closed(changes, activity):
    assert json.loads(render_ocsf(make_alert(**changes)))["type_uid"] == 200_400 + activity


# CEF


def read_cef(line):
    """Return header fields and pairs, as the format's description says to read them; independent of the writer."""
    fields, field, rest = [], "", iter(range(len(line)))
    for place in rest:
        if line[place] == "\\":
            field += line[next(rest)]
        elif line[place] == "|" and len(fields) < 7:
            fields.append(field)
            field = ""
        elif len(fields) == 7:
            field = line[place:]
            break
        else:
            field += line[place]
    keys = list(re.finditer(r"(?:^|(?<= ))([A-Za-z0-9_]+)=", field))
    pairs = {}
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        raw = field[key.end() : following.start() - 1 if following else None]
        pairs[key[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), raw)
    return fields, pairs


def as_shown(name):
    """Return what a reader of CEF sees of a name: line ends as such, other unprintable letters as their escapes."""
    lines = name.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(
        "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
        for line in lines
    )


PLAIN_KEYS = set(read_cef(render_cef(make_alert()))[1])


@quick
@given(name=names)
@example("a" * 1024)
def test_a_device_name_stays_inside_its_value(name):
    fields, pairs = read_cef(render_cef(named(name)))

    assert fields == ["CEF:0", "Penstock", "penstock", "1", "9000102", "PENSTOCK home device guesses passwords", "6"]
    assert set(pairs) - PLAIN_KEYS == {"shost"}
    assert (pairs["src"], pairs["dst"]) == ("10.77.0.66", "10.77.0.12")
    assert pairs["shost"] == as_shown(name)


def test_a_severity_of_one_is_nine_of_ten_and_ipv6_stands_in_its_own_keys():
    fields, pairs = read_cef(render_cef(GOLDEN_ALERTS["full"]))

    assert fields[6] == "9"
    assert (pairs["c6a2"], pairs["c6a3"]) == ("2001:db8::66", "fd00::12")
    assert "src" not in pairs
    assert (pairs["in"], pairs["out"]) == ("4096", "180")
    assert pairs["msg"] == "clock unsynchronised"


@pytest.mark.parametrize("attack_class", NAMES[1:])
@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_every_class_can_be_written(format_name, attack_class):
    assert attack_class in FORMATS[format_name].render(make_alert(attack_class=attack_class, severity=3))
