"""Syslog against servers of the standard library that read what RFC 5424, 6587 and 5425 say."""

import contextlib
import re
import socket
import ssl
import threading

import pytest

from agent.delivery import SyslogSettings, SyslogSink
from agent.delivery.syslog import FACILITIES, syslog_message
from contracts.alert import AlertDevice
from contracts.errors import UsageError
from contracts.formats import FORMATS
from tests.alerts import make_alert
from tests.delivery.certificates import Authority
from tests.ports import free_port

PATIENCE_S = 120
# HEADER SP STRUCTURED-DATA SP MSG, RFC 5424 section 6.
MESSAGE = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48})"
    rb" (?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) (?P<data>\[[^\]]*\]) (?P<msg>.*)",
    re.DOTALL,
)


def settings(address="127.0.0.1", **options):
    return SyslogSettings.of(address, hostname="cellar", **options)


@pytest.mark.parametrize(
    ("facility", "severity", "priority"), [("local0", 2, 132), ("kern", 3, 5), ("authpriv", 1, 82), ("local7", 3, 189)]
)
def test_a_message_is_what_rfc_5424_says(facility, severity, priority):
    alert = make_alert(severity=severity, direction="inbound", update=1)
    found = MESSAGE.fullmatch(syslog_message(alert, settings(facility=facility)))

    assert int(found["pri"]) == priority
    assert (found["time"], found["host"], found["app"]) == (b"2017-07-14T02:40:00.250000Z", b"cellar", b"penstock")
    assert found["data"] == b'[timeQuality tzKnown="1" isSynced="1"]'
    assert found["msg"].decode() == FORMATS["eve"].render(alert)


@pytest.mark.parametrize("form", FORMATS)
def test_a_hostile_name_makes_one_message_of_any_format(form):
    alert = make_alert(device=AlertDevice(ip="10.77.0.66", name="a\n<1>1 - - - - - forged\0\r"), clock="unsynchronised")

    message = syslog_message(alert, settings(format=form))

    assert MESSAGE.fullmatch(message)["data"] == b'[timeQuality tzKnown="1" isSynced="0"]'
    assert not {b"\n", b"\r", b"\0"} & {message[place : place + 1] for place in range(len(message))}


def test_facilities_have_the_numbers_of_the_rfc():
    assert (FACILITIES["kern"], FACILITIES["ftp"], FACILITIES["local0"], FACILITIES["local7"]) == (0, 11, 16, 23)


@pytest.mark.parametrize(
    ("address", "transport", "place"),
    [
        ("log.example", "udp", "log.example:514"),
        ("log.example", "tcp", "log.example:514"),
        ("log.example", "tls", "log.example:6514"),
        ("log.example:99", "tcp", "log.example:99"),
        ("::1", "udp", "[::1]:514"),
        ("[::1]:99", "udp", "[::1]:99"),
        ("", "unix", "/dev/log"),
        ("/run/log", "unix", "/run/log"),
    ],
)
def test_an_address_is_host_and_port_or_a_path(address, transport, place):
    assert settings(address, transport=transport).place == place


