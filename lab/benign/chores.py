"""What homes do besides: TLS brokers, CoAP, firmware, backups, administration, inventories, discovery.

Real clients where Debian has them. The inventory is an operator's own nmap over his own devices: it looks like a scan
and is none, which is why it is here. The trap: `rsync` and `nmap` outlive a turn unless their limit is kept.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import urllib.parse

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lab.benign.actor import PATIENCE_S, Actor, turns
from lab.plan import PASSWORD, USER
from lab.toy_servers import dns_name


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the lab's servers sign for themselves
    return context


def mqtt_sessions(actor: Actor) -> None:
    """Be connected to a broker for some messages, over TLS or not, leave, and come again after a while."""
    while True:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"{actor.own.name}-{actor.rng.randrange(10**6)}")
        if actor["tls"]:
            client.tls_set_context(_tls())
        if actor["guarded"]:
            client.username_pw_set(USER, PASSWORD)
        with contextlib.suppress(OSError):
            client.connect(actor.peer, int(actor["port"]), keepalive=int(actor["keepalive_s"]))
        client.loop_start()
        stays = True
        for _ in range(int(actor["messages"])):
            stays = actor.next_turn()
            if not stays:
                break
            topic, qos = f"home/{actor.own.name}/state", actor.rng.choice(list(actor["qos"]))
            client.publish(topic, actor.rng.randbytes(int(actor["size_bytes"])), qos=qos)
        client.disconnect()
        client.loop_stop()
        if not stays or not actor.rest(actor.rng.uniform(0.5, 4.0)):
            return


@turns
def coap_read(actor: Actor) -> None:
    """Read a resource with libcoap's client, sometimes non-confirmable, or the list of all."""
    path = actor.rng.choice(["time", "time", "", ".well-known/core", "missing"])
    manner = ["-N"] if actor.rng.random() < 0.3 else []
    actor.run("coap-client-notls", "-B", "3", *manner, f"coap://{actor.peer}:{actor['port']}/{path}", limit_s=6.0)


@turns
def coap_write(actor: Actor) -> None:
    """Put a value to a resource with libcoap's client; a long one goes in blocks."""
    text = "v" * int(actor.rng.choice([4, 40, 1500]))
    uri = f"coap://{actor.peer}:{actor['port']}/example_data"
    actor.run("coap-client-notls", "-B", "3", "-m", "put", "-e", text, uri, limit_s=6.0)


@turns
def coap_observe(actor: Actor) -> None:
    """Observe a resource that changes every second, for a while."""
    seconds = str(int(actor["length_s"]))
    uri = f"coap://{actor.peer}:{actor['port']}/time"
    actor.run("coap-client-notls", "-B", seconds, "-s", seconds, uri, limit_s=float(actor["length_s"]) + 4.0)


@turns
def firmware(actor: Actor) -> None:
    """Ask the vendor which version there is; now and then fetch it, in one piece or in ranges."""
    base = f"{'https' if actor['tls'] else 'http'}://{actor.any_address()}:{actor['port']}"
    quiet = ("curl", "-s", "-k", "-o", "/dev/null", "-m", "40")
    actor.run(*quiet, f"{base}/state")
    if actor.rng.random() > float(actor["chance"]):
        return
    pace = ("--limit-rate", str(actor["bytes_per_s"]))
    if actor["in_ranges"]:
        for start in range(0, 400_000, 100_000):
            actor.run(*quiet, *pace, "-r", f"{start}-{start + 99_999}", f"{base}/film", limit_s=20.0)
    else:
        actor.run(*quiet, *pace, f"{base}/film", limit_s=45.0)


@turns
def backup(actor: Actor) -> None:
    """Push a folder to an rsync daemon; what changed since the last time is drawn."""
    folder = actor.folder / "papers"
    folder.mkdir(exist_ok=True)
    for number in range(int(actor["files"])):
        paper = folder / f"paper-{number}"
        if not paper.exists() or actor.rng.random() < 0.3:
            paper.write_bytes(actor.rng.randbytes(int(actor["size_bytes"])))
    target = f"rsync://{actor.peer}:{actor['port']}/backups/{actor.own.name}/"
    limit = ("--timeout=10", "--contimeout=4", f"--bwlimit={actor['kbytes_per_s']}")
    actor.run("rsync", "-r", "-t", *limit, f"{folder}/", target, limit_s=40.0)


