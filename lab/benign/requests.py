"""MQTT, HTTP and connections that stay: what devices say to brokers, servers and their vendors."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import struct
import threading
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lab.benign.actor import PATIENCE_S, Actor, turns
from lab.plan import PASSWORD, USER


def mqtt_stay(actor: Actor) -> None:
    """Stay connected to the broker and publish at every turn; a subscriber also hears the others."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"{actor.own.name}-{actor.rng.randrange(9999)}")
    if actor["guarded"]:
        client.username_pw_set(USER, PASSWORD)
    with contextlib.suppress(OSError):
        client.connect(actor.peer, int(actor["port"]), keepalive=int(actor["keepalive_s"]))
    client.loop_start()
    if actor["subscribes"]:
        client.subscribe("home/#")
    while actor.next_turn():
        client.publish(f"home/{actor.own.name}/state", bytes(int(actor["size_bytes"])), qos=int(actor["qos"]))
    client.disconnect()
    client.loop_stop()


@turns
def mqtt_call(actor: Actor) -> None:
    """Connect to the broker, publish once and leave, as sleeping sensors do."""
    login = ["-u", USER, "-P", PASSWORD] if actor["guarded"] else []
    actor.run(
        "mosquitto_pub",
        "-h",
        actor.peer,
        "-p",
        str(actor["port"]),
        "-t",
        f"home/{actor.own.name}",
        "-q",
        str(actor["qos"]),
        "-m",
        "x" * int(actor["size_bytes"]),
        *login,
    )


def _http(actor: Actor, address: str) -> http.client.HTTPConnection:
    port = int(actor["port"])
    if actor.activity.settings.get("tls"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(address, port, timeout=PATIENCE_S, context=context)
    return http.client.HTTPConnection(address, port, timeout=PATIENCE_S)


@turns
def http_poll(actor: Actor) -> None:
    """Ask a server for a small page, each time over a new connection."""
    connection = _http(actor, actor.any_address())
    connection.request("GET", f"/{actor['file']}", headers={"User-Agent": actor.own.role})
    connection.getresponse().read()
    connection.close()


def http_push(actor: Actor) -> None:
    """Send frames to a server at every turn over one connection that is renewed now and then."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _http(actor, actor.peer)
            for _ in range(int(actor["frames_per_connection"])):
                size_bytes = int(actor["size_bytes"]) * actor.rng.uniform(0.7, 1.3)
                connection.request("POST", "/upload", body=bytes(int(size_bytes)))
                connection.getresponse().read()
                if not actor.next_turn():
                    return
            connection.close()
        if not actor.rest(0.5):
            return


@turns
def http_burst(actor: Actor) -> None:
    """Load a page with many parts at once: many short connections in a second or two."""

    def fetch(count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = _http(actor, actor.any_address())
                connection.request("GET", f"/{actor['file']}")
                connection.getresponse().read()
                connection.close()
                if not actor.rest(actor.rng.expovariate(1 / float(actor["pause_s"]))):
                    return

    parallel = int(actor["parallel"])
    threads = [threading.Thread(target=fetch, args=(int(actor["count"]) // parallel + 1,)) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@turns
def download(actor: Actor) -> None:
    """Fetch a large file with curl, at the rate of a slow line or a fast one."""
    scheme = "https" if actor.activity.settings.get("tls") else "http"
    actor.run(
        "curl",
        "-s",
        "-k",
        "-o",
        "/dev/null",
        "-m",
        "40",
        "--limit-rate",
        str(actor["bytes_per_s"]),
        f"{scheme}://{actor.any_address()}:{actor['port']}/{actor['file']}",
        limit_s=45.0,
    )


def stay_connected(actor: Actor) -> None:
    """Keep one TCP connection to the cloud and exchange small messages at every turn."""
    while True:
        with contextlib.suppress(OSError), actor.connect(actor.peer, int(actor["port"])) as channel:
            while actor.next_turn():
                channel.sendall(bytes(int(actor["size_bytes"])))
                channel.recv(8192)
        if not actor.rest(2.0):
            return


@turns
def watch(actor: Actor) -> None:
    """Look at a camera's TCP stream for a while."""
    with actor.connect(actor.peer, int(actor["port"])) as stream:
        stream.sendall(b"PLAY rtsp://camera/1 RTSP/1.0\r\n\r\n")
        end_s = time.monotonic() + float(actor["length_s"])
        while time.monotonic() < end_s and not actor.stop.is_set():
            stream.recv(65536)


@turns
def registers(actor: Actor) -> None:
    """Read registers over Modbus/TCP, some times over one connection."""
    with actor.connect(actor.peer, int(actor["port"])) as line:
        for turn in range(int(actor["count"])):
            line.sendall(struct.pack(">HHHBBHH", turn, 0, 6, 1, 3, 100, int(actor["registers"])))
            line.recv(260)
            if not actor.rest(float(actor["pause_s"])):
                return


@turns
def ping(actor: Actor) -> None:
    """Ping a host some times."""
    actor.run(
        "ping",
        "-n",
        "-c",
        str(actor["count"]),
        "-i",
        str(actor["pause_s"]),
        "-s",
        str(actor["size_bytes"]),
        "-W",
        "1",
        actor.rng.choice(actor.peers),
        limit_s=20.0,
    )


@turns
def knock_in_vain(actor: Actor) -> None:
    """Try a port nobody listens on, or a host that is away."""
    target = str(actor["address"]) or actor.peer
    actor.connect(target, int(actor["port"])).close()


@turns
def look_round(actor: Actor) -> None:
    """Open and close the known port of each device in turn, as home automation and monitoring do."""
    for address, port in zip(actor.peers, actor["ports"], strict=True):
        with contextlib.suppress(OSError), actor.connect(address, int(port)) as door:
            if actor["says_something"]:
                door.sendall(b"GET / HTTP/1.0\r\n\r\n")
                door.recv(2048)
        if not actor.rest(actor.rng.uniform(0.0, float(actor["pause_s"]))):
            return


@turns
def speed_test(actor: Actor) -> None:
    """Send a bounded number of bytes as fast as allowed with iperf3, over TCP or UDP."""
    # iperf3 does not stop at -n bytes when it receives UDP, so UDP is bounded by time.
    bound = (
        ["-u", "-t", "1", "-b", "6M"] if actor["udp"] else ["-n", str(actor["bytes"]), "-b", f"{actor['mbit_per_s']}M"]
    )
    back = ["-R"] if actor["reverse"] else []
    actor.run(
        "iperf3", "-c", actor.peer, "-p", str(actor["port"]), "--connect-timeout", "2000", *bound, *back, limit_s=15.0
    )
