"""What a gateway tells Home Assistant: off unless asked for, retained, readable, and never in the way of alerts.

Home Assistant itself is not run here: its templates are rendered with Jinja, which they are written in, where it is
installed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from agent.config import AgentConfig
from agent.delivery import Delivery, MqttSettings
from agent.delivery.home_assistant import EVENT_TYPES, discovery, discovery_topic
from agent.live.outlets import mqtt_of
from contracts.eve import render_eve
from tests.alerts import make_alert
from tests.broker import PATIENCE_S, Subscriber
from tests.delivery.scripted import ScriptedBroker

NOT_AUTHORIZED = 0x87


def config(**mqtt: object) -> AgentConfig:
    tree = {"capture": {"interfaces": ["lo"]}, "gateway": {"id": "cellar"}, "mqtt": mqtt}
    return AgentConfig.model_validate(tree)


def settings(port: int) -> MqttSettings:
    made = MqttSettings.from_url(f"mqtt://127.0.0.1:{port}", gateway="replay")
    told = discovery("replay", availability_topic=made.availability_topic)
    return replace(made, announcements=((discovery_topic("replay"), told),))


def test_nothing_is_said_unless_it_is_switched_on():
    off, on = (mqtt_of(config(url="mqtt://127.0.0.1", **more), environ={}) for more in ({}, {"home_assistant": True}))

    assert off.announcements == ()
    assert [topic for topic, _ in on.announcements] == ["homeassistant/device/penstock_cellar/config"]


def test_it_wants_the_format_its_templates_read():
    with pytest.raises(ValueError, match="home_assistant"):
        config(url="mqtt://127.0.0.1", home_assistant=True, format="cef")


def test_each_entity_has_what_home_assistant_asks_of_it():
    told = json.loads(discovery("cellar", availability_topic="penstock/v1/cellar/availability"))
    components = told["components"]

    assert {"device", "origin", "availability_topic", "components"} <= told.keys()
    assert told["device"]["identifiers"]
    assert len({each["unique_id"] for each in components.values()}) == len(components)
    assert {each["platform"] for each in components.values()} == {"event", "sensor"}
    assert {each["state_topic"] for each in components.values()} == {"penstock/v1/cellar/alert/+"}


@pytest.mark.parametrize("severity", [2, 3])
def test_its_templates_read_our_lines(severity: int):
    jinja2 = pytest.importorskip("jinja2", reason="no Jinja to render the templates with")
    world = jinja2.Environment()
    world.filters["to_json"] = json.dumps
    components = json.loads(discovery("cellar", availability_topic="x"))["components"]
    line = json.loads(render_eve(make_alert(severity=severity)))

    said = {
        name: world.from_string(each["value_template"]).render(value_json=line) for name, each in components.items()
    }

    event = json.loads(said["alert"])
    assert event["event_type"] == f"severity_{severity}"
    assert event["event_type"] in EVENT_TYPES
    assert (event["source"], event["class"]) == ("10.77.0.66", "brute_force")
    assert said["signature"] == line["alert"]["signature"]
    assert said["severity"] == str(severity)


@pytest.mark.needs_broker
def test_the_introduction_is_retained_at_the_broker(broker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port)) as delivery:
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0

    subscriber = Subscriber(running.port)
    with subscriber.listening(topics="homeassistant/#"):
        message = subscriber.next()

    assert (message.topic, message.retain) == ("homeassistant/device/penstock_replay/config", True)
    assert json.loads(message.payload)["device"]["name"] == "Penstock replay"


def test_a_broker_that_does_not_allow_it_gets_its_alerts_all_the_same(caplog: pytest.LogCaptureFixture):
    def acknowledge(heard):
        return NOT_AUTHORIZED if heard.topic.startswith("homeassistant/") else 0

    with (
        caplog.at_level(logging.WARNING),
        ScriptedBroker(acknowledge=acknowledge) as scripted,
        Delivery(mqtt=settings(scripted.port)) as delivery,
    ):
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0

    assert len(scripted.sessions) == 1
    assert "homeassistant/device/penstock_replay/config" in caplog.text
