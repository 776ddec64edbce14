"""Servers that only a lab has: a toy web site to be attacked, a master of bots, answerers of discovery.

The site looks vulnerable and is not: it interprets nothing it is given, it only compares and counts. The master gives
one of the orders of its settings and nothing else. The trap: whoever asks is hostile, so every read has a bound.
"""

from __future__ import annotations

import contextlib
import html
import http.server
import itertools
import socket
import struct
import urllib.parse

from lab.plan import PASSWORD, USER
from lab.site import Site
from lab.small_servers import tcp_server

MOST_BODY_BYTES = 1 << 20
PAGES = ("/", "/index.html", "/status", "/help", "/style.css")


class _ToySite(http.server.BaseHTTPRequestHandler):
    """One request to the toy site."""

    server_version = "toy-httpd/1.0"
    sys_version = ""
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: what was asked for stands in the capture."""

    def _say(self, code: int, text: str, **headers: str) -> None:
        body = f"<html><body>{text}</body></html>".encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fields(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "0")
        size_bytes = min(int(length), MOST_BODY_BYTES) if length.isdecimal() else 0
        text = urllib.parse.urlsplit(self.path).query + "&" + self.rfile.read(size_bytes).decode("latin-1")
        return dict(urllib.parse.parse_qsl(text, max_num_fields=100))

    def _answer(self) -> None:
        try:
            path, fields = urllib.parse.urlsplit(self.path).path, self._fields()
        except ValueError:
            self._say(400, "bad request")
            return
        is_known = f"session={PASSWORD}" in self.headers.get("Cookie", "")
        if path == "/login":
            if (fields.get("user"), fields.get("pass")) == (USER, PASSWORD):
                self._say(302, "welcome", Location="/admin/", Set_Cookie=f"session={PASSWORD}; Path=/")
            else:
                self._say(200, "login incorrect <form method=post><input name=user><input name=pass></form>")
        elif path.startswith("/admin"):
            self._say(*((200, "settings " + "x" * 1200) if is_known else (403, "log in first")))
        elif path == "/search":
            self._say(200, f"nothing found for {html.escape(fields.get('q', ''))[:500]}")
        elif path == "/items":
            is_number = fields.get("id", "").isdecimal()
            self._say(*((200, "item " + "y" * 300) if is_number else (500, "error in your SQL syntax near ''' at 1")))
        elif path in PAGES:
            self._say(200, "device " + "z" * 700)
        else:
            self._say(404, "not here")

    do_GET = do_POST = do_HEAD = do_PUT = do_OPTIONS = _answer  # noqa: N815  # named by http.server


def toy_site(site: Site) -> None:
    """Serve a small site with a login form, a search, items by number and an admin's pages."""

    def serve() -> None:
        server = http.server.ThreadingHTTPServer(("0.0.0.0", site.service.port), _ToySite)
        server.daemon_threads, server.timeout = True, 0.5
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no event
        with server:
            while not site.stop.is_set():
                server.handle_request()

    site.network.thread(site.host, serve, name=f"{site.host}:{site.service.port}")


def botmaster(site: Site) -> None:
    """Take calls of bots: PING is answered by WAIT, and after `after` of them by the next ORDER of the settings."""
    orders = itertools.cycle(site.service.settings["orders"])
    after = int(site.service.settings["after"])

    def talk(connection: socket.socket) -> None:
        pings = 0
        for raw in connection.makefile("rb"):
            if raw.startswith(b"PING"):
                pings += 1
                is_due = pings == after
                connection.sendall(f"ORDER {next(orders)}\n".encode() if is_due else b"WAIT\n")
            else:
                connection.sendall(b"OK\n")

    tcp_server(site, talk)


def _group_server(site: Site, *, group: str, is_asked: bytes, answer: bytes) -> None:
    """Answer what is sent to a multicast group and holds a certain word, to the asker."""

    def serve() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", site.service.port))
            own = socket.inet_aton(site.network.plan.address(site.host))
            server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + own)
            server.settimeout(0.5)
            while not site.stop.is_set():
                with contextlib.suppress(OSError):
                    asked, asker = server.recvfrom(4096)
                    if is_asked in asked and asker[0] != site.network.plan.address(site.host):
                        server.sendto(answer, asker)

    site.network.thread(site.host, serve, name=f"{site.host}:{site.service.port}/udp")


def ssdp(site: Site) -> None:
    """Answer M-SEARCH over multicast as a media device does."""
    own = site.network.plan.address(site.host)
    said = (
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\n"
        f"LOCATION: http://{own}:80/description.xml\r\nSERVER: Linux UPnP/1.0 lab/1.0\r\nST: upnp:rootdevice\r\n"
        f"USN: uuid:{site.host}::upnp:rootdevice\r\n\r\n"
    )
    _group_server(site, group="239.255.255.250", is_asked=b"M-SEARCH", answer=said.encode())


def dns_name(name: str) -> bytes:
    """Return a name as DNS writes it.

    >>> dns_name("a.local")
    b'\\x01a\\x05local\\x00'
    """
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def mdns(site: Site) -> None:
    """Answer mDNS questions for the services of this host, to the asker alone (RFC 6762, a unicast answer)."""
    pointer = dns_name(f"{site.host}._http._tcp.local")
    answer = dns_name("_http._tcp.local") + struct.pack(">HHIH", 12, 1, 4500, len(pointer)) + pointer
    address = socket.inet_aton(site.network.plan.address(site.host))
    answer += dns_name(f"{site.host}.local") + struct.pack(">HHIH", 1, 1, 120, 4) + address
    head = struct.pack(">HHHHHH", 0, 0x8400, 0, 2, 0, 0)
    _group_server(site, group="224.0.0.251", is_asked=b"_http", answer=head + answer)
