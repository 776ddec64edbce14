"""The broker sample in deploy/mosquitto, with nothing changed but paths and the port, on a real mosquitto."""

import json
import queue
import re
import ssl
import time

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.delivery import Delivery, MqttSettings
from agent.live.mail import Mail
from agent.live.verdicts import Verdicts
from agent.state.audit import AUDIT_FILE, AuditLog
from agent.state.rules import RULES_FILE, RulesFile
from contracts.rollout import MAX_ARCHIVE_BYTES
from tests.agent.commands.test_feedback import recorded
from tests.alerts import make_alert
from tests.broker import PATIENCE_S
from tests.delivery.certificates import Authority
from tests.mosquitto_sample import as_sample

pytestmark = pytest.mark.needs_broker

NOT_AUTHORIZED = 0x87


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def sample(broker, authority, tmp_path):
    """Give the sample's broker, running."""
    return as_sample(broker(), authority, tmp_path).start()


def settings(sample, authority, name, *, gateway=None):
    cert, key = authority.issue(name)
    return MqttSettings.from_url(
        f"mqtts://127.0.0.1:{sample.port}", gateway=gateway or name, ca=authority.ca, cert=cert, key=key
    )


class Party:
    """Somebody with a certificate who publishes and subscribes, and remembers what came."""

    def __init__(self, sample, authority, name):
        self.heard = queue.SimpleQueue()
        self._answers = queue.SimpleQueue()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(*authority.issue(name))
        self._client.tls_set_context(context)
        self._client.on_message = lambda _client, _data, message: self.heard.put(message)
        self._client.on_publish = lambda _c, _d, _mid, code, _p: self._answers.put(code.value)
        self._client.on_subscribe = lambda _c, _d, _mid, codes, _p: self._answers.put(codes[0].value)
        self._client.connect("127.0.0.1", sample.port)
        self._client.loop_start()

    def publish(self, topic, payload="x", *, retain=False, answer_to=None):
        """Return the broker's code: 0x87 where the ACL says no."""
        properties = Properties(PacketTypes.PUBLISH)
        if answer_to is not None:
            properties.ResponseTopic = answer_to
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self._answers.get(timeout=PATIENCE_S)

    def subscribe(self, topic):
        self._client.subscribe(topic, qos=1)
        return self._answers.get(timeout=PATIENCE_S)

    def next(self):
        return self.heard.get(timeout=PATIENCE_S)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def party(sample, authority):
    made = []

    def make(name):
        made.append(Party(sample, authority, name))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_gateways_alerts_availability_and_status_reach_the_siem_over_tls(sample, authority, party):
    siem = party("siem")
    for topic in ("penstock/v1/+/alert/+", "penstock/v1/+/availability", "penstock/v1/+/status"):
        assert siem.subscribe(topic) == 1

    with Delivery(mqtt=settings(sample, authority, "cellar")) as delivery:
        delivery.status("{}")
        delivery.take(make_alert(host="cellar"))
        assert delivery.drain(PATIENCE_S) == 0
        heard = [siem.next() for _ in range(3)]
    offline = siem.next()

    assert [each.topic.removeprefix("penstock/v1/cellar/") for each in heard] == [
        "availability",
        "status",
        "alert/brute_force",
    ]
    assert (offline.topic, offline.payload) == ("penstock/v1/cellar/availability", b"offline")


@pytest.mark.parametrize(
    "topic",
    [
        "penstock/v1/attic/alert/scan",
        "penstock/v1/attic/availability",
        "penstock/v1/attic/status",
        "penstock/v1/cellar/feedback",
        "penstock/v1/cellar/manifest",
        "penstock/v1/cellar/alert/scan/more",
        "penstock/v1/fleet/home/round",
        "penstock/v1/fleet/home/anchors",
        "penstock/v1/fleet/home/bundle/00",
        "penstock/v1/fleet/home/whole/00",
        "penstock/v1/attic/update/1",
        "penstock/v1/attic/federation/up/1",
        "penstock/v1/attic/manifest",
        "penstock/v1/cellar/federation/down/1",
        "penstock/v1/cellar",
        "other",
    ],
)
def test_a_gateway_writes_only_its_own_topics(party, topic):
    cellar = party("cellar")

    assert cellar.publish("penstock/v1/cellar/alert/scan") in {0, 0x10}
    assert cellar.publish(topic) == NOT_AUTHORIZED


def test_a_gateway_reads_nobodys_alerts_not_even_by_a_wildcard(party):
    cellar, attic = party("cellar"), party("attic")
    # mosquitto grants the subscription and then checks every message against the reader's rights.
    cellar.subscribe("#")
    cellar.subscribe("penstock/v1/attic/alert/+")

    attic.publish("penstock/v1/attic/alert/scan")
    aggregator = party("aggregator")
    aggregator.publish("penstock/v1/cellar/manifest", "for cellar")

    assert cellar.next().payload == b"for cellar"
    assert cellar.heard.empty()


def test_an_aggregator_writes_what_gateways_are_told_and_nothing_of_theirs(party):
    aggregator = party("aggregator")

    for topic in (
        "fleet/home/round",
        "fleet/home/anchors",
        "fleet/home/bundle/00",
        "fleet/home/whole/00",
        "cellar/manifest",
    ):
        assert aggregator.publish(f"penstock/v1/{topic}") in {0, 0x10}
    for topic in ("cellar/update/1", "cellar/status", "cellar/alert/scan", "cellar/availability", "cellar/feedback"):
        assert aggregator.publish(f"penstock/v1/{topic}") == NOT_AUTHORIZED