@pytest.mark.parametrize(
    ("address", "options", "complaint"),
    [
        ("", {}, "address '', wanted HOST"),
        ("h:0", {}, "wanted HOST"),
        ("h:65536", {}, "wanted HOST"),
        ("h:x", {}, "wanted HOST"),
        ("a b", {}, "wanted HOST"),
        ("h", {"transport": "sctp"}, "transport 'sctp', wanted one of udp, tcp, tls, unix"),
        ("h", {"format": "leef"}, "format 'leef', wanted one of eve"),
        ("h", {"facility": "local8"}, "facility 'local8', wanted one of kern"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_wanted(address, options, complaint):
    with pytest.raises(UsageError, match=re.escape(complaint)):
        settings(address, **options)


def test_authorities_are_for_tls(tmp_path):
    with pytest.raises(UsageError, match="ca_file is of no use with transport udp"):
        settings(ca_file=tmp_path / "ca.pem")


def read_counted(stream):
    """Return the next message in octet counting, None at the end."""
    count = b""
    while (letter := stream.read(1)) not in {b" ", b""}:
        count += letter
    return stream.read(int(count)) if count else None


def numbers(messages):
    first = make_alert().flow_id
    return [int(re.search(rb'"flow_id":(\d+)', message)[1]) - first for message in messages]


@contextlib.contextmanager
def sending(where):
    sink = SyslogSink(where)
    try:
        yield sink
    finally:
        sink.close()


def test_udp_sends_a_message_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE_S)
        with sending(settings(f"127.0.0.1:{server.getsockname()[1]}")) as sink:
            for number in range(3):
                sink.write(make_alert(number))
            heard = [server.recv(65_536) for _ in range(3)]

    assert numbers(heard) == [0, 1, 2]
    assert all(MESSAGE.fullmatch(message) for message in heard)


def test_tcp_counts_octets():
    name = "two\nlines \U0001f47e"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        sending(settings(f"127.0.0.1:{server.getsockname()[1]}", transport="tcp", format="cef")) as sink,
    ):
        for number in range(3):
            sink.write(make_alert(number, device=AlertDevice(ip="10.77.0.66", name=name)))
        link, _ = server.accept()
        with link, link.makefile("rb") as stream:
            heard = [read_counted(stream) for _ in range(3)]

    assert all(MESSAGE.fullmatch(message) for message in heard)
    assert all("shost=two\\nlines \U0001f47e dst=" in message.decode() for message in heard)


def test_a_server_that_hangs_up_is_connected_to_again_before_the_next_message():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        sending(settings(f"127.0.0.1:{server.getsockname()[1]}", transport="tcp")) as sink,
    ):
        heard = []
        for number in range(3):
            sink.write(make_alert(number))
            link, _ = server.accept()
            with link, link.makefile("rb") as stream:
                heard.append(read_counted(stream))
                link.shutdown(socket.SHUT_RDWR)

    assert numbers(heard) == [0, 1, 2]


def test_a_server_that_is_there_only_later_gets_what_waited():
    port = free_port()
    with sending(settings(f"127.0.0.1:{port}", transport="tcp")) as sink:
        for number in range(3):
            sink.write(make_alert(number))
        is_refused = threading.Event()
        for _ in range(1000):
            if "Connection refused" in sink.facts().trouble:
                break
            is_refused.wait(0.01)
        with socket.create_server(("127.0.0.1", port)) as server:
            link, _ = server.accept()
            with link, link.makefile("rb") as stream:
                heard = [read_counted(stream) for _ in range(3)]

    assert numbers(heard) == [0, 1, 2]
    assert sink.facts().failed == 0


def test_tls_checks_the_server_and_counts_octets(tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    heard = []

    def serve(listener):
        link, _ = listener.accept()
        with context.wrap_socket(link, server_side=True) as secure, secure.makefile("rb") as stream:
            heard.extend(read_counted(stream) for _ in range(2))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with sending(settings(address, transport="tls", ca_file=authority.ca)) as sink:
            sink.write(make_alert(0))
            sink.write(make_alert(1))
            server.join(PATIENCE_S)

    assert numbers(heard) == [0, 1]


def test_a_server_of_another_authority_hears_nothing(tmp_path):
    cert, key = Authority(tmp_path).issue("server")
    other = Authority(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    ended = threading.Event()

    def serve(listener):
        with contextlib.suppress(OSError):  # until it is closed: the sink may try more than once
            while True:
                link, _ = listener.accept()
                with link, contextlib.suppress(OSError):
                    context.wrap_socket(link, server_side=True)
                ended.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with sending(settings(address, transport="tls", ca_file=other.ca)) as sink:
            sink.write(make_alert())
            assert ended.wait(PATIENCE_S)

    assert "certificate" in sink.facts().trouble
    assert (sink.facts().written, sink.facts().failed) == (0, 1)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_local_socket_is_spoken_to_in_the_kind_it_has(tmp_path, kind):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(path)
        server.settimeout(PATIENCE_S)
        if kind == socket.SOCK_STREAM:
            server.listen()
        with sending(settings(path, transport="unix")) as sink:
            sink.write(make_alert(0))
            sink.write(make_alert(1))
            if kind == socket.SOCK_STREAM:
                link, _ = server.accept()
                with link:
                    heard = b""
                    while heard.count(b"\0") < 2:
                        heard += link.recv(65_536)
                messages = heard.split(b"\0")[:2]
            else:
                messages = [server.recv(65_536) for _ in range(2)]

    assert numbers(messages) == [0, 1]
    assert all(MESSAGE.fullmatch(message) for message in messages)
