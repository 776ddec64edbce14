import uuid

import pytest
from pydantic import ValidationError

from contracts.alert import Alert, derived_uuid7, is_gateway_id, protocol_name, uuid7
from tests.alerts import make_alert


def test_an_alert_says_what_follows_from_its_class_and_direction():
    taken_over = make_alert(attack_class="brute_force", direction="outbound")
    attacked = make_alert(attack_class="brute_force", direction="inbound")

    assert (taken_over.inside, attacked.inside) == (True, False)
    assert taken_over.kind.technique == attacked.kind.technique == "T1110"


def test_an_alert_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        make_alert().severity = 1


def test_severity_1_is_refused_for_a_source_that_may_be_forged():
    with pytest.raises(ValidationError, match="two-way source outside"):
        make_alert(severity=1, spoofable=True, direction="inbound")


def test_severity_1_is_refused_for_a_home_device():
    with pytest.raises(ValidationError, match="two-way source outside"):
        make_alert(severity=1, spoofable=False, direction="internal")


def test_severity_1_stands_for_a_two_way_source_outside():
    assert make_alert(severity=1, spoofable=False, direction="inbound").severity == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"attack_class": "benign"}, "attack_class must be one of"),
        ({"attack_class": "scanning"}, "attack_class must be one of"),
        ({"src_port": None}, "both ports or neither"),
        ({"src_ip": "10.0.0.256"}, "src_ip"),
        ({"src_ip": "fe80::1%eth0"}, "without a zone"),
        ({"host": "gateway/one"}, "host"),
        ({"host": "+"}, "host"),
        ({"score": 1.0001}, "score"),
        ({"score": float("nan")}, "score"),
        ({"timestamp_us": -1}, "timestamp_us"),
        ({"flow_id": 1 << 53}, "flow_id"),
        ({"alert_id": str(uuid.UUID(int=7))}, "alert_id"),
        ({"columns": (("a", 0.1), ("b", 0.1), ("c", 0.1), ("d", 0.1))}, "columns"),
        ({"colour": "red"}, "colour"),
        ({"update": 1.0}, "update"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, complaint):
    with pytest.raises(ValidationError, match=complaint):
        make_alert(**change)


def test_addresses_are_written_in_one_way():
    assert make_alert(src_ip="2001:DB8:0::1").src_ip == "2001:db8::1"


def test_an_alert_survives_its_own_json():
    alert = make_alert()

    assert Alert.model_validate_json(alert.model_dump_json()) == alert


def test_the_same_moment_and_content_give_the_same_id_and_other_content_another():
    first = derived_uuid7(1_500_000_000_123_456, "10.0.0.1", 3)

    assert derived_uuid7(1_500_000_000_123_456, "10.0.0.1", 3) == first
    assert derived_uuid7(1_500_000_000_123_456, "10.0.0.1", 4) != first
    assert derived_uuid7(1_500_000_000_123_456, "10.0.0", 13) != first


def test_ids_sort_by_microsecond():
    times = [1_500_000_000_000_000 + step for step in (0, 1, 2, 999, 1_000, 1_001, 5_000_000)]

    ids = [uuid7(time_us, bytes([255 - place]) * 8) for place, time_us in enumerate(times)]

    assert ids == sorted(ids)


def test_an_id_is_a_version_7_uuid_whose_milliseconds_can_be_read_back():
    number = uuid.UUID(uuid7(1_700_000_000_123_999, b"\xff" * 8))

    assert number.version == 7
    assert number.variant == uuid.RFC_4122
    assert number.int >> 80 == 1_700_000_000_123


@pytest.mark.parametrize("text", ["replay", "gw-1", "Plant_7.hall.2", "a" * 64])
def test_letters_digits_dots_dashes_and_underscores_name_a_gateway(text):
    assert is_gateway_id(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "a/b", "+", "a+", "#", "$SYS", "-a", "gw 1", "gw\n", "g\0w", "größe"])
def test_what_an_mqtt_topic_would_take_for_more_than_a_name_does_not(text):
    assert not is_gateway_id(text)


def test_protocols_without_a_name_are_three_digits_as_suricata_writes_them():
    assert [protocol_name(number) for number in (1, 6, 17, 58, 0, 103)] == [
        "ICMP",
        "TCP",
        "UDP",
        "IPv6-ICMP",
        "000",
        "103",
    ]
