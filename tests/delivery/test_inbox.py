"""What a broker sends: against a real mosquitto, and for what no honest broker does against a scripted one."""

import time

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.delivery import Delivery, Incoming, MqttSettings, Subscription
from agent.delivery.inbox import CHOKED_S, LEAST_ROOM_BYTES, MOST_WAITING, Inbox
from tests.alerts import make_alert
from tests.broker import PATIENCE_S, Subscriber
from tests.delivery.scripted import ScriptedBroker

FEEDBACK = Subscription("penstock/v1/replay/feedback", 256)
ROUND = Subscription("penstock/v1/fleet/+/round", 100_000)


def settings(port, **changes):
    return MqttSettings(
        **{"host": "127.0.0.1", "port": port, "gateway": "replay", "client_id": "t", "max_backoff_s": 0.1, **changes}
    )


def waited_for(what):
    """Return what a function gives once it gives something."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline_s, "nothing came"
        time.sleep(0.01)
    return found


class Speaker:
    """Somebody who publishes, and waits for each PUBACK."""

    def __init__(self, port):
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(self, topic, payload, *, retain=False, **properties):
        told = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(told, name, value)
        self._client.publish(topic, payload, qos=1, retain=retain, properties=told).wait_for_publish(PATIENCE_S)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def speaker():
    made = []

    def make(port):
        made.append(Speaker(port))
        return made[-1]

    yield make
    for each in made:
        each.close()


def subscribed(delivery, speaker, topic=FEEDBACK.topic_filter):
    """Return once what is said arrives, and nothing of it is on its way.

    A subscription takes effect some time after a connection, so it is said again and again; what is said last comes
    last.
    """
    for tries in range(1, 50):
        last = b"hello %d" % tries
        speaker.say(topic, last)
        until_s = time.monotonic() + 0.1 * tries
        while time.monotonic() < until_s:
            if last in [each.payload for each in delivery.incoming()]:
                return
            time.sleep(0.01)
    raise AssertionError("nothing came")


@pytest.mark.needs_broker
def test_a_message_arrives_whole_with_what_it_says_of_itself(broker, speaker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port), subscriptions=[FEEDBACK, ROUND]) as delivery:
        analyst = speaker(running.port)
        subscribed(delivery, analyst)

        analyst.say(
            FEEDBACK.topic_filter,
            '{"verdict":"benign"}',
            ContentType="application/json",
            ResponseTopic="penstock/v1/replay/answer",
            UserProperty=[("operator", "ada"), ("ContentType", "forged")],
        )
        (message,) = waited_for(delivery.incoming)

        assert message == Incoming(
            FEEDBACK.topic_filter,
            b'{"verdict":"benign"}',
            {"operator": "ada", "ContentType": "application/json", "ResponseTopic": "penstock/v1/replay/answer"},
            is_retained=False,
        )


@pytest.mark.needs_broker
def test_what_was_kept_by_the_broker_says_so(broker, speaker):
    running = broker().start()
    speaker(running.port).say("penstock/v1/fleet/home/round", b"\0call", retain=True)

    with Delivery(mqtt=settings(running.port), subscriptions=[ROUND]) as delivery:
        (message,) = waited_for(delivery.incoming)

    assert (message.topic, message.payload, message.is_retained) == ("penstock/v1/fleet/home/round", b"\0call", True)


@pytest.mark.needs_broker
def test_after_a_broker_came_back_messages_arrive_again(broker, speaker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port), subscriptions=[FEEDBACK]) as delivery:
        subscribed(delivery, speaker(running.port))
        running.kill()
        running.start()

        subscribed(delivery, speaker(running.port))

        assert delivery.facts().connects == 2


@pytest.mark.needs_broker
def test_another_broker_is_subscribed_to_as_the_first_was(broker, speaker):
    first, second = broker().start(), broker().start()
    with Delivery(mqtt=settings(first.port), subscriptions=[FEEDBACK]) as delivery:
        subscribed(delivery, speaker(first.port))

        delivery.use(mqtt=settings(second.port))

        subscribed(delivery, speaker(second.port))


@pytest.mark.needs_broker
def test_an_answer_is_heard_once_and_a_broker_that_forbids_it_stops_no_alert(broker):
    heard = Subscriber((running := broker().start()).port)
    with heard.listening(), Delivery(mqtt=settings(running.port)) as delivery:
        heard.availability("online")
        for number in range(50):
            delivery.inbox.answer("penstock/v1/replay/answer/ada", b"%d" % number)
            delivery.take(make_alert(number))
        assert delivery.drain(PATIENCE_S) == 0
        messages = [heard.next() for _ in range(100)]
        assert delivery.facts().connects == 1
    answers = [each.payload for each in messages if each.topic.endswith("/answer/ada")]
    (running.folder / "acl").write_text(
        "topic readwrite penstock/v1/+/alert/#\ntopic readwrite penstock/v1/+/availability\n"
    )
    forbids = broker(f"acl_file {running.folder / 'acl'}").start()
    with Delivery(mqtt=settings(forbids.port)) as delivery:
        delivery.take(make_alert(1))
        assert delivery.drain(PATIENCE_S) == 0
        delivery.inbox.answer("penstock/v1/replay/answer/ada", b"unheard")
        delivery.take(make_alert(2))
        assert delivery.drain(PATIENCE_S) == 0
        assert delivery.facts().connects == 1

    assert answers == [b"%d" % number for number in range(50)]


@pytest.mark.needs_broker
def test_a_message_above_its_subscriptions_bound_is_counted_and_not_taken(broker, speaker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port), subscriptions=[FEEDBACK, ROUND]) as delivery:
        analyst = speaker(running.port)
        subscribed(delivery, analyst)

        analyst.say(FEEDBACK.topic_filter, "x" * 257)
        analyst.say(FEEDBACK.topic_filter, "x" * 100, UserProperty=[("note", "y" * 200)])
        analyst.say(FEEDBACK.topic_filter, "x" * 256)
        analyst.say("penstock/v1/fleet/home/round", "x" * 90_000)
        messages = waited_for(delivery.incoming)
        messages += [] if len(messages) == 2 else waited_for(delivery.incoming)

        assert [len(each.payload) for each in messages] == [256, 90_000]
        assert dict(delivery.facts().refused)["size"] == 2


@pytest.mark.needs_broker
def test_a_packet_beyond_every_bound_costs_neither_the_connection_nor_an_alert(broker, speaker):
    running = broker().start()
    speaker(running.port).say(FEEDBACK.topic_filter, "x" * 1_000_000, retain=True)
    with Delivery(mqtt=settings(running.port), subscriptions=[FEEDBACK]) as delivery:
        subscribed(delivery, speaker(running.port))
        delivery.take(make_alert())

        assert delivery.drain(PATIENCE_S) == 0
        assert delivery.facts().connects == 1


@pytest.mark.needs_broker
def test_a_flood_on_one_topic_is_bounded_and_leaves_another_its_room(broker, speaker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port), subscriptions=[FEEDBACK, ROUND]) as delivery:
        analyst = speaker(running.port)
        subscribed(delivery, analyst)
        full, received = dict(delivery.facts().refused)["full"], delivery.facts().received

        for number in range(1000):
            analyst.say(FEEDBACK.topic_filter, str(number))
        analyst.say("penstock/v1/fleet/home/round", "call")
        waited_for(lambda: dict(delivery.facts().refused)["full"] == full + 1000 - MOST_WAITING)
        waited_for(lambda: delivery.facts().received == received + MOST_WAITING + 1)
        messages = delivery.incoming()
        delivery.take(make_alert())

        assert [each.payload for each in messages] == [b"%d" % number for number in range(MOST_WAITING)] + [b"call"]
        assert delivery.drain(PATIENCE_S) == 0


@pytest.mark.needs_broker
def test_subscriptions_change_while_connected_and_larger_packets_want_a_new_connection(broker, speaker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port), subscriptions=[ROUND]) as delivery:
        analyst = speaker(running.port)
        subscribed(delivery, analyst, "penstock/v1/fleet/home/round")

        delivery.listen([FEEDBACK])
        subscribed(delivery, analyst)
        analyst.say("penstock/v1/fleet/home/round", "no more")
        analyst.say(FEEDBACK.topic_filter, "still")
        (only,) = waited_for(delivery.incoming)
        connects = delivery.facts().connects
        delivery.listen([FEEDBACK, Subscription("penstock/v1/fleet/home/bundle/+", 1_000_000)])
        waited_for(lambda: delivery.facts().connects > connects)  # until then the old connection answers
        subscribed(delivery, analyst, "penstock/v1/fleet/home/bundle/1")
        analyst.say("penstock/v1/fleet/home/bundle/1", "x" * 1_000_000)
        (bundle,) = waited_for(delivery.incoming)

        assert (only.payload, connects) == (b"still", 1)
        assert len(bundle.payload) == 1_000_000
        assert delivery.facts().connects == 2


def publish(topic, payload=b"{}", *, properties=b"\0"):
    """Return a PUBLISH at QoS 0 of MQTT 5."""
    body = len(topic).to_bytes(2, "big") + topic + properties + payload
    return bytes([0x30, len(body)]) + body


def sent_by_a_broker(*packets):
    """Return the inbox of a delivery after a broker sent packets that nobody asked for, and whether it still serves."""

    def acknowledge(heard):
        if len(broker.sessions) == 1 and heard.payload == b"online":
            for packet in packets:
                heard.session.link.sendall(packet)
        return 0

    with (
        ScriptedBroker(acknowledge=acknowledge) as broker,
        Delivery(mqtt=settings(broker.port), subscriptions=[FEEDBACK]) as delivery,
    ):
        waited_for(lambda: sum(count for _, count in delivery.facts().refused))
        delivery.take(make_alert())
        assert delivery.drain(PATIENCE_S) == 0
        return delivery, broker


def test_a_message_of_a_topic_nobody_asked_for_is_counted():
    delivery, broker = sent_by_a_broker(publish(b"penstock/v1/other/feedback"), publish(b""))

    assert dict(delivery.facts().refused)["topic"] == 2
    assert len(broker.sessions) == 1


def test_a_subscription_the_broker_does_not_grant_is_told(caplog):
    sent_by_a_broker(bytes([0x90, 4, 0, 1, 0, 0x87]), publish(b""))

    assert "a subscription is refused: Not authorized" in caplog.text


def test_a_topic_that_is_no_text_is_counted():
    delivery, broker = sent_by_a_broker(publish(b"penstock/v1/\xff\xfe"))

    assert dict(delivery.facts().refused)["malformed"] == 1
    assert len(broker.sessions) == 1


@pytest.mark.parametrize(
    "packet",
    [
        bytes([0x30, 1, 0]),  # a length of half its octets
        bytes([0x30, 4, 0, 9, 0x61, 0x62]),  # a topic longer than its packet
        publish(b"penstock/v1/replay/feedback", properties=b"\x02\xee\x01"),  # a property nobody defined
        bytes([0x90, 1, 0]),  # a SUBACK of one octet
        bytes([0x20, 0]),  # a CONNACK of none
    ],
)
def test_a_packet_that_does_not_hold_together_ends_the_connection_and_the_next_one_serves(packet):
    delivery, broker = sent_by_a_broker(packet)

    assert dict(delivery.facts().refused)["malformed"] == 1
    assert len(broker.sessions) == 2


def test_after_a_packet_that_is_too_large_nothing_is_subscribed_for_a_time_and_alerts_leave():
    delivery, broker = sent_by_a_broker(bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F]))

    assert dict(delivery.facts().refused)["packet"] == 1
    assert [session.subscribes for session in broker.sessions] == [1, 0]


class Wire:
    """Remembers what was asked for."""

    def __init__(self):
        self.asked = []

    def subscribe(self, topic_filters):
        self.asked.append(list(topic_filters))

    def unsubscribe(self, topic_filters):
        self.asked.append([f"-{each}" for each in topic_filters])

    def mention(self, topic, payload):
        self.asked.append((topic, payload))


def test_the_time_without_subscriptions_ends():
    now_s = [0.0]
    inbox, wire = Inbox([FEEDBACK], clock_s=lambda: now_s[0]), Wire()
    inbox.choke()
    inbox.connected(wire)

    now_s[0] = CHOKED_S - 0.1
    inbox.drain()
    before = list(wire.asked)
    now_s[0] = CHOKED_S
    inbox.drain()
    inbox.drain()

    assert (before, wire.asked) == ([], [[FEEDBACK.topic_filter]])


def test_large_messages_are_bounded_by_what_they_weigh():
    inbox = Inbox([Subscription("a", LEAST_ROOM_BYTES)])

    for _ in range(4):
        inbox.take(Incoming("a", bytes(LEAST_ROOM_BYTES), {}, is_retained=False))

    assert len(inbox.drain()) == 2
    assert dict(inbox.refused)["full"] == 2


def test_a_room_emptied_has_room_again():
    inbox = Inbox([FEEDBACK])
    for _ in range(MOST_WAITING + 1):
        inbox.take(Incoming(FEEDBACK.topic_filter, b"", {}, is_retained=False))

    first = len(inbox.drain())
    inbox.take(Incoming(FEEDBACK.topic_filter, b"", {}, is_retained=False))

    assert (first, len(inbox.drain()), inbox.received) == (MOST_WAITING, 1, MOST_WAITING + 1)
