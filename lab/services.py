"""The servers of the lab's hosts: real ones where Debian has them, small ones of ours for the rest.

Each entry of SERVICES starts one server on one host of a network. All are ended with their namespace. The trap: the
telnet and SSH servers here lead to a menu that only prints, never to a shell, because guessing attacks sometimes win.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from lab import small_servers, toy_servers
from lab.plan import PASSWORD, USER
from lab.site import Site
from lab.tools import find

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


def mqtt_tls(site: Site) -> None:
    """Start mosquitto behind TLS, as clouds and careful homes have it."""
    port = site.service.port
    _certificate(site.folder)
    lines = [
        f"listener {port} 0.0.0.0",
        f"certfile {site.folder}/tls.crt",
        f"keyfile {site.folder}/tls.key",
        "allow_anonymous true",
        "persistence false",
        "log_type error",
        "user root",
    ]
    site.start("mosquitto", "-c", str(site.write(f"mosquitto-{port}.conf", "\n".join(lines) + "\n")))


def coap(site: Site) -> None:
    """Start libcoap's server, with its time resource and some that clients may make."""
    site.start("coap-server-notls", "-A", "0.0.0.0", "-p", str(site.service.port), "-d", "20", "-v", "1")


def rsync(site: Site) -> None:
    """Start rsync's daemon with one folder that takes backups; it is removed with the lab."""
    (site.folder / "backups").mkdir(exist_ok=True)
    text = f"""use chroot = no
uid = root
gid = root
pid file = {site.folder}/rsyncd.pid
[backups]
path = {site.folder}/backups
read only = no
"""
    config = site.write("rsyncd.conf", text)
    argv = ("--daemon", "--no-detach", f"--port={site.service.port}", f"--config={config}")
    site.start("rsync", *argv)


def tunnel_end(site: Site) -> None:
    """Start iodined: the far end of a tunnel through names, with a network of its own inside."""
    settings = site.service.settings
    argv = ("-f", "-c", "-P", PASSWORD, "-p", str(site.service.port), settings["inner"], settings["domain"])
    site.start("iodined", *argv)


SERVICES: dict[str, Callable[[Site], None]] = {
    "telnet": telnet,
    "ssh": ssh,
    "web": web,
    "small_web": small_web,
    "mqtt": mqtt,
    "name_server": name_server,
    "bulk": bulk,
    "push_channel": small_servers.push_channel,
    "command": small_servers.push_channel,
    "media": small_servers.media,
    "ftp": small_servers.ftp,
    "modbus": small_servers.modbus,
    "time_server": small_servers.time_server,
    "datagram_echo": small_servers.datagram_echo,
    "discovery_responder": small_servers.discovery_responder,
    "mqtt_tls": mqtt_tls,
    "coap": coap,
    "rsync": rsync,
    "tunnel_end": tunnel_end,
    "toy_site": toy_servers.toy_site,
    "botmaster": toy_servers.botmaster,
    "loader": small_web,
    "ssdp": toy_servers.ssdp,
    "mdns": toy_servers.mdns,
}

__all__ = ["SERVICES", "Site"]
