import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from contracts.alert import AlertFlow
from contracts.eve import EveLine, eve_line, eve_schema, eve_schema_text, timestamp_text
from tests.alerts import T0_US, make_alert

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "penstock-eve.schema.json"


def as_json(alert):
    return json.loads(eve_line(alert).model_dump_json(by_alias=True, exclude_none=True))


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(eve_schema())
    return jsonschema.Draft202012Validator(eve_schema())


def test_the_schema_in_docs_is_the_one_the_model_makes():
    assert COMMITTED.read_text() == eve_schema_text(), "run: python -m contracts.eve > docs/penstock-eve.schema.json"


def test_a_line_carries_suricatas_names_and_ours_in_one_place(validator):
    line = as_json(make_alert())

    validator.validate(line)
    assert line["timestamp"] == "2017-07-14T02:40:00.250000+0000"
    assert line["alert"]["signature_id"] == 9_000_102
    assert line["alert"]["signature"] == "PENSTOCK home device guesses passwords"
    assert line["flow"]["age"] == 0
    assert line["alert"]["context"]["penstock"]["class"] == "brute_force"
    assert line["alert"]["context"]["penstock"]["score"] == 0.9877
    assert set(line["alert"]["context"]) == {"penstock"}


def test_src_is_the_attacker_even_where_the_victim_opened_the_flow():
    flow = AlertFlow(
        src_is_initiator=False,
        pkts_toserver=1,
        pkts_toclient=2,
        bytes_toserver=3,
        bytes_toclient=4,
        start_us=T0_US,
        end_us=T0_US + 61_999_999,
    )

    line = as_json(make_alert(flow=flow))

    assert (line["src_ip"], line["flow"]["src_ip"]) == ("10.77.0.66", "10.77.0.12")
    assert (line["src_port"], line["flow"]["src_port"]) == (40_000, 23)
    assert line["flow"]["age"] == 61
    assert "reason" not in line["flow"]


def test_what_has_no_ports_shows_none(validator):
    line = as_json(make_alert(src_port=None, dest_port=None, proto="ICMP"))

    validator.validate(line)
    assert not {"src_port", "dest_port"} & (line.keys() | line["flow"].keys())


@pytest.mark.parametrize(
    "break_it",
    [
        lambda line: line.pop("community_id"),
        lambda line: line.update(event_type="flow"),
        lambda line: line.update(extra=1),
        lambda line: line.update(in_iface=None),
        lambda line: line.update(timestamp="2017-07-14T02:40:00Z"),
        lambda line: line["alert"].update(signature_id=9_000_000),
        lambda line: line["alert"].update(severity=4),
        lambda line: line["alert"]["context"].update(other={}),
        lambda line: line["alert"]["context"]["penstock"].update(score=1.5),
        lambda line: line["alert"]["context"]["penstock"].update({"class": "benign"}),
        lambda line: line["alert"]["context"]["penstock"]["columns"].update({"Bad Name": 0.1}),
        lambda line: line["alert"]["context"]["penstock"].update(columns=[{"name": "a"}]),
        lambda line: line["alert"].pop("action"),
    ],
)
def test_our_schema_refuses_a_line_that_is_wrong_in_one_place(validator, break_it):
    line = as_json(make_alert())

    break_it(line)

    assert not validator.is_valid(line)


def test_the_model_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="extra"):
        EveLine.model_validate({**as_json(make_alert()), "extra": 1})


def test_time_stamps_hold_six_digits_and_an_offset():
    assert timestamp_text(0) == "1970-01-01T00:00:00.000000+0000"
    assert timestamp_text(253_402_300_799_999_999) == "9999-12-31T23:59:59.999999+0000"
