"""Lines of ours read back, and everything that is none refused with its reason."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.eve import MAX_LINE_BYTES, render_eve
from contracts.eve_reading import EveRefused, read_eve
from tests.alerts import extreme_alerts, make_alert

quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def changed(**changes):
    """Return the octets of a line in which keys, named with dots, were given other values; None removes one."""
    line = json.loads(render_eve(make_alert()))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = line
        for each in parents:
            place = place[each]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(line, sort_keys=True, separators=(",", ":")).encode()


def reason_of(line):
    with pytest.raises(EveRefused) as refused:
        read_eve(line)
    return refused.value.reason


@quick
@given(extreme_alerts())
def test_any_alert_read_back_gives_the_same_line(alert):
    line = render_eve(alert)

    assert render_eve(read_eve(line.encode())) == line


def test_an_alert_comes_back_whole():
    alert = make_alert(severity=1, direction="inbound", score=0.9877, threshold=0.9, update=3, state="closed")

    assert read_eve(render_eve(alert).encode() + b"\n") == alert


def test_the_order_of_keys_and_spaces_between_them_do_not_matter():
    line = json.loads(render_eve(make_alert()))
    spread = json.dumps(dict(reversed(line.items())), indent=1).encode()

    assert len(spread) <= MAX_LINE_BYTES
    assert render_eve(read_eve(spread)) == render_eve(make_alert())


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"[" * 2000, render_eve(make_alert())[:-1].encode()])
def test_what_is_no_json_is_refused_as_such(line):
    assert reason_of(line) == "json"


@pytest.mark.parametrize("line", [b"[]", b"null", b"1", b'"x"', b"{}"])
def test_json_that_is_no_line_is_refused_by_the_schema(line):
    assert reason_of(line) == "schema"


def test_the_longest_line_is_taken_and_one_octet_more_is_oversize():
    line = render_eve(make_alert()).encode()

    assert read_eve(line + b" " * (MAX_LINE_BYTES - len(line)))
    assert reason_of(line + b" " * (MAX_LINE_BYTES - len(line) + 1)) == "oversize"


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"timestamp": None},
        {"timestamp": "2017-02-30T00:00:00.000000+0000"},
        {"src_ip": "10.77.0.066"},
        {"src_ip": "localhost"},
        {"src_port": 65_536},
        {"src_port": "23"},
        {"host": "a/b"},
        {"host": "a\n"},
        {"event_type": "stats"},
        {"alert__severity": 0},
        {"alert__signature_id": 9_000_001},
        {"alert__signature": "something else"},
        {"alert__category": "Not Suspicious Traffic"},
        {"alert__context__penstock__class": "benign"},
        {"alert__context__penstock__class": "scan"},
        {"alert__context__penstock__direction": "inbound"},
        {"alert__context__penstock__score": 1.5},
        {"alert__context__penstock__score": 0.12345},
        {"alert__context__penstock__alert_id": "x"},
        {"alert__context__penstock__technique": None},
        {"flow__age": 99},
        {"flow__src_ip": "192.0.2.1"},
    ],
    ids=str,
)
def test_a_line_that_does_not_hold_together_is_refused(changes):
    assert reason_of(changed(**changes)) == "schema"


@pytest.mark.parametrize("changes", [{"spoofable": True}, {"direction": "outbound"}])
def test_severity_1_of_a_source_that_may_be_forged_or_is_inside_is_refused(changes):
    """Readers ban on severity 1, so a gateway that was taken over must not get such a line past us."""
    line = json.loads(render_eve(make_alert(severity=1, direction="inbound")))
    line["alert"]["context"]["penstock"].update(changes)

    assert reason_of(json.dumps(line).encode()) == "schema"


def test_a_key_named_twice_cannot_say_two_things():
    line = render_eve(make_alert()).encode()

    first_wins = line.replace(b'{"alert":', b'{"src_ip":"192.0.2.99","alert":', 1)

    assert render_eve(read_eve(first_wins)) == render_eve(make_alert())


def test_a_refusal_shows_nothing_of_the_line():
    with pytest.raises(EveRefused) as refused:
        read_eve(changed(src_ip="secret.example").replace(b'"proto"', b'"evil\x1b key"'))

    assert "secret" not in str(refused.value)
    assert "evil" not in str(refused.value)


@quick
@given(st.binary(max_size=300))
def test_no_octets_raise_anything_else(octets):
    assert reason_of(octets) in {"json", "schema"}
