import os
import ssl

import pytest

from agent.delivery.backoff import FIRST_BACKOFF_S, Backoff
from agent.delivery.broker import MqttSettings, alert_topic
from agent.delivery.protection import read_password
from contracts.errors import UsageError
from tests.delivery.certificates import Authority


def settings(url, **options):
    return MqttSettings.from_url(url, gateway="replay", **options)


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password"),
    [
        ("mqtt://127.0.0.1", "127.0.0.1", 1883, None, None),
        ("mqtt://localhost:1884/", "localhost", 1884, None, None),
        ("mqtt://[::1]:1885", "::1", 1885, None, None),
        ("mqtts://broker.example", "broker.example", 8883, None, None),
        ("mqtts://gw@broker.example:443", "broker.example", 443, "gw", None),
        ("mqtts://g%40w:p%3Aq%2F@broker.example", "broker.example", 8883, "g@w", "p:q/"),
        ("MQTT://LocalHost", "localhost", 1883, None, None),
    ],
)
def test_an_address_names_host_port_user_and_password(url, host, port, user, password):
    found = settings(url)

    assert (found.host, found.port, found.user, found.password) == (host, port, user, password)
    assert (found.tls is not None) == url.startswith("mqtts")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("127.0.0.1", "scheme none"),
        ("127.0.0.1:1883", "scheme none"),
        ("tcp://127.0.0.1", "scheme 'tcp'"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt://ho st", "no host"),
        ("mqtt://127.0.0.1:0", "port must be a number from 1"),
        ("mqtt://127.0.0.1:65536", "port must be a number from 1"),
        ("mqtt://127.0.0.1:mqtt", "port must be a number from 1"),
        ("mqtt://127.0.0.1/topic", "goes on after host and port"),
        ("mqtt://127.0.0.1?x=1", "goes on after host and port"),
        ("mqtt://[::1", "cannot be read"),
        ("mqtt://:secret@127.0.0.1", "wants a user name"),
    ],
)
def test_what_is_no_address_is_refused_with_the_form_wanted(url, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        settings(url)
    assert "mqtt://[user[:password]@]host[:port]" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["tcp://u:s3cret@h", "mqtt://u:s3cret@h", "mqtt://u:s3cret@h:x", "mqtt://u:s3/cret@127.0.0.1", "mqtt://u:s3cret@["],
)
def test_no_complaint_holds_the_password(url):
    with pytest.raises(UsageError) as caught:
        settings(url)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_settings_shown_in_a_traceback_hold_no_password():
    assert "s3cret" not in repr(settings("mqtts://u:s3cret@h"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
def test_plain_tcp_stays_on_this_machine(host):
    assert settings(f"mqtt://{host}").tls is None


@pytest.mark.parametrize(
    "host", ["192.168.1.2", "broker.example", "localhost.example", "[::2]", "0.0.0.0", "128.0.0.1"]
)
def test_plain_tcp_beyond_this_machine_must_be_asked_for(host):
    with pytest.raises(UsageError, match="use mqtts:// or --mqtt-allow-plaintext"):
        settings(f"mqtt://{host}")

    assert settings(f"mqtt://{host}", allow_plaintext=True).tls is None


def test_tls_is_1_2_or_later_and_checks_certificate_and_name():
    context = settings("mqtts://h").tls

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_files_that_are_no_certificates_are_named(tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    os.mkfifo(tmp_path / "pipe")
    authority = Authority(tmp_path)
    cert, key = authority.issue("gateway")
    _, other = authority.issue("other")
    encrypted = authority.encrypt(key)

    for options, complaint in (
        ({"ca": tmp_path / "no.pem"}, r"mqtt-ca: .*no\.pem: no certificate in PEM"),
        ({"ca": tmp_path / "pipe"}, r"mqtt-ca: .*pipe: not a regular file"),
        ({"cert": tmp_path / "pipe"}, r"mqtt-cert: .*pipe.*: not a regular file"),
        ({"cert": cert, "key": tmp_path / "pipe"}, r"mqtt-cert: .*pipe.*: not a regular file"),
        ({"ca": tmp_path / "gone.pem"}, r"mqtt-ca: .*gone\.pem: No such file"),
        ({"cert": tmp_path / "gone.pem"}, r"mqtt-cert: .*gone\.pem.*: No such file"),
        ({"cert": cert, "key": other}, "that belong together"),
        ({"cert": cert, "key": encrypted}, "unencrypted key"),
        ({"key": key}, "wants its certificate"),
    ):
        with pytest.raises(UsageError, match=complaint):
            settings("mqtts://h", **options)


def test_files_for_tls_want_an_address_with_tls(tmp_path):
    with pytest.raises(UsageError, match="want an mqtts:// address"):
        settings("mqtt://127.0.0.1", ca=tmp_path / "ca.pem")


@pytest.mark.parametrize("gateway", ["a/b", "+", "#", "", "a b", "a" * 65])
def test_a_gateway_that_would_change_the_topic_is_refused(gateway):
    with pytest.raises(UsageError, match="cannot be part of a topic"):
        MqttSettings.from_url("mqtt://127.0.0.1", gateway=gateway)


def test_two_replays_have_two_client_ids():
    first, second = settings("mqtt://127.0.0.1"), settings("mqtt://127.0.0.1")

    assert first.client_id.startswith("replay-replay-")
    assert first.client_id != second.client_id
    assert settings("mqtt://127.0.0.1", client_id="gw-1").client_id == "gw-1"


def test_the_password_of_the_address_comes_before_that_of_the_file(tmp_path):
    (tmp_path / "secret").write_text("from file\r\nmore\n")

    password = read_password(tmp_path / "secret")

    assert settings("mqtts://u@h", password=password).password == "from file"
    assert settings("mqtts://u:p@h", password=password).password == "p"


@pytest.mark.parametrize("bad", [os.fsdecode(b"\xff"), "x" * 65_536])
def test_a_user_or_password_mqtt_cannot_carry_is_refused_and_not_shown(bad):
    for url, options in ((f"mqtts://{bad}@h", {}), (f"mqtts://u:{bad}@h", {}), ("mqtts://u@h", {"password": bad})):
        with pytest.raises(UsageError, match=r"mqtt: the (user name|password) is (no UTF-8|longer)") as caught:
            settings(url, **options)
        assert bad not in str(caught.value)
    assert settings("mqtts://u@h", password="x" * 65_535).password


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "is empty"), (b"\nx", "is empty"), (b"\xff\xfe", "no text"), (None, "No such file")],
)
def test_a_password_file_without_a_password_is_named(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "secret").write_bytes(content)

    with pytest.raises(UsageError, match=f"secret.*{complaint}"):
        read_password(tmp_path / "secret")


