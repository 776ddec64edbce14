"""Our attack programs keep to their lab, to their count and to what the command line says."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.attacks import TECHNIQUES
from lab.bots import __main__ as bots
from lab.bots import connections, mirai, mqtt, packets
from lab.bots.bounds import Bounds, OutsideTheLab, networks_in
from lab.bots.pace import MOST, Pace, Told

LOOPBACK = Bounds(["127.0.0.0/8"])


def told(*words, bounds=LOOPBACK):
    return Told(bots._parser().parse_args(["knock", "--count", "5", "--rate", "1000", *words]), bounds=bounds)


@pytest.fixture
def server():
    """A server on loopback that keeps what it was sent and answers each message with what `answers` holds."""
    heard, answers = [], [b"OK\n"]

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while chunk := connection.recv(4096):
                    heard.append(chunk)
                    connection.sendall(answers[min(len(heard), len(answers)) - 1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield SimpleNamespace(port=listener.getsockname()[1], heard=heard, answers=answers)
        listener.shutdown(socket.SHUT_RDWR)


def after(server, messages):
    """Return what is set once the server was sent so many messages."""
    done = threading.Event()

    def watch():
        for _ in range(60_000):
            if len(server.heard) >= messages:
                break
            time.sleep(0.002)
        done.set()

    threading.Thread(target=watch, daemon=True).start()
    return done


@pytest.mark.parametrize("address", ["8.8.8.8", "10.9.0.1", "198.51.100.300", "example.org", "::1", ""])
def test_an_address_outside_the_lab_is_refused(address):
    bounds = Bounds(["10.1.0.0/16", "198.51.100.0/24"])

    with pytest.raises(OutsideTheLab):
        bounds.check(address)


@pytest.mark.parametrize(
    "words",
    [
        ["--target", "8.8.8.8"],
        ["--target", "127.0.0.1", "--targets", "127.0.0.2,1.1.1.1"],
        ["--target", "127.0.0.1", "--master", "9.9.9.9:23"],
        ["--target", "127.0.0.1", "--loader", "9.9.9.9:80"],
    ],
)
def test_a_program_told_of_any_address_outside_does_nothing_at_all(words):
    with pytest.raises(OutsideTheLab):
        told(*words)


def test_a_connection_outside_is_refused_before_it_is_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(socket, "create_connection", lambda *where, **how: tried.append(where))

    with pytest.raises(OutsideTheLab):
        told("--target", "127.0.0.1").connect_to("93.184.216.34", 80)

    assert tried == []


def test_a_lab_is_what_its_routers_have_routes_to():
    routes = "blackhole default\n10.1.2.0/24 via 198.18.0.254 dev inet\n5.6.0.0/20 dev inet\ndefault via 5.6.0.1\n"

    assert networks_in(routes) == ["10.1.2.0/24", "5.6.0.0/20"]


def test_outside_a_lab_every_kind_refuses_to_run():
    command = [sys.executable, "-m", "lab.bots", "mirai_life", "--target", "10.0.0.1", "--count", "1", "--rate", "1"]

    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "lab.bots: runs only on a host of a lab's own network\n"


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_on_a_host_of_a_lab_a_program_refuses_an_address_the_lab_has_not():
    from lab.network import Network
    from lab.scenario import draw_plan

    words = ["-m", "lab.bots", "knock", "--target", "93.184.216.34", "--count", "1", "--rate", "1"]
    with Network(draw_plan(1, attacks=[])) as network:
        process = network.start("hub1", [sys.executable, *words], stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
        said = process.communicate(timeout=120)[1].decode()

    assert process.returncode == 1
    assert said == "lab.bots: 93.184.216.34 lies outside the networks of this lab\n"


def test_a_pace_gives_no_more_turns_than_its_count_and_never_more_than_most():
    pace = Pace(count=7, per_s=1e6, rng=random.Random(1))

    assert [pace.turn() for _ in range(9)] == [True] * 7 + [False] * 2
    assert Pace(count=10**9, per_s=1.0, rng=random.Random(1)).left == MOST


def test_every_kind_that_a_technique_names_is_there():
    from lab.benign.offers import with_offers
    from lab.scenario import draw_plan, draw_scene

    scene = draw_scene(random.Random(0), with_offers(draw_plan(0, attacks=[], devices=12)))
    argvs = [technique(scene).argv for technique in TECHNIQUES.values()]

    named = {argv[argv.index("lab.bots") + 1] for argv in argvs if "lab.bots" in argv}
    assert named <= set(bots.KINDS)
    assert len(named) >= 20


def test_a_bot_obeys_one_order_and_only_against_the_target_it_was_told(monkeypatch, server):
    server.answers[:] = [b"OK\n", b"ORDER udp\n", b"ORDER get\n", b"WAIT\n"]
    obeyed = []
    monkeypatch.setattr(mirai, "attack", lambda told, order: obeyed.append((told.target, order)))
    bot = told("--target", "127.0.0.9", "--master", f"127.0.0.1:{server.port}", "--hold", "0.01")

    mirai.obey(bot, after(server, 6))

    assert obeyed == [("127.0.0.9", "udp")]
    assert server.heard[0].startswith(b"HELLO ")
    assert set(server.heard[1:]) == {b"PING\n"}


def test_an_order_that_is_none_is_not_obeyed(monkeypatch, server):
    server.answers[:] = [b"OK\n", b"ORDER rm -rf\n", b"ORDER\n", b"\xff\xfe\n"]
    obeyed = []
    monkeypatch.setattr(mirai, "attack", lambda told, order: obeyed.append(order))
    bot = told("--target", "127.0.0.9", "--master", f"127.0.0.1:{server.port}", "--hold", "0.01")

    mirai.obey(bot, after(server, 6))

    assert obeyed == []


def test_a_whole_life_takes_no_more_turns_than_it_was_given(monkeypatch):
    knocks, shots = [], []
    monkeypatch.setattr(mirai, "fetch", lambda told: 0)
    monkeypatch.setattr(mirai, "obey", lambda told, done: shots.extend(iter(told.pace.turn, False)))
    bot = told("--target", "127.0.0.1", "--targets", "127.0.0.2,127.0.0.3", "--ports", "23,2323", "--hold", "0.01")
    monkeypatch.setattr(bot, "connect_to", lambda *where, **how: knocks.append(where) or socket.socket())

    mirai.mirai_life(bot)

    assert (len(knocks), len(shots)) == (3, 2)
    assert {address for address, _ in knocks} <= {"127.0.0.2", "127.0.0.3"}


@pytest.mark.parametrize(
    ("count", "length"), [(0, [0]), (127, [127]), (128, [128, 1]), (2_097_152, [128, 128, 128, 1])]
)
def test_mqtt_writes_a_length_in_seven_bits_a_byte(count, length):
    assert list(mqtt.length_of(count)) == length


def test_what_is_malformed_comes_in_many_forms():
    bot = told("--target", "127.0.0.1")
    forms = {mqtt._wrong(bot)[:14] for _ in range(300)}

    assert len(forms) > 20


def test_a_modbus_storm_writes_and_stops_at_its_count(server):
    connections.modbus_storm(told("--target", "127.0.0.1", "--port", str(server.port), "--hold", "50"))

    functions = [message[7] for message in server.heard]
    assert len(functions) == 5
    assert set(functions) <= {5, 6, 16}


def test_a_reflected_answer_is_dns_and_fits_a_frame(monkeypatch):
    sent = []
    raw = SimpleNamespace(sendto=lambda packet, where: sent.append((packet, where)))
    monkeypatch.setattr(packets, "_raw", lambda: raw)

    packets.reflected_names(told("--target", "127.0.0.1", "--port", "53", "--size", "1200", "--parallel", "3"))

    assert len(sent) == 5
    for packet, where in sent:
        assert where == ("127.0.0.1", 0)
        assert packet[20:22] == b"\x00\x35"
        assert packet[30:32] == b"\x81\x80"
        assert len(packet) <= 1500
