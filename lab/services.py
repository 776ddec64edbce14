"""The servers of the lab's hosts: real ones where Debian has them, small ones of ours for the rest.

Each entry of SERVICES starts one server on one host of a network. All are ended with their namespace. The trap: the
telnet and SSH servers here lead to a menu that only prints, never to a shell, because guessing attacks sometimes win.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.network import Network
from lab.plan import PASSWORD, USER, Service
from lab.tools import find

IP_PKTINFO = 8  # linux/in.h; the socket module has no name for it before Python 3.14


@dataclass(frozen=True)
class Site:
    """Where a server starts: network, host, and the folder it may write to."""

    network: Network
    host: str
    service: Service
    folder: Path
    stop: threading.Event

    def start(self, *argv: str) -> None:
        """Start a program on the host; its output goes to a log in the folder."""
        with (self.folder / f"{self.service.kind}-{self.service.port}.log").open("ab") as log:
            self.network.start(self.host, argv, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)

    def write(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Write a file of the server and return its path."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path


LOGIN_SCRIPT = """#!{sh}
tries=0
echo "{banner}"
while [ $tries -lt {tries} ]; do
  printf 'login: '; read -r user || exit 0
  stty -echo; printf 'Password: '; read -r word || exit 0; stty echo; echo
  user=${{user%$(printf '\\r')}}; word=${{word%$(printf '\\r')}}
  if [ "$user:$word" = "{user}:{password}" ]; then
    printf '\\n# '
    while read -r line; do
      case "$line" in
        exit*|quit*) exit 0;;
        *) echo "total {filler}"; echo "{listing}";;
      esac
      printf '# '
    done
    exit 0
  fi
  sleep {delay_s}
  echo "Login incorrect"
  tries=$((tries+1))