def test_a_pipe_is_no_password_file_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="pipe: not a regular file"):
        read_password(tmp_path / "pipe")


def test_a_complaint_shows_the_beginning_of_what_was_given():
    for url, gateway in (("x" * 100_000 + "://h", "gw"), ("mqtt://127.0.0.1", "g w" * 100_000)):
        with pytest.raises(UsageError) as caught:
            MqttSettings.from_url(url, gateway=gateway)
        assert len(str(caught.value)) < 300


def test_topics_are_those_of_the_design():
    assert alert_topic("gw-1", "port_scan") == "penstock/v1/gw-1/alert/port_scan"
    assert settings("mqtt://127.0.0.1").availability_topic == "penstock/v1/replay/availability"


def test_delays_double_up_to_the_most_and_begin_again_after_a_good_connection():
    backoff = Backoff(most_s=1.0, spread=lambda: 1.0)

    assert [backoff.next_s() for _ in range(5)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_s() == FIRST_BACKOFF_S


def test_delays_are_spread_between_half_and_all():
    assert Backoff(most_s=8.0, spread=lambda: 0.0).next_s() == FIRST_BACKOFF_S / 2
    assert FIRST_BACKOFF_S / 2 <= Backoff(most_s=8.0).next_s() <= FIRST_BACKOFF_S