def _page(actor: Actor, verb: str, path: str, *, cookie: str = "", **fields: str) -> str:
    """Load a page of a device and return the cookie it set."""
    with contextlib.closing(http.client.HTTPConnection(actor.peer, int(actor["port"]), timeout=PATIENCE_S)) as line:
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if fields else {}
        line.request(verb, path, body=urllib.parse.urlencode(fields) or None, headers={"Cookie": cookie, **kind})
        answer = line.getresponse()
        answer.read()
        return (answer.getheader("Set-Cookie") or "").partition(";")[0]


@turns
def web_admin(actor: Actor) -> None:
    """Administer a device by its web pages: look, log in by the form, mistype at times, read, change, look again."""
    _page(actor, "GET", "/")
    cookie = ""
    while not cookie:
        actor.rest(actor.rng.uniform(1.0, 4.0))
        is_wrong = actor.rng.random() < float(actor["mistakes"])
        cookie = _page(actor, "POST", "/login", user=USER, **{"pass": "wrong" if is_wrong else PASSWORD})
        if actor.stop.is_set():
            return
    for _ in range(int(actor["pages"])):
        actor.rest(actor.rng.uniform(0.5, 5.0))
        path = actor.rng.choice(["/admin/", "/admin/network", "/status", "/items?id=3", "/search?q=camera"])
        _page(actor, "GET", path, cookie=cookie)
    _page(actor, "POST", "/admin/settings", cookie=cookie, name=actor.own.name, volume=str(actor.rng.randrange(100)))


@turns
def inventory(actor: Actor) -> None:
    """Let the operator's own nmap list what his devices serve: few known ports, gently, and what they say."""
    ports = ",".join(map(str, actor["ports"]))
    manner = ("-sV", "--version-intensity", "1") if actor["asks_versions"] else ("-sT",)
    targets = list(actor.peers)
    actor.rng.shuffle(targets)
    options = ("-n", "-Pn", "--max-retries", "1", "--max-rate", str(actor["max_rate"]), "-p", ports)
    actor.run("nmap", *manner, *options, *targets, limit_s=60.0)


@turns
def setpoint(actor: Actor) -> None:
    """Set a register of a controller and read it back (Modbus/TCP functions 6 and 3)."""
    with actor.connect(actor.peer, int(actor["port"])) as line:
        register, value = actor.rng.randrange(40), actor.rng.randrange(100)
        line.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 6, register, value))
        line.recv(260)
        line.sendall(struct.pack(">HHHBBHH", 2, 0, 6, 1, 3, register, 1))
        line.recv(260)


def _ask_group(actor: Actor, group: str, port: int, question: bytes) -> None:
    """Ask a multicast group and hear for a second and a half who answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
        asker.settimeout(0.5)
        for _ in range(int(actor["copies"])):
            asker.sendto(question, (group, port))
            for _ in range(6):
                with contextlib.suppress(TimeoutError):
                    asker.recv(4096)
            if not actor.rest(actor.rng.uniform(0.1, 0.5)):
                return


@turns
def mdns_browse(actor: Actor) -> None:
    """Ask over mDNS who serves web pages; the answers come back to the asker."""
    question = struct.pack(">HHHHHH", 0, 0, 1, 0, 0, 0) + dns_name("_http._tcp.local") + struct.pack(">HH", 12, 0x8001)
    _ask_group(actor, "224.0.0.251", 5353, question)


@turns
def ssdp_search(actor: Actor) -> None:
    """Search for media devices over SSDP."""
    target = actor.rng.choice(["ssdp:all", "upnp:rootdevice", "urn:dial-multiscreen-org:service:dial:1"])
    text = f'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: {target}\r\n\r\n'
    _ask_group(actor, "239.255.255.250", 1900, text.encode())