def test_an_aggregator_reads_updates_and_states_and_no_alert(party):
    aggregator, cellar = party("aggregator"), party("cellar")
    aggregator.subscribe("penstock/v1/#")
    aggregator.subscribe("$share/workers/penstock/v1/+/update/+")

    cellar.publish("penstock/v1/cellar/alert/scan", "an alert")
    cellar.publish("penstock/v1/cellar/status", "a status")
    cellar.publish("penstock/v1/cellar/update/1", "an update")

    assert sorted(aggregator.next().payload for _ in range(3)) == [b"a status", b"an update", b"an update"]
    assert aggregator.heard.empty()


def test_a_gateway_hears_its_fleet_and_its_own_orders_alone(party):
    cellar, aggregator = party("cellar"), party("aggregator")
    cellar.subscribe("penstock/v1/#")

    for topic in ("attic/manifest", "cellar/manifest", "fleet/home/round", "fleet/home/anchors", "fleet/home/bundle/0"):
        aggregator.publish(f"penstock/v1/{topic}", topic, retain=True)

    heard = [cellar.next().payload.decode() for _ in range(4)]
    assert heard == ["cellar/manifest", "fleet/home/round", "fleet/home/anchors", "fleet/home/bundle/0"]
    assert cellar.heard.empty()


def test_a_bundle_of_the_largest_size_passes(party):
    aggregator, cellar = party("aggregator"), party("cellar")
    cellar.subscribe("penstock/v1/fleet/home/bundle/0")

    assert aggregator.publish("penstock/v1/fleet/home/bundle/0", bytes(MAX_ARCHIVE_BYTES)) == 0

    assert len(cellar.next().payload) == MAX_ARCHIVE_BYTES


def test_whoever_reads_alerts_writes_none(party):
    for name in ("siem", "analyst"):
        assert party(name).publish("penstock/v1/cellar/alert/scan") == NOT_AUTHORIZED
    assert party("analyst").publish("penstock/v1/cellar/feedback") in {0, 0x10}
    assert party("siem").publish("penstock/v1/cellar/feedback") == NOT_AUTHORIZED


def test_an_analysts_verdict_is_applied_and_answered_and_anybody_elses_never_arrives(
    sample, authority, party, tmp_path
):
    update = recorded(tmp_path / "state")
    said = json.dumps({"alert_id": update.alert_id, "verdict": "benign", "operator": "ada"})
    with (
        Delivery(mqtt=settings(sample, authority, "cellar")) as delivery,
        Verdicts(tmp_path / "state", gateway="cellar", answer=delivery.inbox.answer) as verdicts,
    ):
        mail = Mail(delivery)
        mail.ask("verdicts", verdicts.subscriptions(is_wanted=True), verdicts.take)
        analyst = party("analyst")
        assert analyst.subscribe("penstock/v1/+/answer/+") == 1
        for name in ("siem", "aggregator", "attic", "cellar"):
            assert party(name).publish("penstock/v1/cellar/feedback", said) == NOT_AUTHORIZED

        def counted():
            # A subscription takes effect some time after a connection: said until it arrives, then it is a replay.
            analyst.publish("penstock/v1/cellar/feedback", said, answer_to="penstock/v1/cellar/answer/ada")
            mail.hand_out()
            return verdicts.results["applied"]

        until_s = time.monotonic() + PATIENCE_S
        while not counted():
            assert time.monotonic() < until_s
            time.sleep(0.02)
        answer = json.loads(analyst.next().payload)

    rules = RulesFile(tmp_path / "state" / RULES_FILE).current()
    (entry,) = AuditLog(tmp_path / "state" / AUDIT_FILE).entries()
    assert (answer["result"], len(rules), verdicts.results["applied"]) == ("applied", 1, 1)
    assert (entry.operator, entry.by, entry.verdict) == ("ada", "mqtt", "benign")


def test_an_agent_that_calls_itself_by_another_name_is_refused_by_topic(sample, authority):
    with Delivery(mqtt=settings(sample, authority, "cellar", gateway="attic")) as delivery:
        delivery.take(make_alert(host="attic"))
        until_s = time.monotonic() + PATIENCE_S
        while "Not authorized" not in (facts := delivery.facts()).broker_reason:
            assert time.monotonic() < until_s, facts
            time.sleep(0.02)

    assert facts.outbox_rows == 1
    assert re.search(r"penstock/v1/attic/\S+: Not authorized", facts.broker_reason)


@pytest.mark.parametrize("what", ["none", "foreign"])
def test_without_a_certificate_of_our_authority_nobody_is_let_in(sample, authority, tmp_path, what):
    options = {}
    if what == "foreign":
        options["cert"], options["key"] = Authority(tmp_path, "other").issue("cellar")
    outside = MqttSettings.from_url(f"mqtts://127.0.0.1:{sample.port}", gateway="cellar", ca=authority.ca, **options)

    with Delivery(mqtt=outside) as delivery:
        delivery.take(make_alert(host="cellar"))

        assert delivery.flush(0.5) == 1
        assert delivery.facts().connects == 0
