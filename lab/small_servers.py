"""Servers of ours, where Debian has none or a real one would be too much: a few lines of each protocol.

`lab.services` lists them beside the real ones. Each serves until the lab stops. The trap: all of them share one
interpreter with the lab itself, so none may compute much.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from lab.plan import PASSWORD, USER
from lab.site import Site

IP_PKTINFO = 8  # linux/in.h; the socket module has no name for it before Python 3.14


def tcp_server(site: Site, talk: Callable[[socket.socket], None]) -> None:
    """Serve connections with `talk`, each in a thread, until the lab stops."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30.0)
            talk(connection)

    def serve() -> None:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", site.service.port))
            listener.listen(64)
            listener.settimeout(0.5)
            while not site.stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

    site.network.thread(site.host, serve, name=f"{site.host}:{site.service.port}")


def udp_server(site: Site, reply: Callable[[bytes], list[bytes]]) -> None:
    """Answer datagrams with what `reply` makes of them, from the address they were sent to, until the lab stops."""

    def serve() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            server.bind(("0.0.0.0", site.service.port))
            server.settimeout(0.5)
            while not site.stop.is_set():
                with contextlib.suppress(OSError):
                    datagram, ancillary, _, sender = server.recvmsg(4096, socket.CMSG_SPACE(12))
                    asked_at = ancillary[0][2][8:12]  # struct in_pktinfo: interface, local address, address asked at
                    source = (socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + asked_at + bytes(4))
                    for answer in reply(datagram):
                        server.sendmsg([answer], [source], 0, sender)

    site.network.thread(site.host, serve, name=f"{site.host}:{site.service.port}/udp")


def push_channel(site: Site) -> None:
    """Serve long connections in small messages, both ways, as the cloud side of many devices does."""
    size_bytes = int(site.service.settings["reply_bytes"])

    def talk(connection: socket.socket) -> None:
        while connection.recv(4096):
            connection.sendall(bytes(size_bytes))

    tcp_server(site, talk)


def media(site: Site) -> None:
    """Serve a camera's TCP stream: frames at a steady rate for as long as the reader stays, 60 s at most."""
    frame, frames_per_s = bytes(int(site.service.settings["frame_bytes"])), float(site.service.settings["frames_per_s"])

    def talk(connection: socket.socket) -> None:
        connection.recv(1024)
        for _ in range(int(60 * frames_per_s)):
            connection.sendall(frame)
            time.sleep(1 / frames_per_s)

    tcp_server(site, talk)


def ftp(site: Site) -> None:
    """Serve FTP's login dialogue: the lab's password is right, then the only file is refused."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 device FTP server ready.\r\n")
        user, tries = "", 0
        for raw in connection.makefile("rb"):
            verb, _, argument = raw.decode("latin-1").strip().partition(" ")
            if verb.upper() == "USER":
                user, answer = argument, "331 Please specify the password."
            elif verb.upper() == "PASS" and (user, argument) == (USER, PASSWORD):
                answer = "230 Login successful."
            elif verb.upper() == "PASS":
                time.sleep(float(site.service.settings["delay_s"]))
                tries, answer = tries + 1, "530 Login incorrect."
            elif verb.upper() == "QUIT":
                connection.sendall(b"221 Goodbye.\r\n")
                return
            else:
                answer = "550 Not here."
            connection.sendall(f"{answer}\r\n".encode())
            if tries >= 3:
                return

    tcp_server(site, talk)


def modbus(site: Site) -> None:
    """Serve Modbus/TCP: reads give as many registers as were asked for, writes are confirmed, the rest is refused."""

    def talk(connection: socket.socket) -> None:
        while len(request := connection.recv(260)) >= 12:
            unit, function = request[6], request[7]
            if function in (1, 2, 3, 4):
                count = min(struct.unpack(">H", request[10:12])[0], 125)
                body = bytes([unit, function, 2 * count]) + bytes(2 * count)
            elif function in (5, 6, 15, 16):
                body = request[6:12]
            else:
                body = bytes([unit, function | 0x80, 1])  # exception 1: illegal function
            connection.sendall(request[:4] + struct.pack(">H", len(body)) + body)

    tcp_server(site, talk)


def time_server(site: Site) -> None:
    """Answer NTP requests in form (mode 4, 48 bytes), without a clock behind it."""
    udp_server(site, lambda request: [b"\x24" + request[1:48].ljust(47, b"\0")])


def datagram_echo(site: Site) -> None:
    """Answer each datagram with one of `reply_bytes` (CoAP, QUIC-like and vendors' protocols)."""
    udp_server(site, lambda request: [request[:8] + bytes(int(site.service.settings["reply_bytes"]))])


def discovery_responder(site: Site) -> None:
    """Answer each datagram with several larger ones, as SSDP and SNMP agents do (what reflectors are made of)."""
    count, size_bytes = int(site.service.settings["replies"]), int(site.service.settings["reply_bytes"])
    udp_server(site, lambda _: [bytes(size_bytes)] * count)