done
"""


def telnet(site: Site) -> None:
    """Start busybox telnetd in front of a login of ours (delay_s after a wrong password, tries per connection)."""
    settings = site.service.settings
    script = site.write(
        f"login-{site.service.port}.sh",
        LOGIN_SCRIPT.format(
            sh=f"{find('busybox')} sh",
            user=USER,
            password=PASSWORD,
            banner=settings["banner"],
            tries=settings["tries"],
            delay_s=settings["delay_s"],
            filler=settings["tries"] * 37,
            listing="drwxr-xr-x bin dev etc lib proc sbin tmp usr var " * 2,
        ),
        mode=0o755,
    )
    site.start("busybox", "telnetd", "-F", "-p", str(site.service.port), "-l", str(script))


def ssh(site: Site) -> None:
    """Start OpenSSH's sshd: keys of the lab may log in and see a listing, passwords are asked for and never right."""
    key = site.folder / "host_key"
    if not key.exists():
        subprocess.run([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    listing = "x" * int(site.service.settings["reply_bytes"])
    menu = site.write("menu.sh", f"#!/bin/sh\necho {listing}\n", mode=0o755)
    config = site.write(
        "sshd_config",
        "\n".join(
            [
                f"Port {site.service.port}",
                f"HostKey {key}",
                f"AuthorizedKeysFile {site.folder.parent}/client_key.pub",
                "PasswordAuthentication yes",
                "PermitEmptyPasswords no",
                "PermitRootLogin yes",
                "UsePAM no",
                "StrictModes no",
                "UseDNS no",
                "PrintMotd no",
                f"ForceCommand {menu}",
                "PidFile none",
                f"MaxStartups {site.service.settings['max_startups']}",
                "MaxAuthTries 6",
                "LogLevel ERROR",
                "",
            ]
        ),
    )
    site.start("sshd", "-D", "-e", "-f", str(config))


def web(site: Site) -> None:
    """Start nginx: pages, files of some sizes, a guarded folder, and a place that takes uploads; TLS on 443."""
    root = site.folder / f"www-{site.service.port}"
    root.mkdir(exist_ok=True)
    (root / "private").mkdir(exist_ok=True)
    for name, size_bytes in site.service.settings["files"].items():
        (root / name).write_bytes(b"0123456789abcdef" * (size_bytes // 16 + 1))
    users = site.write("users", f"{USER}:{{PLAIN}}{PASSWORD}\n")
    listen = f"listen {site.service.port}"
    if site.service.settings.get("tls"):
        _certificate(site.folder)
        listen += f" ssl; ssl_certificate {site.folder}/tls.crt; ssl_certificate_key {site.folder}/tls.key"
    config = site.write(
        f"nginx-{site.service.port}.conf",
        f"""
        daemon off; worker_processes 1; pid {site.folder}/nginx-{site.service.port}.pid; user root;
        error_log {site.folder}/nginx.log crit; events {{ worker_connections 512; }}
        http {{ access_log off; client_max_body_size 8m; client_body_temp_path {site.folder}/body;
          proxy_temp_path {site.folder}/p; fastcgi_temp_path {site.folder}/f; uwsgi_temp_path {site.folder}/u;
          scgi_temp_path {site.folder}/s; default_type text/html; keepalive_timeout 20;
          server {{ {listen}; root {root};
            location /private {{ auth_basic "device"; auth_basic_user_file {users}; }}
            location /upload {{ client_body_in_file_only clean; return 204; }}
          }} }}""",
    )
    site.start("nginx", "-c", str(config), "-p", str(site.folder))


def _certificate(folder: Path) -> None:
    if not (folder / "tls.crt").exists():
        subprocess.run(
            [
                find("openssl"),
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=lab",
                "-keyout",
                folder / "tls.key",
                "-out",
                folder / "tls.crt",
            ],
            check=True,
            capture_output=True,
        )


def small_web(site: Site) -> None:
    """Start busybox httpd, the web server of many devices."""
    root = site.folder / f"www-{site.service.port}"
    root.mkdir(exist_ok=True)
    for name, size_bytes in site.service.settings["files"].items():
        (root / name).write_bytes(b"0123456789abcdef" * (size_bytes // 16 + 1))
    (root / "private").mkdir(exist_ok=True)
    config = site.write("httpd.conf", f"/private:{USER}:{PASSWORD}\n")
    site.start("busybox", "httpd", "-f", "-p", str(site.service.port), "-h", str(root), "-c", str(config))


def mqtt(site: Site) -> None:
    """Start mosquitto; with `guarded` it asks for a password."""
    port = site.service.port
    lines = [f"listener {port} 0.0.0.0", "persistence false", "log_type error", "max_connections 200", "user root"]
    if site.service.settings.get("guarded"):
        words = site.write("mqtt-users", f"{USER}:{PASSWORD}\n", mode=0o600)
        subprocess.run([find("mosquitto_passwd"), "-U", words], check=True, capture_output=True)
        lines += ["allow_anonymous false", f"password_file {words}"]
    else:
        lines.append("allow_anonymous true")
    site.start("mosquitto", "-c", str(site.write(f"mosquitto-{port}.conf", "\n".join(lines) + "\n")))


def name_server(site: Site) -> None:
    """Start dnsmasq: answers for every name, and DHCP with the addresses of the plan where it serves the LAN."""
    plan = site.network.plan
    argv = [
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "--user=root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        f"--address=/#/{site.service.settings['answer']}",
        "--cache-size=0",
        f"--port={site.service.port}",
    ]
    if site.service.settings.get("forward"):
        argv[argv.index(f"--address=/#/{site.service.settings['answer']}")] = (
            f"--server={plan.address(site.service.settings['forward'])}"
        )
        argv.append("--address=/lan/" + plan.gateway_address)
    if site.service.settings.get("dhcp"):
        start = plan.lan.split("/")[0]
        argv += [
            "--interface=br0",
            "--bind-interfaces",
            f"--dhcp-range={start},static,1h",
            f"--dhcp-leasefile={site.folder}/leases",
            "--dhcp-authoritative",
        ]
        argv += [f"--dhcp-host={host.mac},{host.address},{host.name}" for host in plan.devices]
    site.start(*argv)


def bulk(site: Site) -> None:
    """Start iperf3's server."""
    site.start("iperf3", "-s", "-p", str(site.service.port))


def _tcp_server(site: Site, talk: Callable[[socket.socket], None]) -> None:
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


def _udp_server(site: Site, reply: Callable[[bytes], list[bytes]]) -> None:
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

    _tcp_server(site, talk)


def media(site: Site) -> None:
    """Serve a camera's TCP stream: frames at a steady rate for as long as the reader stays, 60 s at most."""
    frame, frames_per_s = bytes(int(site.service.settings["frame_bytes"])), float(site.service.settings["frames_per_s"])

    def talk(connection: socket.socket) -> None:
        connection.recv(1024)
        for _ in range(int(60 * frames_per_s)):
            connection.sendall(frame)
            time.sleep(1 / frames_per_s)

    _tcp_server(site, talk)


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

    _tcp_server(site, talk)


def modbus(site: Site) -> None:
    """Serve Modbus/TCP function 3: as many registers as were asked for."""

    def talk(connection: socket.socket) -> None:
        while len(request := connection.recv(260)) >= 12:
            count = min(struct.unpack(">H", request[10:12])[0], 125)
            body = bytes([request[6], 3, 2 * count]) + bytes(2 * count)
            connection.sendall(request[:4] + struct.pack(">H", len(body)) + body)

    _tcp_server(site, talk)


def time_server(site: Site) -> None:
    """Answer NTP requests in form (mode 4, 48 bytes), without a clock behind it."""
    _udp_server(site, lambda request: [b"\x24" + request[1:48].ljust(47, b"\0")])


def datagram_echo(site: Site) -> None:
    """Answer each datagram with one of `reply_bytes` (CoAP, QUIC-like and vendors' protocols)."""
    _udp_server(site, lambda request: [request[:8] + bytes(int(site.service.settings["reply_bytes"]))])


def discovery_responder(site: Site) -> None:
    """Answer each datagram with several larger ones, as SSDP and SNMP agents do (what reflectors are made of)."""
    count, size_bytes = int(site.service.settings["replies"]), int(site.service.settings["reply_bytes"])
    _udp_server(site, lambda _: [bytes(size_bytes)] * count)


SERVICES: dict[str, Callable[[Site], None]] = {
    "telnet": telnet,
    "ssh": ssh,
    "web": web,
    "small_web": small_web,
    "mqtt": mqtt,
    "name_server": name_server,
    "bulk": bulk,
    "push_channel": push_channel,
    "command": push_channel,
    "media": media,
    "ftp": ftp,
    "modbus": modbus,
    "time_server": time_server,
    "datagram_echo": datagram_echo,
    "discovery_responder": discovery_responder,
}
